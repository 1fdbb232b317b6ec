"""P12: what open pages of the console cost the writer."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event, Thread

from bench import load
from bench.measure import Outcome, Panel, Sample, interleave, present, versus
from bench.plan import SKUS
from bench.processes import HOST
from bench.run import Run
from bench.services import OURS, OURS_SQLITE, Service
from bench.stores import Database
from bench.suites.throughput import UNIT, as_sample, sku_names

PAGES = 200
# As a team would have them open: most on the overview and the feed, the others on products of their own.
SHARED = ("/console/live/", "/console/live/products", "/console/live/events", "/console/live/deliveries")
OWN = 20  # of the pages show a product that no other page shows
TIMEOUT_S = 10
# Pages are looked at every few seconds under load: a measurement has to have several looks in it.
SECONDS_TIMES = 2
ROUNDS_TIMES = 1
RECEIVE_BYTES = 1 << 16
LEAST_SHARE = 0.95


@dataclass(slots=True)
class _Watched:
    """A service that runs through all rounds, with pages open and without, so that nothing else differs."""

    service: Service
    database: Database
    port: int
    accepted: int = 0
    loads: int = 0

    def measure(self, run: Run, pages: int) -> Sample:
        with _pages(self.port, pages) as received:
            self._order(run, run.plan.warm_up_s)
            began = received[0]
            measured = self._order(run, SECONDS_TIMES * run.plan.seconds)
            sent = received[0] - began
        sample = as_sample(measured)
        return Sample(sample.value, {**sample.seen, "kilobytes": sent / 1e3})

    def _order(self, run: Run, seconds: int) -> load.Load:
        connections = run.plan.connections
        seen = load.as_fast_as_possible([self.port], run.unique(), sku_names(SKUS), connections, seconds)
        self.accepted += seen.accepted
        self.loads += 1
        return seen

    def check(self, run: Run) -> None:
        self.service.books.check(self.database, self.accepted, in_flight=self.loads * run.plan.connections)


def open_pages(run: Run) -> Outcome:
    with ExitStack() as stack:
        watched = [stack.enter_context(_started(run, service)) for service in (OURS, OURS_SQLITE)]
        contenders = {
            f"{each.service.name}, {pages} pages": partial(each.measure, run, pages)
            for each in watched
            for pages in (0, PAGES)
        }
        series = interleave(contenders, ROUNDS_TIMES * run.plan.rounds)
        for each in watched:
            each.check(run)
    goals = [
        versus(series, f"{service.name}, {PAGES} pages", f"{service.name}, 0 pages", LEAST_SHARE)
        for service in (OURS, OURS_SQLITE)
    ]
    notes = (
        f"Load: {load.generator_name()}. {OWN} of the {PAGES} pages show a product each, which nobody else watches.",
        "Each server runs through all rounds, with the pages open in every other measurement.",
    )
    return Outcome((Panel(f"POST /allocate, {SKUS:,} SKUs, with open pages", UNIT, series),), present(goals), notes)


@contextmanager
def _started(run: Run, service: Service) -> Iterator[_Watched]:
    with service.database(run) as database, service.running(database) as (server,):
        yield _Watched(service, database, server.port)


@contextmanager
def _pages(port: int, count: int) -> Iterator[list[int]]:
    """So many streams that are read as they come; how many bytes came is counted."""
    received, ended = [0], Event()
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection((HOST, port), TIMEOUT_S)) for _ in range(count)]
        for number, each in enumerate(sockets):
            each.sendall(f"GET {_path(number)} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
            if not each.recv(RECEIVE_BYTES).startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{_path(number)} is no stream")
            each.setblocking(False)  # noqa: FBT003 - the standard library's own signature
        reader = Thread(target=_read, args=(sockets, received, ended))
        reader.start()
        try:
            yield received
        finally:
            ended.set()
            reader.join()


def _read(sockets: list[socket.socket], received: list[int], ended: Event) -> None:
    while not ended.wait(0.2):
        for each in sockets:
            try:
                while chunk := each.recv(RECEIVE_BYTES):
                    received[0] += len(chunk)
            except BlockingIOError:
                continue


def _path(number: int) -> str:
    return f"/console/live/products/SKU-{number + 1}" if number < OWN else SHARED[number % len(SHARED)]
