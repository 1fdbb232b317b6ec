"""The console steers: the stories clicked through, and every change as it was looked at, by mouse and by keyboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenContext, Shop
from tests.browser.shop import RIGHT_TO_LEFT, SCRIPT
from tests.browser.test_console import PHONE, SERIOUS, WIDER_THAN_THE_WINDOW
from tests.services import unique

LOOK = "Show what would happen"
CELLS = "table.effects tbody tr"


class Story:
    """A product that is short: 8 in the warehouse and 10 that come later, and lines on both."""

    def __init__(self, shop: Shop) -> None:
        self.sku, self.stock, self.ship = unique("SPRINGY-MATTRESS"), unique("in-stock"), unique("at-customs")
        self.orders = [unique("story") for _ in range(4)]
        shop.server.add_batch(self.stock, self.sku, 8)
        shop.server.add_batch(self.ship, self.sku, 10, "2035-05-01")
        for orderid, qty in zip(self.orders, (3, 3, 2, 6), strict=True):
            shop.server.allocate(orderid, self.sku, qty)


@pytest.fixture
def story(shop: Shop) -> Story:
    return Story(shop)


def rows(page: Page) -> list[list[str]]:
    """The table of what becomes of lines, cell by cell."""
    return [row.locator("th, td").all_inner_texts() for row in page.locator(CELLS).all()]


def test_damaged_stock_is_counted_and_its_lines_move(page: Page, story: Story) -> None:
    page.goto("/console/")
    page.get_by_role("link", name="Products", exact=True).click()
    page.get_by_label("SKU", exact=True).fill(story.sku)
    page.get_by_role("link", name=story.sku).click()
    page.locator(".products").get_by_role("link", name=story.stock).click()
    page.get_by_role("link", name="Count").click()
    page.get_by_label("Quantity counted").fill("5")
    page.get_by_role("button", name=LOOK).click()
    expect(page.locator(".apply")).to_be_visible()
    previewed, figures = rows(page), page.locator(".tally").inner_text()
    assert [(row[0], row[2], row[3]) for row in previewed] == [(story.orders[1], story.stock, story.ship)]
    page.get_by_role("button", name="Count").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Count: done")
    assert rows(page) == previewed
    assert page.locator(".tally").inner_text() == figures
    page.get_by_role("link", name="Back to").click()
    expect(page.locator(".figures")).to_contain_text("5")


def test_a_delivery_that_is_late_and_then_smaller_leaves_lines_waiting(page: Page, story: Story) -> None:
    page.goto(f"/console/batches/{story.ship}")
    page.get_by_role("link", name="Change ETA").click()
    page.get_by_label("Due on").fill("2035-06-20")
    page.get_by_role("button", name=LOOK).click()
    expect(page.locator(CELLS)).to_contain_text(["2035-06-20"])
    page.get_by_role("button", name="Change the ETA").click()
    page.get_by_role("link", name="Back to").click()
    page.get_by_role("link", name="Receive").click()
    page.get_by_label("Quantity that arrived").fill("4")
    page.get_by_label("The rest is", exact=True).select_option("closed: it will not come")
    page.get_by_role("button", name=LOOK).click()
    expect(page.locator(".tally .bad dd").first).to_have_text("1")
    previewed = rows(page)
    assert previewed[0][0] == story.orders[3]
    assert previewed[0][-1] == "waiting"
    page.get_by_role("button", name="Receive").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Receive: done")
    assert rows(page) == previewed
    page.get_by_role("link", name=story.orders[3]).click()
    expect(page.locator(".lines")).to_contain_text("waiting")


def test_a_product_that_changed_meanwhile_is_looked_at_anew(page: Page, shop: Shop, story: Story) -> None:
    page.goto(f"/console/change/change_batch_quantity?ref={story.stock}&qty=5&look=1")
    shop.server.post("/cancel_allocation", {"orderid": story.orders[0], "sku": story.sku})
    page.get_by_role("button", name="Change the purchased quantity").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing was applied")
    assert shop.server.get(f"/batches/{story.stock}")["purchased_quantity"] == 8
    page.get_by_role("button", name="Change the purchased quantity").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Change the purchased quantity: done")
    assert shop.server.get(f"/batches/{story.stock}")["purchased_quantity"] == 5


def test_a_change_is_made_by_keyboard_alone(page: Page, story: Story) -> None:
    page.goto(f"/console/batches/{story.stock}")
    page.get_by_role("link", name="Quarantine").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("a leaking roof")
    page.keyboard.press("Enter")
    expect(page.locator("#would")).to_be_visible()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.apply button')"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Quarantine: done")
    page.goto(f"/console/batches/{story.stock}")
    expect(page.locator(".notice")).to_contain_text("a leaking roof")
    expect(page.get_by_role("link", name="Release")).to_be_visible()


def test_a_line_is_changed_pinned_shipped_and_returned_from_its_order(page: Page, story: Story) -> None:
    order = f"/console/orders/{story.orders[0]}"
    for link, fill, button in (
        ("Change quantity", {"Quantity wanted": "2"}, "Change the quantity"),
        ("Pin", {"Batch": story.stock, "Reason": "a wedding"}, "Pin to a batch"),
        ("Ship", {}, "Ship"),
        ("Return", {"Quantity returned": "1"}, "Return"),
    ):
        page.goto(order)
        page.locator(".steps").get_by_role("link", name=link, exact=True).click()
        for label, value in fill.items():
            page.get_by_label(label, exact=True).fill(value)
        if fill:
            page.get_by_role("button", name=LOOK).click()
        expect(page.locator(".apply")).to_be_visible()  # else the page before may still be there
        previewed = rows(page)
        page.locator(".apply").get_by_role("button", name=button, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"{button}: done")
        assert rows(page) == previewed, link
    page.goto(order)
    expect(page.locator(".lines")).to_contain_text("shipped")


def test_a_line_is_explained_by_keyboard_and_the_explanation_stays_true(page: Page, shop: Shop, story: Story) -> None:
    page.goto(f"/console/orders/{story.orders[1]}")
    page.get_by_role("link", name="Explain").focus()
    page.keyboard.press("Enter")
    explanation = page.locator("#explanation")
    expect(explanation.get_by_role("row").filter(has_text="taken")).to_contain_text(story.stock)
    expect(page.locator("#state")).to_have_text("live")
    shop.server.post("/change_batch_quantity", {"ref": story.stock, "qty": 5})
    expect(explanation.get_by_role("row").filter(has_text="taken")).to_contain_text(story.ship)
    passed_over = explanation.get_by_role("row").filter(has_text="no room")
    expect(passed_over).to_contain_text(story.orders[0])
    expect(explanation.get_by_role("link", name="BatchQuantityChanged").first).to_be_visible()


def test_what_can_be_promised_is_drawn_and_listed(page: Page, shop: Shop, story: Story) -> None:
    page.goto(f"/console/products/{story.sku}")
    promised = page.get_by_role("region", name="Can be promised")
    expect(promised.get_by_role("img")).to_have_attribute("aria-label", re.compile("0 now, up to 4"))
    shop.server.post("/cancel_allocation", {"orderid": story.orders[0], "sku": story.sku})
    expect(promised.get_by_role("img")).to_have_attribute("aria-label", re.compile("3 now, up to 7"))
    expect(promised.get_by_role("row").last).to_contain_text("2035-05-01")


def test_a_csv_file_is_mapped_tried_and_imported_and_its_refused_lines_downloaded(
    page: Page, shop: Shop, story: Story, tmp_path: Path
) -> None:
    names = [unique("imported") for _ in range(3)]
    file = tmp_path / "orders.csv"
    file.write_text(
        "Order no,Article,Pieces,Remark\n"
        f"{names[0]},{story.sku},1,a\n{names[1]},{story.sku},none,b\n{names[2]},{unique('NOWHERE')},1,c\n"
    )
    page.goto("/console/import")
    page.get_by_label("Choose a file").set_input_files(file)
    page.get_by_role("button", name="Show the dry run").click()
    page.get_by_label("Each row is").select_option("AllocationRequired")
    page.get_by_role("button", name="Show its columns").click()
    for column, name in (("Order no", "orderid"), ("Article", "sku"), ("Pieces", "qty")):
        page.get_by_label(column).select_option(name)
    page.get_by_role("button", name=LOOK).click()
    expect(page.locator(".pill.bad").filter(has_text="refused")).to_have_count(2)
    expect(page.locator(".tally").first).to_contain_text("1")
    assert shop.server.client.get(f"/allocations/{names[0]}").status_code == 404
    page.get_by_role("button", name="Import 1 line").click()
    expect(page.get_by_role("heading", name="Done")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the refused lines").click()
    refused = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert [line["line"] for line in refused] == [3, 4]
    assert shop.server.client.get(f"/allocations/{names[0]}").status_code == 200


DROPPED = """
([name, text]) => {
  const given = new DataTransfer();
  given.items.add(new File([text], name));
  return given;
}
"""


def test_a_file_is_dropped_onto_the_page(page: Page, shop: Shop, story: Story) -> None:
    orderid = unique("dropped")
    line = {"type": "AllocationRequired", "orderid": orderid, "sku": story.sku, "qty": 1}
    page.goto("/console/import")
    given = page.evaluate_handle(DROPPED, ["dropped.jsonl", json.dumps(line)])
    page.dispatch_event("#drop", "dragenter", {"dataTransfer": given})
    expect(page.locator("#drop")).to_have_class("drop over")
    page.dispatch_event("#drop", "drop", {"dataTransfer": given})
    expect(page.locator("#drop")).to_have_class("drop")
    page.get_by_role("button", name="Show the dry run").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Import dropped.jsonl")
    page.get_by_role("button", name=LOOK).click()
    page.get_by_role("button", name="Import 1 line").click()
    expect(page.get_by_role("heading", name="Done")).to_be_visible()
    assert shop.server.client.get(f"/allocations/{orderid}").status_code == 200


def test_every_page_that_steers_is_accessible_and_fits_a_phone(new_context: OpenContext, story: Story) -> None:
    page = new_context(viewport=PHONE).new_page()
    line = f"orderid={story.orders[0]}&sku={story.sku}"
    for path in (
        f"change/change_batch_quantity?ref={story.stock}&qty=3&look=1",
        f"change/quarantine_batch?ref={story.stock}",
        f"change/pin_line?{line}&batchref={story.ship}&reason=r&look=1",
        f"change/cancel_allocation?{line}",
        f"change/change_rules?sku={story.sku}",
        f"change/receive_batch?ref={story.ship}&qty=3&rest=expected&look=1",
        f"change/count_batch?ref={story.stock}&on_hand=5&look=1",
        f"change/adjust_batch?ref={story.stock}",
        f"change/transfer_stock?ref={story.stock}",
        f"change/correct_batch?ref={story.stock}",
        f"change/return_line?{line}",
        f"change/retire_product?sku={story.sku}",
        f"batches/{story.stock}",
        f"orders/{story.orders[0]}",
        f"orders/{story.orders[0]}?explain={story.sku}",
        f"orders/{quote(SCRIPT, safe='')}?explain={quote(SCRIPT)}",
        f"orders/{quote(RIGHT_TO_LEFT)}?explain={quote(SCRIPT)}",
        f"products/{quote(RIGHT_TO_LEFT)}",
        "products/POTTED-PALM",
        "import",
    ):
        page.goto(f"/console/{path}")
        assert not page.evaluate(WIDER_THAN_THE_WINDOW), path
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            found = Axe().run(page).response["violations"]
            serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in SERIOUS]
            assert serious == [], (path, scheme)


def test_late_lines_are_found_from_the_overview(page: Page) -> None:
    page.goto("/console/")
    page.get_by_role("link", name="products with late lines").click()
    expect(page.locator("#list tbody")).to_contain_text("POTTED-PALM")
    page.get_by_role("link", name="POTTED-PALM").click()
    expect(page.get_by_role("region", name=re.compile("Late lines"))).to_contain_text("palm-2")
