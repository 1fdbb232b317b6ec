"""The files of the package: none imports itself by way of others, and none is longer than a reader wants it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 450
# The contract of a store is read from top to bottom by authors of another one, and a store's statements together. The
# declarations of events and of use cases are lists, which grow with the events.
LONGER: Mapping[str, int] = {
    "testing/store.py": 640,
    "adapters/postgresql.py": 470,
    "domain/events.py": 600,
    "service_layer/handlers.py": 560,
}


CIRCLE = """
import graphlib, grimp

graph = grimp.build_graph("allocation", exclude_type_checking_imports=True, cache_dir=None)
imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
try:
    graphlib.TopologicalSorter(imports).prepare()
except graphlib.CycleError as error:
    print(*error.args[1])
"""


def circle(source: Path) -> list[str]:
    """Modules that import each other in a circle, imports within functions counted in; none if there is no circle."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    finished = subprocess.run(
        [sys.executable, "-c", CIRCLE], env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.split()


def too_long(source: Path) -> dict[str, int]:
    """The lines of the files that have more than they may."""
    package = source / "allocation"
    lines = {str(path.relative_to(package)): len(path.read_text().splitlines()) for path in package.rglob("*.py")}
    return {name: count for name, count in lines.items() if count > LONGER.get(name, MOST_LINES)}


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert circle(ROOT / "src") == []


def test_a_circle_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path, dirs_exist_ok=True)
    planted = tmp_path / "allocation" / "service_layer" / "writing" / "store.py"
    planted.write_text(f"{planted.read_text()}\n\ndef planted():\n    import allocation.service_layer.writing.ahead\n")
    assert set(circle(tmp_path)) == {
        "allocation.service_layer.writing.ahead",
        "allocation.service_layer.writing.store",
    }


def test_no_file_is_too_long() -> None:
    assert too_long(ROOT / "src") == {}


def test_a_file_that_is_too_long_is_noticed(tmp_path: Path) -> None:
    for name in ("config.py", *LONGER):
        planted = tmp_path / "allocation" / name
        planted.parent.mkdir(parents=True, exist_ok=True)
        planted.write_text("\n" * (LONGER.get(name, MOST_LINES) + 1))
    assert set(too_long(tmp_path)) == {"config.py", *LONGER}
