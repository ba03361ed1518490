"""Reading the chunks of a stream: what each adds to the span, when the first token came, whether the end was seen.

An act is what is done with a value that was found; which acts there are for a chunk is told by the plan of its kind of
stream (chunk_plan.py). The Python half of csrc/python/chunk.c. Runs on the thread that takes a stream's next chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._report import report
from .._text import exact_text
from .context import clock_monotonic_ns
from .layout import FIRST_FIRST, FIRSTS, NUMBER, PRESENT, RECORD_STRINGS, TEXTS
from .recorder import SETTERS
from .reply import (
    ELEMENTS_MAX,
    MISSING,
    add_up,
    elements_of,
    fields_of,
    is_bare,
    quiet_undeclared,
    quiet_value,
    setter_of,
    undeclared,
    unusual,
    without_fields,
)
from .request import is_true

if TYPE_CHECKING:
    from collections.abc import Callable

    from .call import Call
    from .chunk_plan import StreamPlan

    # (chunks, value, detail, the object that has it, the list element it is in, the element that one's list is in)
    Act = Callable[["Chunks", Any, Any, Any, Any, Any], None]

# Between two steps; the first step is still to make the request; the SDK's iterator runs; its chunk is being read.
# Whatever happens during a step, and all that comes after the end, passes through.
READY, UNASKED, STEPPING, READING, ENDED = range(5)
REASONS_MAX = 64
TOOLS_MAX = 1024
TOKEN_SEEN, TEXT_SEEN, END_SEEN, FIRST_FREE = 1, 2, 4, 8
FIRST_CHUNK, FIRST_TOKEN, FIRST_TEXT = ((FIRST_FIRST + at, 1 << NUMBER[name]) for at, name in enumerate(FIRSTS))
INT64_MIN, INT64_END = -(1 << 63), 1 << 63
SIZED = (str, list, tuple, dict)
TEXT_SETTERS = {field: setter_of(field) for field in (*RECORD_STRINGS, *TEXTS, "finish_reasons", "tool_calls")}


# ---- what is done with a value ----


def read_object(chunks: Chunks, found: Any, entries: Any, owner: Any, element: Any, outer: Any) -> None:
    """Read the members that `entries` name: (name, act, detail)."""
    try:
        fields = found if issubclass(type(found), dict) else found.__dict__
    except Exception as error:
        fields = without_fields(error)
    get: Callable[..., Any] = fields.get if type(fields) is dict else unusual(fields)[1]
    bare: bool | None = None
    for name, act, detail in entries:
        value = get(name, MISSING)
        if value is None:
            continue
        try:
            if value is MISSING:
                if bare is None:
                    bare = is_bare(found, fields)
                value = None if bare else undeclared(found, fields, name)
                if value is None:
                    continue
            act(chunks, value, detail, found, element, outer)
        except AttributeError:
            continue
        except Exception as error:
            report(error)


def do(
    chunks: Chunks, found: Any, fields: Any, name: str, value: Any, act: Act, detail: Any, element: Any, outer: Any
) -> None:
    """The same for one member, which may be MISSING in the object's dictionary."""
    try:
        if value is MISSING:
            if fields is found:
                return
            value = undeclared(found, fields, name)
        if value is not None:
            act(chunks, value, detail, found, element, outer)
    except AttributeError:
        return
    except Exception as error:
        report(error)


def read_mixed(chunks: Chunks, found: Any, entries: Any, owner: Any, element: Any, outer: Any) -> None:
    """The same where nodes ask for its type, add to each other or know a value for what is not there: (types, tag,
    otherwise, added, is_each, name, act, detail)."""
    fields, get = fields_of(found)
    seen, kind = "", None
    sums: dict[str, int] = {}
    for types, tag, otherwise, added, is_each, name, act, detail in entries:
        try:
            if types:
                if tag != seen:
                    seen, kind = tag, exact_text(quiet_value(found, tag))
                if kind not in types:
                    continue
            value = get(name, MISSING)
            if value is MISSING:
                value = None if fields is found else quiet_undeclared(found, fields, name)
            if value is None:
                if otherwise is None or not otherwise.applies(found):
                    continue
                value = otherwise.value
            if added:
                add_up(sums, added, value, is_each)
            if act is not None:
                act(chunks, value, detail, found, element, outer)
        except AttributeError:
            continue
        except Exception as error:
            report(error)
    for field, total in sums.items():
        set_last(chunks, total, SETTERS[field], None, None, None)


def read_each(chunks: Chunks, elements: Any, of_one: Any, owner: Any, element: Any, outer: Any) -> None:
    act, detail = of_one
    if type(elements) is not list or len(elements) > ELEMENTS_MAX:
        elements = elements_of(elements)
    for one in elements:
        if one is not None:
            act(chunks, one, detail, owner, one, element)


def do_all(chunks: Chunks, value: Any, acts: Any, owner: Any, element: Any, outer: Any) -> None:
    for act, detail in acts:
        act(chunks, value, detail, owner, element, outer)


def set_last(chunks: Chunks, value: Any, way: Any, owner: Any, element: Any, outer: Any) -> None:
    """Of counts the last is taken; so is all of an object that has nothing but such, and is read as a reply's are."""
    setter, at, detail = way
    call = chunks.call
    setter(call.ring, call.values, call.content, at, detail, value)


def keep_text(chunks: Chunks, value: Any, detail: Any, owner: Any, element: Any, outer: Any) -> None:
    """The first that is not empty; within an event it counts for more than what another node has found."""
    field, until, found = detail
    text = exact_text(value)
    if text and not chunks.done & until:
        chunks.texts[field] = text
        chunks.done |= found


