"""The body of a raw reply, overheard while the user reads it: how the reading ends, and the events of a stream as they
pass. For both cores.

A raw response may never be parsed: a gateway passes its bytes on. Every way to read them leads through the response's
byte stream, so that is what we stand around: the bytes come out as they are, an exception is the client's own, and the
watch is told. A compressed body is decompressed once more for us, where the standard library can; one that it cannot
passes unheard. What the SDK parses as a stream is watched there, and not overheard. Runs on the thread that reads the
body, and on whichever thread drops it.
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

        def dropped(self) -> None:
            """Nobody can read the body any more."""


LINE_MAX_BYTES = 1 << 20


def overhear(response: Any, watch: Watch, is_stream: bool) -> bool:
    """Stand around the stream of a `response` that was not read yet; False where that is not to be had."""
    try:
        response.stream = Overheard(response.stream, watch, _listener(response, watch, is_stream))
    except (AttributeError, TypeError):
        return False
    return True


def leave(response: Any) -> None:
    """Overhear it no more."""
    stream = getattr(response, "stream", None)
    if type(stream) is Overheard:
        response.stream = stream.left()


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


class Overheard:
    """A response's byte stream, taken for what it is around: it has the other's class and attributes."""

    def __init__(self, stream: Any, watch: Watch, listener: Lines | Whole | None) -> None:
        self.__dict__.update(_stream=stream, _watch=watch, _listener=listener)

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._stream:
                self._pass_on(piece)
                yield piece
        except GeneratorExit:
            raise
        except BaseException as error:
            self._watch.body_failed(error)
            raise
        self._end()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._stream:
                self._pass_on(piece)
                yield piece
        except GeneratorExit:
            raise
        except BaseException as error:
            self._watch.body_failed(error)
            raise
        self._end()

    def _pass_on(self, piece: bytes) -> None:
        listener = self._listener
        if listener is None:
            return
        try:
            wants_more = listener.take(piece)
        except Exception as error:  # the bytes go on
            report(error)
            wants_more = False
        if not wants_more:
            self.__dict__["_listener"] = None

    def _end(self) -> None:
        body = None
        try:
            if self._listener is not None:
                body = self._listener.end()
        except Exception as error:  # the body was read all the same
            report(error)
        self._watch.was_read(body)

    def left(self) -> Any:
        """What it is around, alone again."""
        self.__dict__["_watch"] = _NOBODY
        self.__dict__["_listener"] = None
        return self._stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_stream"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._stream, name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._stream.__class__

    def __repr__(self) -> str:
        return repr(self._stream)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        try:
            self._watch.dropped()
        except Exception as error:
            if not is_finalizing():  # by then there may be nothing to report with
                report(error)


class _Nobody:
    def hear(self, event: object) -> bool:
        return False

    def was_read(self, body: bytes | None) -> None: ...

    def body_failed(self, error: BaseException) -> None: ...

    def dropped(self) -> None: ...


_NOBODY = _Nobody()


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
