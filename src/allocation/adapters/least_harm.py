"""Finds the least harmful reallocation exactly: an integer programme, solved by HiGHS."""

# ruff: noqa: PLC0415 - the solver is large, and loaded only when a product's rules ask for it
from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

import structlog

from allocation.domain.harm import MissingSolver, Plan, Solver, Task

if TYPE_CHECKING:
    from highspy import Highs, HighsLp
    from highspy.highs import HighsCallbackEvent

MAX_COUNTS: Final = 1_500  # to be found: kinds of lines times places
MAX_WORK: Final = 40_000  # rounds of the solver times counts, since a round takes longer the more counts there are
# One thread and a fixed seed: the same task always takes the same way. No limit is a time.
OPTIONS: Final = {"threads": 1, "random_seed": 0, "mip_rel_gap": 0.0, "mip_abs_gap": 0.5}


log = structlog.get_logger(__name__)


def installed_solver() -> Solver:
    """`solve`, or a `MissingSolver` where the extra ``least-harm`` is not installed."""
    return solve if importlib.util.find_spec("highspy") else MissingSolver(cache(_warn))


def _warn() -> None:
    log.warning("least_harm is ignored: its solver is not installed", cure="pip install 'allocation[least-harm]'")


def solve(task: Task) -> Plan | None:
    """The best plan, or the best that was found within `MAX_WORK`; None if none was, or the task is too large.

    The same task gets the same plan, however fast or busy the machine is.
    """
    import highspy

    width = len(task.places) + 1
    if not task.kinds or len(task.kinds) * width > MAX_COUNTS:
        return None
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    for option, value in OPTIONS.items():
        solver.setOptionValue(option, value)
    solver.passModel(_programme(task))
    _stop_after(MAX_WORK // (len(task.kinds) * width), solver)
    solver.run()
    if solver.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    counts = [round(value) for value in solver.getSolution().col_value]
    return [counts[start : start + width] for start in range(0, len(counts), width)]


def _stop_after(rounds: int, solver: Highs) -> None:
    """Interrupt the solver after a number of its callbacks: a measure of its work without a clock.

    It calls back about once for each linear programme that it solves. Its own limit on nodes is not enough: for a large
    task it works for seconds on the first node.
    """
    left = rounds

    def count(event: HighsCallbackEvent) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            event.interrupt()

    solver.cbMipInterrupt.subscribe(count)


def _programme(task: Task) -> HighsLp:
    """A column for each count of a plan; a row for each kind, each place, the leaving lines and their quantity."""
    import highspy

    width = len(task.places) + 1
    columns = [list(_column(task, kind, number)) for kind in range(len(task.kinds)) for number in range(width)]
    lines = sum(len(kind.lines) for kind in task.kinds)
    programme = highspy.HighsLp()
    programme.num_col_ = len(columns)
    programme.col_cost_ = [
        (lines + 1) * harm + (number < len(task.places))
        for kind in task.kinds
        for number, harm in enumerate(task.harms(kind))
    ]
    programme.col_lower_ = [0] * len(columns)
    programme.col_upper_ = [len(kind.lines) for kind in task.kinds for _ in range(width)]
    programme.integrality_ = [highspy.HighsVarType.kInteger] * len(columns)
    most = [len(kind.lines) for kind in task.kinds]
    rooms = [place.room for place in task.places]
    programme.row_upper_ = [*most, *rooms, task.leaving, highspy.kHighsInf]
    programme.row_lower_ = (
        [*[0] * (len(most) + len(rooms)), task.leaving, task.missing]
        if task.is_cut
        else [*most, *[0] * len(rooms), 0, 0]
    )
    programme.num_row_ = len(programme.row_upper_)
    programme.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    starts = [0]
    for column in columns:
        starts.append(starts[-1] + len(column))
    programme.a_matrix_.start_ = starts
    programme.a_matrix_.index_ = [row for column in columns for row, _ in column]
    programme.a_matrix_.value_ = [value for column in columns for _, value in column]
    return programme


def _column(task: Task, kind: int, place: int) -> Iterator[tuple[int, int]]:
    """The rows that a count adds to, and how much each of its lines adds."""
    qty = task.kinds[kind].qty
    goes = place < len(task.places)
    yield kind, 1
    if goes:
        yield len(task.kinds) + place, qty
    if goes or task.is_cut:
        yield len(task.kinds) + len(task.places), 1
        yield len(task.kinds) + len(task.places) + 1, qty
