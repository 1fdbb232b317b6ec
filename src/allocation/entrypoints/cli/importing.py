"""``allocation import``: files of events into the database, at commit speed; refused lines are written to a file."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.events import Event
from allocation.entrypoints.cli.exits import DONE, PARTLY, UsageError, complain, log_to_stderr
from allocation.entrypoints.cli.options import acting
from allocation.entrypoints.cli.previewing import Reading, print_files
from allocation.entrypoints.intake.importing import STDIN, Count, RefusedLines, import_lines
from allocation.entrypoints.intake.lines import ACTOR, Item, Line, read_csv, read_json_lines
from allocation.service_layer.messages import incoming
from allocation.service_layer.writing.writer import Unavailable

GC_THRESHOLD = 100_000
# No caller waits for a single line of a file; in a large group more lines share the reads and writes of a product.
MAX_GROUP = 4_000


@dataclass(frozen=True, slots=True)
class Request:
    """The files to import, and the options. ``type`` is the event type of CSV rows; without it lines are JSON.

    ``empty_eta`` is the meaning of an empty ETA in a file that has ETAs; None: such rows are refused.
    """

    files: Sequence[str]
    type: str | None = None
    refused: Path | None = None  # None: beside each file
    label: str = ""
    as_json: bool = False
    preview: bool = False
    empty_eta: str | None = None


def import_files(settings: Settings, request: Request) -> int:
    """Import the files one after the other; return the exit code."""
    log_to_stderr()
    kind = incoming(request.type) if request.type is not None else None
    _check(request)
    if request.preview:
        return print_files(settings, asyncio.run(_read_all(request, kind)), as_json=request.as_json)
    with contextlib.suppress(FileNotFoundError):
        if request.refused is not None:
            request.refused.unlink()
    # A line is a dozen objects that soon go again: to look among them for cycles all the time costs a tenth.
    gc.set_threshold(GC_THRESHOLD)
    counts = uvloop.run(_import_all(settings, request, kind))
    if request.as_json:
        typer.echo(msgspec.json.encode([_summary(count) for count in counts]).decode())
    return PARTLY if any(count.refused for count in counts) else DONE


def _check(request: Request) -> None:
    """Reject impossible options before anything is imported."""
    for name in request.files:
        if name == STDIN:
            continue
        if not Path(name).exists():
            raise UsageError(f"{name}: there is no such file", "Name files that exist, or - for standard input.")
        if Path(name).is_dir():
            raise UsageError(f"{name} is a folder", "Name the files in it.")
        if request.refused is not None and request.refused.exists() and request.refused.samefile(name):
            raise UsageError(f"{name} would be overwritten with refused lines", "Name another file with --refused.")
        if name.lower().endswith(".csv") and request.type is None:
            raise UsageError(f"{name} does not say which event its rows are", "Name it with --type.")


async def _import_all(settings: Settings, request: Request, kind: type[Event] | None) -> list[Count]:
    counts = []
    who = acting(settings, ACTOR)
    async with bootstrap(settings, max_group=MAX_GROUP) as service:
        for name in request.files:
            with _opened(name) as file, RefusedLines(name, request.refused) as refused, Display(name, file) as display:
                count = Count(name)
                try:
                    await import_lines(service, _reader(file, request, kind, who), count, refused, display)
                except Unavailable:
                    complain(f"{name}: stopped after {count.lines:,} lines", "Import the file again to continue.")
                    raise
            count.seconds = time.perf_counter() - count.started
            count.refused_file = str(refused.path) if count.refused else None
            counts.append(count)
            if not request.as_json:
                typer.echo(_sentence(count))
    return counts


async def _read_all(request: Request, kind: type[Event] | None) -> Reading:
    reading = Reading()
    for name in request.files:
        with _opened(name) as file:
            await reading.add(name, _reader(file, request, kind, ACTOR))
    return reading


def _reader(file: BinaryIO, request: Request, kind: type[Event] | None, who: str) -> AsyncIterator[Iterator[Item]]:
    if kind is None:
        return read_json_lines(file, request.label, who)
    return read_csv(file, kind, request.label, actor=who, empty_eta=request.empty_eta)


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STDIN:
        yield sys.stdin.buffer
        return
    with Path(name).open("rb") as file:
        yield file


class Display:
    """On a terminal, a bar with the rate and the time left. Elsewhere nothing: there the summary is enough."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[lines]:,} lines  {task.fields[rate]:,.0f}/s", justify="right"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._task: TaskID = self._progress.add_task(name, total=_size(name), lines=0, rate=0.0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, count: Count, results: Sequence[tuple[Line, object]]) -> None:
        if not self._progress.disable:
            read = sum(len(line.text) + 1 for line, _ in results)
            self._progress.update(self._task, advance=read, lines=count.lines, rate=count.rate)


def _size(name: str) -> int | None:
    """In bytes; None if that cannot be known, as with a pipe."""
    return (Path(name).stat().st_size or None) if name != STDIN else None


def _summary(count: Count) -> dict[str, object]:
    return {
        "file": count.file,
        "lines": count.lines,
        "taken": count.taken,
        "repeated": count.repeated,
        "refused": count.refused,
        "refused_file": count.refused_file,
        "seconds": round(count.seconds, 3),
        "lines_per_s": round(count.rate),
    }


def _sentence(count: Count) -> str:
    refused = f", {count.refused:,} refused (see {count.refused_file})" if count.refused else ""
    became = f"{count.taken:,} taken, {count.repeated:,} imported before{refused}"
    return f"{count.file}: {count.lines:,} lines, {became}; {count.seconds:.1f} s, {count.rate:,.0f} lines/s"
