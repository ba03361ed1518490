"""The body of a raw reply, overheard while the user reads it: how the reading ends, and the events of a stream as they
pass. For both cores.

A raw response may never be parsed: a gateway passes its bytes on. Every way to read them leads through iterating the
response's byte stream, so that this one stream gets a class of its own, by the same name, that iterates and closes as
before and tells the watch: the bytes come out as they are, an exception is the client's own. A compressed body is
decompressed once more for us, where the standard library can; one that it cannot passes unheard. What the SDK parses as
a stream is watched there, and not overheard. Runs on the thread that reads the body, and on whichever thread drops it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._body import BODY_MAX_BYTES, event_of
from ._report import report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Protocol

    class Watch(Protocol):
        def hear(self, event: object) -> bool:
            """One event; False once nobody wants any more."""

        def was_read(self, body: bytes | None) -> None:
            """The body was read to its end; what it was, where that was kept."""

        def body_failed(self, error: BaseException) -> None:
            """The body's reading raised."""

        def body_closed(self) -> None:
            """It was closed, before or after its end."""

        def dropped(self) -> None:
            """Nobody can read the body any more."""


LINE_MAX_BYTES = 1 << 20
EAR = "_fasttrace_ear"  # where the stream keeps what hears it


def overhear(response: Any, watch: Watch, is_stream: bool) -> bool:
    """Overhear the body of a `response` that was not read yet; False where that is not to be had."""
    try:
        stream = response.stream
        fields, ear = stream.__dict__, _Ear(None, _listener(response, watch, is_stream))
        stream.__class__ = _class_for(type(stream))
    except (AttributeError, TypeError):
        return False
    fields[EAR], ear.watch = ear, watch
    return True


def leave(response: Any) -> None:
    """Overhear it no more."""
    _forget(getattr(response, "stream", None))


def _forget(stream: Any) -> None:
    ear = getattr(stream, "__dict__", {}).pop(EAR, None)
    if ear is not None:
        ear.watch = None
        stream.__class__ = _own_class(stream)


def _own_class(stream: Any) -> Any:
    return type(stream).__base__


def _listener(response: Any, watch: Watch, is_stream: bool) -> Lines | Whole | None:
    """What makes sense of the bytes, None where nothing does."""
    headers = response.headers
    encoding = str(headers.get("content-encoding", "identity")).strip().lower()
    if encoding not in ("identity", "gzip", "deflate"):
        return None
    decompress = None
    if encoding != "identity":
        import zlib

        decompress = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress
    if is_stream:
        return Lines(watch, decompress)
    return Whole(decompress) if "json" in str(headers.get("content-type", "")) else None


_classes: dict[type, type] = {}


def _class_for(kind: type) -> type:
    known = _classes.get(kind)
    if known is None:
        members: dict[str, Any] = {"__slots__": (), "__module__": kind.__module__, "__doc__": kind.__doc__}
        ours = {"__iter__": _iterate, "__aiter__": _iterate_async, "close": _close, "aclose": _aclose}
        members.update({name: method for name, method in ours.items() if hasattr(kind, name)})
        known = _classes[kind] = type(kind)(kind.__name__, (kind,), members)
        known.__qualname__ = kind.__qualname__
    return known


def _iterate(stream: Any) -> Iterator[bytes]:
    ear = stream.__dict__[EAR]
    try:
        for piece in _own_class(stream).__iter__(stream):
            ear.take(piece)
            yield piece
    except GeneratorExit:
        raise
    except BaseException as error:
        ear.failed(error)
        raise
    ear.end()
    _forget(stream)


async def _iterate_async(stream: Any) -> AsyncIterator[bytes]:
    ear = stream.__dict__[EAR]
    try:
        async for piece in _own_class(stream).__aiter__(stream):
            ear.take(piece)
            yield piece
    except GeneratorExit:
        raise
    except BaseException as error:
        ear.failed(error)
        raise
    ear.end()
    _forget(stream)


def _close(stream: Any) -> Any:
    stream.__dict__[EAR].closed()
    return _own_class(stream).close(stream)


async def _aclose(stream: Any) -> Any:
    stream.__dict__[EAR].closed()
    return await _own_class(stream).aclose(stream)


class _Ear:
    """What hears one stream, and dies with it."""

    __slots__ = ("listener", "watch")

    def __init__(self, watch: Watch | None, listener: Lines | Whole | None) -> None:
        self.watch = watch
        self.listener = listener

    def take(self, piece: bytes) -> None:
        if self.listener is None:
            return
        try:
            wants_more = self.watch is not None and self.listener.take(piece)
        except Exception as error:  # the bytes go on
            report(error)
            wants_more = False
        if not wants_more:
            self.listener = None

    def closed(self) -> None:
        if self.watch is not None:
            self.watch.body_closed()

    def failed(self, error: BaseException) -> None:
        if self.watch is not None:
            self.watch.body_failed(error)

    def end(self) -> None:
        body = None
        try:
            if self.listener is not None:
                body = self.listener.end()
        except Exception as error:  # the body was read all the same
            report(error)
        if self.watch is not None:
            self.watch.was_read(body)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        try:
            if self.watch is not None:
                self.watch.dropped()
        except Exception as error:
            if not is_finalizing():  # by then there may be nothing to report with
                report(error)


class Lines:
    """The lines of a body that comes in pieces. One longer than LINE_MAX_BYTES is skipped to its end."""

    __slots__ = ("_decompress", "_is_skipping", "_pieces", "_size", "_watch")

    def __init__(self, watch: Watch, decompress: Callable[[bytes], bytes] | None) -> None:
        self._watch = watch
        self._decompress = decompress
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_skipping = False

    def take(self, piece: bytes) -> bool:
        """Hear the lines that end in this piece; False once nobody wants any more."""
        if self._decompress is not None:
            piece = self._decompress(piece)
        *ended, rest = piece.split(b"\n")
        wants_more = True
        for line in ended:
            self._keep(line)
            wants_more = self._hear()
        self._keep(rest)
        return wants_more

    def end(self) -> None:
        """The last line needs no end."""
        self._hear()

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > LINE_MAX_BYTES:
            self._is_skipping = True
            self._pieces.clear()
        elif part:
            self._pieces.append(part)

    def _hear(self) -> bool:
        line = b"" if self._is_skipping else b"".join(self._pieces)
        self._pieces.clear()
        self._size, self._is_skipping = 0, False
        event = event_of(line) if line else None
        return event is None or self._watch.hear(event)


class Whole:
    """A reply that comes in pieces, kept until its end if it is no larger than BODY_MAX_BYTES."""

    __slots__ = ("_decompress", "_pieces", "_size")

    def __init__(self, decompress: Callable[[bytes], bytes] | None) -> None:
        self._decompress = decompress
        self._pieces: list[bytes] = []
        self._size = 0

    def take(self, piece: bytes) -> bool:
        """Keep a piece; False once there are too many."""
        if self._decompress is not None:
            piece = self._decompress(piece)
        self._size += len(piece)
        self._pieces.append(piece)
        return self._size <= BODY_MAX_BYTES

    def end(self) -> bytes:
        return b"".join(self._pieces)
