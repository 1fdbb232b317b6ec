"""What the figures were measured on."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from bench import load
from bench.run import Run

SYNCS = 200
BLOCK = b"\0" * 8192


@dataclass(frozen=True, slots=True)
class Machine:
    processor: str
    cores: int
    memory_gb: int
    system: str
    python: str
    postgresql: str
    load_generator: str
    fdatasync_us: int


def describe(run: Run) -> Machine:
    return Machine(
        processor=_processor(),
        cores=psutil.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1e9),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        postgresql=run.postgres.version(),
        load_generator=load.generator_name(),
        fdatasync_us=_fdatasync_us(run.scratch / "syncs"),
    )


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _fdatasync_us(path: Path) -> int:
    """Median time to make one page durable: the floor under every commit."""
    synchronise = getattr(os, "fdatasync", os.fsync)
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            started = time.perf_counter()
            file.write(BLOCK)
            synchronise(file.fileno())
            times.append(time.perf_counter() - started)
    return round(median(times) * 1e6)
