"""How the chunks of one kind of stream are read. The Python half of csrc/python/chunk_plan.c.

A StreamSpec's nodes (core/_api.py) are compiled into acts (chunk.py). Most acts are done for good after a few chunks: a
text was found, the first token is known. What is left to do by then is a walk of its own, made once for each set of
what is done and shared by all streams, so that a usual chunk costs the few look-ups that can still tell something.
Plans are made by the first stream of their kind, walks as streams come to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .chunk import (
    END_SEEN,
    FIRST_FREE,
    TEXT_SEEN,
    TOKEN_SEEN,
    do_all,
    keep_late,
    keep_reason,
    keep_text,
    keep_tool,
    mark_end,
    mark_text,
    mark_token,
    read_each,
    read_mixed,
    read_object,
    set_last,
)
from .layout import COUNTS, RECORD_STRINGS, TEXTS
from .reply import otherwise_of, reader, setter_of
from .unrolled import unrolled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._api import Node
    from .chunk import Act
    from .reply import Otherwise

WALKS_MAX = 256
TEXT_FIELDS = frozenset((*RECORD_STRINGS, *TEXTS))


class Walk(NamedTuple):
    """What is still to be read of each chunk: an act on the chunk and its detail; the same by the chunk's type."""

    act: Act | None
    detail: Any
    events: dict[str, tuple[Act, Any]]


class _Step(NamedTuple):
    """A Node compiled: acts with the bits of `Chunks.done` that make each of them needless (0: none does)."""

    name: str
    types: tuple[str, ...]
    tag: str
    otherwise: Otherwise | None
    added: tuple[str, ...]
    is_each: bool
    acts: tuple[tuple[int, Act, Any], ...]
    each_acts: tuple[tuple[int, Act, Any], ...]
    below: tuple[_Step, ...]

    def left(self, done: int) -> tuple[Act | None, Any]:
        """What is left to do with a value; None: nothing."""
        acts = [(act, detail) for until, act, detail in self.acts if not done & until]
        of_value = [(act, detail) for until, act, detail in self.each_acts if not done & until]
        act, detail = _walk(self.below, done)
        if act is not None:
            of_value.append((act, detail))
        one, detail = _joined(of_value)
        if one is not None:
            acts.append((read_each, (one, detail)) if self.is_each else (one, detail))
        return _joined(acts)


def _joined(acts: list[tuple[Act, Any]]) -> tuple[Act | None, Any]:
    if not acts:
        return None, None
    return acts[0] if len(acts) == 1 else (do_all, tuple(acts))


def _walk(steps: Sequence[_Step], done: int) -> tuple[Act | None, Any]:
    """An act that reads an object by these steps, and its detail."""
    ways = [(step, *step.left(done)) for step in steps]
    ways = [way for way in ways if way[0].added or way[1] is not None]
    if any(step.types or step.added or step.otherwise is not None for step, _, _ in ways):
        return read_mixed, tuple(
            (step.types, step.tag, step.otherwise, step.added, step.is_each, step.name, act, detail)
            for step, act, detail in ways
        )
    entries = tuple((step.name, act, detail) for step, act, detail in ways)
    return (read_object if entries else None), entries


def _is_plain(node: Node) -> bool:
    """Whether all of it is numbers, of which the last is taken."""
    is_number = node.field is None or node.field in COUNTS or node.field == "cost_usd"
    return is_number and not node.mark and not node.late and all(_is_plain(child) for child in node.children)


class StreamPlan:
    """A StreamSpec compiled, for endpoints of one sort (the SDK's own provider, or others)."""

    def __init__(self, chunk: Sequence[Node], events: Mapping[str, Sequence[Node]], is_foreign: bool) -> None:
        self._is_foreign = is_foreign
        self._next_bit = FIRST_FREE
        self._text_bits: dict[str, int] = {}
        self._lates = 0
        self._chunk = self._steps(chunk, is_event=False)
        self._events = {kind: self._steps(nodes, is_event=True) for kind, nodes in events.items()}
        self._walks: dict[int, Walk] = {}

    def walk(self, done: int) -> Walk:
        """What is still to be read where all this is done."""
        known = self._walks.get(done)
        if known is not None:
            return known
        events = {kind: _walk(steps, done) for kind, steps in self._events.items()}
        left = {kind: (act, detail) for kind, (act, detail) in events.items() if act is not None}
        act, entries = _walk(self._chunk, done)
        if act is read_object and done & TEXT_SEEN:  # this is the walk that stays, or nearly
            act = unrolled(entries)
        walk = Walk(act, entries, left)
        if len(self._walks) >= WALKS_MAX:
            self._walks.clear()
        self._walks[done] = walk
        return walk

    def _steps(self, nodes: Sequence[Node], is_event: bool) -> tuple[_Step, ...]:
        kept = [node for node in nodes if self._is_foreign or not node.foreign]
        sums = frozenset(node.adds for node in kept if node.adds is not None)
        return tuple(self._step(node, is_event, sums, otherwise_of(node, kept)) for node in kept)

    def _step(self, node: Node, is_event: bool, sums: frozenset[str], otherwise: Otherwise | None) -> _Step:
        """A late node does all at the end that it would do at once without, but for its marks."""
        acts = list(self._marks(node))
        is_summed = node.field in sums
        added = tuple(field for field in (node.adds, node.field if is_summed else None) if field is not None)
        of_value: tuple[tuple[int, Act, Any], ...] = ()
        below: tuple[_Step, ...] = ()
        if node.field is not None and not is_summed:
            of_value = (self._field_act(node.field, is_event),)
        elif node.children and all(_is_plain(child) for child in node.children):
            setter, detail = reader(node.children, self._is_foreign)
            of_value = ((0, set_last, (setter, 0, detail)),) if detail else ()
        else:
            below = self._steps(node.children, is_event)
        step = _Step(
            node.name, node.types, node.tag, otherwise, added, node.each, acts=(), each_acts=of_value, below=below
        )
        if node.late:
            act = self._late_act(step)
            acts += [] if act is None else [act]
            return step._replace(acts=tuple(acts), each_acts=(), below=())
        return step._replace(acts=tuple(acts))

    def _marks(self, node: Node) -> Sequence[tuple[int, Act, Any]]:
        if node.mark is None:
            return ()
        marks: dict[str, tuple[int, Act, Any]] = {
            "token": (TOKEN_SEEN, mark_token, None),
            "text": (TEXT_SEEN, mark_text, node.unless),
            "end": (END_SEEN, mark_end, None),
        }
        return (marks[node.mark],)

    def _late_act(self, step: _Step) -> tuple[int, Act, Any] | None:
        act = step.left(0)
        if act[0] is None:
            return None
        self._lates += 1
        return 0, keep_late, (self._lates, act)

    def _field_act(self, field: str, is_event: bool) -> tuple[int, Act, Any]:
        if field == "finish_reasons":
            return 0, keep_reason, None
        if field == "tool_calls":
            return 0, keep_tool, None
        if field in TEXT_FIELDS:
            return self._text_act(field, is_event)
        return 0, set_last, setter_of(field)

    def _text_act(self, field: str, is_event: bool) -> tuple[int, Act, Any]:
        if field not in self._text_bits:
            self._text_bits[field] = self._bit()
        found = self._text_bits[field]
        until = self._bit() if is_event else found
        return until, keep_text, (field, until, found | until)

    def _bit(self) -> int:
        bit, self._next_bit = self._next_bit, self._next_bit << 1
        return bit
