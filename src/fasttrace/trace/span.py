"""A span made by hand: the code between its start and its end, the parent of every call inside.

Works as `with` and `async with`. Runs on the caller's thread; like a provider call it never raises for anything of
its own, keeps no reference to the exception that passes through, and records nothing while recording is off.
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
    attributes: str, bool, int, float, or lists of one of them. Entered once.
    """

    __slots__ = (
        *("_core", "_recorder", "_name", "_kind", "_attributes"),
        *("_context", "_previous", "_start", "_start_unix"),
    )

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

    def set_attribute(self, key: str, value: Attribute) -> None:
        """Add an attribute, or replace one."""
        self._attributes[key] = value

    @property
    def trace_id(self) -> str | None:
        """W3C trace id once the span was entered."""
        return None if self._context is None else self._context.trace_id

    @property
    def span_id(self) -> str | None:
        """W3C span id once the span was entered."""
        return None if self._context is None else self._context.span_id

    def __enter__(self) -> Span:
        self._previous = CURRENT.get()
        self._context = self._core.new_context(self._previous)
        CURRENT.set(self._context)
        self._start_unix = self._core.clock_unix_ns()
        self._start = self._core.clock_monotonic_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        duration = self._core.clock_monotonic_ns() - self._start
        context = self._context
        if context is None:
            return
        if CURRENT.get() is context:
            CURRENT.set(self._previous)
        if not self._recorder.active:
            return
        try:
            self._recorder.record(context, self._start_unix, duration, self._fields(exception))
        except Exception as error:  # what the block did stands, whatever became of its span
            report(error)

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
