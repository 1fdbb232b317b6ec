"""One shop with stock in every state: HTTP, the command line, exports and the console show the same figures."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from allocation.domain.events import (
    AllocationRequired,
    BatchCreated,
    BatchQuarantined,
    BatchReceived,
    Event,
    LinePinned,
    LineReturned,
    LineShipped,
)
from allocation.domain.figures import Figures
from tests.e2e.program import given, run
from tests.services import Server, running

SKU = "KEG"
TODAY = datetime.now(UTC).date()
YESTERDAY, NEXT_WEEK = TODAY - timedelta(days=1), TODAY + timedelta(days=7)

# purchased, promised, available, on hand, incoming, blocked, overdue, shipped
BATCHES: Mapping[str, Figures] = {
    "shelf": Figures(20, 5, 11, 18, 0, 2, 0, 2),
    "wet": Figures(7, 0, 0, 7, 0, 7, 0, 0),
    "wet-and-due": Figures(9, 0, 0, 0, 9, 0, 0, 0),
    "old": Figures(3, 0, 0, 3, 0, 3, 0, 0),
    "overdue": Figures(6, 0, 6, 0, 6, 0, 6, 0),
    "due": Figures(10, 8, 2, 0, 10, 0, 0, 0),
    "parts": Figures(12, 0, 12, 5, 7, 0, 0, 0),
    "unknown": Figures(8, 0, 8, 0, 8, 0, 0, 0),
}
MARKS: Mapping[str, str] = {
    "shelf": "in inspection",
    "wet": "quarantined",
    "wet-and-due": "quarantined",
    "old": "expired",
    "overdue": "overdue",
    "unknown": "day unknown",
    "parts": "in parts",
}
TOTAL = Figures(*map(sum, zip(*BATCHES.values(), strict=True)))
LATE = {"waits"}
# The words for people.
WORDS: Mapping[str, str] = {
    "on hand": "on_hand_quantity",
    "incoming": "incoming_quantity",
    "blocked": "blocked_quantity",
    "promised": "allocated_quantity",
    "available": "available_quantity",
    "overdue": "overdue_quantity",
    "shipped": "shipped_quantity",
}


def history() -> Iterator[Event]:
    yield BatchCreated("shelf", SKU, 20)
    yield AllocationRequired("gone", SKU, 4)
    yield AllocationRequired("open", SKU, 5)
    yield LineShipped("gone", SKU)
    yield LineReturned("gone", SKU, 2, disposition="inspect")
    yield BatchCreated("due", SKU, 10, NEXT_WEEK)
    yield AllocationRequired("later", SKU, 8)
    yield LinePinned("later", SKU, "due", "a friend")
    yield BatchCreated("wet", SKU, 7)
    yield BatchQuarantined("wet", "damp")
    yield BatchCreated("wet-and-due", SKU, 9, NEXT_WEEK)
    yield BatchQuarantined("wet-and-due", "damp")
    yield BatchCreated("old", SKU, 3, None, YESTERDAY)
    yield BatchCreated("overdue", SKU, 6, YESTERDAY)
    yield BatchCreated("parts", SKU, 12, NEXT_WEEK)
    yield BatchReceived("parts", 5)
    yield BatchCreated("unknown", SKU, 8, eta_unknown=True)
    yield AllocationRequired("waits", SKU, 99, YESTERDAY)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('figures') / 'allocation.db'}"
        given(url, *history())
        yield url
        return
    server = request.getfixturevalue("postgres_server")
    url = server.create_database("figures")
    given(url, *history())
    yield url
    server.drop_database("figures")


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log: Path = tmp_path_factory.mktemp("server") / "server.log"
    with running(log, ALLOCATION_DATABASE_URL=database) as server:
        yield server
        assert server.errors() == []


def figures_in(members: Mapping[str, Any]) -> Figures:
    return Figures(**{name: members[name] for name in Figures._fields})


def of_words(values: Mapping[str, str]) -> dict[str, int]:
    """The figures by the words for people; what a table leaves out is 0."""
    return {word: int(values.get(word, "0").replace(",", "").replace("–", "0")) for word in WORDS}


def in_words(figures: Figures) -> dict[str, int]:
    return {word: getattr(figures, name) for word, name in WORDS.items()}


def test_over_http(server: Server) -> None:
    [listed] = server.get("/products")["products"]
    product = server.get(f"/products/{SKU}")
    assert figures_in(listed) == figures_in(product) == TOTAL
    assert (product["waiting_lines"], product["late_lines"]) == (1, len(LATE))
    assert {batch["batchref"]: figures_in(batch) for batch in product["batches"]} == BATCHES
    for ref, expected in BATCHES.items():
        assert figures_in(server.get(f"/batches/{ref}")) == expected
    assert server.get(f"/availability/{SKU}")["available_quantity"] == TOTAL.available_quantity
    marked = {batch["batchref"] for batch in product["batches"] if batch.get("expired")}
    assert marked == {"old"}
    [waiting] = server.get("/allocations/waits")
    assert (waiting["state"], waiting["late"], waiting["late_days"]) == ("waiting", True, 1)


def test_on_the_command_line(database: str) -> None:
    shown = json.loads(run("show", SKU, "--json", database=database).output)["product"]
    assert figures_in(shown) == TOTAL
    assert {batch["batchref"]: figures_in(batch) for batch in shown["batches"]} == BATCHES
    text = run("show", SKU, database=database).output
    batches, total, *_ = (list(table_in(part)) for part in re.split(r"\n *\n(?=\w)", text) if "on hand" in part)
    assert of_words(total[0]) == in_words(TOTAL)
    assert {row["batch"]: of_words(row) for row in batches} == {ref: in_words(each) for ref, each in BATCHES.items()}
    noted = {row["batch"]: row["note"].removesuffix(" (damp)") for row in batches if row["note"] != "–"}
    assert noted == MARKS
    for ref, expected in BATCHES.items():
        assert of_words(next(table_in(run("show", ref, database=database).output))) == in_words(expected)


def table_in(text: str) -> Iterator[dict[str, str]]:
    """The rows of the first table with figures in a text, by its columns."""
    lines = [line for line in text.splitlines() if line.strip()]
    head = next(number for number, line in enumerate(lines) if "available" in line)
    names = re.split(r" {2,}", lines[head].strip())
    for line in lines[head + 2 :]:
        cells = re.split(r" {2,}", line.strip())
        if len(cells) != len(names):
            return  # what stands below the table
        yield dict(zip(names, cells, strict=True))


def test_in_exports(database: str) -> None:
    rows = list(csv.DictReader(io.StringIO(run("export", "batches", database=database).output)))
    assert {row["ref"]: Figures(**{name: int(row[name]) for name in Figures._fields}) for row in rows} == BATCHES
    assert {row["ref"] for row in rows if row["expired"] == "true"} == {"old"}
    for what in ("allocations", "backorders"):
        lines = csv.DictReader(io.StringIO(run("export", what, database=database).output))
        late = {line["orderid"] for line in lines if line["late"] == "true"}
        assert late == (LATE if what == "backorders" else set())


def test_on_every_page_of_the_console(server: Server) -> None:
    for path in ("/console/", f"/console/products/{SKU}"):
        assert of_words(tiles_in(server.client.get(path).text)) == in_words(TOTAL), path
    [listed] = rows_of(server.client.get("/console/products").text, "Products with their stock")
    assert of_words({"shipped": str(TOTAL.shipped_quantity), **listed}) == in_words(TOTAL)
    page = server.client.get(f"/console/products/{SKU}").text
    batches = rows_of(page, "Batches in the order lines are allocated to them")
    overdue = {ref: each.overdue_quantity for ref, each in BATCHES.items()}  # has a mark, and no column
    assert {row["batch"]: of_words({"overdue": str(overdue[row["batch"]]), **row}) for row in batches} == {
        ref: in_words(each) for ref, each in BATCHES.items()
    }
    for row in batches:
        assert row["due"].endswith(MARKS.get(row["batch"], NEXT_WEEK.isoformat())), row
    for ref, expected in BATCHES.items():
        assert of_words(tiles_in(server.client.get(f"/console/batches/{ref}").text)) == in_words(expected)


def tiles_in(page: str) -> dict[str, str]:
    """The figures of a page by their words."""
    found = re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", page)
    return {word.lower(): value for word, value in found if word.lower() in WORDS}


def rows_of(page: str, caption: str) -> list[dict[str, str]]:
    """The rows of the table with that caption, by its columns."""
    table = next(each for each in re.findall(r"<table.*?</table>", page, re.DOTALL) if caption in each)
    head, *rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)

    def cells(row: str) -> list[str]:
        found = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        return [" ".join(unescape(re.sub(r"<[^>]*>", " ", cell)).split()) for cell in found]

    names = [name.lower().rstrip(" ↑↓") for name in cells(head)]
    return [dict(zip(names, cells(row), strict=True)) for row in rows]


def test_a_preview_shows_the_stock_before_and_after(server: Server, database: str) -> None:
    body: dict[str, str | int] = {"ref": "shelf", "qty": 18}
    preview = server.client.post("/preview/change_batch_quantity", json=body).json()
    [changed] = preview["stock"]["batches"]
    after = BATCHES["shelf"]._replace(purchased_quantity=18, on_hand_quantity=16, available_quantity=9)
    assert (figures_in(changed["before"]), figures_in(changed["after"])) == (BATCHES["shelf"], after)
    assert (preview["stock"]["before"], preview["stock"]["after"]) == (changed["before"], changed["after"])
    text = run("change-batch-quantity", "--ref=shelf", "--qty=18", "--preview", database=database).output
    shown = next(table_in(text[text.index("Stock before → after") :]))
    assert (shown["on hand"], shown["promised"], shown["shipped"]) == ("18 → 16", "5 → 5", "2 → 2")
    page = server.client.get("/console/change/change_batch_quantity", params={**body, "look": "1"}).text
    [row] = rows_of(page, "Stock of the batches, before → after")
    assert (row["on hand"], row["promised"], row["available"]) == ("18 → 16", "5 → 5", "11 → 9")


def test_a_preview_tells_newly_late_lines_from_those_that_are_late_anyway(server: Server) -> None:
    sku, soon = "BARREL", TODAY + timedelta(days=2)
    server.post("/add_batch", {"ref": "ship", "sku": sku, "qty": 5, "eta": soon.isoformat()})
    days: Mapping[str, date] = {"in-time": soon, "late": TODAY}
    for orderid, day in days.items():
        server.post("/allocate", {"orderid": orderid, "sku": sku, "qty": 1, "need_by": day.isoformat()})
    preview = server.client.post("/preview/change_batch_eta", json={"ref": "ship", "eta": NEXT_WEEK.isoformat()}).json()
    assert (preview["summary"]["late"], preview["summary"]["newly_late"]) == (2, 1)
    assert {line["orderid"]: (line["late_before"], line["late"]) for line in preview["lines"]} == {
        "in-time": (False, True),
        "late": (True, True),
    }
