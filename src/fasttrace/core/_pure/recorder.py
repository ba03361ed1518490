"""The recording path of the pure core: from a finished call to a record in the ring. Runs on the callers' threads.

Two ways in. `record()` takes fields by wire name, for spans made in Python. A call driver goes without that mapping:

    ring = recorder.ready()                    # None: no ring to be had, already counted
    values = template[:]                       # 43 integers in the order of layout.RECORD; keep templates, with kind,
                                               # operation, provider and host filled in, in ring.templates
    values[START_UNIX_NS], values[DURATION_NS] = ...
    set_identity(values, context)
    values[FIRST_COUNT + 0] = 12               # input_tokens: a place for each of layout.COUNTS
    values[PRESENT] |= 1 << NUMBER["input_tokens"]      # numbers without their bit are absent
    values[FIRST_STRING + which] = ring.index(which, text)   # which: position in layout.RECORD_STRINGS; 0 is returned
                                               # where the string table is full: then add_text() the same field
    content = bytearray()
    add_text(content, NUMBER["response_id"], text, CLIP_BYTES["response_id"])
    add_json(content, NUMBER["request_params"], data)  # False: did not fit, set values[CONTENT_LENGTH] = CONTENT_CUT
    recorder.push_call(ring, values, content)

`set_field(ring, values, content, name, value)` does the same for one field by name with all checks; `record()` is a
loop around it. Checks: exact int only (a mock's attribute is not a number), text must be str, JSON must be bytes, an
unknown code or a number that does not fit is left out; a subclass of str counts as its text, without its methods.
`push_call` takes the requested model where no other answered, leaves out a `request_model` that equals `model_id`,
finds the cost (of a partial usage there is none), pushes, and wakes the exporter.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING, Any

from .._api import KINDS, STATUSES, USAGE_SOURCES
from .._report import report
from .._text import clean, exact_text
from .inflight import NO_PLACE, tail_of
from .layout import (
    CHUNKS,
    CLIP_BYTES,
    CODES,
    CONTENT_LENGTH,
    CONTENT_MAX_BYTES,
    COST,
    COST_SOURCE,
    COUNTS,
    DURATION_NS,
    EMPTY_RECORD,
    FIRST_COUNT,
    FIRST_FIRST,
    FIRST_STRING,
    FIRSTS,
    FLAG_OTHER_RATE,
    FLAG_OTHER_TIER,
    FLAG_STREAM,
    FLAG_UNPRICED,
    FLAGS,
    HTTP_STATUS,
    JSONS,
    KIND,
    LISTS,
    MASK64,
    NUMBER,
    PARENT_SPAN_ID,
    PRESENT,
    RECORD_STRINGS,
    RETRIES,
    SERVER_PORT,
    SPAN_ID,
    START_UNIX_NS,
    STATUS,
    TAG,
    TEXTS,
    TRACE_HI,
    TRACE_LO,
    USAGE_SOURCE,
)
from .price import HAS_INPUT, UNKNOWN, PriceTable, cost_of
from .ring import DROPPED, PUSHED_WAKE, Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._api import Price
    from .context import SpanContext
    from .stream import Watch

    Setter = Callable[[Ring, list[int], bytearray, int, Any, Any], None]

REMEMBERED_ENTRIES, REMEMBERED_TEXT_CHARACTERS = 256, 64
_entries: dict[tuple[int, str], bytes] = {}  # of lists' texts: reasons to finish and names of tools are few
COUNT_OF_ONE = (1).to_bytes(8, sys.byteorder)
TAG_BYTES, pack_tag = TAG.size, TAG.pack
LLM = 1 + KINDS.index("llm")
SUCCESS, ERROR, TIMEOUT, CANCELLED, INCOMPLETE, ABORTED = range(1, 1 + len(STATUSES))
FROM_PROVIDER, ESTIMATED, PARTIAL = range(1, 1 + len(USAGE_SOURCES))
HAS_OUTPUT = 1 << NUMBER["output_tokens"]
STANDARD_TIERS = frozenset(("", "default", "standard", "auto", "on_demand", "ON_DEMAND"))
PROVIDER_AT, MODEL_AT, REQUEST_MODEL_AT, VERSION_AT, TIER_AT = (
    FIRST_STRING + RECORD_STRINGS.index(name)
    for name in ("provider", "model_id", "request_model", "price_version", "service_tier")
)
VERSION_STRING = VERSION_AT - FIRST_STRING
MODEL_NUMBER, REQUEST_MODEL_NUMBER = NUMBER["model_id"], NUMBER["request_model"]
CONTENT_CUT = 1  # in CONTENT_LENGTH before the push, which counts it and sets the length
HAS_COST = 1 << NUMBER["cost_usd"]
HAS_INPUT_OR_OUTPUT = HAS_INPUT | HAS_OUTPUT
HAS_INPUT_OR_COST = HAS_INPUT | HAS_COST
COST_LOCAL, COST_PROVIDER = 1, 2
PLACE_BITS = 26  # a place and its ring's number in one integer; INFLIGHT_MAX slots end before word 2^26
PLACE_MASK = (1 << PLACE_BITS) - 1
REPORTED_COST_MAX_USD = 9007.0  # 2^53 pico-USD: up to here the product with 1e12 is exact to a float's last digit


def add_text(content: bytearray, number: int, text: str, limit: int) -> bool:
    """Append a text field to tagged content, clipped to `limit` bytes of UTF-8; False where it does not fit."""
    return add_json(content, number, clean(text, limit))


def add_json(content: bytearray, number: int, data: bytes) -> bool:
    """Append a field of ready bytes; False (and nothing appended) where the content would be too large."""
    length = len(data)
    if len(content) + TAG_BYTES + length > CONTENT_MAX_BYTES:
        return False
    content += pack_tag(number, 0, length)
    content += data
    return True


def find_entry(content: bytearray, number: int) -> tuple[int, bytes]:
    """Where the last entry of a field is in the content, and its bytes; -1 and none where there is no such entry. A
    record string is there when the string table had no place for it."""
    found, text, at = -1, b"", 0
    while at < len(content):
        tag, _, length = TAG.unpack_from(content, at)
        if tag == number:
            found, text = at, bytes(content[at + TAG_BYTES : at + TAG_BYTES + length])
        at += TAG_BYTES + length
    return found, text


def text_of(ring: Ring, values: list[int], content: bytearray, at: int) -> bytes:
    """A record string, from the string table or the content; empty if there is none."""
    known = ring.string(values[at])
    return find_entry(content, NUMBER[RECORD_STRINGS[at - FIRST_STRING]])[1] if known is None else known


def settle_models_in_content(ring: Ring, values: list[int], content: bytearray) -> None:
    """`model_id` and `request_model` where either may be in the content: the requested model's entry there becomes the
    model's."""
    model, request = (text_of(ring, values, content, at) for at in (MODEL_AT, REQUEST_MODEL_AT))
    if not request or (model and model != request):
        return
    entry, _ = find_entry(content, REQUEST_MODEL_NUMBER)
    if entry >= 0:
        TAG.pack_into(content, entry, MODEL_NUMBER, 0, len(request))
    if not model:
        values[MODEL_AT] = values[REQUEST_MODEL_AT]
    values[REQUEST_MODEL_AT] = 0


