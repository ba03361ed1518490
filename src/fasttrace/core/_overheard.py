"""A streamed body that the user reads as bytes or lines, overheard: its events are read as they pass, for both cores.

A raw response of a stream may never be parsed: a gateway passes its bytes on. All of the SDK's ways to read them lead
through the response's own `iter_bytes` (`aiter_bytes`), so that is what stands in its place, as an attribute of that
one response: the bytes come out as they are, and each event in them that is a JSON object is fed to the watch. What is
parsed by the SDK is watched there, and not overheard. Runs on the thread that reads the body.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from ._body import event_of
from ._report import report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any, Protocol

    class Watch(Protocol):
        def hear(self, chunk: object) -> None:
            """One event."""

        def heard_all(self) -> None:
            """The body was read to its end."""


LINE_MAX_BYTES = 1 << 20
NAMES = ("iter_bytes", "aiter_bytes")


def overhear(response: Any, watch: Watch, is_async: bool) -> None:
    """Feed `watch` with the events of `response`'s body as they are read. A response that cannot be overheard is left
    alone."""
    name = NAMES[is_async]
    if not callable(getattr(type(response), name, None)) or name in vars(response):
        return
    setattr(response, name, (_asynchronous if is_async else _synchronous)(weakref.ref(response), name, watch))


def leave(response: Any) -> None:
    """Overhear it no more."""
    for name in NAMES:
        if getattr(vars(response).get(name), "__module__", None) == __name__:
            vars(response).pop(name, None)


def _synchronous(response: Callable[[], Any], name: str, watch: Watch) -> Callable[..., Iterator[bytes]]:
    def iter_bytes(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        read = response()
        lines = _Lines(watch)
        for piece in getattr(type(read), name)(read, *args, **kwargs):
            lines.pass_on(piece)
            yield piece
        lines.end()
        leave(read)

    return iter_bytes


def _asynchronous(response: Callable[[], Any], name: str, watch: Watch) -> Callable[..., AsyncIterator[bytes]]:
    async def aiter_bytes(*args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        read = response()
        lines = _Lines(watch)
        async for piece in getattr(type(read), name)(read, *args, **kwargs):
            lines.pass_on(piece)
            yield piece
        lines.end()
        leave(read)

    return aiter_bytes


class _Lines:
    """The lines of a body that comes in pieces. One without an end is given up, not kept."""

    __slots__ = ("rest", "watch")

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.rest = b""

    def pass_on(self, piece: bytes) -> None:
        try:
            *lines, self.rest = (self.rest + piece).split(b"\n")
            for line in lines:
                self._hear(line)
            if len(self.rest) > LINE_MAX_BYTES:
                self.rest = b""
        except Exception as error:  # the bytes go on
            report(error)

    def end(self) -> None:
        try:
            self._hear(self.rest)
            self.watch.heard_all()
        except Exception as error:  # the body was read all the same
            report(error)

    def _hear(self, line: bytes) -> None:
        event = event_of(line)
        if event is not None:
            self.watch.hear(event)
