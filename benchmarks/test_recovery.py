"""What a new process pays for a dead one's full ring: its file read, its 8,192 spans to NDJSON; and the whole of it,
from the lock to the last segment in the spool.

The first is CPU time of the thread that recovers, the system's for the read too; the second is wall time, with
compression and fsync. Each is the least of several rounds. The spans have content, of which each JSON field is
validated.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

from fasttrace.config import load
from fasttrace.core._api import RingOwner, RingShape
from fasttrace.exporters.spool import Spool
from fasttrace.trace.encoder import Encoder
from fasttrace.trace.processor import no_prices
from fasttrace.trace.recovery import Recovery
from rig import Rig

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate
    from fasttrace.exporters.base import EncodedBatch

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


def adopted(rig: Rig, path: Path, room: Path) -> float:
    """Seconds until a copy of the file is in the spool, and gone."""
    rings, state = room / "rings", room / "state"
    rings.mkdir(mode=0o700)
    shutil.copy(path, rings / f"1-{bytes(range(16)).hex()}.ring")
    spool = Spool(str(state), 1 << 28)
    encoder = Encoder(rig.recorder, no_prices)
    encoder.encoding = "zstd"

    def keep(batch: EncodedBatch, created_ns: int) -> bool:
        return spool.holds(batch.batch_id) or not spool.write(batch, created_ns)

    recovery = Recovery(rig.core, encoder, load({}, {"ring_dir": str(rings)})[0], keep)
    began = time.perf_counter()
    while recovery.step():
        continue
    took = time.perf_counter() - began
    assert (recovery.adopted.spans, list(rings.iterdir())) == (SHAPE.slots, [])
    shutil.rmtree(room)
    return took


def test_adoption_of_a_full_ring(gate: Gate, core: str, tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    rig, path = Rig(core), tmp_path / "1-00.ring"
    full_ring(rig, path)
    room = tmp_path / "room"

    def once() -> float:
        room.mkdir()
        return adopted(rig, path, room)

    def measure() -> dict[str, float]:
        return {"recovery: a full ring adopted into the spool, ms": 1000 * min(once() for _ in range(ROUNDS))}

    benchmark.pedantic(once, rounds=1)
    gate(measure)


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
