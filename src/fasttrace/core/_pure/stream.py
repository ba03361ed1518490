"""A reply that ends later: the watch of a stream, or of a raw reply. The Python half of csrc/python/{watch,stream}.c.

The call moves from its frame into a watch, an object of its own that holds nothing of the SDK's but texts and the last
usage; whoever sees the reply end tells the watch: the iterator that stands around the SDK's own, the body when it is
closed, the interpreter at its exit. The first of them ends the span, because it alone takes the watch off the
recorder's list, in one step; after that everything passes straight through. Runs on the threads that read a stream, on
whichever thread collects it as garbage, and on the one that shuts down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._api import CURRENT
from .._report import report
from .chunk import END_SEEN, ENDED, READY, STEPPING, UNASKED, Chunks
from .context import clock_monotonic_ns
from .iterator import AsyncIterator, SyncIterator, forget, see_closing
from .layout import CHUNKS, DURATION_NS, NUMBER, PRESENT, STATUS, USAGE_SOURCE
from .recorder import FROM_PROVIDER, HAS_INPUT_OR_OUTPUT, HAS_OUTPUT, INCOMPLETE, PARTIAL, SUCCESS, set_field

if TYPE_CHECKING:
    from weakref import ref

    from .._api import StreamSpec
    from .call import Call, Target
    from .iterator import Closer
    from .raw import Unparsed
    from .recorder import Recorder

HAS_CHUNKS = 1 << NUMBER["chunks"]
HAS_HTTP_STATUS = 1 << NUMBER["http_status"]


class Watch(Chunks):
    """A call whose reply is still being read."""

    __slots__ = ("closer", "is_stream", "stopped_ns", "target", "unparsed")

    def __init__(self, target: Target, call: Call) -> None:
        super().__init__(call, call.route.plan(call.is_foreign))
        self.target = target
        self.is_stream = False
        self.stopped_ns = 0  # when a raw reply was read or closed; 0: it ends when it ends
        self.unparsed: Unparsed | None = None  # of a raw reply, until it is parsed
        self.closer: ref[Closer] | None = None  # what stands in its body

    def open(self) -> None:
        """From here on it is known to `end_streams`."""
        self.target.recorder.open_watches[id(self)] = self

    def collect_content(self) -> None:
        """What the chunks say is put together where the output is captured."""
        content, recorder = self.call.route.content, self.target.recorder
        if content is None or not recorder.capture_output:
            return
        try:
            self.content = content.stream(recorder.content_max_bytes)
        except Exception as error:
            report(error)

    # ---- steps ----

    def enter(self) -> None:
        """The first step of a stream that makes its request in it: the span is current, and counts its retries."""
        self.call.previous = CURRENT.get()
        CURRENT.set(self.call.context)

    def leave(self) -> None:
        if CURRENT.get() is self.call.context:
            CURRENT.set(self.call.previous)  # type: ignore[arg-type]

    # ---- a raw reply's body while the user reads it (core/_overheard.py) ----

    def hear(self, event: object) -> bool:
        """An event of it; False once nobody wants any more."""
        if self.unparsed is None or self.state == ENDED:
            return False
        if self.state != READY:
            return True
        if not self.is_stream:
            self.is_stream = True
            self.collect_content()
        self.feed(event)
        return True

    def was_read(self, body: bytes | None) -> None:
        """It was read to its end: that is a stream's end. A reply may still be parsed."""
        unparsed = self.unparsed
        if unparsed is None:
            return
        unparsed.was_read, unparsed.body = True, body
        if self.is_stream:
            self.unparsed = None
            self.complete()

    def body_failed(self, error: BaseException) -> None:
        """Its reading raised."""
        self.unparsed = None
        self.fail(error)

    def body_closed(self) -> None:
        """It was closed: a raw reply may still be parsed."""
        self.stopped_ns = self.stopped_ns or clock_monotonic_ns()

    def dropped(self) -> None:
        """Nobody can read it any more; who holds the raw reply may still parse what was read."""
        if self.unparsed is not None and not (self.unparsed.was_read and self.unparsed.is_held):
            self.abandon()

    # ---- endings: each is told, the first one counts ----

    def complete(self) -> None:
        """Read to its end."""
        if self.claim():
            self.end(is_complete=True)

    def fail(self, error: BaseException) -> None:
        """An exception came out of a step. A generator that is made to exit was left."""
        if self.claim():
            self.end(None if isinstance(error, GeneratorExit) else error)

    def close(self) -> None:
        """The body was closed: before its end, unless that happens during a step, whose outcome then decides. A raw
        reply may still be parsed."""
        if self.unparsed is not None:
            self.stopped_ns = self.stopped_ns or clock_monotonic_ns()
        elif self.state != STEPPING:
            self.abandon()

    def abandon(self) -> bool:
        """Left before its end: closed, dropped, never iterated, or the process ends. False where it had ended."""
        if not self.claim():
            return False
        unparsed, self.unparsed = self.unparsed, None
        is_complete = False
        try:
            is_complete = unparsed is not None and unparsed.read(self)
        finally:  # an interrupt goes on
            self.end(is_complete=is_complete)
        return True

    def claim(self) -> bool:
        """True for one caller only."""
        is_first = self.target.recorder.open_watches.pop(id(self), None) is not None
        self.state = ENDED
        return is_first

    def end(self, error: BaseException | None = None, *, is_complete: bool = False) -> None:
        """Write the span. A stream that was left is complete all the same where what is generated had ended."""
        call = self.call
        values = call.values
        values[DURATION_NS] = (self.stopped_ns or clock_monotonic_ns()) - call.started_ns
        values[STATUS] = values[STATUS] or SUCCESS  # an error code may have been found
        try:
            if self.is_stream:
                self._end_stream()
            if is_complete or (self.done & END_SEEN and values[PRESENT] & HAS_OUTPUT):
                if values[PRESENT] & HAS_INPUT_OR_OUTPUT:
                    values[USAGE_SOURCE] = FROM_PROVIDER
            else:
                values[USAGE_SOURCE] = PARTIAL
                if values[STATUS] == SUCCESS:
                    values[STATUS] = INCOMPLETE
            if error is not None:
                self.target.read_failure(call, error)
                if not self.chunks and values[PRESENT] & HAS_HTTP_STATUS:  # what was refused used nothing
                    values[USAGE_SOURCE] = 0
        finally:
            self.target.push(call)
            closer = None if self.closer is None else self.closer()
            if closer is not None:
                closer.take_out()

    def _end_stream(self) -> None:
        call = self.call
        # Another thread may still be reading a chunk: what is pushed must not grow meanwhile.
        call.content, content = bytearray(call.content), self.content
        self.settle()
        call.values[CHUNKS] = self.chunks
        call.values[PRESENT] |= HAS_CHUNKS
        if content is None:
            return
        self.content = None
        try:
            set_field(call.ring, call.values, call.content, "output", content.result())
        except Exception as error:
            report(error)