def set_identity(values: list[int], context: SpanContext) -> None:
    values[TRACE_HI] = context.trace_hi
    values[TRACE_LO] = context.trace_lo
    values[SPAN_ID] = context.id
    values[PARENT_SPAN_ID] = context.parent


# ---- one setter per sort of field: (ring, values, content, place, detail, value) ----


def _set_string(ring: Ring, values: list[int], content: bytearray, at: int, number: int, value: Any) -> None:
    index = ring.index_of[at].get(value) if type(value) is str else None
    if index is not None:
        values[FIRST_STRING + at] = index
        return
    text = exact_text(value)
    if text is None:
        return
    index = ring.index(at, text)
    values[FIRST_STRING + at] = index
    if not index and text and not add_text(content, number, text, CLIP_BYTES[RECORD_STRINGS[at]]):
        values[CONTENT_LENGTH] = CONTENT_CUT


def _set_count(ring: Ring, values: list[int], content: bytearray, at: int, bit: int, value: Any) -> None:
    if type(value) is int and 0 <= value <= MASK64:
        values[at] = value
        values[PRESENT] |= bit


def _set_part(ring: Ring, values: list[int], content: bytearray, at: int, bit: int, value: Any) -> None:
    """A part of nothing is not written, even where it was something before."""
    if type(value) is int and 0 <= value <= MASK64:
        values[at] = value
        values[PRESENT] = values[PRESENT] | bit if value else values[PRESENT] & ~bit


