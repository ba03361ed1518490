"""What the exporter thread pays for a span: out of the ring and to NDJSON, spans of about 400 bytes a line."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from fasttrace.core._api import RingShape
from rig import Rig
from timing import in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate

SPANS = 1000  # a batch
MANY = 1 << 16  # encoded in one go: tens of milliseconds, several times the interpreter's switch interval
RESOURCE = b'"service":"checkout"'
FIELDS: dict[str, Any] = {
    "kind": "llm",
    "operation": "chat",
    "name": "chat gpt-4o-mini",
    "provider": "openai",
    "model_id": "gpt-4o-mini",
    "status": "success",
    "input_tokens": 1200,
    "output_tokens": 348,
    "usage_source": "provider",
    "cost_usd": 312_000_000,
    "cost_source": "local",
}


def fill(rig: Rig, spans: int) -> None:
    rig.drain()
    context = rig.core.new_context(None)
    for _ in range(spans):
        assert rig.recorder.record(context, 1_767_225_600_123_456_789, 812_345_678, FIELDS)


def encoded(rig: Rig, spans: int) -> bytes:
    batch = rig.ring.read(spans, 8 << 20)
    text: bytes = batch.encode(rig.prices, rig.recorder.price_version, RESOURCE)
    rig.ring.acknowledge(batch.next_ticket)
    return text


def test_drain_to_ndjson(benchmark: BenchmarkFixture, gate: Gate, rig: Rig) -> None:
    fill(rig, SPANS)
    lines = encoded(rig, SPANS).splitlines()
    assert len(lines) == SPANS
    assert 380 <= len(lines[0]) <= 440

    def drain(spans: int) -> float:
        began = time.thread_time_ns()
        encoded(rig, spans)
        return (time.thread_time_ns() - began) / spans

    def measure() -> dict[str, float]:
        timing = in_turn({"drain": drain}, lambda: fill(rig, SPANS), rounds=30, calls=SPANS)
        return {"drain: one 400-byte span to NDJSON, ns": timing.least("drain")}

    benchmark.pedantic(encoded, args=(rig, SPANS), setup=lambda: fill(rig, SPANS), rounds=5)
    gate(measure)


class Pace:
    """A thread that does nothing but count in Python: it moves only while it has the GIL."""

    def __init__(self) -> None:
        self.ticks = 0
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._is_over:
            self.ticks += 1

    def __enter__(self) -> Pace:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()

    def during(self, work: Callable[[], object]) -> float:
        """Ticks a second while `work` ran. The caller has the GIL when it looks, before and after."""
        began, before = time.perf_counter(), self.ticks
        work()
        return (self.ticks - before) / (time.perf_counter() - began)


def test_encoding_leaves_the_gil_to_others(benchmark: BenchmarkFixture, gate: Gate) -> None:
    rig = Rig("native", RingShape(slots=MANY))
    fill(rig, MANY - 1)
    batch = rig.ring.read(MANY, 8 << 20)
    assert batch.count == MANY - 1

    def encode() -> int:
        return len(batch.encode(rig.prices, "", RESOURCE))

    def measure() -> dict[str, float]:
        with Pace() as pace:
            shares = [100 * pace.during(encode) / pace.during(lambda: time.sleep(0.03)) for _ in range(10)]
        return {"drain: another thread's progress during one encode, % of its own pace": max(shares)}

    benchmark.pedantic(encode, rounds=5)
    gate(measure)
