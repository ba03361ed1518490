"""How long a process takes to end when its collector is gone and its ring is full, beyond its shutdown timeout.

The collector takes connections and never answers, which is the slowest way to be gone. The ring's spans go to the
spool.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import process

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate

SHUTDOWN_TIMEOUT_S = 1.0
SPANS = 8192


def ending() -> dict[str, float]:
    """Runs in a process of its own."""
    import fasttrace

    with socket.create_server(("127.0.0.1", 0)) as silent:
        fasttrace.init(
            collector_url=f"http://127.0.0.1:{silent.getsockname()[1]}/",
            shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            export_timeout=300,
            queue_max_size=SPANS,
        )
        with fasttrace.span("first"):
            fasttrace.flush(0.5)  # the exporter is at work, and waits for an answer
        for _ in range(SPANS - 1):
            with fasttrace.span("one of many"):
                pass
        began = time.monotonic()
        result = fasttrace.shutdown()
        took_s = time.monotonic() - began
    assert sum(result) == SPANS and not result.pending, result
    return {"over_s": took_s - SHUTDOWN_TIMEOUT_S}


def test_exit(benchmark: BenchmarkFixture, gate: Gate, core: str) -> None:
    def measure() -> dict[str, Any]:
        over_s = process.run(core, "test_exit.ending")["over_s"]
        return {"exit: dead collector and a full ring, seconds over the shutdown timeout": max(over_s, 0.0)}

    gate(measure, benchmark.pedantic(measure, rounds=1))
