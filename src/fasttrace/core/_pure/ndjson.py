"""A batch of spans as NDJSON, byte for byte what csrc/src/ndjson.c writes. Runs on the exporter thread.

One line is built from pieces in schema order. What repeats from span to span (the quoted strings of the table, the
whole block from `kind` to `server_port`, the second of the timestamp) is kept ready in a `Phrases`. Text is handled as
str; bytes of ready JSON pass through untouched by way of surrogateescape, invalid UTF-8 in text becomes U+FFFD.
"""

from __future__ import annotations

from time import gmtime, strftime
from typing import TYPE_CHECKING

from .._text import quote
from . import layout
from .layout import CODES, COUNTS, FIELDS, FLAG_CONTENT_LOST, FLAG_STREAM, FLAG_UNPRICED, NUMBER, TAG
from .price import UNKNOWN, cost_of

if TYPE_CHECKING:
    from .price import PriceTable
    from .ring import Ring

PHRASES_MAX = 4096
LABELS = tuple(f',"{name}":' for name in FIELDS)
KINDS, STATUSES, USAGE_SOURCES, COST_SOURCES = (
    ("", *(f',"{field}":"{name}"' for name in names)) for field, names in CODES.items()
)
STRING_NUMBERS = tuple(NUMBER[name] for name in layout.RECORD_STRINGS)
LIST_NUMBERS = frozenset(NUMBER[name] for name in layout.LISTS)

FIRST_TARGET, LAST_TARGET = NUMBER["operation"], NUMBER["server_address"]
ERROR_TYPE, ERROR_CODE = NUMBER["error_type"], NUMBER["error_code"]
RESPONSE_ID, FINISH_REASONS, TOOL_CALLS = NUMBER["response_id"], NUMBER["finish_reasons"], NUMBER["tool_calls"]
PRICE_VERSION, SERVICE_TIER = NUMBER["price_version"], NUMBER["service_tier"]
OPERATION_AT, PROVIDER_AT = layout.FIRST_STRING, layout.FIRST_STRING + 2
MODEL_AT, REQUEST_MODEL_AT = PROVIDER_AT + 1, PROVIDER_AT + 2
ERROR_TYPE_AT, ERROR_CODE_AT, TIER_AT, VERSION_AT = range(layout.FIRST_STRING + 6, layout.FIRST_STRING + 10)

HAS_PORT, HAS_CHUNKS, HAS_HTTP_STATUS, HAS_RETRIES, HAS_COST = (
    1 << NUMBER[name] for name in ("server_port", "chunks", "http_status", "retries", "cost_usd")
)
FIRSTS = tuple((1 << NUMBER[name], LABELS[NUMBER[name]], at) for at, name in enumerate(layout.FIRSTS, 18))
HAS_TIMES = HAS_CHUNKS | FIRSTS[0][0] | FIRSTS[1][0] | FIRSTS[2][0]
COUNTS_SHIFT = NUMBER["input_tokens"]
COUNTS_MASK = (1 << len(COUNTS)) - 1
REQUEST_PARAMS, TAGS, ATTRIBUTES, OUTPUT = (NUMBER[name] for name in ("request_params", "tags", "attributes", "output"))
CALL_NUMBERS = frozenset((RESPONSE_ID, REQUEST_PARAMS))  # all the content that most calls have
read_tag = TAG.unpack_from

Texts = dict[int, bytes]
Lists = dict[int, list[bytes]]
NO_TEXTS: Texts = {}
NO_LISTS: Lists = {}


def fixed(value: int, unit: int, decimals: int) -> str:
    """value / unit as a fixed-point number without trailing zeros; unit is 10 to the power of `decimals`."""
    whole, part = divmod(value, unit)
    return f"{whole}.{part:0{decimals}d}".rstrip("0") if part else f"{whole}"


def index_content(content: bytes) -> tuple[Texts, Lists]:
    """Tagged fields by number. A tag that does not fit ends the block; of a repeated field the last one counts."""
    texts: Texts = {}
    lists: Lists = {}
    at, end = 0, len(content)
    while end - at >= 8:
        number, _, length = read_tag(content, at)
        at += 8
        if length > end - at:
            break
        if number in LIST_NUMBERS:
            lists.setdefault(number, []).append(content[at : at + length])
        else:
            texts[number] = content[at : at + length]
        at += length
    return texts, lists


def quoted(data: bytes) -> str:
    return quote(data.decode("utf-8", "replace"))