def keep_late(chunks: Chunks, value: Any, detail: Any, owner: Any, element: Any, outer: Any) -> None:
    at, act = detail
    chunks.lates[at] = act, value


def mark_token(chunks: Chunks, value: Any, _: Any, owner: Any, element: Any, outer: Any) -> None:
    if not chunks.done & TOKEN_SEEN and not _is_empty(value):
        chunks.mark(FIRST_TOKEN, TOKEN_SEEN)


def mark_text(chunks: Chunks, value: Any, unless: Any, owner: Any, element: Any, outer: Any) -> None:
    if chunks.done & TEXT_SEEN or _is_empty(value):
        return
    if not chunks.done & TOKEN_SEEN:
        chunks.mark(FIRST_TOKEN, TOKEN_SEEN)
    if unless is None or not is_true(quiet_value(owner, unless)):
        chunks.mark(FIRST_TEXT, TEXT_SEEN)


def mark_end(chunks: Chunks, value: Any, _: Any, owner: Any, element: Any, outer: Any) -> None:
    if not _is_empty(value):
        chunks.done |= END_SEEN


def _is_empty(value: Any) -> bool:
    kind = type(value)
    if kind in SIZED:
        return not value
    return any(issubclass(kind, base) and base.__len__(value) == 0 for base in SIZED)


def keep_reason(chunks: Chunks, value: Any, _: Any, owner: Any, element: Any, outer: Any) -> None:
    text = exact_text(value)
    if not text:
        return
    index = _index_of(element) or 0
    if index in chunks.reasons or len(chunks.reasons) < REASONS_MAX:
        chunks.reasons[index] = text


def keep_tool(chunks: Chunks, value: Any, _: Any, owner: Any, element: Any, outer: Any) -> None:
    """A name is sent once or with every piece of the call: pieces are told by their index, calls at one by their id."""
    name = exact_text(value)
    if not name or len(chunks.tools) >= TOOLS_MAX:
        return
    index = _index_of(element)
    if index is not None:
        key = (_index_of(outer) or 0, index)
        identity = exact_text(quiet_value(element, "id")) or ""
        known = chunks.tool_ids.get(key)
        if identity or known is None:
            chunks.tool_ids[key] = identity
        if known is not None and (not known or not identity or known == identity):
            return
    chunks.tools.append(name)


def _index_of(element: Any) -> int | None:
    if element is None:
        return None
    index = quiet_value(element, "index")
    return index if type(index) is int and INT64_MIN <= index < INT64_END else None


class Chunks:
    """What the chunks of one stream have told so far. Holds nothing of the SDK's but texts, and values kept for the
    end."""

    __slots__ = (
        *("act", "call", "chunks", "content", "detail", "done", "events", "lates", "now_ns", "plan", "reasons"),
        *("state", "texts", "tool_ids", "tools", "walked"),
    )

    def __init__(self, call: Call, plan: StreamPlan) -> None:
        self.call = call
        self.plan = plan
        self.state = READY
        self.chunks = self.done = self.walked = self.now_ns = 0
        self.act, self.detail, self.events = plan.walk(0)
        self.texts: dict[str, str] = {}
        self.lates: dict[int, tuple[tuple[Act, Any], Any]] = {}
        self.reasons: dict[int, str] = {}
        self.tools: list[str] = []
        self.tool_ids: dict[tuple[int, int], str] = {}
        self.content: Any = None

    def mark(self, first: tuple[int, int], bit: int) -> None:
        """This is the first of its sort. All that one chunk is the first of came at one time."""
        values = self.call.values
        at, present = first
        self.now_ns = self.now_ns or clock_monotonic_ns() - self.call.started_ns
        values[at] = self.now_ns
        values[PRESENT] |= present
        self.done |= bit

    def feed(self, chunk: Any) -> None:
        """Take in one chunk."""
        self.state = READING
        try:
            self.chunks += 1
            if self.chunks == 1:
                self.mark(FIRST_CHUNK, 0)
            if self.act is not None:
                self.act(self, chunk, self.detail, None, None, None)
            if self.events:
                self._read_event(chunk)
            if self.done != self.walked or self.now_ns:
                self._go_on()
            if self.content is not None:
                self._collect(chunk)
        except Exception as error:
            report(error)
        finally:
            if self.state == READING:
                self.state = READY

    def _go_on(self) -> None:
        """Of the next chunk less is to be read."""
        self.now_ns = 0
        self.walked = self.done
        self.act, self.detail, self.events = self.plan.walk(self.done)

    def _read_event(self, chunk: Any) -> None:
        try:
            kind = chunk.__dict__["type"]
        except (AttributeError, KeyError, TypeError):
            kind = quiet_value(chunk, "type")
        if type(kind) is not str:
            kind = exact_text(kind)
        act, detail = self.events.get(kind, (None, None))
        if act is not None:
            act(self, chunk, detail, None, None, None)

    def _collect(self, chunk: Any) -> None:
        try:
            self.content.feed(chunk)
        except Exception as error:
            report(error)

    def settle(self) -> None:
        """Everything that was kept, into the span."""
        call = self.call
        for _, ((act, detail), value) in sorted(self.lates.items(), key=_place):
            try:
                act(self, value, detail, None, None, None)
            except Exception as error:
                report(error)
        self.lates.clear()
        found = list(self.texts.items())
        found += [("finish_reasons", reason) for _, reason in sorted(self.reasons.items())]
        found += [("tool_calls", name) for name in self.tools]
        for field, text in found:
            setter, at, detail = TEXT_SETTERS[field]
            setter(call.ring, call.values, call.content, at, detail, text)


def _place(kept: tuple[int, Any]) -> int:
    return kept[0]
