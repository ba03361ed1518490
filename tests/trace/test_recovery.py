"""Rings of dead processes: what becomes of their spans, whoever finds them, and however that is interrupted."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from collector import Collector, Reply
from fasttrace.config import load
from fasttrace.core._api import BatchRange, RingShape
from fasttrace.core._backing import new_owner, open_ring_file
from fasttrace.exporters.spool import Spool
from fasttrace.trace.encoder import Encoder
from fasttrace.trace.processor import no_prices
from fasttrace.trace.recovery import Adopted, Recovery
from fasttrace.trace.redaction import Failures, Redaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from fasttrace.exporters.base import EncodedBatch

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="rings lie in files on POSIX only")
SHAPE = RingShape(slots=1024, arena_bytes=1 << 18, strtab_bytes=8192, inflight=64)
WAIT_S = 20.0


class DeadProcess:
    """A ring as a process left it that recorded spans and was killed: its lock is free, its file is there."""

    def __init__(self, core: Any, directory: Path, shape: RingShape = SHAPE) -> None:
        self.core = core
        self.owner = new_owner()._replace(process_start=0)  # it is this one, which lives
        self.backing = open_ring_file(str(directory), shape, self.owner, core.region_bytes)
        self.ring = core.Ring(self.backing.fd, shape, self.owner)
        self.recorder = core.Recorder(lambda: None)
        self.recorder.ring = self.ring
        self.ids: list[str] = []

    def record(self, count: int, **fields: Any) -> list[str]:
        made = []
        for number in range(count):
            context = self.core.new_context(None)
            fields = {"kind": "llm", "operation": "chat", "status": "success", "name": f"span {number}"} | fields
            assert self.recorder.record(context, 1_700_000_000_000_000_000 + number, 1_000, fields)
            made.append(context.span_id)
        self.ids += made
        return made

    def die(self) -> str:
        self.backing.close()
        return str(self.backing.path)


@pytest.fixture
def rings(tmp_path: Path) -> Path:
    return tmp_path / "ring"


def wait_for(is_so: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


def adopt_all(
    core: Any,
    rings: Path,
    keep: Callable[[EncodedBatch, int], bool],
    batch_size: int = 1000,
    redaction: Redaction | None = None,
) -> Adopted:
    config = load({}, {"ring_dir": str(rings), "batch_size": batch_size})[0]
    encoder = Encoder(core.Recorder(lambda: None), no_prices)
    encoder.redaction = redaction
    recovery = Recovery(core, encoder, config, keep)
    while recovery.step():
        continue
    recovery.close()
    return recovery.adopted


class Kept:
    """Takes batches, the first few of them or all."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.batches: list[EncodedBatch] = []
        self.created_ns: list[int] = []
        self.room = room

    def __call__(self, batch: EncodedBatch, created_ns: int) -> bool:
        if len(self.batches) >= self.room:
            return False
        self.batches.append(batch)
        self.created_ns.append(created_ns)
        return True

    @property
    def ids(self) -> list[str]:
        return [json.loads(line)["span_id"] for batch in self.batches for line in batch.lines()]

    @property
    def batch_ids(self) -> list[str]:
        return [batch.batch_id for batch in self.batches]


# ---- what is in a ring


