"""Disks that run full while a server works on them, and have room again: made where this machine allows it."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

TMPFS_BYTES = 4 * 1024 * 1024
BLOCK_BYTES = 4096
MOUNT_TIMEOUT_S = 10.0
UNLIMITED = resource.RLIM_INFINITY


class Disk(Protocol):
    """A folder for a database, and what the server says of it once nothing more can be written."""

    folder: Path
    complaint: str

    def fill(self, pid: int) -> None:
        """Let no file of that process grow any more."""

    def make_room(self, pid: int) -> None:
        """Let them grow again."""


class LimitedDisk:
    """For one process no file may grow beyond its size now: a write fails with EFBIG, an I/O error to SQLite."""

    complaint = "disk I/O error"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, pid: int) -> None:
        largest = max(path.stat().st_size for path in self.folder.iterdir())
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, UNLIMITED))

    def make_room(self, pid: int) -> None:
        with suppress(ProcessLookupError):  # its limit is gone with it
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (UNLIMITED, UNLIMITED))


class SmallDisk:
    """A file system of its own in memory, with a file that takes up all its room: ENOSPC."""

    complaint = "database or disk is full"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, pid: int) -> None:
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(BLOCK_BYTES)):
                pass

    def make_room(self, pid: int) -> None:
        self._filler.unlink()


@contextmanager
def limited(folder: Path) -> Iterator[Disk]:
    yield LimitedDisk(folder)


@contextmanager
def small(folder: Path) -> Iterator[Disk]:
    _run("mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "none", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        _run("umount", "--lazy", str(folder))


def kinds() -> Mapping[str, Callable[[Path], AbstractContextManager[Disk]]]:
    """The disks that can be made here. File systems can be mounted by root alone, and in a container by nobody."""
    made: dict[str, Callable[[Path], AbstractContextManager[Disk]]] = {"limited": limited}
    if os.geteuid() == 0:
        with (
            suppress(OSError, subprocess.SubprocessError),
            tempfile.TemporaryDirectory() as folder,
            small(Path(folder)),
        ):
            made["small"] = small
    return made


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=MOUNT_TIMEOUT_S)
