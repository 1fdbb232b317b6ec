"""Runs pgbench with one of our scripts and reads what it prints."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.load import LoadFailed
from bench.postgres import PostgresDatabase

CLIENTS = 32
THREADS = 2
FIVE_STATEMENTS = Path(__file__).with_name("five_statements.sql")
ONE_CALL = Path(__file__).with_name("one_call.sql")
FUNCTION = Path(__file__).with_name("function.sql")

_PROCESSED = re.compile(r"number of transactions actually processed: (\d+)")
_RATE = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)
_LATENCY = re.compile(r"latency average = ([\d.]+) ms")


@dataclass(frozen=True, slots=True)
class Transactions:
    processed: int
    per_second: float
    average_ms: float


def executable(server_binaries: Path) -> Path | None:
    """Beside the server's programs, or on the path."""
    beside = server_binaries / "pgbench"
    found = str(beside) if beside.exists() else shutil.which("pgbench")
    return Path(found) if found else None


def run(pgbench: Path, script: Path, database: PostgresDatabase, run: str, skus: int, seconds: int) -> Transactions:
    """Order ids start with `run`; SKUs are drawn evenly from the first `skus`."""
    target = database.parameters()
    argv = [
        *(str(pgbench), "--no-vacuum", "--protocol=prepared", f"--file={script}"),
        *(f"--client={CLIENTS}", f"--jobs={THREADS}", f"--time={seconds}"),
        *(f"--define=run={run}", f"--define=skus={skus}", "--define=number=0"),
        *("--host", target["host"], "--port", target["port"]),
        *("--username", target["user"], target["dbname"]),
    ]
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return Transactions(
        processed=int(_number(_PROCESSED, output)),
        per_second=_number(_RATE, output),
        average_ms=_number(_LATENCY, output),
    )


def _number(pattern: re.Pattern[str], output: str) -> float:
    found = pattern.search(output)
    if found is None:
        raise LoadFailed(f"pgbench printed no figure for {pattern.pattern!r}:\n{output}")
    return float(found[1])