def test_spans_of_the_dead_are_kept_in_order_and_the_file_goes(core: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.record(250)
    dead.die()
    kept = Kept()
    assert adopt_all(core, rings, kept, batch_size=100) == Adopted(rings=1, spans=250)
    assert kept.ids == dead.ids
    writer = dead.owner.writer_id.hex()
    assert kept.batch_ids == [f"{writer}:0:100", f"{writer}:100:100", f"{writer}:200:50"]
    assert kept.created_ns == [1_700_000_000_000_000_000] * 3
    assert list(rings.iterdir()) == []


def test_what_was_acknowledged_is_not_kept_again(core: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.record(30)
    dead.ring.acknowledge(20)
    dead.die()
    kept = Kept()
    assert adopt_all(core, rings, kept).spans == 10
    assert kept.ids == dead.ids[20:]


def test_a_ring_with_nothing_to_deliver_just_goes(core: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.record(5)
    dead.ring.acknowledge(5)
    dead.die()
    kept = Kept()
    assert adopt_all(core, rings, kept) == Adopted(rings=1)
    assert (kept.batches, list(rings.iterdir())) == ([], [])


def test_open_batches_are_made_again_as_they_were_and_settled_ones_are_not(core: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.record(100)
    dead.ring.acknowledge(7)
    dead.ring.set_range(3, BatchRange(7, 20, 13, False))
    dead.ring.set_range(1, BatchRange(20, 60, 40, True))
    dead.ring.set_range(0, BatchRange(60, 65, 5, False))
    dead.die()
    kept = Kept()
    assert adopt_all(core, rings, kept, batch_size=10).spans == 53
    writer = dead.owner.writer_id.hex()
    assert kept.batch_ids == [f"{writer}:{first}:{count}" for first, count in ((7, 13), (60, 5))] + [
        f"{writer}:{first}:{count}" for first, count in ((65, 10), (75, 10), (85, 10), (95, 5))
    ]
    assert kept.ids == dead.ids[7:20] + dead.ids[60:]


def test_each_span_says_what_its_own_process_would_have_said(core: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.ring.set_resource(b'"service":"billing","tenant_id":"t-1"')
    dead.record(1)
    dead.die()
    kept = Kept()
    adopt_all(core, rings, kept)
    (span,) = map(json.loads, kept.batches[0].lines())
    assert (span["service"], span["tenant_id"]) == ("billing", "t-1")


def test_calls_in_the_air_come_last_as_aborted(core: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.record(3)
    context = core.new_context(None)
    start_ns = core.clock_monotonic_ns()
    place = dead.recorder.enter(context, 1_700_000_001_000_000_000, start_ns, "llm", "chat gpt-4o")
    assert place >= 0
    dead.ring.heartbeat()
    dead.die()
    kept = Kept()
    assert adopt_all(core, rings, kept) == Adopted(rings=1, spans=4, aborted=1)
    writer = dead.owner.writer_id.hex()
    assert kept.batch_ids == [f"{writer}:0:3", f"{writer}:3+0:1"]
    (span,) = map(json.loads, kept.batches[1].lines())
    assert (span["span_id"], span["status"], span["kind"]) == (context.span_id, "aborted", "llm")
    assert span["name"] == "chat gpt-4o"
    assert 0 <= span["duration_ms"] < 60_000
    assert "cost_usd" not in span


def test_texts_that_their_own_process_would_have_redacted_stay_behind(core: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.ring.has_redaction = True
    dead.record(1, error_message="what only its own hook knows to hide", attributes=b'{"name":"Ann"}', input_tokens=3)
    dead.die()
    kept = Kept()
    adopt_all(core, rings, kept)
    assert kept.batch_ids == [f"{dead.owner.writer_id.hex()}:0+0:1"], "it must not pass for the whole batch"
    (span,) = map(json.loads, kept.batches[0].lines())
    assert {"error_message", "attributes"}.isdisjoint(span)
    assert (span["span_id"], span["input_tokens"]) == (dead.ids[0], 3)


def test_a_redaction_here_is_applied_to_what_is_found(core: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.ring.has_redaction = True
    dead.record(1, error_message="Ann called")
    dead.die()
    kept = Kept()
    hook = Redaction(lambda field, value: value.replace("Ann", "A."), Failures())
    adopt_all(core, rings, kept, redaction=hook)
    (span,) = map(json.loads, kept.batches[0].lines())
    assert span["error_message"] == "A. called"


# ---- interruptions


def test_what_could_not_be_kept_waits_and_is_then_kept_once(core: Any, rings: Path, tmp_path: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.record(30)
    path = dead.die()
    spool = Spool(str(tmp_path), 1 << 20)

    def keep(batch: EncodedBatch, created_ns: int) -> bool:
        if len(list(Path(spool.path).glob("*.ndjson*"))) == room:
            return False
        assert spool.holds(batch.batch_id) or spool.write(batch, created_ns) == []
        return True

    Path(spool.path).mkdir(mode=0o700)
    room = 1
    assert adopt_all(core, rings, keep, batch_size=10) == Adopted(waiting=1)
    assert Path(path).exists()
    room = 99
    assert adopt_all(core, rings, keep, batch_size=10) == Adopted(rings=1, spans=30)
    assert spool.look()
    segments = [spool.claim() for _ in range(3)]
    found = [json.loads(line)["span_id"] for segment in segments if segment for line in segment.batch.lines()]
    assert (found, spool.claim()) == (dead.ids, None)


def test_a_recovery_that_ends_early_lets_go_of_the_file(core: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.record(30)
    dead.die()
    config = load({}, {"ring_dir": str(rings), "batch_size": 10})[0]
    recovery = Recovery(core, Encoder(core.Recorder(lambda: None), no_prices), config, Kept())
    recovery.step()
    recovery.step()
    recovery.close()
    kept = Kept()
    assert adopt_all(core, rings, kept).spans == 30


def test_an_error_in_the_middle_leaves_the_ring_to_a_later_look(core: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.record(3)
    path = dead.die()

    def broken(batch: EncodedBatch, created_ns: int) -> bool:
        raise OSError("the disk is gone")

    assert adopt_all(core, rings, broken) == Adopted(waiting=1)
    assert Path(path).exists()


def test_no_ring_is_set_aside_and_others_are_taken_all_the_same(core: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.record(3)
    dead.die()
    broken = DeadProcess(core, rings)
    path = broken.die()
    with open(path, "r+b") as file:
        file.write(b"\0" * 8)
    kept = Kept()
    assert adopt_all(core, rings, kept) == Adopted(rings=1, spans=3, corrupt=1)
    assert [found.name for found in rings.iterdir()] == [Path(path).name + ".corrupt"]


def test_the_ring_of_another_version_stays_where_it_is(core: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.record(3)
    path = dead.die()
    with open(path, "r+b") as file:
        file.seek(8)
        file.write((99).to_bytes(4, sys.byteorder))
    assert adopt_all(core, rings, Kept()) == Adopted(waiting=1)
    assert Path(path).exists()


def test_a_file_that_was_never_used_goes(core: Any, rings: Path) -> None:
    backing = open_ring_file(str(rings), SHAPE, new_owner(), core.region_bytes)
    backing.close()
    assert adopt_all(core, rings, Kept()) == Adopted()
    assert list(rings.iterdir()) == []


# ---- in a process


def test_a_process_that_starts_delivers_what_the_dead_left(
    core: Any, open_processor: Any, collector: Collector, rings: Path
) -> None:
    dead = DeadProcess(core, rings)
    dead.record(900)
    dead.die()
    processor = open_processor(collector_url=collector.url)
    own = processor.record(5)
    wait_for(lambda: processor.stats().recovered == 900)
    collector.wait(lambda collector: len(collector.accepted_ids()) == 905)
    assert sorted(collector.accepted_ids()) == sorted(dead.ids + own)
    assert processor.flush(5) == (5, 0, 0, 0), "others' spans are not its own"


def test_a_process_that_ends_at_once_takes_them_too(core: Any, open_processor: Any, rings: Path) -> None:
    dead = DeadProcess(core, rings)
    dead.record(300)
    dead.die()
    processor = open_processor(way="spool")
    processor.record(1)
    processor.shutdown()
    assert (processor.stats().recovered, list(rings.iterdir())) == (300, [])


def test_one_that_died_meanwhile_is_found_by_the_next_look(
    core: Any, open_processor: Any, collector: Collector, rings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttrace.trace.recovery.LOOK_INTERVAL_S", 0.01)
    processor = open_processor(collector_url=collector.url, flush_interval=0.01)
    processor.record(1)
    dead = DeadProcess(core, rings)
    dead.record(10)
    dead.die()
    wait_for(lambda: processor.stats().recovered == 10)


def test_a_file_exporter_takes_them_and_none_leaves_them(
    core: Any, open_processor: Any, rings: Path, tmp_path: Path
) -> None:
    dead = DeadProcess(core, rings)
    dead.record(3)
    path = dead.die()
    leaves = open_processor(way="none")
    leaves.record(1)
    leaves.shutdown()
    assert Path(path).exists()
    takes = open_processor(way="file", file=str(tmp_path / "spans.jsonl"))
    takes.record(1)
    wait_for(lambda: takes.stats().recovered == 3)
    takes.flush(5)
    found = [json.loads(line)["span_id"] for line in (tmp_path / "spans.jsonl").read_text().splitlines()]
    assert set(dead.ids) < set(found)


def test_a_batch_that_was_on_the_wire_is_sent_again_as_the_same_bytes(
    core: Any, open_processor: Any, collector: Collector, rings: Path
) -> None:
    """The header of a process that is stopped in the middle of a request, as a crash would leave it."""
    collector.gate.clear()
    first = open_processor(collector_url=collector.url)
    ids = first.record(40)
    collector.wait_for_requests(1)
    first.record(7)
    os.link(str(first.stats().backing), rings / f"1-{os.urandom(16).hex()}.copy")
    (copy,) = rings.glob("*.copy")
    dead = copy.with_suffix(".ring")
    data = bytearray(copy.read_bytes())
    data[136:144] = bytes(8)  # when its process started: that one lives
    dead.write_bytes(data)
    dead.chmod(0o600)
    copy.unlink()
    kept = Kept()
    assert adopt_all(core, rings, kept).spans == 47
    again, rest = kept.batches
    on_the_wire = collector.batches[0]
    assert again.batch_id == on_the_wire.headers["x-batch-id"]
    assert again.lines() == on_the_wire.lines
    assert (again.span_count, rest.span_count) == (40, 7)
    assert [json.loads(line)["span_id"] for line in again.lines()] == ids
    collector.gate.set()


def test_a_collector_that_is_gone_keeps_them_in_the_spool(
    core: Any, open_processor: Any, collector: Collector, rings: Path, tmp_path: Path
) -> None:
    collector.rule = lambda lines: Reply(503)
    dead = DeadProcess(core, rings)
    dead.record(30)
    dead.die()
    processor = open_processor(collector_url=collector.url)
    processor.record(1)
    wait_for(lambda: processor.stats().recovered == 30)
    assert list(rings.iterdir()) == [Path(processor.stats().backing)]
    assert list((tmp_path / "state" / "spool").glob(f"*{dead.owner.writer_id.hex()}*"))
