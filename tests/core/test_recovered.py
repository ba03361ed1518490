"""A dead process's ring, read by each core: the ledger of its tickets, batches in hand, the resource, calls in the air.

Every case runs at ticket 0 and across the wraps of the ticket (2^64) and of the sequence (2^63); the same cases in C
are csrc/tests/unit/test_recovered.c.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest
from dead_rings import SMALL, Call, DeadRing, index_of, put_word, word

from fasttrace.core._api import BatchRange, RecoveredCounters, RingShape
from fasttrace.core._pure import layout

MASK64 = layout.MASK64
FIRSTS = (0, (1 << 64) - 3, (1 << 63) - 3, 12_345)
SLOTS = SMALL.slots
TEN_YEARS_MS = 3650 * 86400 * 1000


@pytest.fixture(params=FIRSTS)
def first(request: pytest.FixtureRequest) -> int:
    return int(request.param)


class Dead(DeadRing):
    """A ring of the small shape from `first` on, with spans that count up in `chunks`."""

    def __init__(self, core: Any, first: int, spans: int) -> None:
        super().__init__(core, SMALL._replace(first_ticket=first))
        self.first = first
        for number in range(spans):
            self.record(chunks=number, response_id="r")

    def ticket(self, number: int) -> int:
        return (self.first + number) & MASK64

    def put(self, at: int, value: int) -> None:
        """In the living ring's memory."""
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write((value & MASK64).to_bytes(8, sys.byteorder))

    def slot(self, number: int) -> int:
        return self.offsets.slots + 256 * (self.ticket(number) % SLOTS)


def chunks(core: Any, batch: Any) -> list[int]:
    return [json.loads(line)["chunks"] for line in batch.encode(core.PriceTable(), "", b"").splitlines()]


def read(core: Any, ring: Any, until_ticket: int | None = None) -> list[int]:
    batch = ring.read(1000, 1 << 20, until_ticket)
    return chunks(core, batch)


def test_everything_beyond_the_acknowledged_ticket_is_delivered_in_order(core: Any, first: int) -> None:
    dead = Dead(core, first, 7)
    dead.ring.acknowledge(dead.ticket(2))
    ring = core.RecoveredRing(dead.file())
    assert (ring.acknowledged, ring.head, ring.shape, ring.ranges) == (dead.ticket(2), dead.ticket(7), dead.shape, [])
    batch = ring.read(3, 1 << 20)
    assert (batch.first_ticket, batch.next_ticket) == (dead.ticket(2), dead.ticket(5))
    assert chunks(core, batch) == [2, 3, 4]
    assert read(core, ring) == [5, 6]
    empty = ring.read(3, 1 << 20)
    assert (empty.count, empty.first_ticket, empty.next_ticket) == (0, 0, ring.head)
    assert ring.counters() == RecoveredCounters(delivered=5)


def test_what_is_unfinished_is_torn_at_once(core: Any, first: int) -> None:
    dead = Dead(core, first, 6)
    data = dead.file()
    put_word(data, dead.slot(2), 2 * dead.ticket(2) + 1)  # died while it wrote
    put_word(data, dead.slot(4), 2 * (dead.ticket(4) - SLOTS) + 2)  # died before it claimed its slot
    ring = core.RecoveredRing(data)
    assert read(core, ring) == [0, 1, 3, 5]
    assert ring.counters() == RecoveredCounters(delivered=4, torn=2)


def test_what_a_later_lap_took_is_lost(core: Any, first: int) -> None:
    dead = Dead(core, first, SLOTS + 3)
    dead.ring.acknowledge(dead.ticket(1))
    data = dead.file()
    put_word(data, dead.slot(5), 2 * dead.ticket(5 + SLOTS) + 2)
    ring = core.RecoveredRing(data)
    assert read(core, ring) == [3, 4, 6, 7, 8, 9, 10]
    assert ring.counters() == RecoveredCounters(delivered=7, lost=3)