def _set_searches(ring: Ring, values: list[int], content: bytearray, at: int, bit: int, value: Any) -> None:
    """A text is one more: some providers list what others count."""
    if issubclass(type(value), str):
        value = values[at] + 1
    _set_part(ring, values, content, at, bit, value)


def _set_short(ring: Ring, values: list[int], content: bytearray, at: int, bit: int, value: Any) -> None:
    if type(value) is int and 0 <= value <= 0xFFFF:
        values[at] = value
        values[PRESENT] |= bit


def _set_code(ring: Ring, values: list[int], content: bytearray, at: int, codes: dict[str, int], value: Any) -> None:
    text = exact_text(value)
    if text is not None:
        values[at] = codes.get(text, 0)


def _set_text(ring: Ring, values: list[int], content: bytearray, number: int, limit: int, value: Any) -> None:
    text = value if type(value) is str else exact_text(value)
    if text is None:
        return
    data = text.encode() if len(text) <= limit and text.isascii() else clean(text, limit)
    entry = pack_tag(number, 0, len(data)) + data
    if len(content) + len(entry) <= CONTENT_MAX_BYTES:
        content += entry
    else:
        values[CONTENT_LENGTH] = CONTENT_CUT


def _remember(number: int, text: str, entry: bytes) -> None:
    if entry and len(text) <= REMEMBERED_TEXT_CHARACTERS:
        if len(_entries) >= REMEMBERED_ENTRIES:
            _entries.clear()
        _entries[number, text] = entry


def _set_list(ring: Ring, values: list[int], content: bytearray, number: int, limit: int, value: Any) -> None:
    text = exact_text(value)
    known = None if text is None else _entries.get((number, text))
    if known is not None and len(content) + len(known) <= CONTENT_MAX_BYTES:
        content += known
    elif text is not None:
        start = len(content)
        _set_text(ring, values, content, number, limit, text)
        _remember(number, text, bytes(content[start:]))
    elif issubclass(type(value), (list, tuple)):
        for text in tuple(value):
            _set_text(ring, values, content, number, limit, text)


def _set_json(ring: Ring, values: list[int], content: bytearray, number: int, _: None, value: Any) -> None:
    if type(value) is bytes and not add_json(content, number, value):
        values[CONTENT_LENGTH] = CONTENT_CUT


def _set_stream(ring: Ring, values: list[int], content: bytearray, at: int, _: None, value: Any) -> None:
    if value is True:
        values[at] |= FLAG_STREAM


def _set_cost(ring: Ring, values: list[int], content: bytearray, at: int, bit: int, value: Any) -> None:
    """Pico-USD; or a float, the USD that a reply itself reports."""
    if type(value) is float:
        if not 0.0 <= value < REPORTED_COST_MAX_USD:
            return
        values[COST_SOURCE] = COST_PROVIDER
        value = round(value * 1e12)
    _set_count(ring, values, content, at, bit, value)


def set_reported_cost(ring: Ring, values: list[int], content: bytearray, at: int, bit: int, value: Any) -> None:
    """A reply's own cost is in USD, also where JSON left the fraction out."""
    _set_cost(ring, values, content, at, bit, float(value) if type(value) is int and 0 <= value <= MASK64 else value)


