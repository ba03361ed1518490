"""The ring file as numbers: field numbers, offsets, record format. The Python half of csrc/include/fasttrace/*.h.

Everything here is data and arithmetic without state; tests hold it against the headers. All integers are in native
byte order, and a word that another thread may be reading is always written whole (8 aligned bytes, one store).
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from .._api import COST_SOURCES, KINDS, STATUSES, USAGE_SOURCES, RingShape

# FT_FIELDS: the position is the field's number in content tags and presence bits.
FIELDS = (
    *("schema_version", "trace_id", "span_id", "parent_span_id", "kind", "operation", "name", "provider", "model_id"),
    *("request_model", "server_address", "server_port", "timestamp", "duration_ms", "stream", "first_chunk_ms"),
    *("first_token_ms", "first_text_ms", "chunks", "status", "error_type", "error_code", "error_message"),
    *("error_stack", "http_status", "retries", "response_id", "finish_reasons", "tool_calls", "input_tokens"),
    *("output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens"),
    *("input_audio_tokens", "output_audio_tokens", "input_image_tokens", "web_search_requests", "usage_source"),
    *("cost_usd", "cost_source", "price_version", "service_tier", "request_params", "session_id", "user_id", "tags"),
    *("goal", "capsule_id", "attributes", "events", "input", "output", "service", "environment", "tenant_id"),
    *("workflow_id", "sdk"),
)
NUMBER = {name: number for number, name in enumerate(FIELDS)}

# Fields of the record, by group, in the order of ft_record.
RECORD_STRINGS = (
    *("operation", "name", "provider", "model_id", "request_model", "server_address", "error_type", "error_code"),
    *("service_tier", "price_version"),
)
COUNTS = FIELDS[NUMBER["input_tokens"] : NUMBER["web_search_requests"] + 1]
FIRSTS = ("first_chunk_ms", "first_token_ms", "first_text_ms")
CODES = {"kind": KINDS, "status": STATUSES, "usage_source": USAGE_SOURCES, "cost_source": COST_SOURCES}
TEXTS = ("error_message", "error_stack", "response_id", "session_id", "user_id", "goal", "capsule_id")
LISTS = ("finish_reasons", "tool_calls", "tags")
JSONS = ("request_params", "attributes", "events", "input", "output")

# Longest text of a field, in bytes of UTF-8.
CLIP_BYTES = {
    name: limit
    for limit, names in {
        64: ("provider", "error_code", "service_tier", "price_version", "capsule_id"),
        128: (
            "operation",
            "model_id",
            "request_model",
            "error_type",
            "response_id",
            "session_id",
            "user_id",
            "goal",
            *LISTS,
        ),
        256: ("name", "server_address"),
        2048: ("error_message",),
        8192: ("error_stack",),
    }.items()
    for name in names
}

# ft_record; the reserved words at its end are zero.
RECORD = Struct("4QqQQQ10Q3QQ4B2H2H10HQII24x")
SLOT_BYTES = 256
SLOT_WORDS = SLOT_BYTES // 8
TRACE_HI, TRACE_LO, SPAN_ID, PARENT_SPAN_ID, START_UNIX_NS, DURATION_NS, PRESENT, COST = range(8)
FIRST_COUNT = 8
FIRST_FIRST = 18
CHUNKS, KIND, STATUS, USAGE_SOURCE, COST_SOURCE, HTTP_STATUS, RETRIES, SERVER_PORT, FLAGS = range(21, 30)
FIRST_STRING = 30
CONTENT_POSITION, CONTENT_LENGTH, CONTENT_CRC = 40, 41, 42
EMPTY_RECORD = [0] * 43
FLAG_STREAM, FLAG_UNPRICED, FLAG_CONTENT_LOST, FLAG_OTHER_TIER, FLAG_OTHER_RATE = 1, 2, 4, 8, 16

# Content tag: field, zero, length.
TAG = Struct("HHI")
CONTENT_MAX_BYTES = 1 << 20
CONTENT_ALIGNMENT = 8

# ft_header. The words after `ready` stand on cache lines of their own; here they are indices of 8-byte words.
MAGIC = int.from_bytes(b"FTTRING1", "little")
VERSION = 1
HEADER_BYTES = 4096
HEADER = Struct("QII10Q16s16sQQq")
READY, HEAD, ACKED, ARENA_HEAD, STRTAB_USED, DROPPED = 152 // 8, 256 // 8, 384 // 8, 512 // 8, 640 // 8, 768 // 8
DROPPED_BUSY, DROPPED_CONTENT_TOO_LARGE, DROPPED_INFLIGHT_FULL = DROPPED, DROPPED + 1, DROPPED + 2
ALIVE, RANGES, RESOURCE_LENGTH, RESOURCE_AT = 896 // 8, 1024 // 8, 1280 // 8, 1288
RANGE_COUNT, RANGE_WORDS, RESOURCE_MAX_BYTES = 8, 4, 2048  # a range: state, first ticket, next ticket, spans
RANGE_NONE, RANGE_OPEN, RANGE_SETTLED = 0, 1, 2

PAGE_BYTES = 4096
INFLIGHT_SLOT_BYTES = 128
# ft_inflight_call: trace (2), span, parent, two starts, strings (5), port, kind, is_stream; in a slot behind its state.
INFLIGHT = Struct("4Qqq5HHBB2x")
INFLIGHT_STRINGS = ("operation", "name", "provider", "request_model", "server_address")
STRTAB_MAX_BYTES = 512 << 10
STRTAB_TEXT_MAX_BYTES = 256
STRTAB_FIRST = 8
SLOTS_MAX = 1 << 26
ARENA_MAX_BYTES = 1 << 36
INFLIGHT_MAX = 1 << 20
MASK64 = (1 << 64) - 1
HALF64 = 1 << 63


class Offsets(NamedTuple):
    """Where the parts of a region start, and how long it is, in bytes."""

    strtab: int
    inflight: int
    slots: int
    arena: int
    total: int


def offsets_of(shape: RingShape) -> Offsets:
    """Raises ValueError for a shape that is not valid."""
    _check(shape)
    inflight = HEADER_BYTES + shape.strtab_bytes
    slots = _page_up(inflight + shape.inflight * INFLIGHT_SLOT_BYTES)
    arena = _page_up(slots + shape.slots * SLOT_BYTES)
    return Offsets(HEADER_BYTES, inflight, slots, arena, arena + shape.arena_bytes)


def _check(shape: RingShape) -> None:
    if not _is_power_of_two(shape.slots) or not 2 <= shape.slots <= SLOTS_MAX:
        raise ValueError(f"slots must be a power of two from 2 to {SLOTS_MAX}, not {shape.slots}")
    if not _is_power_of_two(shape.arena_bytes) or not PAGE_BYTES <= shape.arena_bytes <= ARENA_MAX_BYTES:
        raise ValueError(f"arena_bytes must be a power of two from 4096 to {ARENA_MAX_BYTES}, not {shape.arena_bytes}")
    if shape.strtab_bytes % PAGE_BYTES or not PAGE_BYTES <= shape.strtab_bytes <= STRTAB_MAX_BYTES:
        raise ValueError(f"strtab_bytes must be a multiple of 4096 up to {STRTAB_MAX_BYTES}, not {shape.strtab_bytes}")
    if not 0 <= shape.inflight <= INFLIGHT_MAX or not 0 <= shape.first_ticket <= MASK64:
        raise ValueError(f"inflight must be 0 to {INFLIGHT_MAX} and first_ticket fit 64 bits: {shape}")


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _page_up(size: int) -> int:
    return (size + PAGE_BYTES - 1) & -PAGE_BYTES


def region_bytes(shape: RingShape) -> int:
    """Bytes a ring file of this shape needs; raises ValueError for a shape that is not valid."""
    return offsets_of(shape).total
