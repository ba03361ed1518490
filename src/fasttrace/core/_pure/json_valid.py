"""Is a text one JSON value that may stand in a line of NDJSON as it is? The rules of csrc/src/json_valid.h.

RFC 8259, and stricter: valid UTF-8; no byte below 0x20; a surrogate escaped by \\u only as half of a pair; at most 128
containers in one another. The interpreter's own parser decides what is JSON; numbers are not made, so that none is too
long for it. Only for content of a dead process's file: runs on the thread that recovers it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from . import layout
from .layout import NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable

DEPTH_MAX = 128
FIELD_TYPES: dict[int, type] = {
    **dict.fromkeys((NUMBER["request_params"], NUMBER["attributes"]), dict),
    NUMBER["events"]: list,
    **dict.fromkeys((NUMBER["input"], NUMBER["output"]), object),
}
CONTROL = re.compile(rb"[\x00-\x1f]")
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
ESCAPE = re.compile(r"\\(?:u(?P<unit>[0-9a-fA-F]{4})|.)")
STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
BRACKET = re.compile(r"[\[\]{}]")

_parse: Callable[[str], Any] | None = None


def json_fields_are_valid(content: bytes) -> bool:
    """Of a content block that anybody may have written: may each of its JSON fields stand in a line, and is it of its
    field's type?"""
    at, end = 0, len(content)
    while end - at >= layout.TAG.size:
        number, _, length = layout.TAG.unpack_from(content, at)
        at += layout.TAG.size
        if length > end - at:
            return True
        if length and number in FIELD_TYPES and not json_is_valid(content[at : at + length], FIELD_TYPES[number]):
            return False
        at += length
    return True


def json_is_valid(data: bytes, kind: type = object) -> bool:
    """One value of `kind` (dict, list, or object for any), with spaces around it."""
    if CONTROL.search(data):
        return False
    try:
        text = data.decode()
        value = (_parse or _find_parse())(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, kind) and _depth_is_bounded(data, text) and _surrogates_are_paired(data, text)


def _find_parse() -> Callable[[str], Any]:
    """Found when it is first needed: a process that recovers nothing does without."""
    global _parse
    from json import JSONDecoder

    _parse = JSONDecoder(parse_int=len, parse_float=len, parse_constant=_refuse).decode
    return _parse


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _depth_is_bounded(data: bytes, text: str) -> bool:
    """Of what was parsed, so that every string in it ends."""
    if data.count(b"[") + data.count(b"{") <= DEPTH_MAX:
        return True
    depth = 0
    for bracket in BRACKET.findall(STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEPTH_MAX:
            return False
    return True


def _surrogates_are_paired(data: bytes, text: str) -> bool:
    if not SURROGATE.search(data):
        return True
    high_ends_at = -1
    for escape in ESCAPE.finditer(text):
        unit = int(escape["unit"] or "0", 16)
        is_low, is_after_high = 0xDC00 <= unit <= 0xDFFF, high_ends_at >= 0
        if is_low != is_after_high or (is_after_high and escape.start() != high_ends_at):
            return False
        high_ends_at = escape.end() if 0xD800 <= unit <= 0xDBFF else -1
    return high_ends_at < 0