def _setters() -> dict[str, tuple[Setter, int, Any]]:
    """How each field that a caller may give is set."""
    table: dict[str, tuple[Setter, int, Any]] = {
        "chunks": (_set_count, CHUNKS, 1 << NUMBER["chunks"]),
        "http_status": (_set_short, HTTP_STATUS, 1 << NUMBER["http_status"]),
        "retries": (_set_short, RETRIES, 1 << NUMBER["retries"]),
        "server_port": (_set_short, SERVER_PORT, 1 << NUMBER["server_port"]),
        "stream": (_set_stream, FLAGS, None),
        "cost_usd": (_set_cost, COST, HAS_COST),
    }
    table.update({name: (_set_string, which, NUMBER[name]) for which, name in enumerate(RECORD_STRINGS)})
    table.update({name: (_set_part, at, 1 << NUMBER[name]) for at, name in enumerate(COUNTS, FIRST_COUNT)})
    for name in ("input_tokens", "output_tokens"):
        table[name] = (_set_count, *table[name][1:])
    table["web_search_requests"] = (_set_searches, *table["web_search_requests"][1:])
    table.update({name: (_set_count, at, 1 << NUMBER[name]) for at, name in enumerate(FIRSTS, FIRST_FIRST)})
    table.update({name: (_set_text, NUMBER[name], CLIP_BYTES[name]) for name in TEXTS})
    table.update({name: (_set_list, NUMBER[name], CLIP_BYTES[name]) for name in LISTS})
    table.update({name: (_set_json, NUMBER[name], None) for name in JSONS})
    places = {"kind": KIND, "status": STATUS, "usage_source": USAGE_SOURCE, "cost_source": COST_SOURCE}
    for name, codes in CODES.items():
        table[name] = (_set_code, places[name], {code: number for number, code in enumerate(codes, 1)})
    return table


SETTERS = _setters()


def set_field(ring: Ring, values: list[int], content: bytearray, name: str, value: object) -> None:
    """Set one field by its wire name; a value that does not fit the field is left out, so is an unknown name."""
    if name in SETTERS:
        setter, at, detail = SETTERS[name]
        setter(ring, values, content, at, detail, value)


