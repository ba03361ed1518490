"""The pure core's ring: order, loss to the ticket, stalled writers, content, the string table, forks and kills."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fasttrace.core import _pure
from fasttrace.core._api import RingOwner, RingShape
from fasttrace.core._pure import layout, reader
from fasttrace.core._pure import ring as ring_module
from fasttrace.core._pure.ring import DROPPED, PUSHED, PUSHED_WAKE, Ring

OWNER = RingOwner(bytes(range(16)), b"b" * 16, 7, 8, 9)
WRAPS = [0, 2**63 - 3, 2**64 - 3]  # where sequences and tickets start anew
SECOND_NS = 1_000_000_000
SMAPS = Path("/proc/self/smaps")


def small(slots: int = 8, arena_bytes: int = 4096, first_ticket: int = 0, strtab_bytes: int = 4096) -> RingShape:
    return RingShape(slots, arena_bytes, strtab_bytes, 1, first_ticket)


def ring_of(**shape: int) -> Ring:
    return Ring(-1, small(**shape), OWNER)


def push(ring: Ring, mark: int, content: bytes = b"") -> int:
    values = layout.EMPTY_RECORD[:]
    values[layout.SPAN_ID] = mark
    return ring.push(values, content)


def marks(batch: Any) -> list[int]:
    return [layout.RECORD.unpack(record)[layout.SPAN_ID] for record in batch.records]


def slot_word(ring: Ring, ticket: int) -> int:
    return ring.offsets.slots // 8 + (ticket % ring.shape.slots) * layout.SLOT_WORDS


def stall(ring: Ring) -> int:
    """Take the next ticket as a push does, and stop inside its slot."""
    push(ring, 0)
    ticket = (ring.words[layout.HEAD] - 1) & layout.MASK64
    ring.words[slot_word(ring, ticket)] = (2 * ticket + 1) & layout.MASK64
    return ticket


@pytest.mark.parametrize("first", WRAPS)
def test_records_come_out_once_in_the_order_they_went_in(first: int) -> None:
    ring = ring_of(first_ticket=first)
    for start in range(0, 40, 5):
        for mark in range(start, start + 5):
            assert push(ring, mark) != DROPPED
        assert marks(ring.read(3, 1 << 20)) == [start, start + 1, start + 2]
        batch = ring.read(100, 1 << 20)
        assert marks(batch) == [start + 3, start + 4]
        assert batch.tickets == [(first + start + i) & layout.MASK64 for i in (3, 4)]
        assert (batch.first_ticket, batch.next_ticket) == (batch.tickets[0], (first + start + 5) & layout.MASK64)
    assert ring.read(100, 1 << 20).count == 0
    assert ring.counters()[:4] == (40, 0, 40, 0)


@pytest.mark.parametrize("first", WRAPS)
def test_the_newest_lap_survives_and_the_loss_is_exact(first: int) -> None:
    ring = ring_of(first_ticket=first)
    for mark in range(29):
        push(ring, mark)
    assert marks(ring.read(100, 1 << 20)) == list(range(21, 29))
    counters = ring.counters()
    assert (counters.recorded, counters.delivered, counters.lost) == (29, 8, 21)


def test_a_quarter_lap_wakes() -> None:
    assert [push(ring, 0) for ring in [ring_of(slots=16)] for _ in range(8)] == [
        PUSHED,
        PUSHED,
        PUSHED,
        PUSHED_WAKE,
    ] * 2


def test_acknowledged_is_in_the_header() -> None:
    ring = ring_of(first_ticket=100)
    push(ring, 1)
    ring.acknowledge(ring.read(1, 1).next_ticket)
    assert ring.counters().acknowledged == 1
    assert ring.words[layout.ACKED] == 101


@pytest.mark.parametrize("first", WRAPS)
def test_a_stalled_writer_is_waited_for_stepped_over_and_delivered_late(first: int) -> None:
    ring = ring_of(first_ticket=first)
    ticket = stall(ring)
    push(ring, 5)
    assert ring.read_at(10, 1 << 20, 0).count == 0
    assert ring.read_at(10, 1 << 20, reader.STEP_OVER_NS - 1).count == 0
    assert marks(ring.read_at(10, 1 << 20, reader.STEP_OVER_NS)) == [5]
    assert ring.counters().pending == 1
    ring.words[slot_word(ring, ticket)] = (2 * ticket + 2) & layout.MASK64
    assert ring.read_at(10, 1 << 20, SECOND_NS).tickets == [ticket]
    assert ring.counters()[2:] == (2, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("first", WRAPS)
def test_acknowledgement_does_not_pass_a_pending_ticket_nor_a_late_one_in_hand(first: int) -> None:
    ring = ring_of(first_ticket=first)
    ticket = stall(ring)
    push(ring, 1)
    ring.read_at(10, 1 << 20, 0)
    before = ring.read_at(10, 1 << 20, reader.STEP_OVER_NS)
    ring.acknowledge(before.next_ticket)
    assert ring.words[layout.ACKED] == ticket
    ring.words[slot_word(ring, ticket)] = (2 * ticket + 2) & layout.MASK64
    push(ring, 2)
    late = ring.read_at(10, 1 << 20, SECOND_NS)
    assert late.tickets[0] == ticket
    ring.acknowledge(before.next_ticket)
    assert ring.words[layout.ACKED] == ticket
    ring.acknowledge(late.next_ticket)
    assert ring.words[layout.ACKED] == late.next_ticket == (first + 3) & layout.MASK64


@pytest.mark.parametrize("first", WRAPS)
def test_a_pending_ticket_that_is_lost_lets_the_acknowledgement_go(first: int) -> None:
    ring = ring_of(slots=128, first_ticket=first)
    ticket = stall(ring)
    drain(ring)
    ring.acknowledge((first + 1) & layout.MASK64)
    assert ring.words[layout.ACKED] == ticket
    ring.words[slot_word(ring, ticket)] = (2 * ticket + 258) & layout.MASK64  # of the next lap
    drain(ring)
    ring.acknowledge((first + 1) & layout.MASK64)
    assert (ring.counters().lost, ring.words[layout.ACKED]) == (1, (first + 1) & layout.MASK64)


@pytest.mark.parametrize("first", WRAPS)
def test_a_push_gives_way_to_a_writer_stalled_in_its_slot_and_is_counted(first: int) -> None:
    ring = ring_of(first_ticket=first)
    stall(ring)
    outcomes = [push(ring, mark) for mark in range(1, 10)]
    assert outcomes.count(DROPPED) == 1
    assert outcomes[7] == DROPPED  # one lap later

    counters = drain(ring)
    assert counters.busy == 1
    assert counters.recorded == counters.delivered + counters.lost + counters.pending == 10


def drain(ring: Ring) -> Any:
    """Read everything, stepping over what stays unfinished."""
    now_ns = 0
    while ring._reader is None or ring._reader.next != ring.words[layout.HEAD]:
        ring.read_at(100, 1 << 20, now_ns)
        now_ns += SECOND_NS
    ring.read_at(100, 1 << 20, now_ns)
    return ring.counters()


def test_pending_tickets_are_bounded_and_a_buried_one_is_lost() -> None:
    ring = ring_of(slots=128)
    for _ in range(reader.PENDING_TICKETS + 3):
        stall(ring)
    counters = drain(ring)
    assert (counters.pending, counters.lost) == (reader.PENDING_TICKETS, 3)
    for mark in range(200):
        push(ring, mark)
    counters = drain(ring)
    assert counters.pending <= reader.PENDING_TICKETS
    assert counters.recorded == counters.delivered + counters.lost + counters.pending


@pytest.mark.parametrize("length", [1, 7, 8, 9, 2047, 2048])
def test_content_wraps_around_the_arena_unharmed(length: int) -> None:
    ring = ring_of()
    for turn in range(12):
        content = bytes((turn + at) % 256 for at in range(length))
        push(ring, turn, content)
        assert ring.read(1, 1 << 20).contents == [content]
    assert ring.counters().content_lost == 0


def test_content_of_more_than_half_the_arena_is_not_kept_and_counted() -> None:
    ring = ring_of()
    push(ring, 1, bytes(2049))
    batch = ring.read(1, 1)
    assert (marks(batch), batch.contents) == ([1], [b""])
    assert ring.counters().content_too_large == 1
    assert ring.counters().content_lost == 0


def test_a_record_outlives_its_overwritten_content_and_says_so() -> None:
    ring = ring_of()
    push(ring, 1, b"a" * 2000)
    for mark in (2, 3, 4):
        push(ring, mark, b"b" * 1000)
    batch = ring.read(10, 1 << 20)
    assert marks(batch) == [1, 2, 3, 4]
    assert batch.contents[0] == b""
    lines = batch.encode(_pure.PriceTable(), "", b"").splitlines()
    assert [b'"attributes":{"fasttrace.content_lost":true}' in line for line in lines] == [True, False, False, False]
    assert ring.counters().content_lost == 1


@pytest.mark.parametrize("damage", ["byte", "position", "length"])
def test_damaged_content_is_recognised(damage: str) -> None:
    ring = ring_of()
    push(ring, 1, b"a" * 64)
    word = slot_word(ring, 0) + 1
    if damage == "byte":
        ring.memory[ring.offsets.arena + 63] ^= 1
    elif damage == "position":
        ring.words[word + 208 // 8] = 1 << 40
    else:
        ring.words[word + 216 // 8] ^= 1 << 20
    assert ring.read(1, 1 << 20).contents == [b""]
    assert ring.counters().content_lost == 1


def test_reading_stops_at_the_content_limit_but_always_moves() -> None:
    ring = ring_of()
    for mark in range(4):
        push(ring, mark, bytes(100))
    assert [ring.read(10, limit).count for limit in (1, 150, 0, 0)] == [1, 2, 1, 0]


def test_strings_are_kept_once_and_found_by_index() -> None:
    ring = ring_of()
    provider, model = layout.RECORD_STRINGS.index("provider"), layout.RECORD_STRINGS.index("model_id")
    index = ring.index(model, "gpt-4o")
    assert index == ring.index(model, "gpt-4o") == ring.index(provider, "gpt-4o") == 1
    assert (ring.string(index), ring.text_of[index]) == (b"gpt-4o", "gpt-4o")
    assert ring.index(provider, "p" * 65) == ring.index(provider, "p" * 64)
    assert ring.index(model, "") == 0


def test_a_full_string_table_says_so_and_keeps_what_it_has() -> None:
    ring = ring_of()
    indices = [ring.index(1, f"{number:0254}") for number in range(20)]
    assert indices.count(0) == 20 - (4096 - 8) // 256
    assert ring.string(indices[0]) == f"{0:0254}".encode()
    assert ring.index(1, "short") > 0


@pytest.mark.parametrize("index", [0, 2, 3, 511, 512, 65535])
def test_an_index_that_names_no_string_is_none(index: int) -> None:
    ring = ring_of()
    ring.intern(b"a string of two words")
    assert ring.string(index) is None


def test_names_made_up_per_call_do_not_pile_up() -> None:
    ring = Ring(-1, small(strtab_bytes=layout.STRTAB_MAX_BYTES), OWNER)
    for number in range(10_000):
        ring.index(1, f"name {number}")
    assert len(ring.index_of[1]) <= 4096


def test_the_header_tells_who_wrote_and_where_everything_is(tmp_path: Path) -> None:
    shape = RingShape(16, 8192, 4096, 3, 5)
    path = tmp_path / "ring"
    path.write_bytes(bytes(_pure.region_bytes(shape)))
    with path.open("r+b") as file:
        Ring(file.fileno(), shape, OWNER)
    header = layout.HEADER.unpack_from(path.read_bytes())
    assert header[:4] == (layout.MAGIC, 1, 4096, path.stat().st_size)
    assert header[4:13] == (4096, 4096, 8192, 3, 12288, 16, 16384, 8192, 5)
    assert header[13:] == (OWNER.boot_id, OWNER.writer_id, OWNER.pid, OWNER.process_start, OWNER.created_unix_ns)
    assert path.read_bytes()[152] == 1


def test_a_file_that_is_too_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    path.write_bytes(bytes(_pure.region_bytes(small()) - 1))
    with path.open("r+b") as file, pytest.raises(OSError, match="ring file"):
        Ring(file.fileno(), small(), OWNER)


@pytest.mark.parametrize(
    "shape",
    [
        *(small(slots=slots) for slots in (0, 1, 3, 1 << 27)),
        *(small(arena_bytes=size) for size in (0, 2048, 5000, 1 << 37)),
        *(small(strtab_bytes=size) for size in (0, 4097, (512 << 10) + 4096)),
        small()._replace(inflight=-1),
        small(first_ticket=1 << 64),
    ],
)
def test_shapes_that_are_not_valid_are_refused(shape: RingShape) -> None:
    with pytest.raises(ValueError, match="must"):
        _pure.region_bytes(shape)


@pytest.mark.parametrize("is_free", [True, False])
def test_every_ticket_of_many_threads_is_delivered_or_counted(is_free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "IS_LOCK_FREE", is_free and ring_module.IS_LOCK_FREE)
    ring = ring_of(slots=256)
    assert (ring.lock is None) == ring_module.IS_LOCK_FREE
    threads, each = 6, 3000
    barrier = threading.Barrier(threads + 1)
    interval = sys.getswitchinterval()

    def work(number: int) -> None:
        barrier.wait()
        for i in range(each):
            push(ring, number << 32 | i, b"%d" % i)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    seen: list[int] = []
    sys.setswitchinterval(1e-5)
    try:
        for worker in workers:
            worker.start()
        barrier.wait()
        while any(worker.is_alive() for worker in workers):
            batch = ring.read(100, 1 << 20)
            seen += marks(batch)
            assert all(
                content in (b"%d" % (mark & 0xFFFFFFFF), b"")
                for mark, content in zip(marks(batch), batch.contents, strict=True)
            )
    finally:
        sys.setswitchinterval(interval)
    while (batch := ring.read(100, 1 << 20)).count:
        seen += marks(batch)
    counters = drain(ring)
    assert counters.recorded == threads * each
    assert counters.recorded == counters.delivered + counters.lost + counters.pending
    assert len(seen) == len(set(seen)) <= counters.delivered
    for number in range(threads):
        own = [mark for mark in seen if mark >> 32 == number]
        assert own == sorted(own)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("way", ["os", "libc"])
def test_a_fork_child_knows_that_the_ring_is_its_parents(way: str) -> None:
    """Also when the fork is one that Python does not know of."""
    ring = ring_of()
    assert ring.alive[0] == 1
    child = os.fork() if way == "os" or sys.platform != "linux" else ctypes.PyDLL(None).fork()
    if child == 0:
        os._exit(0 if ring.alive[0] == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ring.alive[0] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kill_after", [1, 3, 40, 150])
def test_what_was_pushed_before_a_kill_is_in_the_file(tmp_path: Path, kill_after: int) -> None:
    shape = small(slots=1024, arena_bytes=1 << 16)
    path = tmp_path / "ring"
    path.write_bytes(bytes(_pure.region_bytes(shape)))
    told_read, told_write = os.pipe()
    child = os.fork()
    if child == 0:
        with path.open("r+b") as file:
            ring = Ring(file.fileno(), shape, OWNER)
        for mark in range(shape.slots):
            push(ring, mark, b"content of %d" % mark)
            os.write(told_write, b"x")
        signal.pause()
    for _ in range(kill_after):
        os.read(told_read, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(told_write)
    promised = kill_after + len(os.read(told_read, 1 << 16))
    os.close(told_read)
    found = whole_records(path, shape)
    assert [record[layout.SPAN_ID] for record in found] == list(range(len(found)))
    assert len(found) >= promised


def whole_records(path: Path, shape: RingShape) -> list[tuple[int, ...]]:
    """The committed records of a dead process's file, read by their tickets."""
    offsets = layout.offsets_of(shape)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        found = []
        for ticket in range(shape.slots):
            at = offsets.slots + ticket * layout.SLOT_BYTES
            if int.from_bytes(memory[at : at + 8], sys.byteorder) == 2 * ticket + 2:
                found.append(layout.RECORD.unpack(memory[at + 8 : at + layout.SLOT_BYTES]))
    return found


def kept_out_of_dumps_bytes() -> int:
    """Memory of this process that the kernel would leave out of a core dump."""
    mappings = re.findall(r"^Size: +(\d+) kB$.*?^VmFlags:([ \w]*)$", SMAPS.read_text(), re.MULTILINE | re.DOTALL)
    return 1024 * sum(int(size) for size, flags in mappings if " dd" in flags)


@pytest.mark.skipif(not SMAPS.exists(), reason="only /proc tells what a core dump would hold")
def test_content_stays_out_of_core_dumps() -> None:
    gc.collect()
    before = kept_out_of_dumps_bytes()
    ring = Ring(-1, small(arena_bytes=1 << 20), OWNER)
    assert kept_out_of_dumps_bytes() - before == ring.shape.arena_bytes
