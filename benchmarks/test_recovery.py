"""What a new process pays for a dead one's full ring: its file read, its 8,192 spans to NDJSON.

CPU time of the thread that recovers, the system's for the read too: the least of several rounds. The spans have
content, of which each JSON field is validated.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fasttrace.core._api import RingOwner, RingShape
from rig import Rig

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate

SHAPE = RingShape()
SPANS_A_BATCH = 1000
ROUNDS = 5
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
    "response_id": "chatcmpl-BxK2f0vQe9cYh1uT5rWnZp3aLd7Ms",
    "request_params": b'{"temperature":0.7,"max_tokens":1024,"top_p":0.95}',
    "attributes": b'{"team":"checkout","retries":[1,2],"experiment":{"arm":"b"}}',
}


def full_ring(rig: Rig, path: Path) -> None:
    """A file as a process leaves it whose collector never answered."""
    with path.open("w+b") as file:
        file.truncate(rig.core.region_bytes(SHAPE))
        owner = RingOwner(bytes(range(16)), bytes(16), 1, 2, 3)
        rig.recorder.ring = rig.core.Ring(file.fileno(), SHAPE, owner)
        context = rig.core.new_context(None)
        for _ in range(SHAPE.slots):
            assert rig.recorder.record(context, 1_767_225_600_123_456_789, 812_345_678, FIELDS)
        rig.recorder.ring.set_resource(b'"service":"checkout"')


def recovered(rig: Rig, path: Path) -> int:
    """Bytes of the lines."""
    ring = rig.core.RecoveredRing(path.read_bytes())
    size = 0
    while (batch := ring.read(SPANS_A_BATCH, 1 << 20)).count:
        size += len(batch.encode(rig.prices, rig.recorder.price_version, ring.resource))
    counters = ring.counters()
    assert (counters.delivered, counters.content_lost) == (SHAPE.slots, 0)
    return size


def test_recovery_of_a_full_ring(benchmark: BenchmarkFixture, gate: Gate, core: str, tmp_path: Path) -> None:
    rig, path = Rig(core), tmp_path / "1-00.ring"
    full_ring(rig, path)
    assert recovered(rig, path) > 400 * SHAPE.slots

    def measure() -> dict[str, float]:
        took: list[float] = []
        for _ in range(ROUNDS):
            began = time.thread_time()
            recovered(rig, path)
            took.append(time.thread_time() - began)
        return {"recovery: a full ring of 8,192 spans to NDJSON, ms": 1000 * min(took)}

    benchmark.pedantic(recovered, args=(rig, path), rounds=2)
    gate(measure)
