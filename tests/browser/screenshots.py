"""Takes pictures of the console: `make screenshots`. Those of the README go to docs/img, all others into `OUT`."""

from __future__ import annotations

import json
import math
import random
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import find_chromium
from tests.browser.shop import RIGHT_TO_LEFT, SCRIPT, SKUS, give_up, open_shop
from tests.e2e.conftest import Server, running

BUSY_S = 62
PROVED_WITHIN_MS = 3_000
ROOT = Path(__file__).parents[2]
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
    "events": "/console/events",
    "flow": "/console/flow",
    "deliveries": "/console/deliveries",
    "confirm": "/console/dead-letters/retry",
    "books": "/console/books",
    "problem": "/console/products/UNKNOWN",
}
FOR_THE_README = {
    ("overview", "desk", "light"): "console-overview.png",
    ("product", "desk", "dark"): "console-product.png",
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
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
            _take_all(browser, server, only)
            browser.close()
    return 0


def _take_all(browser: Browser, server: Server, only: set[str]) -> None:
    moved = server.get("/events", sku="RELIABLE-FORK", limit=1_000)["events"]
    count = next(each["id"] for each in moved if each["type"] == "BatchQuantityChanged")
    odd = {"script": f"/console/search?q={SCRIPT}", "hebrew": f"/console/orders/{RIGHT_TO_LEFT}"}
    for width, (across, down) in WIDTHS.items():
        for theme in ("light", "dark"):
            if width != "desk" and theme == "dark":
                continue
            context = browser.new_context(
                base_url=server.url, viewport={"width": across, "height": down}, color_scheme=theme
            )
            page = context.new_page()
            for name, path in {**PAGES, **odd, "event": f"/console/events/{count}"}.items():
                if not only or name in only or f"{name}-{width}-{theme}" in only:
                    _take(page, server, name, path, width, theme)
            context.close()


def _take(page: Page, server: Server, name: str, path: str, width: str, theme: str) -> None:
    page.goto(path)
    if name == "overview" and (name, width, theme) in FOR_THE_README:
        _be_busy(server)
    if name == "books":
        page.get_by_role("button", name="Prove them now").click()
        page.wait_for_timeout(PROVED_WITHIN_MS)
    page.wait_for_timeout(150)
    shown = FOR_THE_README.get((name, width, theme))
    page.screenshot(path=SHOWN / shown if shown else OUT / f"{name}-{width}-{theme}.png", full_page=width == "phone")


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
