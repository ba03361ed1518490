"""Resident memory over 100,000 calls of the official client, recorded and delivered, after a warm-up."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import process
from rig import REQUEST, parsed_reply

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate

WARM_UP, CALLS, PIECE = 20_000, 100_000, 2_000


def resident_kib() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def growth() -> dict[str, float]:
    """Runs in a process of its own. The client's HTTP is replaced by a ready reply; the ring never fills."""
    import openai

    import fasttrace

    reply = parsed_reply()
    chat: Any = openai.OpenAI(api_key="sk-none").chat.completions
    chat._post = lambda *_, **__: reply

    def call(times: int) -> None:
        for _ in range(times // PIECE):
            for _ in range(PIECE):
                chat.create(**REQUEST)
            fasttrace.flush(10)
        gc.collect()

    call(WARM_UP)
    before = resident_kib()
    call(CALLS)
    after = resident_kib()
    assert fasttrace.flush(10).sent == WARM_UP + CALLS, fasttrace.stats()
    return {"grown_kib": after - before}


def test_memory(benchmark: BenchmarkFixture, gate: Gate, core: str) -> None:
    grown: dict[str, float] = benchmark.pedantic(process.run, args=(core, "test_memory.growth"), rounds=1)
    gate(lambda: {"memory: growth over 100,000 calls, KiB": grown["grown_kib"]})
