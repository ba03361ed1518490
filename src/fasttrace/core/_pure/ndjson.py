"""A span as a line of JSON, byte for byte what csrc/src/ndjson.c writes. Runs on the exporter thread.

Most of a line is the same for every call of one kind to one model: names, strings, codes, which numbers are there. All
that decides this is 40 bytes of the record, so these find a ready `Form`, a %-format of the whole line, and only ids,
clocks, counts, cost and content are put in. Text is handled as str: bytes of ready JSON pass through untouched by way
of surrogateescape, invalid UTF-8 in text becomes U+FFFD.
"""

from __future__ import annotations

from operator import itemgetter
from time import gmtime, strftime
from typing import TYPE_CHECKING, Any, NamedTuple

from .._text import quote
from . import layout
from .layout import CODES, COUNTS, FIELDS, FLAG_CONTENT_LOST, FLAG_STREAM, NUMBER, PRESENT, RECORD, TAG

if TYPE_CHECKING:
    from collections.abc import Callable

    from .region import Region

FORMS_MAX = 4096
LABELS = tuple(f',"{name}":' for name in FIELDS)
CODE_MEMBERS = tuple(("", *(f',"{field}":"{name}"' for name in names)) for field, names in CODES.items())
KINDS, STATUSES, USAGE_SOURCES, COST_SOURCES = CODE_MEMBERS
STRING_NUMBERS = tuple(NUMBER[name] for name in layout.RECORD_STRINGS)
LIST_NUMBERS = frozenset(NUMBER[name] for name in layout.LISTS)

RESPONSE_ID, FINISH_REASONS, TOOL_CALLS = NUMBER["response_id"], NUMBER["finish_reasons"], NUMBER["tool_calls"]
ERROR_MESSAGE, ERROR_STACK, REQUEST_PARAMS = NUMBER["error_message"], NUMBER["error_stack"], NUMBER["request_params"]
TAGS, ATTRIBUTES, OUTPUT = NUMBER["tags"], NUMBER["attributes"], NUMBER["output"]
CALL_NUMBERS = frozenset((RESPONSE_ID, REQUEST_PARAMS))  # all the content that most calls have

HAS_PORT, HAS_CHUNKS, HAS_HTTP_STATUS, HAS_RETRIES, HAS_COST = (
    1 << NUMBER[name] for name in ("server_port", "chunks", "http_status", "retries", "cost_usd")
)
FIRSTS = tuple(
    (1 << NUMBER[name], LABELS[NUMBER[name]], layout.FIRST_FIRST + i) for i, name in enumerate(layout.FIRSTS)
)
HAS_TIMES = HAS_CHUNKS | sum(bit for bit, _, _ in FIRSTS)
COUNT_BITS = tuple((at, 1 << NUMBER[name], LABELS[NUMBER[name]]) for at, name in enumerate(COUNTS, layout.FIRST_COUNT))
PART_BITS = COUNT_BITS[2:]  # a part of nothing is not written; input and output may be zero

# What of a packed record decides the form: codes, short numbers, flags and string indices; and the presence bits.
FORM_BYTES = slice(176, 208)
PRESENT_BYTES = slice(8 * PRESENT, 8 * PRESENT + 8)

Texts = dict[int, bytes]
Lists = dict[int, list[bytes]]
NO_TEXTS: Texts = {}
NO_LISTS: Lists = {}
read_tag = TAG.unpack_from


class Form(NamedTuple):
    """A line ready but for what differs: a %-format, and which of the values (`layout.RECORD`, then `Made`) go in."""

    line: str
    pick: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    parts: tuple[int, ...]
    has_times: bool
    has_cost: bool


# Texts made for each record, behind the record's own 43 values.
PARENT, SECOND, FRACTION_NS, DURATION, TIMES, ERRORS, REPLY, COST, CONTEXT = range(43, 52)


def fixed(value: int, unit: int, form: str) -> str:
    """value / unit as a fixed-point number without trailing zeros; `form` has a zero for each of the unit's."""
    return (form % divmod(value, unit)).rstrip("0").rstrip(".") if value else "0"


MS, MS_FORM = 1_000_000, "%d.%06d"
USD, USD_FORM = 1_000_000_000_000, "%d.%012d"


def quoted(data: bytes) -> str:
    return quote(data.decode("utf-8", "replace"))


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


def with_label(number: int, text: str) -> str:
    return f"{LABELS[number]}{text}" if text else ""


def text_members(texts: Texts, first: int, last: int) -> str:
    return "".join(
        [with_label(number, quoted(texts[number])) for number in range(first, last + 1) if texts.get(number)]
    )


def json_members(texts: Texts, first: int, last: int) -> str:
    found = [number for number in range(first, last + 1) if texts.get(number)]
    return "".join([with_label(number, texts[number].decode("utf-8", "surrogateescape")) for number in found])


def list_member(lists: Lists, number: int) -> str:
    return f"{LABELS[number]}[{','.join([quoted(item) for item in lists[number]])}]" if number in lists else ""


def code_member(members: tuple[str, ...], code: int) -> str:
    return members[code] if code < len(members) else ""


def times_of(values: tuple[int, ...]) -> str:
    """`first_chunk_ms` to `chunks`."""
    present = values[PRESENT]
    text = "".join([f"{label}{fixed(values[at], MS, MS_FORM)}" for bit, label, at in FIRSTS if present & bit])
    return f'{text},"chunks":{values[layout.CHUNKS]}' if present & HAS_CHUNKS else text


