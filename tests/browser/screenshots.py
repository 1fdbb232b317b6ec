"""Takes pictures of the console: `make screenshots`. Those of the README go to docs/img, all others into `OUT`."""

from __future__ import annotations

import json
import math
import random
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

from tests.browser.conftest import find_chromium
from tests.browser.shop import RIGHT_TO_LEFT, SCRIPT, SKUS, give_up, open_shop
from tests.services import Server, running

BUSY_S = 62
PROVED_WITHIN_MS = 3_000
ROOT = Path(__file__).parents[2]
SHIPPED, SHIPS = "order-10003", "order-10005"  # which have stock of RELIABLE-FORK in the warehouse
OUT = ROOT / "tests" / "browser" / "out"
SHOWN = ROOT / "docs" / "img"
WIDTHS = {"wide": (1600, 1000), "desk": (1280, 860), "phone": (380, 800)}
PAGES = {
    "overview": "/console/",
    "products": "/console/products",
    "search": "/console/products?q=sofa",
    "waiting": "/console/products?only=waiting&sort=waiting",
    "product": "/console/products/RELIABLE-FORK",
    "batch": "/console/batches/customs",
    "orders": "/console/orders",
    "order": "/console/orders/fork-6",
    "explained": f"/console/orders/{SHIPPED}?explain=RELIABLE-FORK",
    "events": "/console/events",
    "flow": "/console/flow",
    "deliveries": "/console/deliveries",
    "confirm": "/console/dead-letters/retry",
    "books": "/console/books",
    "import": "/console/import",
    "tried": "/console/import",
    "problem": "/console/products/UNKNOWN",
    "late": "/console/products/POTTED-PALM",
    "promised": "/console/products/ELEGANT-TABLE",
    "move_up": "/console/change/move_up?sku=POTTED-PALM",
    "quarantined": "/console/batches/elegant-sofa-1",
    "quantity": "/console/change/change_batch_quantity?ref=customs&qty=12&look=1",
    "eta": "/console/change/change_batch_eta?ref=nursery&eta=2035-01-31&look=1",
    "receive": "/console/change/receive_batch?ref=customs&qty=4&rest=expected&look=1",
    "count": "/console/change/count_batch?ref=reliable-fork-1&on_hand=20&reason=lost&look=1",
    "adjust": "/console/change/adjust_batch?ref=reliable-fork-1",
    "transfer": "/console/change/transfer_stock?ref=reliable-fork-1",
    "correct": "/console/change/correct_batch?ref=customs",
    "delivery": "/console/change/change_delivery_eta?delivery=PO-4711&eta=2035-01-31&look=1",
    "retire": "/console/change/retire_product?sku=POTTED-PALM",
    "delivered": "/console/batches/boxes-1",
    "quarantine": "/console/change/quarantine_batch?ref=reliable-fork-1&reason=a+leaking+roof&look=1",
    "release": "/console/change/release_batch?ref=elegant-sofa-1",
    "resize": "/console/change/change_line_quantity?orderid=palm-2&sku=POTTED-PALM",
    "pin": "/console/change/pin_line?orderid=fork-6&sku=RELIABLE-FORK&batchref=customs&reason=a+wedding&look=1",
    "ship": f"/console/change/ship_line?orderid={SHIPS}&sku=RELIABLE-FORK",
    "return": f"/console/change/return_line?orderid={SHIPPED}&sku=RELIABLE-FORK",
    "cancel": "/console/change/cancel_allocation?orderid=palm-2&sku=POTTED-PALM",
    "rules": "/console/change/change_rules?sku=POTTED-PALM",
    "refused": "/console/change/change_line_quantity?orderid=palm-2&sku=POTTED-PALM&qty=-1&look=1",
}
FOR_THE_README = {
    ("overview", "desk", "light"): "console-overview.png",
    ("promised", "desk", "dark"): "console-product.png",
}