def test_a_read_ends_at_its_limit_and_what_is_skipped_is_not_read(core: Any, first: int) -> None:
    dead = Dead(core, first, 8)
    ring = core.RecoveredRing(dead.file())
    assert read(core, ring, dead.ticket(2)) == [0, 1]
    assert read(core, ring, dead.ticket(2)) == []
    assert read(core, ring, dead.ticket(1)) == []  # behind: nothing is read twice
    ring.skip(dead.ticket(5))
    ring.skip(dead.ticket(4))
    assert read(core, ring, dead.ticket(100)) == [5, 6, 7]
    ring.skip(dead.ticket(100))
    assert ring.counters() == RecoveredCounters(delivered=5, skipped=3)


def test_a_limit_within_what_was_lapped_is_kept(core: Any, first: int) -> None:
    dead = Dead(core, first, SLOTS + 6)
    ring = core.RecoveredRing(dead.file())
    batch = ring.read(1000, 1 << 20, dead.ticket(2))
    assert (batch.count, batch.next_ticket) == (0, dead.ticket(2))
    ring.skip(dead.ticket(4))
    assert read(core, ring, dead.ticket(8)) == [6, 7]
    assert read(core, ring) == [8, 9, 10, 11, 12, 13]
    assert ring.counters() == RecoveredCounters(delivered=8, skipped=2, lost=4)


@pytest.mark.parametrize(("spans", "acknowledged", "oldest"), [(3, 4, 0), (SLOTS + 3, SLOTS + 4, 3), (3, -1, 0)])
def test_an_impossible_acknowledgement_is_not_believed(
    core: Any, first: int, spans: int, acknowledged: int, oldest: int
) -> None:
    dead = Dead(core, first, spans)
    dead.ring.acknowledge(dead.ticket(acknowledged))
    ring = core.RecoveredRing(dead.file())
    assert ring.acknowledged == dead.ticket(oldest)
    assert read(core, ring) == list(range(oldest, spans))
    assert ring.counters().lost == 0


@pytest.mark.parametrize("ticket", [-1, 1 << 64])
def test_what_is_no_ticket_is_an_error(core: Any, ticket: int) -> None:
    ring = core.RecoveredRing(Dead(core, 0, 1).file())
    with pytest.raises(OverflowError):
        ring.skip(ticket)
    with pytest.raises(OverflowError):
        ring.read(1, 1, ticket)
    assert ring.counters() == RecoveredCounters()


def test_a_push_that_stalled_and_committed_before_the_kill_is_recovered(core: Any, first: int) -> None:
    """The reader stepped over it, and what came after it was sent: the acknowledged ticket stays at it."""
    dead = Dead(core, first, 4)
    committed = 2 * dead.ticket(1) + 2
    dead.put(dead.slot(1), committed - 1)
    give_up_s = time.monotonic() + 20
    while (next_ticket := dead.ring.read(1000, 1 << 20).next_ticket) != dead.ticket(4):
        assert time.monotonic() < give_up_s
    assert dead.ring.counters().pending == 1
    dead.ring.acknowledge(next_ticket)
    dead.put(dead.slot(1), committed)
    ring = core.RecoveredRing(dead.path.read_bytes())
    assert ring.acknowledged == dead.ticket(1)
    assert read(core, ring) == [1, 2, 3]
    dead.ring.acknowledge(dead.ring.read(1000, 1 << 20).next_ticket)
    assert core.RecoveredRing(dead.file()).acknowledged == dead.ticket(4)


# ---- batches in hand ----


def test_ranges_come_by_their_tickets_with_what_they_are(core: Any, first: int) -> None:
    dead = Dead(core, first, 8)
    dead.ring.acknowledge(dead.ticket(1))
    ranges = [
        BatchRange(dead.ticket(1), dead.ticket(3), 1, True),
        BatchRange(dead.ticket(5), dead.ticket(7), 2),
        BatchRange(dead.ticket(7), dead.ticket(8), 0),
    ]
    for index, found in zip((3, 0, 7), ranges, strict=True):
        dead.ring.set_range(index, found)
    assert core.RecoveredRing(dead.file()).ranges == ranges


