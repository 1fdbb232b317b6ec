"""CONTRIBUTING's "Add an event", followed to the letter in a copy of the tree, and the new event played."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EVENTS = "src/allocation/domain/events.py"
MODEL = "src/allocation/domain/model.py"
HANDLERS = "src/allocation/service_layer/handlers.py"
ANSWERS = "src/allocation/entrypoints/answers.py"
TESTS = "tests/unit/test_handlers.py"
COMMAND = [sys.executable, "-m", "allocation.entrypoints.cli"]
BLOCK = re.compile(r"^   ```python\n(.*?)^   ```$", re.MULTILINE | re.DOTALL)
# What a contributor runs that the new event could break.
SUITES = [
    "tests/architecture/test_events.py",
    "tests/unit/test_docs.py::test_what_is_written_from_the_code_is_up_to_date",
    "tests/unit/test_flow.py",
    "tests/unit/test_handlers.py",
    "tests/unit/test_messages.py",
    "tests/seed/test_rows.py",
]

# A second event, which needs a rule of its own: it changes stock and a line.
LOSS_EVENT = '''
@dataclass(frozen=True, slots=True)
class PickedGoodsBroken(Request):
    """The goods of an order line broke when they were picked: they are written off, and the line gets others."""

    orderid: OrderId
    sku: Sku
'''
LOSS_RULE = '''
    def write_off_line(self, orderid: str) -> None:
        """The batch loses the stock of the line, and the line is re-placed."""
        known = self._open_line(orderid)
        if known.batchref is None:
            raise NotShippable(known.line, "it waits for stock", "Nothing of it can have broken.")
        batch = self._known_batch(known.batchref)
        freed = self._free(known, batch.day(self.today))
        self._tell_stock(events.BatchQuantityChanged(known.batchref, batch.purchased_quantity - known.line.qty))
        self._call_lines(batch, [freed.line])
'''
LOSS_HANDLER = '''
def write_off_picked(event: events.PickedGoodsBroken, uow: AbstractUnitOfWork) -> None:
    """Write off the goods of a line, and give it others."""
    with uow:
        product = _of_line(event.orderid, event.sku, uow)
        product.write_off_line(orderid=event.orderid)
        uow.commit()
'''


def recipe() -> list[str]:
    """The code of the recipe: the event, its handler, the rows of `HANDLERS` and `RAISES`, the answer, and the test."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    steps = page[page.index("## Add an event") : page.index("## Release a version")]
    return [textwrap.dedent(block) for block in BLOCK.findall(steps)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy in which both events were added."""
    copy = tmp_path_factory.mktemp("recipe") / "tree"
    copy.mkdir()
    for name in ("src", "tests", "docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pyproject.toml", "Makefile"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "out", "performance*"))
        else:
            shutil.copy(source, copy / name)
    event, handler, handled, raised, answered, test = recipe()
    add(copy, event, handler, [handled, raised, answered])
    append(copy / TESTS, test)
    add(
        copy,
        LOSS_EVENT,
        LOSS_HANDLER,
        [
            "events.PickedGoodsBroken: [write_off_picked],",
            "write_off_picked: _FREES | _SERVES | {events.BatchQuantityChanged},",
            "PickedGoodsBroken: end_answer,",
        ],
    )
    insert(copy / MODEL, "    # Holds\n", LOSS_RULE.lstrip("\n") + "\n", before=True)
    run(copy, sys.executable, "docs/generate.py")
    yield copy
    shutil.rmtree(copy)


def add(copy: Path, event: str, handler: str, rows: list[str]) -> None:
    """Add an event by hand: three files, and its tests."""
    handled, raised, answered = (textwrap.indent(row.strip(), "    ") + "\n" for row in rows)
    append(copy / EVENTS, event)
    insert(copy / HANDLERS, "def send_out_of_stock_notification(", handler.strip() + "\n\n\n", before=True)
    insert(copy / HANDLERS, "HANDLERS: Mapping[type[events.Event], Sequence[Handler]] = {\n", handled)
    insert(copy / HANDLERS, "RAISES: Mapping[Handler, frozenset[type[events.Event]]] = {\n", raised)
    insert(copy / ANSWERS, "ANSWERS: Mapping[type[Event], Callable[[Outcome], Mapping[str, Any]]] = {\n", answered)
    name = answered.strip().partition(":")[0]
    insert(copy / ANSWERS, "from allocation.domain.events import (\n", f"    {name},\n")


def append(path: Path, text: str) -> None:
    path.write_text(f"{path.read_text().rstrip()}\n\n\n{text.strip()}\n")


def insert(path: Path, anchor: str, text: str, *, before: bool = False) -> None:
    there = path.read_text()
    assert there.count(anchor) == 1, f"{path.name} has no single {anchor!r}"
    path.write_text(there.replace(anchor, text + anchor if before else anchor + text))


def run(copy: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_recipe_has_the_code_that_is_executed() -> None:
    assert [block.split()[0] for block in recipe()] == [
        "@dataclass(frozen=True,",
        "def",
        "events.BatchRecalled:",
        "recall_batch:",
        "BatchRecalled:",
        "def",
    ]


def test_what_a_contributor_runs_passes(tree: Path) -> None:
    told = run(tree, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SUITES)
    assert " passed" in told or "100%" in told


def test_the_route_the_command_and_the_pages_follow_from_the_declaration(tree: Path) -> None:
    assert "/recall_batch" in (tree / "docs/reference/http.md").read_text()
    assert "PickedGoodsBroken" in (tree / "docs/reference/events.md").read_text()
    told = run(tree, *COMMAND, "recall-batch", "--help")
    assert "Take a batch out of stock" in " ".join(told.split())


def test_the_new_events_live_with_holds_rules_previews_and_books(tree: Path) -> None:
    told = run(tree, sys.executable, str(Path(__file__).with_name("play_recipe.py")), str(tree / "shop.db"))
    assert told.splitlines()[-1] == "all agree"


def test_a_fact_that_no_table_knows_stops_the_service_and_is_named(tree: Path) -> None:
    declared = (tree / EVENTS).read_text()
    (tree / EVENTS).write_text(declared.replace("class BatchRecalled(Request):", "class BatchRecalled(Event):"))
    try:
        with pytest.raises(AssertionError, match=r"BatchRecalled has no row in standing\.EVOLVE"):
            run(
                tree,
                sys.executable,
                "-m",
                "allocation.entrypoints.cli",
                "add-batch",
                "--ref=b1",
                "--sku=RUG",
                "--qty=1",
            )
    finally:
        (tree / EVENTS).write_text(declared)
