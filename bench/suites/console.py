"""P12: what open pages of the console cost the writer."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Event, Thread

from bench import load
from bench.measure import Outcome, Panel, Sample, interleave, present, versus
from bench.plan import SKUS
from bench.processes import HOST
from bench.run import Run
from bench.services import OURS, OURS_SQLITE, Service
from bench.suites.throughput import UNIT, as_sample, sku_names

PAGES = 200
# As a team would have them open: most on the overview and the feed, the others on products of their own.
SHARED = ("/console/live/", "/console/live/products", "/console/live/events", "/console/live/deliveries")
OWN = 20  # of the pages show a product that no other page shows
TIMEOUT_S = 10
RECEIVE_BYTES = 1 << 16
LEAST_SHARE = 0.97


def open_pages(run: Run) -> Outcome:
    contenders = {}
    for service in (OURS, OURS_SQLITE):
        for pages in (0, PAGES):
            name = f"{service.name}, {pages} pages"
            contenders[name] = partial(_watched, run, service, pages)
    series = interleave(contenders, run.plan.rounds)
    goals = [
        versus(series, f"{service.name}, {PAGES} pages", f"{service.name}, 0 pages", LEAST_SHARE)
        for service in (OURS, OURS_SQLITE)
    ]
    notes = (
        f"Load: {load.generator_name()}. {OWN} of the {PAGES} pages show a product each, which nobody else watches.",
    )
    return Outcome((Panel(f"POST /allocate, {SKUS:,} SKUs, with open pages", UNIT, series),), present(goals), notes)


def _watched(run: Run, service: Service, pages: int) -> Sample:
    """A fresh database and server; the pages stay open over the warm-up and the measurement."""
    with service.database(run) as database:
        with service.running(database) as (server,), _pages(server.port, pages) as received:
            loads = [
                load.as_fast_as_possible([server.port], run.unique(), sku_names(SKUS), run.plan.connections, seconds)
                for seconds in (run.plan.warm_up_s, run.plan.seconds)
            ]
            seen = {"kilobytes": received[0] / 1e3}
        accepted = sum(each.accepted for each in loads)
        service.books.check(database, accepted, in_flight=len(loads) * run.plan.connections)
    sample = as_sample(loads[-1])
    return Sample(sample.value, {**sample.seen, **seen})


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