class Phrases:
    """Rendered text that repeats between the spans of one ring."""

    __slots__ = ("_counts", "_quoted", "_ring", "_second", "_second_text", "_targets")

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._quoted: dict[int, str] = {}
        self._targets: dict[tuple[int, ...], str] = {}
        self._counts: dict[int, tuple[tuple[int, str, bool], ...]] = {}
        self._second = -1
        self._second_text = ""

    def string(self, index: int) -> str:
        """The quoted string of the table, "" where the index is not one."""
        text = self._quoted.get(index)
        if text is None:
            data = self._ring.string(index)
            text = "" if data is None else quoted(data)
            if data is not None:
                self._quoted[index] = text
        return text

    def member(self, number: int, index: int, texts: Texts) -> str:
        """A record string: by its index, or from the content where there is none."""
        if index:
            text = self.string(index)
            return f"{LABELS[number]}{text}" if text else ""
        data = texts.get(number)
        return f"{LABELS[number]}{quoted(data)}" if data else ""

    def target(self, values: list[int], texts: Texts) -> str:
        """`kind` to `server_port`."""
        key = (values[22], values[28] if values[6] & HAS_PORT else -1, *values[30:36])
        if 0 not in key[2:] or not texts:
            known = self._targets.get(key)
            if known is None:
                known = self._render_target(key, NO_TEXTS)
                if len(self._targets) >= PHRASES_MAX:
                    self._targets.clear()
                self._targets[key] = known
            return known
        return self._render_target(key, texts)

    def _render_target(self, key: tuple[int, ...], texts: Texts) -> str:
        kind, port, *indices = key
        parts = [KINDS[kind] if kind < len(KINDS) else ""]
        parts += [self.member(number, index, texts) for number, index in enumerate(indices, FIRST_TARGET)]
        parts.append(f',"server_port":{port}' if port >= 0 else "")
        return "".join(parts)

    def timestamp(self, unix_ns: int) -> str:
        second, fraction_ns = divmod(unix_ns if unix_ns > 0 else 0, 1_000_000_000)
        if second != self._second:
            self._second_text = strftime(',"timestamp":"%Y-%m-%dT%H:%M:%S.', gmtime(second))
            self._second = second
        return f'{self._second_text}{fraction_ns:09d}Z"'

    def counts(self, bits: int) -> tuple[tuple[int, str, bool], ...]:
        """Place, label and whether zero is left out, of each count in `bits`."""
        plan = self._counts.get(bits)
        if plan is None:
            plan = tuple(
                (layout.FIRST_COUNT + i, f',"{name}":', i > 1) for i, name in enumerate(COUNTS) if bits >> i & 1
            )
            self._counts[bits] = plan
        return plan


def line(values: list[int], content: bytes, phrases: Phrases) -> str:
    """One span without its resource and its end."""
    texts, lists = index_content(content) if content else (NO_TEXTS, NO_LISTS)
    present, flags = values[layout.PRESENT], values[layout.FLAGS]
    parent = f',"parent_span_id":"{values[3]:016x}"' if values[3] else ""
    parts = [
        f'{{"schema_version":"1.0","trace_id":"{values[0]:016x}{values[1]:016x}","span_id":"{values[2]:016x}"{parent}',
        phrases.target(values, texts),
        phrases.timestamp(values[4]),
        ',"duration_ms":',
        fixed(values[5], 1_000_000, 6),
    ]
    if flags & FLAG_STREAM or present & HAS_TIMES:
        parts.append(_times(values))
    parts.append(STATUSES[values[23]] if values[23] < len(STATUSES) else "")
    parts.append(_outcome(values, texts, lists, phrases))
    for at, label, is_part in phrases.counts(present >> COUNTS_SHIFT & COUNTS_MASK):
        if values[at] or not is_part:
            parts.append(f"{label}{values[at]}")
    parts.append(_cost(values, texts, phrases))
    if texts or lists or flags & FLAG_CONTENT_LOST:
        parts.append(_context(texts, lists, bool(flags & FLAG_CONTENT_LOST)))
    return "".join(parts)


def _times(values: list[int]) -> str:
    present = values[layout.PRESENT]
    parts = [',"stream":true' if values[layout.FLAGS] & FLAG_STREAM else ""]
    parts += [f"{label}{fixed(values[at], 1_000_000, 6)}" for bit, label, at in FIRSTS if present & bit]
    parts.append(f',"chunks":{values[layout.CHUNKS]}' if present & HAS_CHUNKS else "")
    return "".join(parts)


def _outcome(values: list[int], texts: Texts, lists: Lists, phrases: Phrases) -> str:
    """`error_type` to `tool_calls`."""
    present, text = values[layout.PRESENT], ""
    if values[ERROR_TYPE_AT] or values[ERROR_CODE_AT] or texts:
        text = phrases.member(ERROR_TYPE, values[ERROR_TYPE_AT], texts)
        text += phrases.member(ERROR_CODE, values[ERROR_CODE_AT], texts)
        text += _texts(texts, ERROR_CODE + 1, ERROR_CODE + 3)
    if present & HAS_HTTP_STATUS:
        text += f',"http_status":{values[layout.HTTP_STATUS]}'
    if present & HAS_RETRIES and values[layout.RETRIES]:
        text += f',"retries":{values[layout.RETRIES]}'
    response_id = texts.get(RESPONSE_ID)
    if response_id:
        text += f"{LABELS[RESPONSE_ID]}{quoted(response_id)}"
    return f"{text}{_list(lists, FINISH_REASONS)}{_list(lists, TOOL_CALLS)}" if lists else text


def _texts(texts: Texts, first: int, end: int) -> str:
    return "".join([f"{LABELS[number]}{quoted(texts[number])}" for number in range(first, end) if texts.get(number)])


