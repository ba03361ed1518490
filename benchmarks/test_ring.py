"""The ring's own benchmark, in C without Python: `make -C csrc bench`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate

CSRC = Path(__file__).parents[1] / "csrc"
LINE = re.compile(
    r"push (?P<full>[\d.]+) ns with (?P<bytes>\d+) bytes .*?, (?P<bare>[\d.]+) ns without;.*"
    r"reading (?P<read>[\d.]+) ns; (?P<producers>\d+) producers (?P<shared>[\d.]+) ns"
)


def ring_bench() -> dict[str, float]:
    """What the C program printed. It has its own rounds and reports the best of them."""
    run = subprocess.run(["make", "-s", "-C", str(CSRC), "bench"], capture_output=True, text=True, check=True)
    found = LINE.search(run.stdout)
    assert found, run.stdout
    return {
        "ring: push by one producer, ns": float(found["bare"]),
        f"ring: push with {found['bytes']} bytes of content, ns": float(found["full"]),
        f"ring: push, {found['producers']} producers at once, ns": float(found["shared"]),
        "ring: read of one span, ns": float(found["read"]),
    }


def test_ring_push(benchmark: BenchmarkFixture, gate: Gate) -> None:
    gate(ring_bench, benchmark.pedantic(ring_bench, rounds=1))
