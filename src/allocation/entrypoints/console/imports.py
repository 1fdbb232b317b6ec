"""Files imported from the console: kept in a folder of their own until they are imported, one per visitor at a time.

Lines are imported as by ``allocation import``, under the same ids: a line that is in the ledger already, from any
import, is not applied again.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, BinaryIO, NamedTuple, cast

import structlog

from allocation.bootstrap import Service
from allocation.domain.errors import InvalidMessage, Refusal
from allocation.domain.events import Event
from allocation.entrypoints.answers import answer
from allocation.entrypoints.intake.importing import Count, RefusedLines, import_lines
from allocation.entrypoints.intake.lines import Item, Line, csv_header, read_csv, read_json_lines
from allocation.entrypoints.previews import MAX_LINES, Effect, effect_for_pages, repeats
from allocation.entrypoints.refusals import ImportUnderWay, TooLarge, UnknownImport
from allocation.service_layer.messages import EVENTS, Message, Outcome, field_rules, incoming, incoming_types
from allocation.service_layer.writing.writer import Unavailable

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_IMPORTS = 8  # finished ones included
MOST_SHOWN = 200
ID_BYTES = 12
MEBIBYTE = 1024 * 1024

log = structlog.get_logger(__name__)


class Tried(NamedTuple):
    """A line and its result: the answer, or the reason of its refusal."""

    number: int
    text: str
    told: str
    refusal: Refusal | None


class DryRun(NamedTuple):
    """The results of a file's lines, and the changes of order lines; ``more``: the file has more lines."""

    lines: int
    taken: int
    repeated: int
    refused: int
    shown: Sequence[Tried]
    effect: Effect
    more: bool


@dataclass(eq=False, slots=True)
class Import:
    """One file. ``header`` has its columns, none for JSON lines; ``kind`` is the event type of CSV rows.

    ``count`` is set when the import begins; ``ended``: with ``failure``, or with all lines imported or refused.
    """

    id: str
    owner: str
    name: str
    folder: TemporaryDirectory[str]
    size: int
    header: Sequence[str]
    kind: type[Event] | None = None
    columns: Sequence[str] = ()
    empty_eta: str | None = None
    dry_run: DryRun | None = None
    count: Count | None = None
    read: int = 0
    ended: bool = False
    failure: str = ""
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def path(self) -> Path:
        return Path(self.folder.name, "file")

    @property
    def refused_path(self) -> Path:
        return Path(self.folder.name, "refused.jsonl")

    @property
    def is_csv(self) -> bool:
        return self.name.lower().endswith(".csv")

    @property
    def is_under_way(self) -> bool:
        return self.count is not None and not self.ended

    @property
    def likely_type(self) -> str:
        """The event whose fields the columns of a CSV file are most like; empty of JSON lines."""
        names = {cell.lower() for cell in self.header}
        return max(incoming_types(), key=lambda type_: _likeness(type_, names)) if self.is_csv else ""

    @property
    def share(self) -> float:
        """How much of the file was read, of 100."""
        return 100 * min(1.0, self.read / self.size) if self.size else 100.0

    def show(self, count: Count, results: Sequence[tuple[Line, object]]) -> None:
        """Of `import_lines`: it is so far."""
        self.read += sum(len(line.text) + 1 for line, _ in results)

    def lines(self, file: BinaryIO) -> AsyncGenerator[Iterator[Item]]:
        reader = (
            read_csv(file, self.kind, "", self.columns, empty_eta=self.empty_eta)
            if self.kind
            else read_json_lines(file, "")
        )
        return cast("AsyncGenerator[Iterator[Item]]", reader)