class Recorder:
    """The recording path's anchor: which ring, which prices, whether recording is on.

    `start` is called by the first span of a process, and of each fork child: it sets `ring` and `wake_fd`, or leaves
    `ring` as it is to drop and count.
    """

    def __init__(self, start: Callable[[], None]) -> None:
        self.ring: Ring | None = None
        self.prices = PriceTable()
        self.price_version = ""
        self.active = True
        self.wake_fd = -1
        self.dropped_unstarted = 0
        self.passed_streams = 0
        self.capture_input = self.capture_output = False
        self.content_max_bytes = 65_536
        self.open_watches: dict[int, Watch] = {}  # replies that end later, by their watches' ids
        self._start = start

    def reset_counts(self) -> None:
        """Start counting anew, as a fork child does."""
        self.dropped_unstarted = self.passed_streams = 0

    def ready(self) -> Ring | None:
        """The ring of this process, started at the first span and again after a fork; None (counted) without one."""
        ring = self._own_ring() or self._started()
        if ring is None:
            self.dropped_unstarted += 1
        return ring

    def _own_ring(self) -> Ring | None:
        """None where it is the ring of the process that this one was forked from."""
        ring = self.ring
        return ring if ring is not None and ring.alive[0] else None

    def _started(self) -> Ring | None:
        try:
            self._start()
        except Exception as error:  # the caller's call goes on without a span
            report(error)
        return self._own_ring()

    def enter(self, context: SpanContext, start_unix_ns: int, start_ns: int, kind: str, name: str) -> int:
        """A span made by hand is in the air: its place in the in-flight table, for `leave`; -1 without one. Who finds
        no ring here is counted when its span is recorded."""
        ring = self._own_ring() or self._started()
        if ring is None:
            return NO_PLACE
        values = EMPTY_RECORD[:]
        set_field(ring, values, bytearray(), "kind", kind)
        for field in ("operation", "name"):
            set_field(ring, values, bytearray(), field, name)
        identity = context.trace_hi, context.trace_lo, context.id, context.parent, start_unix_ns
        try:
            place = ring.enter(identity, start_ns, tail_of(values, False))
        except struct.error as error:
            raise OverflowError(f"a time of the span does not fit: {error}") from None
        return NO_PLACE if place < 0 else ring.number << PLACE_BITS | place

    def leave(self, place: int) -> None:
        """It was recorded, or never will be. A place of another ring or process is left alone."""
        ring = self._own_ring()
        if place >= 0 and ring is not None and place >> PLACE_BITS == ring.number:
            ring.leave(place & PLACE_MASK)

    def record(self, context: SpanContext, start_unix_ns: int, duration_ns: int, fields: Mapping[str, object]) -> bool:
        """One finished span: fields by wire name; codes as their strings, durations in ns, cost in pico-USD, text as
        str, JSON fields as bytes of ready JSON, lists as sequences of str. False when it was dropped."""
        ring = self.ready()
        if ring is None:
            return False
        values, content, index_of = EMPTY_RECORD[:], bytearray(), ring.index_of
        set_identity(values, context)
        values[START_UNIX_NS], values[DURATION_NS] = start_unix_ns, duration_ns
        for name, value in fields.items():
            if type(name) is not str or name not in SETTERS:
                continue
            setter, at, detail = SETTERS[name]
            if setter is _set_string and type(value) is str and value in index_of[at]:
                values[FIRST_STRING + at] = index_of[at][value]
                continue
            try:
                setter(ring, values, content, at, detail, value)
            except Exception as error:  # a list's own __iter__
                report(error)
        return self.push_call(ring, values, content)

    def push_call(self, ring: Ring, values: list[int], content: bytearray) -> bool:
        """Price and push a record; `values` and `content` belong to the recorder afterwards. False when dropped."""
        if ring is not self.ring or not ring.alive[0]:
            return self._refuse(ring)
        if ring.is_full and not (values[MODEL_AT] and values[REQUEST_MODEL_AT]):
            settle_models_in_content(ring, values, content)
        if not values[MODEL_AT] and not ring.is_full:
            values[MODEL_AT] = values[REQUEST_MODEL_AT]
        if values[REQUEST_MODEL_AT] == values[MODEL_AT]:
            values[REQUEST_MODEL_AT] = 0
        if values[PRESENT] & HAS_INPUT_OR_COST == HAS_INPUT and values[USAGE_SOURCE] != PARTIAL:
            self._price(ring, values, content)
        try:
            outcome = ring.push(values, content)
        except struct.error as error:
            raise OverflowError(f"a number of the span does not fit: {error}") from None
        if outcome == PUSHED_WAKE:
            self._wake()
        return outcome != DROPPED

    def _refuse(self, ring: Ring) -> bool:
        """A fork inside the call: the span is the parent's. A ring replaced meanwhile: the indices are of the old."""
        if ring.alive[0]:
            self.dropped_unstarted += 1
        return False

    def _price(self, ring: Ring, values: list[int], content: bytearray) -> None:
        """Cost from the table, or the flag that asks the exporter thread for it. The list's prices are the standard
        tier's; flex, priority, batch and unknown tiers have others. An answer of unknown length has no cost."""
        if (values[KIND] == LLM and not values[PRESENT] & HAS_OUTPUT) or values[FLAGS] & FLAG_OTHER_RATE:
            return
        tier = ring.text_of.get(values[TIER_AT], "")
        if ring.is_full and not tier:
            tier = text_of(ring, values, content, TIER_AT).decode()
        if tier not in STANDARD_TIERS or (not tier and values[FLAGS] & FLAG_OTHER_TIER):
            return
        price = self._find(ring, values, content, MODEL_AT)
        if price is None:
            price = self._find(ring, values, content, REQUEST_MODEL_AT)
        if price is UNKNOWN:
            values[FLAGS] |= FLAG_UNPRICED
        elif price is not None and (cost := cost_of(price, values)) is not None:
            values[COST], values[COST_SOURCE] = cost, COST_LOCAL
            values[PRESENT] |= HAS_COST
            _set_string(ring, values, content, VERSION_STRING, NUMBER["price_version"], self.price_version)

    def _find(self, ring: Ring, values: list[int], content: bytearray, model_at: int) -> Price | None:
        """The price of one of the two models, None where there is no such model or it has none. Names in the content,
        because the string table is full, are for the exporter thread."""
        provider, model = ring.text_of.get(values[PROVIDER_AT]), ring.text_of.get(values[model_at])
        if provider is not None and model is not None:
            return self.prices.find(provider, model)
        is_named = ring.is_full and all(text_of(ring, values, content, at) for at in (PROVIDER_AT, model_at))
        return UNKNOWN if is_named else None

    def _wake(self) -> None:
        if self.wake_fd < 0:
            return
        try:
            os.write(self.wake_fd, COUNT_OF_ONE)
        except OSError:
            return  # a full pipe or counter: a wake-up is already waiting; a closed one: nobody waits any more