@pytest.mark.parametrize(
    ("start", "end", "spans"),
    [(0, 2, 1), (4, 2, 1), (2, 2, 0), (2, SLOTS + 1, 1), (2, 4, 3), (2, -1, 1), (SLOTS, SLOTS + 1, 1), (-1, 3, 1)],
)
def test_a_range_that_cannot_be_is_none(core: Any, first: int, start: int, end: int, spans: int) -> None:
    dead = Dead(core, first, SLOTS)
    dead.ring.acknowledge(dead.ticket(1))
    dead.ring.set_range(2, BatchRange(dead.ticket(start), dead.ticket(end), spans))
    assert core.RecoveredRing(dead.file()).ranges == []


def test_a_settled_range_may_be_longer_than_a_lap(core: Any, first: int) -> None:
    """While one batch waited for its collector, several laps behind it went to the spool."""
    dead = Dead(core, first, 4 * SLOTS + 2)
    waiting = BatchRange(dead.ticket(0), dead.ticket(2), 2)
    spooled = BatchRange(dead.ticket(2), dead.ticket(4 * SLOTS), 4 * SLOTS - 2, True)
    dead.ring.set_range(0, waiting)
    dead.ring.set_range(1, spooled)
    ring = core.RecoveredRing(dead.file())
    assert ring.ranges == [waiting, spooled]
    assert read(core, ring, waiting.next_ticket) == []
    ring.skip(spooled.next_ticket)
    assert read(core, ring) == [4 * SLOTS, 4 * SLOTS + 1]
    assert ring.counters() == RecoveredCounters(delivered=2, skipped=4 * SLOTS - 2, lost=2)


@pytest.mark.parametrize(
    ("start", "end", "spans", "is_settled"),
    [
        (1, 3 * SLOTS + 1, 1, True),
        (1, 1 << 63, 1, True),
        (1, 0, 1, True),
        (1, 1, 0, True),
        (0, 3 * SLOTS, 3 * SLOTS + 1, True),
        (3 * SLOTS, 3 * SLOTS + 1, 1, True),
        (0, SLOTS + 1, 1, False),
    ],
)
def test_a_long_range_that_cannot_be_is_none(
    core: Any, first: int, start: int, end: int, spans: int, is_settled: bool
) -> None:
    dead = Dead(core, first, 3 * SLOTS)
    dead.ring.set_range(1, BatchRange(dead.ticket(start), dead.ticket(end), spans, is_settled))
    assert core.RecoveredRing(dead.file()).ranges == []


def test_of_ranges_that_overlap_the_first_in_the_header_counts(core: Any, first: int) -> None:
    dead = Dead(core, first, SLOTS)
    for index, (start, end) in enumerate(((3, 6), (5, 7), (1, 4), (0, 8), (6, 8), (4, 5), (0, 3))):
        dead.ring.set_range(index, BatchRange(dead.ticket(start), dead.ticket(end), 0))
    found = core.RecoveredRing(dead.file()).ranges
    assert [(r.first_ticket, r.next_ticket) for r in found] == [
        (dead.ticket(start), dead.ticket(end)) for start, end in ((0, 3), (3, 6), (6, 8))
    ]


