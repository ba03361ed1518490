"""What keeps the content of a stream until its end, bounded by the size of the field that it will be.

Nothing of a chunk is kept itself: texts are kept in pieces and joined at the end, everything else is copied as far as
there is room. Room is counted in characters and never more than the JSON of the same takes in bytes, so that what fits
into the field is there; what comes after it is counted. A margin more is kept, by which the writer knows a secret that
the end of the room cuts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.core._report import report
from fasttrace.core._text import MAX_DEPTH, REDACTION_MARGIN, exact_text
from fasttrace.instrumentation.content.media import Media, is_data_url
from fasttrace.instrumentation.content.values import Size, Text, elements, pairs, told
from fasttrace.instrumentation.content.writer import rendered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from fasttrace.instrumentation.content.values import Pairs

    Made = dict[str, object]

LISTED_MAX = 1024
# Of a text that these names have, the first that is not empty is the whole; of any other the pieces are joined.
WORDS = frozenset(("role", "id", "type", "name", "format", "status", "call_id"))


class Gathered:
    """Room for one stream's content, and what did not find any."""

    __slots__ = ("left_out", "media", "room")

    def __init__(self, limit: int) -> None:
        self.room = limit + REDACTION_MARGIN
        self.left_out = 0
        self.media = Media(remembers=False)

    def add(self, text: Text, piece: str) -> None:
        """The next piece of a text."""
        room = self.room
        if not piece:
            return
        if len(piece) <= room and not text.omitted:
            text.pieces.append(piece)
            self.room = room - len(piece)
            return
        kept = piece[:room] if room > 0 and not text.omitted else ""
        if kept:
            text.pieces.append(kept)
        text.omitted += len(piece) - len(kept)
        self.room -= len(kept)

    def text(self, piece: str) -> Text:
        found = Text()
        self.add(found, piece)
        return found

    def take(self, value: object, depth: int = 0, within: str = "") -> object:
        """A copy of `value`, the member `within`, as far as there is room; None for what there is none for."""
        text = exact_text(value)
        if text is not None:
            return self.media.of_data_url(text) if is_data_url(text) else self.text(text)
        if value is None or isinstance(value, (bool, int, float)):
            self.room -= 1
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.media.of_bytes(value)
        if self.room <= 0 or depth >= MAX_DEPTH:
            self.leave_out(value)
            return None
        self.room -= 1
        listed = elements(value)
        if listed is not None:
            return self._elements(listed, len(value), depth, within)  # type: ignore[arg-type]
        parts = pairs(value, self.room)
        return told(value) if parts is None else self._members(parts, depth, within)

    def _elements(self, values: Iterator[object], count: int, depth: int, within: str) -> list[object]:
        found: list[object] = []
        for value in values:
            if self.room <= 0:
                size = Size()
                self.left_out += size.of(value) + size.of_rest(values, count - len(found) - 1)
                break
            found.append(self.take(value, depth + 1, within))
        return found

    def _members(self, parts: Pairs, depth: int, within: str) -> Made:
        found: Made = {}
        for at, (key, value) in enumerate(parts):
            if self.room <= 0:
                self.left_out += Size().of_rest((value for _, value in parts[at:]), len(parts) - at)
                break
            name = exact_text(key)
            name = str(key) if name is None else name
            self.room -= len(name)
            found[name] = self.media.of_member(name, value, parts, within) or self.take(value, depth + 1, name)
        return found

    def leave_out(self, value: object) -> None:
        """Something that is not kept, only counted."""
        self.left_out += Size().of(value)

    def merge(self, into: Made, delta: object) -> None:
        """What a chunk adds to an object: texts and lists grow, objects are merged, of the rest the last holds."""
        for key, value in pairs(delta) or ():
            name = exact_text(key)
            if name is not None:
                self.merge_member(into, name, value)

    def merge_member(self, into: Made, name: str, value: object) -> None:
        """What a chunk adds to one member."""
        known = into.get(name)
        text = exact_text(value)
        if known is None:
            self.room -= len(name)
            into[name] = self.take(value, 0, name)
        elif text is not None:
            if type(known) is Text and (name not in WORDS or not known.pieces):
                self.add(known, text)
        elif isinstance(known, list):
            known += self._elements(elements(value) or iter(()), len(value), 0, name)  # type: ignore[arg-type]
        elif isinstance(known, dict):
            self.merge(known, value)
        else:
            into[name] = value if isinstance(value, (bool, int, float)) else self.take(value, 0, name)

    def at(self, made: dict[int, Any], index: int, new: Callable[[], Any]) -> Any:
        """What stands at an index of a list, made where it is not there yet; None for one too many."""
        found = made.get(index)
        if found is None and len(made) < LISTED_MAX:
            made[index] = found = new()
        return found


class Collector:
    """The content of one stream: chunks in, JSON out. What a provider's streams consist of is the subclasses'."""

    __slots__ = ("gathered", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.gathered = Gathered(limit)

    def feed(self, chunk: object) -> None:
        """The next chunk. Never raises for one that cannot be read."""
        try:
            self._feed(chunk)
        except Exception as error:  # the chunk's own code
            report(error)

    def result(self) -> bytes | None:
        """JSON of what the chunks so far said; None if that was nothing. Never raises."""
        try:
            found = self._result()
        except Exception as error:  # the code of a reply that came whole
            report(error)
            return None
        return rendered(found, self.limit, self.gathered.left_out) if found else None

    def _feed(self, chunk: object) -> None:
        raise NotImplementedError

    def _result(self) -> Made | list[object] | None:
        raise NotImplementedError


def in_order(made: dict[int, Any]) -> list[object]:
    return [made[index] for index in sorted(made)]