def _list(lists: Lists, number: int) -> str:
    return f"{LABELS[number]}[{','.join([quoted(item) for item in lists[number]])}]" if number in lists else ""


def _json(texts: Texts, number: int) -> str:
    data = texts.get(number)
    return f"{LABELS[number]}{data.decode('utf-8', 'surrogateescape')}" if data else ""


def _cost(values: list[int], texts: Texts, phrases: Phrases) -> str:
    """`usage_source` to `service_tier`."""
    usage, source = values[layout.USAGE_SOURCE], values[layout.COST_SOURCE]
    text = USAGE_SOURCES[usage] if usage < len(USAGE_SOURCES) else ""
    if values[layout.PRESENT] & HAS_COST:
        text += f',"cost_usd":{fixed(values[layout.COST], 1_000_000_000_000, 12)}'
    if source < len(COST_SOURCES):
        text += COST_SOURCES[source]
    text += phrases.member(PRICE_VERSION, values[VERSION_AT], texts)
    return text + phrases.member(SERVICE_TIER, values[TIER_AT], texts)


def _context(texts: Texts, lists: Lists, is_lost: bool) -> str:
    """`request_params` to `output`."""
    text = _json(texts, REQUEST_PARAMS) if REQUEST_PARAMS in texts else ""
    if TAGS in lists or not texts.keys() <= CALL_NUMBERS:
        text += _texts(texts, REQUEST_PARAMS + 1, TAGS) + _list(lists, TAGS) + _texts(texts, TAGS + 1, ATTRIBUTES)
        text += "".join([_json(texts, number) for number in range(ATTRIBUTES, OUTPUT + 1)])
    return f'{text},"attributes":{{"fasttrace.content_lost":true}}' if is_lost else text


class Batch:
    """Spans copied out of the ring, not yet acknowledged."""

    def __init__(self, ring: Ring, max_spans: int, max_bytes: int) -> None:
        self.count = 0
        self.first_ticket = 0
        self.next_ticket = 0
        self.content_bytes = 0
        self.tickets: list[int] = []
        self._ring = ring
        self._max_spans = max_spans
        self._max_bytes = max_bytes
        self._records: list[list[int]] = []
        self._contents: list[bytes] = []

    def add(self, ticket: int, values: list[int], content: bytes) -> None:
        if not self.count:
            self.first_ticket = ticket
        self.count += 1
        self.content_bytes += len(content)
        self.tickets.append(ticket)
        self._records.append(values)
        self._contents.append(content)

    def is_full(self) -> bool:
        return self.count >= self._max_spans or (self.count > 0 and self.content_bytes >= self._max_bytes)

    def unpriced(self) -> list[tuple[str, str]]:
        """The distinct (provider, model) whose price the table did not know when they were recorded."""
        found: dict[tuple[str, str], None] = {}
        for values in self._records:
            if values[layout.FLAGS] & FLAG_UNPRICED:
                provider, *models = (self._text_of(values[at]) for at in (PROVIDER_AT, MODEL_AT, REQUEST_MODEL_AT))
                found.update(((provider, model), None) for model in models if model)
        return list(found)

    def _text_of(self, index: int) -> str:
        return (self._ring.string(index) or b"").decode("utf-8", "replace")

    def encode(self, prices: PriceTable, price_version: str, resource: bytes) -> bytes:
        """NDJSON of the batch; `resource` is ready JSON members without braces."""
        phrases = self._ring.phrases
        end = f",{resource.decode('utf-8', 'surrogateescape')}}}\n" if resource else "}\n"
        lines: list[str] = []
        for values, content in zip(self._records, self._contents, strict=True):
            if values[layout.FLAGS] & FLAG_UNPRICED:
                self._price(values, content, prices, price_version)
            lines.append(line(values, content, phrases))
        if lines:
            lines.append("")
        return end.join(lines).encode("utf-8", "surrogateescape")

    def _price(self, values: list[int], content: bytes, prices: PriceTable, price_version: str) -> None:
        """Price a record whose model the table did not know when it was recorded."""
        values[layout.FLAGS] &= ~FLAG_UNPRICED
        provider, models = self._priced_by(values, content)
        for model in models:
            price = prices.find(provider, model)
            if price is None or price is UNKNOWN:
                continue
            cost = cost_of(price, values)
            if cost is not None and not values[layout.PRESENT] & HAS_COST:
                values[layout.COST], values[layout.COST_SOURCE] = cost, 1
                values[layout.PRESENT] |= HAS_COST
                values[VERSION_AT] = self._ring.intern(price_version.encode("utf-8", "replace"))
            return

    def _priced_by(self, values: list[int], content: bytes) -> tuple[str, list[str]]:
        """Provider, and the models whose price counts: the one that answered, then the one that was asked for."""
        texts = index_content(content)[0]
        names = []
        for at in (PROVIDER_AT, MODEL_AT, REQUEST_MODEL_AT):
            data = self._ring.string(values[at]) if values[at] else texts.get(STRING_NUMBERS[at - OPERATION_AT])
            names.append((data or b"").decode("utf-8", "replace"))
        provider, *models = names
        return provider, [model for model in models if provider and model]
