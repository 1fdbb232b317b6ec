"""The console as people use it: in a browser, with and without scripts, by keyboard, on a phone, in the dark."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import TIMEOUT_MS, OpenContext, Shop
from tests.browser.shop import RIGHT_TO_LEFT, SCRIPT, give_up
from tests.services import unique

PAGES = (
    "/console/",
    "/console/products",
    "/console/products?only=waiting&sort=waiting",
    "/console/products/RELIABLE-FORK",
    "/console/batches/customs",
    "/console/orders",
    "/console/orders/fork-6",
    "/console/events",
    "/console/flow",
    "/console/deliveries",
    "/console/dead-letters/retry",
    "/console/books",
    "/console/import",
    "/console/products/POTTED-PALM",
    "/console/orders/fork-6?explain=RELIABLE-FORK",
    "/console/change/change_batch_quantity?ref=customs&qty=12&look=1",
    "/console/products/UNKNOWN",
)
PHONE = {"width": 380, "height": 760}
MANY = 6_000
HIGH = re.compile(r"highest is ([2-9]|\d\d),\d\d\d a second")  # at most three seconds for them, so 2,000 in one of them
COUNTED = (
    "[...document.querySelectorAll('svg.flow .label')].reduce((all, one) => all + +one.textContent.replace(',', ''), 0)"
)
SERIOUS = {"serious", "critical"}
WIDER_THAN_THE_WINDOW = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious_in_light_or_dark(page: Page, path: str) -> None:
    page.goto(path)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        serious = [each for each in found if each["impact"] in SERIOUS]
        assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == [], scheme


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_shows_every_page_without_scrolling_sideways(new_context: OpenContext, path: str) -> None:
    page = new_context(viewport=PHONE).new_page()
    page.goto(path)
    assert not page.evaluate(WIDER_THAN_THE_WINDOW)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_can_be_read_without_scripts(new_context: OpenContext, path: str) -> None:
    page = new_context(java_script_enabled=False).new_page()
    page.goto(path)
    expect(page.locator("main h1")).to_have_count(1)
    expect(page.get_by_role("button", name="Switch between light and dark")).to_be_hidden()


def test_what_happens_is_seen_in_another_window(page: Page, new_context: OpenContext, shop: Shop) -> None:
    sku, orderid = unique("LIVE-CHAIR"), unique("live-order")
    shop.server.add_batch(f"batch of {sku}", sku, 10)
    other = new_context().new_page()
    page.goto(f"/console/products/{sku}")
    other.goto("/console/events")
    expect(page.locator("#state")).to_have_text("live")
    expect(other.locator("#state")).to_have_text("live")
    shop.server.allocate(orderid, sku, 4)
    expect(page.locator(".figures")).to_contain_text("6 available")
    expect(page.locator(".events").get_by_text(orderid).first).to_be_visible()
    expect(other.locator(".events").get_by_text(orderid).first).to_be_visible()


def test_a_feed_that_is_paused_stands_still_until_it_goes_on(page: Page, shop: Shop) -> None:
    sku = unique("PAUSED")
    page.goto("/console/events")
    expect(page.locator("#state")).to_have_text("live")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state")).to_have_text("paused")
    shop.server.add_batch(f"batch of {sku}", sku, 10)
    page.wait_for_timeout(1_200)  # two looks at the ledger
    expect(page.get_by_text(f"batch of {sku}")).to_have_count(0)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text(f"batch of {sku}")).to_be_visible()


def test_events_are_filtered_while_one_types_and_stay_live(page: Page, shop: Shop) -> None:
    wanted, other = unique("WANTED"), unique("OTHER")
    for sku in (wanted, other):
        shop.server.add_batch(f"batch of {sku}", sku, 10)
    page.goto("/console/events")
    page.get_by_label("Type").select_option("BatchCreated")
    page.locator("#sku").fill(wanted)
    listed = page.locator("#list tbody tr")
    expect(listed).to_have_count(1)
    assert page.url.endswith(f"/console/events?type=BatchCreated&sku={wanted}")
    expect(page.locator("#state")).to_have_text("live")
    for sku in (wanted, other):
        shop.server.add_batch(f"second batch of {sku}", sku, 10)
    shop.server.allocate(unique("order"), wanted, 1)
    expect(listed.first).to_contain_text(f"second batch of {wanted}")
    expect(listed).to_have_count(2)


def test_the_writer_is_charted_as_it_works(page: Page, shop: Shop) -> None:
    page.goto("/console/")
    expect(page.locator("#state")).to_have_text("live")
    line = '{"type": "RepairRequired", "sku": "TINY-RUG"}\n'
    headers = {"content-type": "application/x-ndjson"}
    assert shop.server.client.post("/bulk", content=line * MANY, headers=headers).status_code == 200
    a_second = page.get_by_role("figure").filter(has_text="Messages a second")
    expect(a_second.get_by_role("img")).to_have_attribute("aria-label", HIGH)
    of_group = page.get_by_role("figure").filter(has_text="In a group")
    assert of_group.locator("rect").count() > 0


def test_the_flow_counts_while_one_looks(page: Page, shop: Shop) -> None:
    sku = unique("COUNTED")
    shop.server.add_batch(f"batch of {sku}", sku, 10)
    page.goto("/console/flow")
    expect(page.locator("#state")).to_have_text("live")
    wait_until_counted(page, 1)
    before = page.evaluate(COUNTED)
    for _ in range(3):
        shop.server.allocate(unique("order"), sku, 1)
    wait_until_counted(page, before + 6)  # each is asked for, and allocated


def wait_until_counted(page: Page, least: int) -> None:
    page.wait_for_function(f"least => {COUNTED} >= least", arg=least, timeout=3 * TIMEOUT_MS)


@pytest.mark.parametrize("width", [390, 1100, 1400])
def test_buttons_stay_in_their_card(page: Page, shop: Shop, width: int) -> None:
    sku = unique("BUTTONS")
    shop.server.add_batch(f"batch of {sku}", sku, 10)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"/console/products/{sku}")
    buttons = page.locator("section.card .button")
    assert buttons.count() >= 2
    edges = "each => each.map(one => [one, one.closest('.card')].map(part => part.getBoundingClientRect().right))"
    assert [(button, card) for button, card in buttons.evaluate_all(edges) if button > card] == []


def test_focus_stays_where_it_is_while_the_page_changes(page: Page, shop: Shop) -> None:
    sku = unique("FOCUS")
    shop.server.add_batch(f"batch of {sku}", sku, 10)
    page.goto(f"/console/products/{sku}")
    expect(page.locator("#state")).to_have_text("live")
    link = page.get_by_role("link", name=f"batch of {sku}").first
    link.focus()
    shop.server.allocate(unique("order"), sku, 4)
    expect(page.locator(".figures")).to_contain_text("6 available")
    expect(link).to_be_focused()


def test_products_are_found_while_one_types(page: Page) -> None:
    page.goto("/console/products")
    page.keyboard.press("/")
    page.keyboard.type("elegant-s")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    expect(page.locator("#list tbody")).to_contain_text("ELEGANT-SOFA")
    assert page.url.endswith("/console/products?q=elegant-s")
    page.get_by_label("SKU", exact=True).fill("-sofa")
    expect(page.locator("#list")).to_contain_text("these SKUs contain it")
    expect(page.locator("#list tbody tr")).to_have_count(8)


def test_the_search_leads_to_whatever_has_the_name(page: Page) -> None:
    for name, place in (("RELIABLE-FORK", "products"), ("customs", "batches"), ("fork-6", "orders")):
        page.goto("/console/")
        page.keyboard.press("/")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/console/{place}/{name}")


def test_a_keyboard_is_enough(page: Page) -> None:
    page.goto("/console/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("link", name="Products", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/products")
    page.get_by_role("radio", name="All").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/console/products?only=waiting")
    page.locator("#list tbody a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/products/*")


def test_the_switch_between_light_and_dark_is_remembered(page: Page) -> None:
    page.goto("/console/")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = page.evaluate(background)
    assert dark != light
    page.goto("/console/products")
    assert page.evaluate(background) == dark


def test_a_message_opens_as_a_tree_at_its_own_address(page: Page, shop: Shop) -> None:
    page.goto("/console/events?type=BatchQuantityChanged&sku=RELIABLE-FORK")
    page.locator(".events a.message").first.click()
    page.wait_for_url("**/console/events/*-*")
    tree = page.locator(".tree")
    expect(tree.locator("> li > .node")).to_contain_text("BatchQuantityChanged")
    expect(tree.locator("> li > ul > li > .node").first).to_contain_text("Deallocated")
    expect(tree.get_by_text("send_out_of_stock_notification").first).to_be_visible()


def test_what_users_name_is_text_wherever_it_stands(page: Page) -> None:
    for place, key in (
        ("products", SCRIPT),
        ("orders", SCRIPT),
        ("orders", RIGHT_TO_LEFT),
        ("products", RIGHT_TO_LEFT),
    ):
        page.goto(f"/console/{place}/{quote(key, safe='')}")
        expect(page.locator("main bdi").first).to_be_attached()
        assert key.strip() in page.locator("body").inner_text()
        assert not page.evaluate(WIDER_THAN_THE_WINDOW)
    page.goto("/console/products")
    assert page.locator("script").count() == 2


def test_a_dead_letter_is_retried_after_it_was_asked(page: Page, shop: Shop) -> None:
    give_up(shop.database, "RELIABLE-FORK")
    page.goto("/console/deliveries")
    row = page.get_by_role("row").filter(has_text="RELIABLE-FORK")
    expect(row).to_contain_text("mailbox is full")
    row.get_by_role("link", name="Retry").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Retry 1 dead letter?")
    page.get_by_role("button", name="Retry it").click()
    expect(page.get_by_role("status").filter(has_text="1 dead letter")).to_be_visible()
    expect(page.locator("[data-live=letters]")).to_contain_text("No delivery was given up")


def test_all_dead_letters_are_retried_after_it_was_asked(page: Page, shop: Shop) -> None:
    for sku in ("RELIABLE-FORK", "CRUNCHY-ARMCHAIR"):
        give_up(shop.database, sku)
    page.goto("/console/deliveries")
    page.get_by_role("link", name="Retry all").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Retry 2 dead letters?")
    page.get_by_role("link", name="Go back").click()
    expect(page.locator("[data-live=letters] tbody tr")).to_have_count(2)
    page.get_by_role("link", name="Retry all").click()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("status").filter(has_text="2 dead letters")).to_be_visible()
    expect(page.locator("[data-live=letters]")).to_contain_text("No delivery was given up")


def test_one_dead_letter_is_dropped_and_the_others_stay(page: Page, shop: Shop) -> None:
    for sku in ("RELIABLE-FORK", "CRUNCHY-ARMCHAIR"):
        give_up(shop.database, sku)
    page.goto("/console/deliveries")
    page.get_by_role("row").filter(has_text="RELIABLE-FORK").get_by_role("link", name="Drop").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Drop 1 dead letter?")
    page.get_by_role("button", name="Drop it").click()
    expect(page.locator("[data-live=letters] tbody tr")).to_have_count(1)
    expect(page.locator("[data-live=letters]")).to_contain_text("CRUNCHY-ARMCHAIR")
    page.get_by_role("link", name="Drop all").click()
    page.get_by_role("button", name="Drop it").click()
    expect(page.locator("[data-live=letters]")).to_contain_text("No delivery was given up")


def test_dead_letters_are_dropped_only_by_the_second_button(page: Page, shop: Shop) -> None:
    give_up(shop.database, "RELIABLE-FORK")
    page.goto("/console/deliveries")
    page.get_by_role("link", name="Drop all").click()
    page.get_by_role("link", name="Go back").click()
    expect(page.locator("[data-live=letters]")).to_contain_text("mailbox is full")
    page.get_by_role("link", name="Drop all").click()
    page.get_by_role("button", name="Drop it").click()
    expect(page.locator("[data-live=letters]")).to_contain_text("No delivery was given up")


def test_the_books_are_proved_on_demand(page: Page) -> None:
    page.goto("/console/books")
    page.get_by_role("button", name="Verify now").click()
    expect(page.locator(".verdict")).to_have_text("The books are right")


def test_the_flow_tells_how_often_each_way_was_taken(page: Page, shop: Shop) -> None:
    page.goto("/console/flow")
    expect(page.locator("svg.flow .label").first).to_be_visible()
    numbers = page.locator("svg.flow .label").all_text_contents()
    assert max(int(each.replace(",", "")) for each in numbers) > 400
