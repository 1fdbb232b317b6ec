"""Kill -9 at every point between queue and effect: nothing acknowledged is lost, and nothing is applied twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.crash import CASES, Case, survive
from tests.torture.crash_child import Crash

GUARANTEES = Path(__file__).parents[2] / "docs/guarantees.md"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_process_killed_there_loses_and_repeats_nothing(
    case: Case, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    assert survive(case, request.getfixturevalue(f"{case.database}_url"), tmp_path).faults == []


@pytest.mark.parametrize(
    ("sabotage", "crash", "fault"),
    [
        pytest.param(
            *("early answers", Crash("write", "handled", 1), "lost: 1-0 was acknowledged and is not in the ledger"),
            id="answers before the commit",
        ),
        pytest.param(
            *("other keys", Crash("write", "committed", 1), "twice: again-1-1 is in the ledger, and nobody sent it so"),
            id="retries under another key",
        ),
        pytest.param(
            *("silent effects", Crash("write", "told", 1), "untold: nobody was told of GONE-1"),
            id="effects that are marked and not done",
        ),
    ],
)
def test_the_matrix_notices_a_fault_that_is_built_in(
    sabotage: str, crash: Crash, fault: str, sqlite_url: str, tmp_path: Path
) -> None:
    faults = survive(Case("sqlite", crash), sqlite_url, tmp_path, sabotage).faults
    assert any(each.startswith(fault) for each in faults), faults


def test_the_guarantees_name_the_number_of_cases() -> None:
    assert f"{len(CASES)} kills in `tests/torture/test_crash_points.py`" in GUARANTEES.read_text()
