"""The matrix of crash points: where a process is killed, and what has to be true then, and after the next one is done.

For each case a process works on three groups of messages and dies at one point of one of them. What is committed by
then is compared with what was acknowledged. The next process finishes: the senders repeat, under the same keys, what
was not acknowledged. In the end everything was applied exactly once, and every effect was done at least once.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import signal
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from allocation.adapters.database import is_sqlite, parse_url
from allocation.adapters.long_reader import LongReader
from allocation.adapters.migrate import migrate
from allocation.adapters.postgresql import PostgresStore
from allocation.adapters.sqlite import SqliteStore
from allocation.domain.events import (
    AllocationCancelled,
    AllocationRequired,
    Event,
    HoldConfirmed,
    LineQuantityChanged,
    LineShipped,
    StockHeld,
)
from allocation.domain.lines import CANCELLED, CONFIRMED, SHIPPED
from allocation.service_layer.messages import encode
from allocation.service_layer.writing.writer import Writer
from allocation.views.audit import audit_all
from tests.builders import message, select
from tests.servers import PostgresServer
from tests.torture.crash_child import (
    ACTOR,
    EFFECT_POINTS,
    GROUPS,
    PENDING,
    Crash,
    Task,
    group_of,
    main,
    messages,
    stock,
)

# Each way a group is written, and its points in the order passed. The statement of `Store.write` is a transaction in
# itself on PostgreSQL: there is nothing between sending it and its commit.
POINTS = {
    ("sqlite", "write"): ("queued", "read", "handled", "saved", "committing", "committed", "answered"),
    ("sqlite", "run"): ("queued", "read", "handled", "saved", "committing", "committed", "answered"),
    ("postgres", "write"): ("queued", "read", "handled", "committing", "committed", "answered"),
    ("postgres", "run"): ("queued", "read", "handled", "sent", "saved", "committing", "committed", "answered"),
}
NOT_WRITTEN = {"queued", "read", "handled", "sent", "saved"}
WRITTEN = {"committed", "answered", *EFFECT_POINTS}
CRASHED_GROUPS = GROUPS[:2]  # the first one, and one that another one was before
TIMEOUT_S = 30.0
COUNTS = ("processes killed", "messages sent", "acknowledged before", "repeated after", "effects", "effects repeated")

# Children are forked from a process that has imported everything, so they are quick to start. Each imports the program
# that runs the tests anew, which is quick if that is there, too.
_nursery = multiprocessing.get_context("forkserver")
_nursery.set_forkserver_preload(["pytest", "tests.torture.crash_child"])


class Case(NamedTuple):
    """One cell of the matrix."""

    database: str
    crash: Crash

    def __str__(self) -> str:
        place = "first" if self.crash.group == 1 else "later"
        return f"{self.database}-{self.crash.way}-{self.crash.point}-{place}"


CASES = [
    Case(database, Crash(way, point, group))
    for (database, way), points in POINTS.items()
    for point in (*points, *EFFECT_POINTS)
    for group in CRASHED_GROUPS
]


@dataclass(slots=True)
class Journal:
    """What the senders and the outside world know: answers by key, and how often each product was told of."""

    answers: defaultdict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    told: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    killed: bool = False


class Survived(NamedTuple):
    """How a case went: what was done, and the faults, of which there must be none."""

    counts: Mapping[str, int]
    faults: Sequence[str]


def survive_all() -> Mapping[str, Sequence[Survived]]:
    """Play every case, each on a database of its own; how they went, by database and way."""
    survived: dict[str, list[Survived]] = defaultdict(list)
    with PostgresServer() as server, tempfile.TemporaryDirectory(prefix="allocation-crashes-") as home:
        template = server.create_database("template")
        migrate(parse_url(template))
        for case in CASES:
            folder = Path(home, str(case))
            folder.mkdir()
            if case.database == "sqlite":
                url = f"sqlite:///{folder / 'allocation.db'}"
                migrate(parse_url(url))
            else:
                url = server.create_database(str(case), template="template")
            survived[f"{case.database}, {case.crash.way}"].append(survive(case, url, folder))
    return survived


def survive(case: Case, url: str, folder: Path, sabotage: str = "") -> Survived:
    """Play one case on an empty database with our tables."""
    return _Play(case, url, folder / "journal", sabotage).play()


class _Play:
    def __init__(self, case: Case, url: str, journal: Path, sabotage: str) -> None:
        self._case = case
        self._url = url
        self._journal = journal
        self._sabotage = sabotage
        self._sent = {each.id: each for each in messages(case.crash.way)}

    def play(self) -> Survived:
        asyncio.run(_buy_stock(self._url))
        code = self._run_child(self._sent.keys(), self._case.crash)
        before = _read(self._journal)
        if code != -signal.SIGKILL or not before.killed:
            return Survived(Counter(), [f"the process passed its point and ended with {code}: {before}"])
        faults = [*self._after_the_crash(before)]
        code = self._run_child(self._sent.keys() - before.answers.keys())
        after = _read(self._journal)
        faults += [f"the next process ended with {code}"] if code != 0 else []
        faults += self._in_the_end(before, after)
        sent, acknowledged, told = len(self._sent), len(before.answers), after.told.total()
        done = (1, sent, acknowledged, sent - acknowledged, told, told - len(after.told))
        return Survived(Counter(dict(zip(COUNTS, done, strict=True))), faults)

    def _run_child(self, keys: Collection[str], crash: Crash | None = None) -> int | None:
        task = Task(self._url, self._journal, self._case.crash.way, frozenset(keys), crash, self._sabotage)
        child = _nursery.Process(target=main, args=(task,))
        child.start()
        child.join(TIMEOUT_S)
        if child.exitcode is None:
            child.kill()
        return child.exitcode

    def _after_the_crash(self, journal: Journal) -> Iterator[str]:
        """What was acknowledged is there, every group is there or not, and the killed one as its point says."""
        committed = self._received()
        for key in journal.answers.keys() - committed:
            yield f"lost: {key} was acknowledged and is not in the ledger after the kill"
        whole = []
        for group in GROUPS:
            keys = {key for key in self._sent if group_of(key) == group}
            if 0 < len(keys & committed) < len(keys):
                yield f"torn: of group {group} there is only {sorted(keys & committed)}"
            whole.append(keys <= committed)
        if whole != sorted(whole, reverse=True):
            yield f"order: a group is there without the one before: {whole}"
        crash = self._case.crash
        if crash.point in NOT_WRITTEN | WRITTEN and whole[crash.group - 1] != (crash.point in WRITTEN):
            yield f"place: killed at {crash.point}, and group {crash.group} is there: {whole[crash.group - 1]}"
        yield from _differences(self._url, "after the kill")

    def _in_the_end(self, before: Journal, after: Journal) -> Iterator[str]:
        yield from (f"refused: {refusal}" for refusal in after.refused)
        yield from self._receipts(after)
        yield from self._lines()
        yield from self._effects(before, after)
        yield from _differences(self._url, "in the end")

    def _receipts(self, journal: Journal) -> Iterator[str]:
        """Every message is in the ledger once, as it was sent and answered, and nothing else is."""
        rows = self._select(f"SELECT correlation_id, body, result FROM messages WHERE step = 0 AND actor = '{ACTOR}'")
        received = Counter(key for key, _, _ in rows)
        yield from (f"lost: {key} is not in the ledger" for key in self._sent.keys() - received.keys())
        yield from (f"silent: {key} was never acknowledged" for key in self._sent.keys() - journal.answers.keys())
        for key, body, result in rows:
            if key not in self._sent:
                yield f"twice: {key} is in the ledger, and nobody sent it so"
            elif received[key] > 1:
                yield f"twice: {key} is in the ledger {received[key]} times"
            elif body != encode(self._sent[key].event):
                yield f"torn: {key} is in the ledger as {body}"
            elif journal.answers[key] != [json.loads(result)]:
                yield f"answers: {key} was answered {journal.answers[key]}, and the ledger has {result}"

    def _lines(self) -> Iterator[str]:
        """Every line and hold stands once, or is closed, as it was asked to."""
        asked = Counter(_lines_of([*stock(), *(each.event for each in self._sent.values())]))
        standing = Counter(self._select("SELECT orderid, qty, closed FROM order_lines"))
        if standing != asked:
            yield f"lines: missing {asked - standing}, too many {standing - asked}"

    def _effects(self, before: Journal, after: Journal) -> Iterator[str]:
        """Every effect was done, none is left, none was done for nothing; one that was marked is not repeated."""
        caused = {sku for (sku,) in self._select("SELECT sku FROM messages WHERE type = 'OutOfStock'")}
        yield from (f"untold: nobody was told of {sku}" for sku in caused - after.told.keys())
        yield from (f"unasked: told of {sku}" for sku in after.told.keys() - caused)
        yield from (f"untold: delivery {number} is left" for (number,) in self._select(PENDING))
        sku = f"GONE-{self._case.crash.group}"
        earlier, all_ = before.told[sku], after.told[sku]
        as_expected = {"untold": earlier == 0 < all_, "told": 0 < earlier < all_, "marked": 0 < earlier == all_}
        if not as_expected.get(self._case.crash.point, True):
            yield f"effects: {sku} was told {earlier} times before the kill and {all_} in all"

    def _received(self) -> set[str]:
        """As of one moment: what was sent before the kill may still be on its way through the database."""
        return {key for (key,) in self._select("SELECT correlation_id FROM ledger WHERE step = 0")}

    def _select(self, query: str) -> Sequence[tuple[Any, ...]]:
        return asyncio.run(select(parse_url(self._url), query))


def _lines_of(events: Iterable[Event]) -> Iterable[tuple[str, int, str | None]]:
    """Of each line and hold how much it is, and how it ended, told from what was asked for alone."""
    lines: dict[str, tuple[int, str | None]] = {}
    for event in events:
        match event:
            case AllocationRequired() | LineQuantityChanged():
                lines[event.orderid] = event.qty, None
            case StockHeld():
                lines[event.holdid] = event.qty, None
            case LineShipped():
                lines[event.orderid] = lines[event.orderid][0], SHIPPED
            case AllocationCancelled():
                lines[event.orderid] = lines[event.orderid][0], CANCELLED
            case HoldConfirmed():
                lines[event.orderid] = lines[event.holdid]
                lines[event.holdid] = lines[event.holdid][0], CONFIRMED
    return ((name, *line) for name, line in lines.items())


async def _buy_stock(url: str) -> None:
    parsed = parse_url(url)
    store = SqliteStore(parsed) if is_sqlite(parsed) else PostgresStore(parsed)
    writer = Writer(store)
    writer.start()
    await asyncio.gather(*[writer.handle(message(event)) for event in stock()])
    await writer.close()
    await store.close()


def _differences(url: str, when: str) -> Iterator[str]:
    _, found = asyncio.run(LongReader(parse_url(url)).run(audit_all))
    yield from (f"verify: {each.difference} {when}" for each in found)


def _read(path: Path) -> Journal:
    journal = Journal()
    for line in path.read_text().splitlines():
        match json.loads(line):
            case ["acknowledged", key, result]:
                journal.answers[key].append(result)
            case ["refused", key, reason]:
                journal.refused.append(f"{key}: {reason}")
            case ["told", sku]:
                journal.told[sku] += 1
            case ["killed"]:
                journal.killed = True
    return journal
