"""Who may import what, each rule seen failing once; and nothing happens when a module is imported."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = Path(sys.executable).with_name("lint-imports")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

# For each contract a module of ours and the import that it must not have.
PLANTED = {
    "layers": ("service_layer/writing/writer.py", "import allocation.adapters.memory"),
    "settings": ("service_layer/writing/writer.py", "import allocation.config"),
    "settings-stand-alone": ("config.py", "import allocation.domain.events"),
    "pure-domain": ("domain/model.py", "import msgspec"),
    "entrypoints-send-messages": ("entrypoints/__init__.py", "import allocation.domain.model"),
    "entrypoints-independent": ("entrypoints/console/imports.py", "import allocation.entrypoints.cli.exits"),
    "adapters-serve": ("adapters/memory.py", "import allocation.service_layer.handlers"),
    "adapters-independent": ("adapters/memory.py", "import allocation.adapters.sqlite"),
}

WATCH = """
import importlib, pkgutil, sys
import allocation

done = []
importing = True
CHANGES = ("socket.", "sqlite3.connect", "subprocess.", "os.mkdir", "os.remove", "os.rename", "os.putenv", "os.fork")


def watch(event, arguments):
    if not importing:
        return
    if event.startswith(CHANGES) or (event == "open" and set(str(arguments[1])) & set("wax+")):
        done.append((event, arguments))


names = [module.name for module in pkgutil.walk_packages(allocation.__path__, "allocation.")]
names = [name for name in names if not name.endswith((".__main__", ".migrations.env"))]
sys.addaudithook(watch)
for name in names:
    importlib.import_module(name)
importing = False
print(len(names), done)
"""


def lint(*options: str, source: Path = ROOT / "src", config: Path = ROOT / "pyproject.toml") -> tuple[int, str]:
    finished = subprocess.run(
        [LINT, "--no-cache", "--config", config, *options],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    return finished.returncode, finished.stdout + finished.stderr


def test_every_contract_is_kept() -> None:
    code, said = lint()
    assert code == 0, said


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract["id"])
def test_every_contract_notices_what_breaks_it(contract: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path, dirs_exist_ok=True)
    path, forbidden = PLANTED[contract["id"]]
    planted = tmp_path / "allocation" / path
    planted.write_text(f"{planted.read_text()}\n{forbidden}\n")
    code, said = lint("--contract", contract["id"], source=tmp_path)
    assert code == 1, said
    assert f"{contract['name']} BROKEN" in said
    module, imported = f"allocation.{path[:-3].replace('/', '.')}", forbidden.removeprefix("import ")
    assert f"{module.removesuffix('.__init__')} -> {imported}" in said


@pytest.mark.parametrize("module", sorted((ROOT / "src/allocation/domain").glob("*.py")), ids=lambda path: path.name)
def test_the_domain_imports_the_standard_library_only(module: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module))
    foreign = {
        name
        for name in imported
        if name.partition(".")[0] not in sys.stdlib_module_names and not f"{name}.".startswith("allocation.domain.")
    }
    assert not foreign


IMPURE = {"asyncio", "logging", "os", "pathlib", "random", "secrets", "socket", "sqlite3", "subprocess", "time", "uuid"}


@pytest.mark.parametrize("module", sorted((ROOT / "src/allocation/domain").glob("*.py")), ids=lambda path: path.name)
def test_the_domain_knows_no_clock_no_chance_and_no_outside(module: Path) -> None:
    nodes = list(ast.walk(ast.parse(module.read_text())))
    names = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in nodes
        if isinstance(node, ast.Name | ast.Attribute)
    }
    assert not names & (IMPURE | {"open", "print", "input"})
    called = {node.func.attr for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
    assert not called & {"now", "utcnow", "today"}


def test_nothing_happens_when_a_module_is_imported(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-B", "-c", WATCH], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    count, _, done = finished.stdout.partition(" ")
    assert int(count) > 20
    assert done.strip() == "[]"
    assert list(tmp_path.iterdir()) == []