def test_a_range_is_replaced_settled_and_cleared(core: Any) -> None:
    dead = Dead(core, 0, 8)
    at = 8 * layout.RANGES + 32 * 7

    def stored() -> list[int]:
        data = dead.path.read_bytes()
        return [word(data, at + 8 * i) for i in range(4)]

    dead.ring.set_range(7, BatchRange(1, 3, 2))
    assert stored() == [layout.RANGE_OPEN, 1, 3, 2]
    dead.ring.set_range(7, BatchRange(1, 3, 2, True))
    assert stored() == [layout.RANGE_SETTLED, 1, 3, 2]
    dead.ring.set_range(7, BatchRange(3, 5, 1))
    assert stored() == [layout.RANGE_OPEN, 3, 5, 1]
    for wrong in (BatchRange(-1, 5, 1), BatchRange(0, 1 << 64, 1)):
        with pytest.raises(OverflowError):
            dead.ring.set_range(7, wrong)
    assert stored() == [layout.RANGE_OPEN, 3, 5, 1]
    dead.ring.set_range(7, None)
    assert stored()[0] == layout.RANGE_NONE
    with pytest.raises(IndexError, match="8"):
        dead.ring.set_range(8, None)
    dead.file()


# ---- resource, sign of life ----


def test_the_resource_is_what_was_set_last_if_it_fits(core: Any) -> None:
    longest = b'"sdk":"%s"' % (b"x" * (layout.RESOURCE_MAX_BYTES - 8))
    for members in (b'"service":"x","sdk":"y/1"', b"", longest, longest[:-1] + b'x"'):
        dead = Dead(core, 0, 0)
        dead.ring.set_resource(b'"an":"older one"')
        dead.ring.set_resource(members)
        wanted = members if len(members) <= layout.RESOURCE_MAX_BYTES else b""
        assert core.RecoveredRing(dead.file()).resource == wanted


@pytest.mark.parametrize(
    "members",
    [
        b" ",
        b"a",
        b'"a"',
        b'"a":1,',
        b'"a":1}',
        b'"a":1},{"b":2',
        b"}{",
        b'"a":"\n"',
        b' "a":1',
        b'"a":"\xff"',
        b'"a":NaN',
        b'"sdk":"x",',
        b'"sdk":"x"}',
        b'"sdk":"x"},{"service":"y"',
        b'"sdk":"\n"',
        b' "sdk":"x"',
        b'"sdk":"\xff"',
    ],
)
def test_a_resource_that_would_break_the_line_is_left_out(core: Any, members: bytes) -> None:
    dead = Dead(core, 0, 0)
    dead.ring.set_resource(members)
    assert core.RecoveredRing(dead.file()).resource == b""


@pytest.mark.parametrize(
    "members",
    [
        b'"timestamp":7',
        b'"service":"shop","timestamp":"2000-01-01T00:00:00Z"',
        b'"service":"shop","service":"other"',
        b'"s\\u0065rvice":"shop","service":"other"',
        b'"service":7',
        b'"service":null',
        b'"sdk":{"service":"shop"}',
        b'"sdk":["x"]',
        b'"":""',
        b'"service ":"x"',
    ],
)
def test_a_resource_of_more_than_its_own_texts_is_left_out(core: Any, members: bytes) -> None:
    """It would stand in the line for a field of the span's own."""
    dead = Dead(core, 0, 0)
    dead.ring.set_resource(members)
    assert core.RecoveredRing(dead.file()).resource == b""


def test_a_resource_of_all_its_texts_is_kept_as_it_is(core: Any) -> None:
    members = '"service":"é\\n","environment":"","tenant_id" : "t" ,"workflow_id":"w","sdk":"x/1"'.encode()
    dead = Dead(core, 0, 0)
    dead.ring.set_resource(members)
    assert core.RecoveredRing(dead.file()).resource == members


def test_a_heartbeat_is_the_monotonic_clock(core: Any) -> None:
    dead = Dead(core, 0, 0)
    before = core.clock_monotonic_ns()
    dead.ring.heartbeat()
    assert before <= word(dead.file(), 8 * layout.ALIVE) <= core.clock_monotonic_ns()


# ---- calls in the air ----


def spans_of(core: Any, ring: Any) -> list[dict[str, Any]]:
    batch = ring.aborted()
    assert batch.next_ticket == (ring.head + batch.count) & MASK64
    assert batch.first_ticket == (ring.head if batch.count else 0)
    assert ring.counters().aborted == batch.count
    return [json.loads(line) for line in batch.encode(core.PriceTable(), "", ring.resource).splitlines()]


