"""Imports the lines of files: passes them to the writer, counts the results, and keeps refused lines."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, Self

import msgspec

from allocation.bootstrap import Service
from allocation.domain.errors import Refusal
from allocation.entrypoints.intake.lines import Item, Line
from allocation.service_layer.messages import Outcome
from allocation.service_layer.writing.stream import handle_stream

STDIN = "-"
REFUSED_SUFFIX = ".refused.jsonl"


@dataclass(slots=True)
class Count:
    """The results of the lines of one file."""

    file: str
    lines: int = 0
    taken: int = 0
    refused: int = 0
    refused_file: str | None = None
    seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def repeated(self) -> int:
        """Lines that were in the ledger already."""
        return self.lines - self.taken - self.refused

    @property
    def rate(self) -> float:
        """Lines per second."""
        return self.lines / max(self.seconds or time.perf_counter() - self.started, 1e-9)


class Shows(Protocol):
    """Shows how far an import is."""

    def show(self, count: Count, results: Sequence[tuple[Line, object]]) -> None:
        """There are more results."""


async def import_lines(
    service: Service, reader: AsyncIterator[Iterator[Item]], count: Count, refused: RefusedLines, display: Shows
) -> None:
    """Pass every line to the writer, count the results, and keep refused lines."""
    async with aclosing(handle_stream(service.writer, reader)) as stream:
        async for results in stream:
            taken = 0
            for line, result in results:
                if isinstance(result, Outcome):
                    taken += result.message is line.message
                elif isinstance(result, Refusal):
                    count.refused += 1
                    refused.add(line, result)
                else:
                    raise result
            count.lines += len(results)
            count.taken += taken
            display.show(count, results)


class RefusedLines:
    """The file of the lines that were refused, each with its number and the reason; made when the first one is."""

    def __init__(self, name: str, path: Path | None) -> None:
        self.path = path or Path(("stdin" if name == STDIN else name) + REFUSED_SUFFIX)
        self._name = name
        self._given = path is not None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        if not self._given:  # the file of an earlier import is out of date
            self.path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, line: Line, refusal: Refusal) -> None:
        if self._file is None:
            self._file = self.path.open("ab")
        told = {
            "file": self._name,
            "line": line.number,
            "reason": refusal.message,
            "cure": refusal.cure,
            "text": line.text.decode(errors="backslashreplace"),
        }
        self._file.write(msgspec.json.encode(told) + b"\n")
