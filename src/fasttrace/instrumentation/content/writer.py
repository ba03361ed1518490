"""Content as JSON of at most so many bytes, at a cost that depends on that number and not on the size of the prompt.

A field that does not fit is cut: what was begun is closed, nothing more is begun, and the field ends with
`"truncated": N`, as the last member of an object, as `{"truncated": N}` behind the elements of an array. N is what was
left out: the characters of the texts, and one for each other value (a list or an object by what is in it); after 4,096
values left out each further one counts one. What redaction took from a text that is cut counts as left out.

Room is counted in bytes and before anything is written: a container pays for its end when it is begun, and the field
for its mark. What then lacks no more than the room of the mark may fit without one: only that is written once more.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from fasttrace.core._text import (
    MAX_DEPTH,
    REDACTED,
    REDACTION_MARGIN,
    TRUNCATED,
    Renderer,
    exact_text,
    quote,
    redact,
    redact_within,
    redacted,
    valid,
)
from fasttrace.instrumentation.content.media import Media, is_data_url
from fasttrace.instrumentation.content.secret import is_secret_member, redact_queries
from fasttrace.instrumentation.content.values import SIZE_STEPS, Size, Text, elements, is_proto_list, pairs, told

if TYPE_CHECKING:
    from collections.abc import Collection

    from fasttrace.instrumentation.content.values import Pairs

NAME_BYTES = 256
NAMES_MAX = 1024
REMEMBERED_NAME_CHARACTERS = 64
MEMBER_LEAST_BYTES = len('"":0,')
PIECE_CHARACTERS = 512
MARK_BYTES = len(',{"truncated":18446744073709551615}')


def rendered(value: dict[str, object] | list[object], limit: int, left_out: int = 0) -> bytes | None:
    """JSON of `value`, at most `limit` bytes; `left_out` was lost before. None where even the mark has no place.

    Never raises for what is in `value`.
    """
    media = Media()
    writer = Writer(limit - MARK_BYTES, media)
    text = writer.render(value, 0)
    if not left_out and writer.is_cut and _bytes_of(text) + writer.left_out <= limit:
        whole = Writer(limit, media)
        whole_text = whole.render(value, 0)
        if not whole.is_cut:
            return whole_text.encode()
    if left_out or writer.is_cut:
        text = _marked(text, left_out + writer.left_out)
    data = text.encode()
    return data if len(data) <= limit else None


def _marked(text: str, left_out: int) -> str:
    mark = f'"truncated":{left_out}'
    if not text.endswith(("}", "]")):
        return "{" + mark + "}"
    comma = "," if len(text) > 2 else ""
    return f"{text[:-1]}{comma}{mark}}}" if text[-1] == "}" else f"{text[:-1]}{comma}{{{mark}}}]"


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


class Writer(Renderer):
    """One field on its way to JSON; what it gives is empty where there was no room for anything."""

    __slots__ = ("is_full", "left_out", "media", "size", "within")

    def __init__(self, room: int, media: Media) -> None:
        super().__init__(room)
        self.media = media
        self.left_out = 0
        self.is_full = False
        self.size = Size()
        self.within: object = ""  # the name of the member whose value is written

    @property
    def is_cut(self) -> bool:
        return self.is_full or self.left_out > 0

    def _leave_out(self, count: int) -> str:
        self.is_full = True
        self.left_out += count
        return ""

    def _leave(self, value: object) -> str:
        return self._leave_out(self.size.of(value))

    def _spend(self, text: str) -> str:
        size = _bytes_of(text)
        if size > self.room:
            return self._leave_out(1)
        self.room -= size
        return text

    def _past_bounds(self, value: object) -> str:
        """Nested too deeply, or no room."""
        if self.room < len(TRUNCATED) + 2:
            return self._leave(value)
        self.left_out += self.size.of(value)
        return self._spend(quote(TRUNCATED))

    # ---- texts ----

    def _text(self, text: str) -> str:
        if is_data_url(text):
            return self._object(self.media.of_data_url(text).items(), 0)
        return self._of_text(text, 0)

    def _of_text(self, text: str, omitted: int) -> str:
        room = self.room - 2
        if room < 0:
            return self._leave_out(len(text) + omitted)
        if omitted or len(text) > room + REDACTION_MARGIN:
            shown, is_cut = redact_within(text, room, is_cut=omitted > 0), True
        else:
            redacted = redact(text)
            shown, is_cut = redacted[:room], len(redacted) > room
        if "://" in shown:
            shown = redact_queries(shown)
            shown, is_cut = shown[:room], is_cut or len(shown) > room
        shown = valid(shown)
        quoted = quote(shown)
        if _bytes_of(quoted) > self.room:
            quoted, shown = _longest_fitting(shown, room)
            is_cut = self.is_full = True
        if is_cut:
            self.left_out += len(text) + omitted - len(shown)
            self.is_full |= not omitted
        return self._spend(quoted)

    # ---- lists and objects ----

    def _array(self, values: Collection[object], depth: int) -> str:
        if self.room < 2:
            return self._leave(values)
        self.room -= 2
        iterator = elements(values)
        items: list[str] = []
        within = self.within
        for at, value in enumerate(iterator or ()):
            self.room -= bool(items)
            self.within = within
            item = self.render(value, depth + 1)
            if item:
                items.append(item)
            if self.is_full:
                if iterator is not None:
                    self.left_out += self.size.of_rest(iterator, len(values) - at - 1)
                break
        return "[" + ",".join(items) + "]"

    def _object(self, items: Collection[tuple[object, object]], depth: int) -> str:
        if self.room < 2:
            return self._leave(dict(items))
        self.room -= 2
        taken = list(islice(items, self._members_at_most()))  # at once: another thread may add a key
        parts = [pair for pair in taken if pair[1] is not None]
        return self._members(parts, len(parts) + max(len(items) - len(taken), 0), depth)

    def _members_at_most(self) -> int:
        """As many as there may be room for, and as many as are looked at where they are left out."""
        return max(self.room, 0) // MEMBER_LEAST_BYTES + SIZE_STEPS

    def _members(self, parts: Pairs, count: int, depth: int) -> str:
        members: list[str] = []
        within = self.within
        for at, (key, value) in enumerate(parts):
            name = _quoted_name(key)
            self.room -= _bytes_of(name) + 1 + bool(members)
            self.within = key
            item = self.render(self._shown(key, value, parts, within), depth + 1)
            if item:
                members.append(f"{name}:{item}")
            if self.is_full:
                self.left_out += self.size.of_rest((value for _, value in parts[at + 1 :]), count - at - 1)
                break
        return "{" + ",".join(members) + "}"

    def _shown(self, key: object, value: object, beside: Pairs, within: object) -> object:
        if is_secret_member(key, value, beside, within):
            return REDACTED
        return self.media.of_member(key, value, beside, within) or value

    # ---- what is not JSON's ----

    def _other(self, value: object, depth: int) -> str:
        if type(value) is Text:
            text = value.joined()
            return self._of_text(text, value.omitted) if value.omitted else self._text(text)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._object(self.media.of_bytes(value).items(), depth)
        if is_proto_list(type(value)):
            return self._array(value, depth) if depth < MAX_DEPTH else self._past_bounds(value)  # type: ignore[arg-type]
        parts = pairs(value, self._members_at_most())
        if parts is None:
            return self._of_any(told(value), depth)
        return self._object(parts, depth) if depth < MAX_DEPTH else self._past_bounds(value)


def _longest_fitting(text: str, room: int) -> tuple[str, str]:
    """As much of `text` as takes `room` bytes between its quotes, quoted and as it is."""
    kept = 0
    while kept < len(text) and (size := _quoted_bytes(text[kept : kept + PIECE_CHARACTERS])) <= room:
        room -= size
        kept += PIECE_CHARACTERS
    least, most = 0, PIECE_CHARACTERS
    while least < most:
        middle = (least + most + 1) // 2
        if _quoted_bytes(text[kept : kept + middle]) <= room:
            least = middle
        else:
            most = middle - 1
    shown = text[: kept + least]
    return quote(shown), shown


def _quoted_bytes(text: str) -> int:
    return _bytes_of(quote(text)) - 2


_names: dict[object, str] = {}


def _quoted_name(key: object) -> str:
    """A member's name in quotes; those of the providers' own are few and remembered."""
    if type(key) is not str:
        return _quote_name(key)
    name = _names.get(key)
    if name is None:
        name = _quote_name(key)
        if len(_names) < NAMES_MAX and len(key) <= REMEMBERED_NAME_CHARACTERS:
            _names[key] = name
    return name


def _quote_name(key: object) -> str:
    text = exact_text(key)
    if text is None:
        text = str(key) if type(key) in (int, float, bool) else f"<{type(key).__qualname__}>"
    return quote(redacted(text, NAME_BYTES).decode())
