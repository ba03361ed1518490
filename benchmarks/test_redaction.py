"""Reading a text for secrets, as every text is read before it goes into the ring: prose that has none, a megabyte."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate
    from rig import Rig

PROSE = (
    "Whoever reads a page wants to know what it is about, and only then how it is done. The rest may be cut: what is "
    "said twice is said badly, and a task that nobody asked for helps nobody. "
) * 5000
ROUNDS = 20


def test_redaction_of_prose(benchmark: BenchmarkFixture, gate: Gate, rig: Rig) -> None:
    redact = rig.core.redact

    def read() -> None:
        assert redact(PROSE)[0] is PROSE

    def gigabytes_a_second() -> float:
        best_s = float("inf")
        for _ in range(ROUNDS):
            started = time.thread_time()
            read()
            best_s = min(best_s, time.thread_time() - started)
        return len(PROSE) / best_s / 1e9

    benchmark.pedantic(read, rounds=ROUNDS)
    gate(lambda: {"redaction: prose without secrets, GB/s": gigabytes_a_second()})