def context_of(texts: Texts, lists: Lists) -> str:
    """`session_id` to `output`, but for `request_params`."""
    text = text_members(texts, REQUEST_PARAMS + 1, TAGS - 1) + list_member(lists, TAGS)
    return text + text_members(texts, TAGS + 1, ATTRIBUTES - 1) + json_members(texts, ATTRIBUTES, OUTPUT)


class Writer:
    """Writes the lines of one ring; keeps its forms and the second of the last timestamp."""

    def __init__(self, ring: Region) -> None:
        self._ring = ring
        self._forms: dict[bytes, Form] = {}
        self._second = -1
        self._second_text = ""

    def line(self, record: bytes, content: bytes) -> str:
        """One span without its resource and its end."""
        values = RECORD.unpack(record)
        texts, lists = index_content(content) if content else (NO_TEXTS, NO_LISTS)
        is_plain = not lists and texts.keys() <= CALL_NUMBERS
        form = self._form(record, values, texts, is_plain)
        for at in form.parts:
            if not values[at]:
                return self.line(without_zero_parts(values), content)
        second, fraction_ns = divmod(values[4] if values[4] > 0 else 0, 1_000_000_000)
        if second != self._second:
            self._set_second(second)
        response_id, params = texts.get(RESPONSE_ID), texts.get(REQUEST_PARAMS)
        reply = f"{LABELS[RESPONSE_ID]}{quoted(response_id)}" if response_id else ""
        context = f"{LABELS[REQUEST_PARAMS]}{params.decode('utf-8', 'surrogateescape')}" if params else ""
        errors = ""
        if not is_plain:
            errors = text_members(texts, ERROR_MESSAGE, ERROR_STACK)
            reply += list_member(lists, FINISH_REASONS) + list_member(lists, TOOL_CALLS)
            context += context_of(texts, lists)
        made = (
            f',"parent_span_id":"{values[3]:016x}"' if values[3] else "",
            *(self._second_text, fraction_ns, fixed(values[5], MS, MS_FORM)),
            times_of(values) if form.has_times else "",
            *(errors, reply),
            fixed(values[7], USD, USD_FORM) if form.has_cost else "",
            context,
        )
        return form.line % form.pick(values + made)

    def _set_second(self, second: int) -> None:
        self._second_text = strftime("%Y-%m-%dT%H:%M:%S.", gmtime(second))
        self._second = second

    # ---- forms ----

    def _form(self, record: bytes, values: tuple[int, ...], texts: Texts, is_plain: bool) -> Form:
        if not is_plain and any(number in texts for number in STRING_NUMBERS):
            return self._new_form(values, texts)
        key = record[FORM_BYTES] + record[PRESENT_BYTES]
        form = self._forms.get(key)
        if form is None:
            form = self._new_form(values, NO_TEXTS)
            if len(self._forms) >= FORMS_MAX:
                self._forms.clear()
            self._forms[key] = form
        return form

    def _string(self, values: tuple[int, ...], which: int, texts: Texts) -> str:
        """A record string as a member: by its index, or from the content where there is none."""
        index = values[layout.FIRST_STRING + which]
        data = self._ring.string(index) if index else texts.get(STRING_NUMBERS[which])
        return with_label(STRING_NUMBERS[which], quoted(data)).replace("%", "%%") if data else ""

    def _new_form(self, values: tuple[int, ...], texts: Texts) -> Form:
        present, flags = values[PRESENT], values[layout.FLAGS]
        strings = [self._string(values, which, texts) for which in range(len(STRING_NUMBERS))]
        counts = [(at, label) for at, bit, label in COUNT_BITS if present & bit]
        line = [
            '{"schema_version":"1.0","trace_id":"%016x%016x","span_id":"%016x"%s',
            code_member(KINDS, values[layout.KIND]),
            *strings[:6],
            f',"server_port":{values[layout.SERVER_PORT]}' if present & HAS_PORT else "",
            ',"timestamp":"%s%09dZ","duration_ms":%s',
            ',"stream":true%s' if flags & FLAG_STREAM else "%s",
            code_member(STATUSES, values[layout.STATUS]),
            *strings[6:8],
            "%s",
            f',"http_status":{values[layout.HTTP_STATUS]}' if present & HAS_HTTP_STATUS else "",
            f',"retries":{values[layout.RETRIES]}' if present & HAS_RETRIES and values[layout.RETRIES] else "",
            "%s",
            *(f"{label}%d" for _, label in counts),
            code_member(USAGE_SOURCES, values[layout.USAGE_SOURCE]),
            ',"cost_usd":%s' if present & HAS_COST else "%s",
            code_member(COST_SOURCES, values[layout.COST_SOURCE]),
            *(strings[9], strings[8]),
            '%s,"attributes":{"fasttrace.content_lost":true}' if flags & FLAG_CONTENT_LOST else "%s",
        ]
        before, after = (0, 1, 2, PARENT, SECOND, FRACTION_NS, DURATION, TIMES, ERRORS, REPLY), (COST, CONTEXT)
        picked: tuple[Any, ...] = (*before, *(at for at, _ in counts), *after)
        return Form(
            "".join(line),
            itemgetter(*picked),
            tuple(at for at, bit, _ in PART_BITS if present & bit),
            bool(present & HAS_TIMES),
            bool(present & HAS_COST),
        )


def without_zero_parts(values: tuple[int, ...]) -> bytes:
    absent = sum(bit for at, bit, _ in PART_BITS if not values[at])
    return RECORD.pack(*values[:PRESENT], values[PRESENT] & ~absent, *values[PRESENT + 1 :])
