"""The calls that are in the air, read from the in-flight table as spans: csrc/src/inflight.c's reader in Python.

The table may be a live process's or a dead one's, damaged or hostile: what it says is bounded by its own size, and
nothing in it is believed. Runs on the thread that recovers, or asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._api import KINDS, STATUSES
from . import layout
from .batch import Batch
from .layout import (
    DURATION_NS,
    EMPTY_RECORD,
    FIRST_STRING,
    FLAG_STREAM,
    FLAGS,
    INFLIGHT,
    KIND,
    MASK64,
    NUMBER,
    PRESENT,
    RECORD,
    RECORD_STRINGS,
    SERVER_PORT,
    STATUS,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from .region import Region

SPAN_ID, START_NS, CALL_STRINGS = 2, 5, slice(6, 11)  # of a slot
ABORTED_MAX_NS = 3650 * 86400 * 1_000_000_000  # a duration beyond that is a damaged file's
ABORTED = STATUSES.index("aborted") + 1
HAS_PORT = 1 << NUMBER["server_port"]
# Without an answer the requested model is the model, as in every record.
STRINGS_AT = [
    FIRST_STRING + RECORD_STRINGS.index("model_id" if name == "request_model" else name)
    for name in layout.INFLIGHT_STRINGS
]


def aborted_calls(ring: Region, until_ns: int, ended: Container[int] = ()) -> Batch:
    """The calls in the air, each of which ran until `until_ns` (monotonic); tickets from the head on.

    `ended`: ids of spans that are in the ring, and are left out.
    """
    batch, head = Batch(ring), ring.words[layout.HEAD]
    for values in calls_in_the_air(ring):
        if values[SPAN_ID] in ended:
            continue
        batch.add(head + batch.count & MASK64, _record(values, until_ns), b"", is_unpriced=False)
    batch.next_ticket = head + batch.count & MASK64
    return batch


def calls_in_the_air(ring: Region) -> Iterator[tuple[int, ...]]:
    """The slots that nobody entered or left while they were copied."""
    start, size = ring.offsets.inflight, layout.INFLIGHT_SLOT_BYTES
    for at in range(start, start + ring.shape.inflight * size, size):
        state = ring.words[at // 8]
        if not state & 1:
            continue
        values = INFLIGHT.unpack_from(ring.memory, at + 8)
        is_named = values[2] and (values[0] or values[1])  # what has no ids is damaged
        if ring.words[at // 8] == state and is_named:
            yield values


def _record(values: tuple[int, ...], until_ns: int) -> bytes:
    port, kind, is_stream = values[11:]
    record = EMPTY_RECORD[:]
    record[:5] = values[:5]
    record[DURATION_NS] = min(max(until_ns - values[START_NS], 0), ABORTED_MAX_NS)
    record[KIND] = kind if kind <= len(KINDS) else 0
    record[STATUS] = ABORTED
    record[FLAGS] = FLAG_STREAM if is_stream else 0
    record[SERVER_PORT] = port
    record[PRESENT] = HAS_PORT if port else 0
    for at, index in zip(STRINGS_AT, values[CALL_STRINGS], strict=True):
        record[at] = index
    return RECORD.pack(*record)
