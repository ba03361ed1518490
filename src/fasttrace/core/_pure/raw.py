"""Raw replies, which the user parses later, or never. The Python half of csrc/python/raw.c.

Such a reply goes out untouched but for the dictionary in which it keeps what was parsed from it: one that tells the
watch. What is parsed is read as any reply is, or watched as a stream; where nothing is parsed, the body is decoded when
the reply is dropped. Runs on the callers' threads, on whichever thread collects a reply, and where the process ends.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

from .._body import decode
from .._overheard import leave, overhear
from .._report import report
from .iterator import see_closing
from .layout import DURATION_NS, FIRSTS, NUMBER, PRESENT
from .recorder import MODEL_AT
from .stream import Watch, attach

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._api import RawSpec
    from .call import Call, Target

FIRST_BITS = sum(1 << NUMBER[name] for name in FIRSTS)


class Unparsed:
    """What there is of a reply that was not parsed yet: its bytes, or (weakly) who may have them later.

    was_read: its body was read to the end; is_held: somebody may still parse it.
    """

    __slots__ = ("body", "is_held", "name", "response", "was_read")

    def __init__(self, spec: RawSpec, response: Any, body: bytes | None) -> None:
        self.name = spec.body
        self.body = body
        self.was_read = body is not None
        self.is_held = True
        try:
            self.response: Callable[[], Any] = weakref.ref(response)
        except TypeError:
            self.response = _nothing

    def read(self, watch: Watch) -> bool:
        """Read the body in the place of what nobody parsed. True where all of it was received."""
        if watch.is_stream:
            return False  # what was overheard tells when it was read to its end
        body = self.bytes()
        if body is not None:
            read_body(watch, body)
        return self.was_read or body is not None

    def bytes(self) -> bytes | None:
        """The body, if it was kept."""
        response = self.response()
        return self.body or (None if response is None else body_of(response, self.name))


def _nothing() -> None:
    return None


def body_of(response: Any, name: str) -> bytes | None:
    """The bytes of a response that was read."""
    try:
        body = response.__dict__.get(name)
    except AttributeError:
        return None
    return body if type(body) is bytes else None


def read_body(watch: Watch, body: bytes) -> None:
    """Chunks that nobody saw arrive tell everything but when."""
    reply, chunks = decode(body)
    if reply is not None:
        watch.target.read_reply(watch.call, reply)
    if not chunks or watch.call.route.stream is None:
        return
    watch.is_stream = True
    watch.collect_content()
    for chunk in chunks:
        watch.feed(chunk)
    watch.call.values[PRESENT] &= ~FIRST_BITS


class Parsed(dict[Any, Any]):
    """What was parsed from a raw reply, by type; tells the watch. It keeps the response until then, whose body is read
    where nothing is parsed."""

    __slots__ = ("_is_overheard", "_response", "_watch")

    def __init__(self, known: dict[Any, Any], watch: Watch, response: Any, is_overheard: bool) -> None:
        super().__init__(known)
        self._watch = watch
        self._response = response
        self._is_overheard = is_overheard

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if self._watch.unparsed is not None:
            parse(self._watch, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (dict(self),)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        try:
            unparsed = self._watch.unparsed
            if unparsed is None:
                return
            unparsed.is_held = False
            if unparsed.was_read or not self._is_overheard:  # else who reads the body ends it
                unparsed.response = lambda: self._response  # of what the collector takes, weak references are gone
                self._watch.abandon()
        except Exception as error:
            if not is_finalizing():  # by then there may be nothing to report with
                report(error)


def parse(watch: Watch, value: Any) -> None:
    """What the user parsed first: a stream, to be watched by the same watch, or the reply. Of one that was parsed to
    something that tells nothing, the body is read."""
    unparsed, watch.unparsed = watch.unparsed, None
    call = watch.call
    spec = call.route.stream if call.is_streamed else None
    try:
        response = None if unparsed is None else unparsed.response()
        if response is not None:
            leave(response)
        if spec is not None and spec.iterator is not None and attach(watch, spec, value) is not None:
            return
    except Exception as error:
        report(error)
    if not watch.claim():
        return
    try:
        watch.target.read_reply(call, value)
        body = None if unparsed is None or call.values[MODEL_AT] else unparsed.bytes()
        if body is not None:
            read_body(watch, body)
    finally:
        watch.end(is_complete=True)


def watch_raw(target: Target, spec: RawSpec, call: Call, reply: Any) -> bool:
    """Watch a raw reply; False where it is none."""
    try:
        fields = reply.__dict__
    except AttributeError:
        return False
    if type(fields) is not dict or spec.response not in fields:
        return False
    response, known = fields[spec.response], fields.get(spec.parsed)
    body = body_of(response, spec.body)
    watch = Watch(target, call)
    if body is not None:
        watch.stopped_ns = call.started_ns + call.values[DURATION_NS]
    watch.unparsed = Unparsed(spec, response, body)
    is_overheard = body is None and _is_overheard(watch, response)
    if type(known) is not dict or not _is_set(reply, spec.parsed, known, watch, response, is_overheard):
        leave(response)
        watch.unparsed = None
        if body is not None:
            read_body(watch, body)
        watch.open()
        watch.complete()
        return True
    watch.open()
    return True


def _is_overheard(watch: Watch, response: Any) -> bool:
    call = watch.call
    try:
        if overhear(response, watch, call.is_streamed and call.route.stream is not None):
            return True
    except Exception as error:
        report(error)
    see_closing(watch, response, ("stream",), call.route.spec.is_async)
    return False


def _is_set(reply: Any, name: str, known: dict[Any, Any], watch: Watch, response: Any, is_overheard: bool) -> bool:
    try:
        setattr(reply, name, Parsed(known, watch, response, is_overheard))
    except Exception as error:
        if not isinstance(error, (AttributeError, TypeError)):
            report(error)
        return False
    return True
