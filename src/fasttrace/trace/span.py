"""A span made by hand: the code between its start and its end, the parent of every call inside.

Works as `with` and `async with`. Runs on the caller's thread; like a provider call it never raises for anything of
its own, keeps no reference to the exception that passes through, and records nothing while recording is off.

A span may be left elsewhere than it was entered: an async generator is closed by whoever gets to it. So what an entry
has to give back is kept by the context that it made current: an exit that finds one of them current ends that entry
and gives back what was current before; an exit that finds none leaves what is current there alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.core._api import CURRENT, KINDS
from fasttrace.core._report import report
from fasttrace.core._text import render_json
from fasttrace.trace.failure import failure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from fasttrace.core._api import Core, Recorder, SpanContext, Value

    Attribute = str | bool | int | float | list[str] | list[bool] | list[int] | list[float]


class Span:
    """The code of a `with` block as a span.

    name: at most 256 bytes; kind: one of fasttrace's kinds (`task`, `tool`, `agent`, `chain`, `retrieval`, ...);
    attributes: str, bool, int, float, or lists of one of them. Entered again, also by another thread meanwhile, it is
    another span of that name each time.
    """

    __slots__ = ("_attributes", "_context", "_core", "_entries", "_kind", "_name", "_recorder")

    def __init__(
        self, core: Core, recorder: Recorder, name: str, kind: str, attributes: Mapping[str, Attribute] | None
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r}: use one of {', '.join(KINDS)}")
        self._core = core
        self._recorder = recorder
        self._name = name
        self._kind = kind
        self._attributes = dict(attributes) if attributes else {}
        self._context: SpanContext | None = None
        self._entries: dict[SpanContext, tuple[SpanContext | None, int, int, int]] = {}

    def set_attribute(self, key: str, value: Attribute) -> None:
        """Add an attribute, or replace one. Too late once the span was left: then it was recorded as it was."""
        self._attributes[key] = value

    @property
    def trace_id(self) -> str | None:
        """W3C trace id once the span was entered; of the last time."""
        return None if self._context is None else self._context.trace_id

    @property
    def span_id(self) -> str | None:
        """W3C span id once the span was entered; of the last time."""
        return None if self._context is None else self._context.span_id

    def __enter__(self) -> Span:
        previous = CURRENT.get()
        context = self._core.new_context(previous)
        start_unix, start = self._core.clock_unix_ns(), self._core.clock_monotonic_ns()
        place = self._take_place(context, start_unix, start)
        self._context = context
        CURRENT.set(context)
        self._entries[context] = previous, start_unix, start, place
        return self

    def _take_place(self, context: SpanContext, start_unix: int, start: int) -> int:
        """From here on a crash shows the span; -1 without a place for that."""
        if not self._recorder.active:
            return -1
        try:
            return self._recorder.enter(context, start_unix, start, self._kind, self._name)
        except Exception as error:  # the block is run all the same
            report(error)
            return -1

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        now = self._core.clock_monotonic_ns()
        context = CURRENT.get()
        if context is not None and context in self._entries:
            previous, start_unix, start, place = self._entries.pop(context)
            CURRENT.set(previous)
        elif self._entries:
            context, (_, start_unix, start, place) = self._entries.popitem()
        else:
            return
        try:
            if self._recorder.active:
                self._recorder.record(context, start_unix, now - start, self._fields(exception))
        except Exception as error:  # what the block did stands, whatever became of its span
            report(error)
        finally:
            self._recorder.leave(place)

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, exception, traceback)

    def _fields(self, exception: BaseException | None) -> dict[str, Value]:
        fields: dict[str, Value] = {
            "kind": self._kind,
            "operation": self._name,
            "name": self._name,
            "status": "success",
        }
        if exception is not None:
            fields.update(failure(exception))
        if self._attributes:
            fields["attributes"] = render_json(self._attributes)
        return fields
