"""``allocation demo``: the real service on a free port and a database of its own, and two stories told over HTTP.

On a terminal it continues to serve until Ctrl-C; elsewhere it ends after the stories. It deletes its database.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from allocation.config import PREFIX
from allocation.entrypoints.cli.exits import DONE, complain
from allocation.entrypoints.cli.output import console, table
from allocation.entrypoints.cli.showing import USUAL
from allocation.entrypoints.cli.stories import Step, Story, stories
from allocation.entrypoints.refusals import EXIT_FAILURE

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
MAIL_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 10.0
POLL_S = 0.02
STOCK_TEAM = "stock@example.com"
CREATED = 201
OK = 200

Standing = Mapping[str, str]  # the batch of each order's line


class DemoFailed(Exception):
    """The service did not answer as expected."""


def play() -> int:
    """Play the stories; return the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(DONE))  # so that the service and its folder are cleaned up
    out = console()
    try:
        with tempfile.TemporaryDirectory(prefix="allocation-demo-") as folder, Service(Path(folder)) as service:
            out.print(f"The service runs at {service.url}\n")
            for story in stories(datetime.now(UTC).date()):
                _tell(story, service, out)
            _show_mails(service, out)
            if sys.stdout.isatty():
                _keep_serving(service, out)
    except DemoFailed as failure:
        complain(str(failure))
        return EXIT_FAILURE
    return DONE


class Service:
    """The service as a process of its own, started with ``allocation serve --port 0``."""

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self._log = folder / "service.log"
        self._database = f"sqlite:///{folder / 'demo.db'}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # The caller's settings are removed: a demo must not send mails. Without a server they are only logged.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment[f"{PREFIX}STOCK_TEAM"] = STOCK_TEAM
        command = [sys.executable, "-m", "allocation.entrypoints.cli", "serve", "--port", "0"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                [*command, "--database", self._database],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we stop it
            )
        try:
            self.url = self._wait_for_url()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def logged(self, event: str) -> Iterator[Mapping[str, Any]]:
        """The log entries of the service with this name."""
        for line in self._log.read_text(errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                if entry.get("event") == event:
                    yield entry

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """The status and the JSON of the answer."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=REQUEST_TIMEOUT_S)
        try:
            connection.request(
                method,
                path,
                json.dumps(body) if body is not None else None,
                {"Content-Type": "application/json"} if body is not None else {},
            )
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except OSError as error:
            raise DemoFailed(
                f"The service does not answer: {error}\n{self._log.read_text(errors='replace')}"
            ) from error
        finally:
            connection.close()

    def wait(self) -> None:
        """Until it ends."""
        if self._process is not None:
            self._process.wait()

    def _wait_for_url(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            for entry in self.logged("serving"):
                return str(entry["url"])
            time.sleep(POLL_S)
        raise DemoFailed(f"The service did not start:\n{self._log.read_text(errors='replace')}")

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _tell(story: Story, service: Service, out: Console) -> None:
    out.rule(f"{story.title}: {story.sku}", align="left")
    for step in story.beginning:
        _do(step, service, out)
        _wait_for_mails(story.sku, service)
    _show_stock(story.sku, service, out)
    before = _standing(story, service)
    for step in story.trouble:
        _do(step, service, out)
        _wait_for_mails(story.sku, service)
        after = _standing(story, service)
        _show_lines(story, before, after, out)
        before = after
    _show_stock(story.sku, service, out)


def _do(step: Step, service: Service, out: Console) -> None:
    out.print(step.told, style="bold")
    status, answer = service.request("POST", step.path, step.body)
    out.print(f"  POST {step.path} {json.dumps(step.body)}")
    out.print(f"  {status} {json.dumps(answer)}\n", style="green" if status == CREATED else "red")
    if status != CREATED:
        raise DemoFailed(f"{step.path} answered {status}")


def _standing(story: Story, service: Service) -> Standing:
    found = {}
    for orderid in story.orders:
        status, lines = service.request("GET", f"/allocations/{orderid}")
        if status != OK:
            raise DemoFailed(f"/allocations/{orderid} answered {status}")
        found[orderid] = next(line["batchref"] or "waits" for line in lines if line["sku"] == story.sku)
    return found


def _show_lines(story: Story, before: Standing, after: Standing, out: Console) -> None:
    quantities = {step.body["orderid"]: step.body["qty"] for step in story.beginning if "orderid" in step.body}
    rows = [
        (
            orderid,
            quantities[orderid],
            before[orderid],
            after[orderid],
            "" if before[orderid] == after[orderid] else "moved",
        )
        for orderid in story.orders
    ]
    out.print(table(f"The lines of {story.sku}", ("order", "quantity", "before", "after", ""), rows))


def _show_stock(sku: str, service: Service, out: Console) -> None:
    _, product = service.request("GET", f"/products/{sku}")
    rows = [
        (
            batch["batchref"],
            batch["eta"] or "in the warehouse",
            *(batch[field] for field in USUAL.values()),
        )
        for batch in product["batches"]
    ]
    out.print(table(f"Batches of {sku}", ("batch", "due", *USUAL), rows))


def _wait_for_mails(sku: str, service: Service) -> None:
    """Mails are sent after the commit, so they appear a moment later; they name the lines that wait then."""
    _, ledger = service.request("GET", f"/events?sku={sku}")
    expected = {event["correlation_id"] for event in ledger["events"] if event["type"] == "OutOfStock"}
    deadline = time.monotonic() + MAIL_TIMEOUT_S
    while len(_mails(service, sku)) < len(expected) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _mails(service: Service, sku: str = "") -> Sequence[Mapping[str, Any]]:
    """The mails about a product, or all. Without a mail server they are in the log."""
    return [mail for mail in service.logged("mail") if sku in mail["subject"]]


def _show_mails(service: Service, out: Console) -> None:
    rows = [(mail["to"], mail["subject"]) for mail in _mails(service)]
    out.print(table("Mails, sent after the commit", ("to", "subject"), rows))


def _keep_serving(service: Service, out: Console) -> None:
    out.print(f"The service continues at {service.url}; {service.url}/docs explains its routes. Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):
        service.wait()
        raise DemoFailed("The service ended by itself")
