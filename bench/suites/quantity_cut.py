"""P8: a batch is counted to nothing, and all its lines move to another one."""

import json
import time
from functools import partial

from bench import ours
from bench.measure import Outcome, Panel, Sample, Series, at_most, interleave, present, ratio, versus
from bench.processes import post
from bench.rivals.textbook import schema as textbook_schema
from bench.run import Run
from bench.services import OURS, TEXTBOOK_TIMEOUT_S, Service, textbook
from bench.stores import Database, Fixture

FEW, MANY = 1_000, 10_000
MOST_PER_LINE = 1.2
CUT = json.dumps({"ref": "full", "qty": 0}).encode()


def cut(run: Run) -> Outcome:
    contenders = {
        "ours": partial(_cutting, run, OURS, FEW),
        "textbook": partial(_cutting, run, textbook(workers=1, threads=1), FEW),
        "ours, 10,000 lines": partial(_cutting, run, OURS, MANY),
    }
    included = {name: run.plan.includes(name.partition(",")[0]) for name in contenders}
    chosen = {name: each for name, each in contenders.items() if included[name]}
    series = interleave(chosen, run.plan.rounds)
    goals = present([versus(series, "ours", "textbook", 100)])
    if "ours" in series:
        goals += (at_most("ours: time per line, 10,000 / 1,000 lines", _growth(series), MOST_PER_LINE),)
    panel = Panel(f"A cut that moves {FEW:,} lines", "lines/s", series)
    return Outcome((panel,), goals, ("One request; the textbook has no time for 10,000 lines.",))


def _growth(series: dict[str, Series]) -> Series:
    """Lines a second at few over lines a second at many is time per line at many over few."""
    return ratio(series["ours"], series["ours, 10,000 lines"])


def _cutting(run: Run, service: Service, lines: int) -> Sample:
    with service.database(run, _fixture(service, lines)) as database:
        with service.running(database) as (server,):
            started = time.perf_counter()
            status, answer = post(server.port, "/change_batch_quantity", CUT, timeout_s=TEXTBOOK_TIMEOUT_S)
            seconds = time.perf_counter() - started
        if status >= 300:
            raise RuntimeError(f"{service.name} answered {status}: {answer[:500]!r}")
        service.books.check(database, lines)
    return Sample(lines / seconds, {"seconds": seconds})


def _fixture(service: Service, lines: int) -> Fixture:
    if service is OURS:
        return ours.filled_with(f"ours_cut_{lines}", partial(ours.cut_stock, lines))

    def fill(database: Database) -> None:
        textbook_schema.fill_for_cut(database, lines)

    return Fixture(f"textbook_cut_{lines}", fill)