def test_calls_in_the_air_ran_until_the_last_sign_of_life(core: Any, first: int) -> None:
    dead = Dead(core, first, 1)
    dead.record(operation="chat", name="chat m", provider="openai", model_id="m", server_address="host")
    table = dead.path.read_bytes()
    strings = tuple(index_of(table, text) for text in ("chat", "chat m", "openai", "m", "host"))
    data = dead.file(Call(0xAB, 1_000_000, strings=strings, port=8080, parent=5, is_stream=1), Call(0xCD, 9_000_000))
    put_word(data, 8 * layout.ALIVE, 4_000_000)
    full, bare = spans_of(core, core.RecoveredRing(data))
    assert full == {
        "schema_version": "1.0",
        "trace_id": "00000000000000010000000000000002",
        "span_id": "00000000000000ab",
        "parent_span_id": "0000000000000005",
        "kind": "llm",
        "operation": "chat",
        "name": "chat m",
        "provider": "openai",
        "model_id": "m",
        "server_address": "host",
        "server_port": 8080,
        "timestamp": "2023-11-14T22:13:20.123456789Z",
        "duration_ms": 8,
        "stream": True,
        "status": "aborted",
    }
    assert (bare["span_id"], bare["duration_ms"]) == ("00000000000000cd", 0)


def test_calls_without_identity_or_with_a_record_are_left_out(core: Any, first: int) -> None:
    dead = Dead(core, first, SLOTS + 2)
    dead.ring.acknowledge(dead.ticket(SLOTS + 2))
    ids = [int(context.span_id, 16) for context in dead.contexts]
    data = dead.file(Call(ids[4], 1), Call(0, 1), Call(7, 1, trace=(0, 0)), Call(8, 1, state=2))
    assert spans_of(core, core.RecoveredRing(data)) == []


def test_a_call_whose_record_was_overwritten_is_taken_for_one_in_the_air(core: Any, first: int) -> None:
    dead = Dead(core, first, SLOTS + 2)
    data = dead.file(Call(int(dead.contexts[1].span_id, 16), 1))
    assert len(spans_of(core, core.RecoveredRing(data))) == 1


def test_durations_are_never_negative_and_at_most_ten_years(core: Any) -> None:
    data = Dead(core, 0, 0).file(Call(1, (1 << 63) - 1), Call(2, -(1 << 63)), Call(3, (1 << 63) - 2_000_001))
    put_word(data, 8 * layout.ALIVE, 1 << 63)
    durations = [span["duration_ms"] for span in spans_of(core, core.RecoveredRing(data))]
    assert durations == [0, TEN_YEARS_MS, 2]


def test_a_file_without_an_inflight_table_has_no_calls(core: Any) -> None:
    dead = DeadRing(core, RingShape(8, 4096, 4096, 0))
    assert spans_of(core, core.RecoveredRing(dead.file())) == []


# ---- memory ----


def test_a_batch_outlives_its_ring_and_nothing_else_does(core: Any) -> None:
    ring = core.RecoveredRing(memoryview(Dead(core, 0, 3).file()))
    batch = ring.read(10, 1 << 20)
    del ring
    assert chunks(core, batch) == [0, 1, 2]


def test_recovering_a_thousand_files_takes_the_memory_of_one(core: Any) -> None:
    data = bytes(DeadRing(core, RingShape(slots=1024, arena_bytes=1 << 20)).file())

    resource = pytest.importorskip("resource")

    def peak_kib() -> int:
        peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 1024 if sys.platform == "darwin" else peak

    for _ in range(20):
        core.RecoveredRing(data).read(1, 1)
    before = peak_kib()
    for _ in range(1000):
        core.RecoveredRing(data).read(1, 1)
    assert peak_kib() - before < 512 * 1024  # 1,000 copies would be 1.3 GiB; a sanitizer keeps some of what is freed
