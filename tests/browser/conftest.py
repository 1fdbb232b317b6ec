"""A real browser, and a real server with a shop in it. Without Chromium these tests are skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.browser.shop import open_shop
from tests.services import Server, running

CHROMIUM_VARIABLE = "ALLOCATION_TEST_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_MS = 10_000
UNKNOWN = "/console/products/UNKNOWN"
WIDE = {"width": 1360, "height": 900}


class Shop(NamedTuple):
    """The server, and where its database is."""

    server: Server
    database: Path


def find_chromium() -> str | None:
    """The Chromium of the machine, or the one that the environment names."""
    named = os.environ.get(CHROMIUM_VARIABLE)
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip(f"No Chromium here: apt-get install chromium, or set {CHROMIUM_VARIABLE} to one")
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:  # which runs a loop of its own: it must end before other tests run theirs
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    database = folder / "allocation.db"
    with running(folder / "server.log", ALLOCATION_DATABASE_URL=f"sqlite:///{database}") as server:
        open_shop(server.client)
        yield Shop(server, database)
        assert server.errors() == []


OpenContext = Callable[..., BrowserContext]


@pytest.fixture
def new_context(browser: Browser, shop: Shop) -> Iterator[OpenContext]:
    """A visitor of the console: one who sees an error on the console, or asks another host, fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        refused = message.location["url"].endswith(UNKNOWN)  # the page is a refusal, of which browsers complain
        if message.type == "error" and not refused:
            complaints.append(message.text)

    def follow(request: Request) -> None:
        if not request.url.startswith((shop.server.url, "data:")):
            complaints.append(request.url)

    def watch(page: Page) -> None:
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", follow)

    def open_(**options: object) -> BrowserContext:
        context = browser.new_context(base_url=shop.server.url, **{"viewport": WIDE, **options})  # type: ignore[arg-type]
        context.set_default_timeout(TIMEOUT_MS)
        context.on("page", watch)
        contexts.append(context)
        return context

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(new_context: OpenContext) -> Page:
    return new_context().new_page()