def main() -> int:
    only = set(sys.argv[1:])
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        database = Path(folder) / "shop.db"
        with running(Path(folder) / "server.log", ALLOCATION_DATABASE_URL=f"sqlite:///{database}") as server:
            open_shop(server.client)
            for sku in ("RELIABLE-FORK", SCRIPT):
                give_up(database, sku)
            server.post("/quarantine_batch", {"ref": "elegant-sofa-1", "reason": "a leaking roof", "keep_lines": True})
            server.post("/ship_line", {"orderid": SHIPPED, "sku": "RELIABLE-FORK"})
            for ref, sku in (("boxes-1", "BIG-BOX"), ("lids-1", "BOX-LID")):
                batch = {"ref": ref, "sku": sku, "qty": 9, "eta": "2035-01-01", "delivery": "PO-4711"}
                server.post("/add_batch", batch)
                server.allocate(f"order-of-{sku}", sku, 4)
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
            _take_all(browser, server, only)
            browser.close()
    return 0


def _take_all(browser: Browser, server: Server, only: set[str]) -> None:
    moved = server.get("/events", sku="RELIABLE-FORK", limit=1_000)["events"]
    count = next(each["id"] for each in moved if each["type"] == "BatchQuantityChanged")
    told = {"event": f"/console/events/{count}", "outcome": f"/console/outcome/{count}"}
    odd = {"script": f"/console/search?q={SCRIPT}", "hebrew": f"/console/orders/{RIGHT_TO_LEFT}"}
    for width, (across, down) in WIDTHS.items():
        for theme in ("light", "dark"):
            context = browser.new_context(
                base_url=server.url, viewport={"width": across, "height": down}, color_scheme=theme
            )
            page = context.new_page()
            for name, path in {**PAGES, **odd, **told}.items():
                if not only or name in only or f"{name}-{width}-{theme}" in only:
                    _take(page, server, name, path, width, theme)
            context.close()


def _take(page: Page, server: Server, name: str, path: str, width: str, theme: str) -> None:
    page.goto(path)
    if name == "overview" and (name, width, theme) in FOR_THE_README:
        _be_busy(server)
    if name == "books":
        page.get_by_role("button", name="Verify now").click()
        page.wait_for_timeout(PROVED_WITHIN_MS)
    if name == "tried":
        _try_a_file(page)
    page.wait_for_timeout(150)
    shown = FOR_THE_README.get((name, width, theme))
    page.screenshot(path=SHOWN / shown if shown else OUT / f"{name}-{width}-{theme}.png", full_page=width == "phone")


def _try_a_file(page: Page) -> None:
    rows = "".join(f"monday-{number},{sku},{number + 1}\n" for number, sku in enumerate([*SKUS[:8], "NO-LAMP"]))
    file = FilePayload(name="monday.csv", mimeType="text/csv", buffer=f"Order,sku,qty\n{rows}".encode())
    page.get_by_label("Choose a file").set_input_files(file)
    page.get_by_role("button", name="Show the dry run").click()
    page.get_by_label("Each row is").select_option("AllocationRequired")
    page.get_by_role("button", name="Show its columns").click()
    page.get_by_label("Order", exact=True).select_option("orderid")
    page.get_by_role("button", name="Show what would happen").click()


def _be_busy(server: Server) -> None:
    """Messages that change nothing, more and fewer of them, so that the charts have something to show."""
    for second in range(BUSY_S):
        until = time.monotonic() + 1
        wave = 0.55 + 0.45 * math.sin(second / 4.0)
        while time.monotonic() < until:
            products = random.choices(SKUS, k=random.randint(2, 4 + int(10 * wave)))
            lines = [{"type": "RepairRequired", "sku": sku} for sku in products]
            body = "".join(json.dumps(line) + "\n" for line in lines)
            server.client.post("/bulk", content=body, headers={"content-type": "application/x-ndjson"})
            time.sleep(0.25 - 0.2 * wave)


if __name__ == "__main__":
    sys.exit(main())