def attach(watch: Watch, spec: StreamSpec, reply: Any) -> Any:
    """Put the watching iterator in the place of the one that `reply` has, or in the reply's own place. What the caller
    gets; None where it is no stream that the spec knows."""
    is_async = watch.call.route.spec.is_async
    inner = reply if spec.iterator is None else getattr(reply, spec.iterator, None)
    if not hasattr(type(inner), "__anext__" if is_async else "__next__"):
        return None
    iterator = AsyncIterator(inner, watch) if is_async else SyncIterator(inner, watch)
    if spec.iterator is not None:
        try:
            setattr(reply, spec.iterator, iterator)
        except Exception as error:
            forget(iterator)
            if not isinstance(error, (AttributeError, TypeError)):
                report(error)
            return None
    watch.is_stream = True
    watch.state = READY if is_async or spec.iterator is not None else UNASKED
    watch.stopped_ns = 0
    watch.collect_content()
    if spec.body:
        see_closing(watch, reply, spec.body, is_async)
    return iterator if spec.iterator is None else reply


def watch_stream(target: Target, call: Call, spec: StreamSpec, reply: Any) -> Any:
    """Watch a streamed reply: what the caller gets, None where it is no stream that the spec knows."""
    watch = Watch(target, call)
    given = attach(watch, spec, reply)
    if given is not None:
        watch.open()
    return given


def end_streams(recorder: Recorder) -> int:
    """Record every stream that is still open, as left before its end; how many there were."""
    return sum([watch.abandon() for watch in list(recorder.open_watches.values())])
