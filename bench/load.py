"""Orders over HTTP, generated outside the server's process: wrk, or our own where it is missing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import HOST, ROOT

WRK = shutil.which("wrk")
WRK_SCRIPT = Path(__file__).with_name("wrk_allocate.lua")
SLOWEST_ANSWER_S = 30


class LoadFailed(Exception):
    """Connections broke or were never answered."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the generator saw. A refusal is any answer outside 2xx."""

    requests: int
    refused: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def accepted(self) -> int:
        return self.requests - self.refused

    @property
    def accepted_per_second(self) -> float:
        return self.accepted / self.seconds

    @property
    def refused_share(self) -> float:
        return self.refused / self.requests if self.requests else 0.0


def generator_name() -> str:
    if WRK is None:
        return "our own generator (wrk is not installed)"
    version = subprocess.run([WRK, "-v"], capture_output=True, text=True, check=False)
    return " ".join(version.stdout.split()[:2])


def as_fast_as_possible(
    ports: Sequence[int], run: str, skus: Sequence[str], connections: int, seconds: int, *, apart: bool = False
) -> Load:
    """Each connection sends its next order when the last one is answered.

    `run` makes order ids unique; several ports share the connections, and unless they are to be `apart` the SKUs too.
    """
    commands = [
        _closed_loop(
            port,
            f"{run}-{number}",
            skus[number :: len(ports)] if apart else skus,
            connections // len(ports),
            seconds,
        )
        for number, port in enumerate(ports)
    ]
    return _together([_start(command) for command in commands])


def at_a_rate(port: int, run: str, skus: Sequence[str], connections: int, seconds: int, rate: float) -> Load:
    """Orders fall due at a fixed rate, whether or not the server keeps up, and latency counts from then.

    wrk cannot do this, so this is always our own generator.
    """
    own = _own_generator(port, run, skus, connections, seconds)
    return _together([_start([*own, "--rate", str(rate)])])


def asking(
    port: int, run: str, skus: Sequence[str], askers: int, seconds: int, *, orderers: int = 0
) -> tuple[Load, Load | None]:
    """Each asks what can be promised as soon as the last answer is there, beside so many who order as fast as they can.

    What those who ask saw, and what those who order did.
    """
    asked = _start([*_own_generator(port, run, skus, askers, seconds), "--ask"])
    ordered = _start(_closed_loop(port, run, skus, orderers, seconds)) if orderers else None
    return _together([asked]), None if ordered is None else _together([ordered])


def _closed_loop(port: int, run: str, skus: Sequence[str], connections: int, seconds: int) -> list[str]:
    if WRK is None:
        return _own_generator(port, run, skus, connections, seconds)
    return [
        WRK,
        *("--threads", "1", "--connections", str(connections)),
        *("--duration", f"{seconds}s", "--timeout", f"{SLOWEST_ANSWER_S}s"),
        *("--script", str(WRK_SCRIPT), f"http://{HOST}:{port}", "--", run, *skus),
    ]


def _own_generator(port: int, run: str, skus: Sequence[str], connections: int, seconds: int) -> list[str]:
    return [
        *(sys.executable, "-m", "bench.load_generator", str(port), run),
        *("--connections", str(connections), "--seconds", str(seconds), "--skus", *skus),
    ]


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _together(generators: Sequence[subprocess.Popen[str]]) -> Load:
    loads = [_answer(generator) for generator in generators]
    return Load(
        requests=sum(load.requests for load in loads),
        refused=sum(load.refused for load in loads),
        seconds=max(load.seconds for load in loads),
        p50_ms=max(load.p50_ms for load in loads),
        p99_ms=max(load.p99_ms for load in loads),
    )


def _answer(generator: subprocess.Popen[str]) -> Load:
    """The generators end their output with one line of JSON: the fields of `Load`, and `broken`."""
    output, errors = generator.communicate()
    if generator.returncode:
        raise LoadFailed(f"{errors}{output}")
    answer = json.loads(output.splitlines()[-1])
    if broken := answer.pop("broken"):
        raise LoadFailed(f"{broken} connections broke or waited over {SLOWEST_ANSWER_S} s")
    return Load(**answer)
