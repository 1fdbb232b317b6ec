"""The console without a browser: headers, forms that others send, streams, and links to names of every kind."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from allocation.entrypoints.console.protection import COOKIE, FIELD, SECURITY_HEADERS
from tests.services import Server, StartServer, unique

RUN = "/console/books/run"
RETRY = "/console/dead-letters/retry"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def visitor(server: Server) -> Iterator[httpx.Client]:
    """A client of its own, that has opened a page with a form."""
    with httpx.Client(base_url=server.url) as visitor:
        assert visitor.get("/console/books").status_code == 200
        yield visitor


def test_every_answer_has_the_headers(server: Server) -> None:
    page = server.client.get("/console/")
    files = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page.text)
    assert len(files) >= 4
    for path in ("/console/", "/console/nowhere", "/console/products/UNKNOWN", "/console/products?sort=wrong", *files):
        response = server.client.get(path)
        assert SECURITY_HEADERS.items() <= response.headers.items(), path
    assert server.client.get(files[0]).headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "unsafe" not in SECURITY_HEADERS["content-security-policy"]
    assert not re.search(r"<style|style=|<script(?! src=)| on\w+=|https?://", page.text)


def test_the_root_leads_to_the_console(server: Server) -> None:
    for path in ("/", "/console"):
        assert server.client.get(path, follow_redirects=True).url.path == "/console/"


def test_a_form_of_ours_is_taken(visitor: httpx.Client) -> None:
    for origin in (None, str(visitor.base_url).rstrip("/")):
        headers = {"origin": origin} if origin else {}
        response = visitor.post(RETRY, data={FIELD: visitor.cookies[COOKIE]}, headers=headers)
        assert (response.status_code, response.headers["location"]) == (303, "/console/deliveries?did=retry&count=0")


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({}, {}),
        ({FIELD: ""}, {}),
        ({FIELD: "guessed"}, {}),
        (None, {"origin": "https://elsewhere.example"}),
        (None, {"origin": "null"}),
        (None, {"sec-fetch-site": "cross-site"}),
    ],
)
def test_a_form_of_others_is_refused(
    visitor: httpx.Client, fields: dict[str, str] | None, headers: dict[str, str]
) -> None:
    sent = {FIELD: visitor.cookies[COOKIE]} if fields is None else fields
    for path in (RUN, RETRY, "/console/dead-letters/drop"):
        response = visitor.post(path, data=sent, headers={"content-type": FORM, **headers})
        assert response.status_code == 403
        assert "Open the page again" in response.text
    assert "Not verified since" in visitor.get("/console/books").text


def test_a_form_without_the_cookie_is_refused(server: Server) -> None:
    assert httpx.post(f"{server.url}{RUN}", data={FIELD: ""}).status_code == 403
    assert httpx.post(f"{server.url}{RUN}", data={FIELD: "guessed"}).status_code == 403


def test_the_cookie_stays_with_us_and_out_of_scripts(server: Server) -> None:
    cookie = httpx.get(f"{server.url}/console/").headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "path=/console"} <= {part.strip() for part in cookie.split(";")}


@pytest.mark.parametrize(
    "name", ["a/b", "a//b/", "/", "..", ".", "a b", "ü/鍵", "?#%2F&+'\"<b>", "x" * 255, "100%", "a~1"]
)
def test_every_name_has_its_page_and_links_that_lead_to_it(server: Server, name: str) -> None:
    sku, ref, orderid = (name, f"{name}", name)
    server.add_batch(ref, sku, 3)
    server.allocate(orderid, sku, 2)
    found = server.client.get("/console/search", params={"q": name}, follow_redirects=True)
    assert found.status_code == 200
    links = set(re.findall(r'href="(/console/(?:products|batches|orders)(?:/|\?key=)[^"]*)"', found.text))
    assert links
    for link in links:
        response = server.client.get(link.replace("&amp;", "&"))
        assert response.status_code == 200, link


def test_what_cannot_be_is_refused_on_a_page(server: Server) -> None:
    for path, status in (
        ("/console/products/" + quote("a\x00"), 404),
        ("/console/products?sort=wrong", 400),
        ("/console/events?before=-1", 400),
        ("/console/events/none", 404),
        ("/console/deliveries/1x", 404),
        ("/console/dead-letters/drop?number=x", 400),
        ("/console/search?q=" + "x" * 1_000, 400),
    ):
        response = server.client.get(path)
        assert (response.status_code, response.headers["content-type"]) == (status, "text/html; charset=utf-8"), path


def test_every_filter_and_page_of_products_agrees_with_what_is_there(server: Server) -> None:
    prefix = unique("PAGED").upper()
    for number in range(60):
        server.add_batch(f"{prefix}-{number:02}", f"{prefix}-{number:02}", 1, "2020-01-01" if number % 3 == 0 else None)
        for orderid in range(number % 3):
            server.allocate(f"{prefix}-{number}-{orderid}", f"{prefix}-{number:02}", 1)
    expected = {
        "": range(60),
        "&sort=-sku": range(59, -1, -1),
        "&only=waiting": [n for n in range(60) if n % 3 == 2],
        "&only=waiting&sort=-sku": [n for n in range(59, -1, -1) if n % 3 == 2],
        "&only=waiting&sort=waiting": [n for n in range(60) if n % 3 == 2],
        "&only=short": [n for n in range(60) if n % 3],
        "&only=overdue": range(0, 60, 3),
    }
    for asked, numbers in expected.items():
        for search in (prefix, prefix.lower(), f"{prefix[1:]}&match=anywhere"):
            assert _skus(server, f"/console/products?q={search}{asked}") == [f"{prefix}-{n:02}" for n in numbers], asked


def _skus(server: Server, path: str) -> list[str]:
    found: list[str] = []
    while path:
        page = server.client.get(path).text
        found += re.findall(r'<th scope="row"><a class="name" href="[^"]*" title="([^"]*)"', page)
        following = re.search(r'rel="next" href="([^"]*)"', page)
        path = following[1].replace("&amp;", "&") if following else ""
    return found


def test_an_order_explains_each_of_its_lines(server: Server) -> None:
    sku, stock, ship, first, second = (unique(name) for name in ("WHY", "stock", "ship", "first", "second"))
    server.add_batch(stock, sku, 5)
    server.add_batch(ship, sku, 5, "2035-01-31")
    server.allocate(first, sku, 4)
    server.allocate(second, sku, 2)
    page = server.client.get(f"/console/orders/{second}")
    assert "no room" not in page.text
    [link] = re.findall(r'href="([^"#]*)#explanation"', page.text)
    explained = server.client.get(link).text
    part = explained[explained.index('data-live="explanation"') : explained.index('data-live="history"')]
    cells = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)]
    assert cells[1] == [stock, "in", "the", "warehouse", "1", "no", "room", first, "4"]
    assert cells[2] == [ship, "2035-01-31", "5", "taken"]
    assert [row[1] for row in cells[4:]] == ["AllocationRequired", "Allocated"]
    assert server.client.get(f"/console/orders/{second}", params={"explain": unique("none")}).status_code == 404


def test_a_product_tells_by_day_what_can_be_promised(server: Server) -> None:
    sku = unique("PROMISABLE")
    fresh = {"ref": unique("stock"), "sku": sku, "qty": 5, "expires_on": "2035-03-01"}
    assert server.post("/add_batch", fresh).status_code == 201
    server.add_batch(unique("ship"), sku, 1_500, "2035-01-31")
    server.allocate(unique("order"), sku, 2)
    page = server.client.get(f"/console/products/{sku}").text
    part = page[page.index('data-live="promisable"') : page.index('data-live="waiting"')]
    rows = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", part)]
    assert rows == [
        ["From", "In all", "More"],
        ["now", "3", "–"],
        ["2035-01-31", "1,503", "+1,500"],
        ["2035-03-02", "1,500", "-3"],
    ]
    assert "3 now, up to 1,503" in part


def test_a_stream_tells_only_what_differs_from_what_was_seen(server: Server) -> None:
    sku = unique("STREAMED")
    server.add_batch(f"batch of {sku}", sku, 5)
    page = server.client.get(f"/console/products/{sku}").text
    url = re.search(r'data-stream="([^"]*)"', page)
    assert url is not None
    path = url[1].replace("&amp;", "&")
    with server.client.stream("GET", path) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert next(lines) == "retry: 2000"
        server.allocate(unique("order"), sku, 2)
        told: list[str] = []
        while len(told) < 5:
            line = next(lines)
            if line.startswith("event: "):
                told.append(line.removeprefix("event: "))
            if line.startswith("id: "):
                seen = line.removeprefix("id: ")
                break
        told.append(next(lines).removeprefix("event: "))
    assert set(told) == {"stock", "batches", "promisable", "history"}
    with server.client.stream("GET", path, headers={"last-event-id": seen}) as response:
        lines = response.iter_lines()
        assert [next(lines), next(lines)] == ["retry: 2000", ""]
        server.allocate(unique("order"), sku, 1)
        assert next(lines).startswith("event: ")


def test_streams_end_when_the_server_stops(start_server: StartServer) -> None:
    server = start_server()
    with server.client.stream("GET", "/console/live/?_seen=") as response:
        lines = response.iter_lines()
        assert next(lines) == "retry: 2000"
        began = time.monotonic()
        server.process.terminate()
        list(lines)
        assert server.process.wait(20) is not None
        assert time.monotonic() - began < 10
    assert server.errors() == []


def test_a_retired_product_is_marked_and_hidden_by_default(server: Server) -> None:
    sku, get = unique("RETIRED"), server.client.get
    server.add_batch(unique("b"), sku, 1)
    assert server.post("/retire_product", {"sku": sku}).status_code == 201
    assert f">{sku}<" not in get("/console/products", params={"sort": "-sku"}).text
    for filters in ({"q": sku}, {"only": "retired"}):
        page = get("/console/products", params=filters).text
        assert f">{sku}<" in page
        assert ">retired</span>" in page
    assert "takes no new lines" in get(f"/console/products/{sku}").text