class Imports:
    """All imports of this process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._imports: dict[str, Import] = {}

    def find(self, id_: str) -> Import:
        """Raises `UnknownImport`."""
        if id_ not in self._imports:
            raise UnknownImport
        return self._imports[id_]

    async def add(self, owner: str, name: str, file: IO[bytes]) -> Import:
        """Keep a visitor's file, in place of the last one. Raises `ImportUnderWay`."""
        for each in [each for each in self._imports.values() if each.owner == owner]:
            if each.is_under_way:
                raise ImportUnderWay(f"{each.name} is imported", "Wait until it is done.")
            self.drop(each)
        self._make_room()
        folder = TemporaryDirectory(prefix="allocation-import-")
        added = Import(secrets.token_urlsafe(ID_BYTES), owner, Path(name).name, folder, 0, ())
        self._imports[added.id] = added
        await asyncio.to_thread(_keep, added, file)
        return added

    def drop(self, dropped: Import) -> None:
        """Forget a file that is not imported just now, and remove it."""
        if not dropped.is_under_way:
            del self._imports[dropped.id]
            dropped.folder.cleanup()

    async def look(self, at: Import, type_: str, columns: Sequence[str], empty_eta: str | None = None) -> None:
        """Do the dry run. Raises `InvalidMessage` if the columns are not those of the event."""
        if at.count is not None:
            raise ImportUnderWay(f"{at.name} is imported", "Choose the file again for a new dry run.")
        at.empty_eta = empty_eta
        at.kind, at.columns, at.dry_run = incoming(type_) if at.is_csv else None, columns, None
        read, more = await self._read(at)
        lines, items = [line for line, _ in read], [item for _, item in read]
        preview = await self._service.previews.preview(items)
        tried = [_tried(*each) for each in zip(lines, items, preview.outcomes, strict=True)]
        refused = sum(each.refusal is not None for each in tried)
        repeated = sum(map(repeats, items, preview.outcomes))
        effect = effect_for_pages(preview.lines, preview.stock)
        taken = len(items) - refused - repeated
        shown = sorted(tried, key=lambda each: each.refusal is None)[:MOST_SHOWN]
        at.dry_run = DryRun(len(items), taken, repeated, refused, shown, effect, more)

    def start(self, started: Import) -> None:
        """Begin, unless it has begun already. Raises `InvalidMessage` if it was not looked at."""
        if started.dry_run is None:
            raise InvalidMessage(f"{started.name} had no dry run", "Show the dry run first.")
        if started.count is None:
            started.count = Count(started.name)
            started.task = asyncio.create_task(self._run(started, started.count), name="import")

    async def close(self) -> None:
        """End those under way, and remove all files."""
        tasks = [each.task for each in self._imports.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in self._imports.values():
            each.folder.cleanup()

    def _make_room(self) -> None:
        if len(self._imports) < MAX_IMPORTS:
            return
        idle = next((each for each in self._imports.values() if not each.is_under_way), None)
        if idle is None:
            raise ImportUnderWay(f"{MAX_IMPORTS} files are imported", "Wait until one of them is done.")
        self.drop(idle)

    async def _read(self, at: Import) -> tuple[Sequence[Item], bool]:
        """The lines to try, and whether there are more."""
        found: list[Item] = []
        with at.path.open("rb") as file:
            async with aclosing(at.lines(file)) as pages:
                async for page in pages:
                    found += page
                    if len(found) > MAX_LINES:
                        break
        return found[:MAX_LINES], len(found) > MAX_LINES

    async def _run(self, run: Import, count: Count) -> None:
        try:
            with run.path.open("rb") as file, RefusedLines(run.name, run.refused_path) as refused:
                await import_lines(self._service, run.lines(file), count, refused, run)
        except Unavailable as error:
            run.failure = f"{error}. Import the file again to continue."
        except Exception:
            log.exception("import failed", file=run.name)
            run.failure = "The import failed; the reason is in the log of the service."
        finally:
            run.ended = True
            run.path.unlink(missing_ok=True)


def _keep(added: Import, file: IO[bytes]) -> None:
    with added.path.open("wb") as kept:
        shutil.copyfileobj(file, kept)
    added.size = added.path.stat().st_size
    if added.is_csv:
        with added.path.open("rb") as kept:
            added.header = csv_header(kept)


def _likeness(type_: str, names: set[str]) -> tuple[bool, int, int]:
    """Sort key: all required fields first, then the most fields named, then the fewest missing."""
    rules = field_rules(EVENTS[type_])
    named = sum(rule.name in names for rule in rules)
    return all(rule.name in names for rule in rules if rule.required), named, -len(rules)


def _tried(line: Line, item: Message | Refusal, outcome: Outcome | Refusal) -> Tried:
    text = line.text.decode(errors="replace")
    if isinstance(outcome, Refusal):
        return Tried(line.number, text, "", outcome)
    told = "imported before" if repeats(item, outcome) else _in_words(answer(outcome))
    return Tried(line.number, text, told, None)


def _in_words(answered: Mapping[str, object]) -> str:
    moved = answered.get("moved")
    if moved:
        count = len(cast("Sequence[object]", moved))
        return f"{count} line{'' if count == 1 else 's'} would move"
    return "would wait" if answered.get("batchref", "") is None else "taken"


def too_large() -> Refusal:
    most = MAX_FILE_BYTES // MEBIBYTE
    return TooLarge(f"The file has more than {most} MiB", "Import it with `allocation import`, or in parts.")
