"""Ring files of dead processes for tests, and what a core makes of one. Not a test itself.

A file is made by a ring of either core over a real file, with some of everything in it: records of several laps,
content, a slot that was being written, ranges, a resource, calls in the air.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fasttrace.core._api import BatchRange, Price, RingOwner, RingShape
from fasttrace.core._pure import layout

if sys.platform == "win32":
    pytest.skip("a ring has no file here", allow_module_level=True)

OWNER = RingOwner(bytes(range(16)), b"b" * 16, 7, 8, 1_700_000_000_000_000_000)
SMALL = RingShape(slots=8, arena_bytes=4096, strtab_bytes=4096, inflight=4)
START_UNIX_NS = 1_700_000_000_123_456_789
RESOURCE = b'"service":"checkout","sdk":"x/1"'
MANY = 1 << 40


class Call(NamedTuple):
    """A slot of the in-flight table."""

    span_id: int
    start_ns: int
    state: int = 1
    trace: tuple[int, int] = (1, 2)
    parent: int = 0
    start_unix_ns: int = START_UNIX_NS
    strings: tuple[int, ...] = (0, 0, 0, 0, 0)
    port: int = 0
    kind: int = 1
    is_stream: int = 0


class DeadRing:
    """A ring of `core` over a file that is gone when the test is: write to it, then take the file."""

    def __init__(self, core: Any, shape: RingShape = SMALL, owner: RingOwner = OWNER) -> None:
        self.core, self.shape, self.offsets = core, shape, layout.offsets_of(shape)
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.truncate(core.region_bytes(shape))
            self.path = Path(file.name)
            self.recorder = core.Recorder(lambda: None)
            self.ring = self.recorder.ring = core.Ring(file.fileno(), shape, owner)
        self.recorder.price_version = "v0"
        self.contexts: list[Any] = []

    def record(self, duration_ns: int = 1_234_567, **fields: Any) -> None:
        self.contexts.append(self.core.new_context(None))
        assert self.recorder.record(self.contexts[-1], START_UNIX_NS, duration_ns, fields)

    def file(self, *calls: Call) -> bytearray:
        """What a process that died now would leave, with these calls in the air. Only once."""
        data = bytearray(self.path.read_bytes())
        self.path.unlink()
        for place, call in enumerate(calls):
            put_call(data, self.offsets.inflight + place * layout.INFLIGHT_SLOT_BYTES, call)
        return data


def put_call(data: bytearray, at: int, call: Call) -> None:
    put_word(data, at, call.state)
    ids = (*call.trace, call.span_id, call.parent, call.start_unix_ns, call.start_ns)
    layout.INFLIGHT.pack_into(data, at + 8, *ids, *call.strings, call.port, call.kind, call.is_stream)


def index_of(data: bytes, text: str) -> int:
    """Of a text in the string table."""
    entry = len(text.encode()).to_bytes(2, "little") + text.encode()
    return (data.index(entry, layout.HEADER_BYTES) - layout.HEADER_BYTES) // 8


def put_word(data: bytearray, at: int, value: int) -> None:
    data[at : at + 8] = (value & layout.MASK64).to_bytes(8, "little")


def word(data: bytes | bytearray, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def everything(core: Any, shape: RingShape = SMALL) -> bytearray:
    """A file with some of everything, half of it acknowledged."""
    dead = DeadRing(core, shape)
    first = shape.first_ticket
    for number in range(shape.slots + 3):
        dead.record(
            kind="llm",
            operation="chat",
            name=f"chat é{number % 3}",
            provider="openai",
            model_id="gpt-4o",
            input_tokens=number,
            output_tokens=7,
            stream=number % 2 == 0,
            response_id="r" * number,
            tags=["a", "é"],
            request_params=b'{"n":%d}' % number,
            attributes=b'{"k":[1,{"x":"\\u00e9"}]}',
            output=b'"out"',
        )
    dead.ring.heartbeat()
    dead.ring.set_resource(RESOURCE)
    tickets = [(first + n) & layout.MASK64 for n in range(12)]
    dead.ring.set_range(0, BatchRange(tickets[7], tickets[9], 2))
    dead.ring.set_range(5, BatchRange(tickets[5], tickets[7], 2, True))
    dead.ring.acknowledge(tickets[4])
    known = dead.contexts[-1]
    texts = ("chat", "chat é0", "openai", "gpt-4o", "chat é1")  # the last stands for a host
    strings = tuple(index_of(dead.path.read_bytes(), text) for text in texts)
    calls = (
        Call(0xA1, 1_000_000, strings=strings, port=8080, is_stream=1),
        Call(int(known.span_id, 16), 2_000_000),
        Call(0xA3, 3_000_000, state=2),
        Call(0xA4, -5, kind=200),
    )
    data = dead.file(*calls[: shape.inflight])
    put_word(data, dead.offsets.slots + 256 * (tickets[9] % shape.slots), 2 * tickets[9] + 1)  # it was being written
    return data


class Found(NamedTuple):
    """All that a core makes of a file, the error's text where it is none."""

    error: str | None
    header: tuple[Any, ...] = ()
    lines: tuple[bytes, ...] = ()
    counters: tuple[Any, ...] = ()


def recover(core: Any, data: bytes | bytearray, max_spans: int = 3) -> Found:
    """Read as the adopter of a file does: settled ranges are skipped, open ones read by themselves, then the rest."""
    try:
        ring = core.RecoveredRing(data)
    except ValueError as error:
        return Found(f"{type(error).__name__}: {error}")
    prices = core.PriceTable()
    prices.put("openai", "gpt-4o", Price(input=3, output=5))
    lines: list[bytes] = []

    def encode(batch: Any) -> None:
        lines.append(f"{batch.count} {batch.first_ticket} {batch.next_ticket} {batch.unpriced()}".encode())
        lines.append(batch.encode(prices, "v1", ring.resource))

    def read(until_ticket: int | None) -> None:
        for _ in range(ring.shape.slots + 2):
            batch = ring.read(max_spans, 1 << 20, until_ticket)
            encode(batch)
            if not batch.count:
                return
        raise AssertionError("a read that does not end")

    for found in ring.ranges:
        read(found.first_ticket)
        ring.skip(found.next_ticket) if found.is_settled else read(found.next_ticket)
    read(None)
    encode(ring.aborted())
    counters = ring.counters()
    header = (ring.shape, ring.owner, ring.resource, ring.ranges, ring.acknowledged, ring.head)
    known = counters.delivered + counters.skipped + counters.lost + counters.torn
    assert known == (ring.head - ring.acknowledged) & layout.MASK64
    return Found(None, header, tuple(lines), counters)
