"""A place in the in-flight table, taken and given back: the native core's in C without Python, the pure one's from it.

What it adds to a call is part of what test_call.py measures.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fasttrace.core._api import RingOwner, RingShape
from fasttrace.core._pure.ring import Ring
from timing import empty_call_ns, in_turn

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate

CSRC = Path(__file__).parents[1] / "csrc"
BENCH = "build/plain/bench/inflight_bench"
LINE = re.compile(
    r"given back (?P<one>[\d.]+) ns, (?P<threads>\d+) threads (?P<shared>[\d.]+) ns; .* (?P<full>[\d.]+) ns"
)
FIGURE = "inflight: one place taken and given back, ns"
IDENTITY = (1 << 63, 1 << 62, 1 << 61, 1 << 60, 1_700_000_000_000_000_000)


def native_figures() -> dict[str, float]:
    """What the C program printed. It has its own rounds and reports the best of them."""
    subprocess.run(["make", "-s", "-C", str(CSRC), BENCH], check=True)
    run = subprocess.run([str(CSRC / BENCH)], capture_output=True, text=True, check=True)
    found = LINE.search(run.stdout)
    assert found, run.stdout
    return {
        FIGURE: float(found["one"]),
        f"inflight: the same, {found['threads']} threads at once, ns": float(found["shared"]),
        "inflight: no place free, ns": float(found["full"]),
    }


def pure_figures() -> dict[str, float]:
    ring = Ring(-1, RingShape(), RingOwner(bytes(16), bytes(16), 1, 2, 3))
    enter, leave = ring.enter, ring.leave

    def pairs(calls: int) -> float:
        began = time.thread_time_ns()
        for _ in range(calls):
            leave(enter(IDENTITY, 1 << 50, (1 << 40, 1 << 41)))
        return (time.thread_time_ns() - began) / calls

    timing = in_turn({"pairs": pairs, "empty": empty_call_ns}, between=lambda: None)
    return {FIGURE: timing.least("pairs")}


def test_one_place(core: str, benchmark: BenchmarkFixture, gate: Gate) -> None:
    measure = native_figures if core == "native" else pure_figures
    gate(measure, benchmark.pedantic(measure, rounds=1))
