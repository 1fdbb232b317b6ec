"""``--preview``: the effect of events, printed for people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import typer
from rich.table import Table

from allocation.adapters.database import parse_url
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.errors import Refusal
from allocation.entrypoints.cli.exits import DONE, PARTLY, UsageError
from allocation.entrypoints.cli.output import console, table
from allocation.entrypoints.cli.reading import check_exists
from allocation.entrypoints.cli.showing import UNUSUAL, USUAL, lateness
from allocation.entrypoints.intake.lines import Item, Line
from allocation.entrypoints.previews import (
    MAX_LINES,
    ChangedLine,
    Effect,
    EventPreview,
    Quantities,
    StockEffect,
    Summary,
    effect_of,
    preview_event,
    repeats,
)
from allocation.service_layer.messages import Message
from allocation.service_layer.previewing.preview import Preview
from allocation.views import DEFAULT_PAGE

COLUMNS = ("order", "sku", "quantity", "from", "to", "promised before", "after", "late", "state")
FIGURES = {**USUAL, **UNUSUAL}  # of stock, by the words for people
MORE = "There are more."
SHOWN_REFUSALS = 20


class FilesPreview(msgspec.Struct):
    """The results of the lines of files, and the changes of order lines."""

    lines_read: int
    taken: int
    repeated: int
    refused: int
    refusals: list[dict[str, Any]]
    summary: Summary
    lines: list[ChangedLine]
    more: bool
    stock: StockEffect


async def preview(settings: Settings, message: Message) -> EventPreview:
    """The effect of the message; raises the refusal that the message would get."""
    check_exists(parse_url(settings.database_url))
    async with bootstrap(settings) as service:
        return await preview_event(service.previews, message)


async def preview_items(settings: Settings, items: Sequence[Message | Refusal]) -> Preview:
    check_exists(parse_url(settings.database_url))
    async with bootstrap(settings) as service:
        return await service.previews.preview(items)


def print_effect(effect: Effect | EventPreview | FilesPreview) -> None:
    """A sentence, and a table of the lines that would change."""
    counts = [
        f"{count} {word.replace('_', ' ')}" for word, count in msgspec.structs.asdict(effect.summary).items() if count
    ]
    typer.echo(f"Lines: {', '.join(counts) or 'none would change'}. Nothing was changed.")
    if effect.lines:
        console().print(_table(effect.lines, MORE if effect.more else ""))
    if effect.stock.batches:
        console().print(_stock_table(effect.stock))


def _table(lines: Sequence[ChangedLine], caption: str) -> Table:
    return table("Lines that would change", COLUMNS, map(_row, lines), caption)


def _row(line: ChangedLine) -> Sequence[object]:
    *about, _, state, late, late_before = msgspec.structs.astuple(line)
    told = None
    if late:
        told = f"{lateness(line.late_days)}, {'also before' if late_before else 'newly'}"
    return *about, told or ("no longer" if late_before else None), state


def _stock_table(stock: StockEffect) -> Table:
    """The figures of each batch before and after, and their sums. Columns of zeros are left out."""
    rows = [(each.batchref, each.before, each.after) for each in stock.batches]
    if len(rows) > 1:
        rows.append(("in sum", stock.before, stock.after))
    columns = {
        word: [f"{_figure(before, field):,} → {_figure(after, field):,}" for _, before, after in rows]
        for word, field in FIGURES.items()
    }
    shown = {word: values for word, values in columns.items() if word in USUAL or any(map("0 → 0".__ne__, values))}
    cells = zip([ref for ref, _, _ in rows], *shown.values(), strict=True)
    return table("Stock before → after", ("batch", *shown), list(cells), MORE if stock.more else "")


def _figure(known: Quantities | None, field: str) -> int:
    return 0 if known is None else getattr(known, field)


@dataclass(slots=True)
class Reading:
    """The lines of files, as far as they were read."""

    lines: list[tuple[str, Line]] = field(default_factory=list)
    items: list[Message | Refusal] = field(default_factory=list)

    async def add(self, name: str, reader: AsyncIterator[Iterator[Item]]) -> None:
        """Read a file. Raises `UsageError` if there are more lines than one preview allows."""
        async for page in reader:
            for line, item in page:
                self.lines.append((name, line))
                self.items.append(item)
            if len(self.items) > MAX_LINES:
                raise UsageError(f"{name}: more than {MAX_LINES:,} lines", "Preview fewer at a time: split the file.")


def print_files(settings: Settings, reading: Reading, *, as_json: bool) -> int:
    """Print the preview of the files; return the exit code that the import would have."""
    found = asyncio.run(preview_items(settings, reading.items))
    told = _told(reading, found)
    if as_json:
        typer.echo(msgspec.json.encode(told).decode())
    else:
        refused = f", {told.refused:,} refused" if told.refused else ""
        became = f"{told.taken:,} would be taken, {told.repeated:,} were imported before{refused}"
        typer.echo(f"{told.lines_read:,} lines: {became}")
        for each in told.refusals:
            typer.echo(f"  {each['file']} line {each['line']}: {each['reason']}")
        print_effect(told)
    return PARTLY if told.refused else DONE


def _told(reading: Reading, found: Preview) -> FilesPreview:
    refusals = [
        {"file": name, "line": line.number, "reason": outcome.message, "cure": outcome.cure}
        for (name, line), outcome in zip(reading.lines, found.outcomes, strict=True)
        if isinstance(outcome, Refusal)
    ]
    repeated = sum(map(repeats, reading.items, found.outcomes))
    count = len(reading.items)
    return FilesPreview(
        count,
        count - repeated - len(refusals),
        repeated,
        len(refusals),
        refusals[:SHOWN_REFUSALS],
        *msgspec.structs.astuple(effect_of(found, DEFAULT_PAGE)),
    )
