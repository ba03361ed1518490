"""One call of a patched method, from its arguments to its record. The Python half of csrc/python/call.c.

It keeps to the same rules: a reader that fails costs a log line, an interrupt (KeyboardInterrupt and its kind) is never
swallowed. What does not change between calls of one kind to one host with one model is prepared once, as a record
template. Runs on the callers' threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._api import CURRENT, Endpoint, Router
from .._report import report
from .._text import exact_text
from .context import clock_monotonic_ns, clock_unix_ns, new_context
from .inflight import NO_PLACE
from .layout import (
    DURATION_NS,
    FLAG_STREAM,
    FLAGS,
    NUMBER,
    PRESENT,
    RETRIES,
    STATUS,
    TRACE_HI,
    USAGE_SOURCE,
)
from .raw import watch_raw
from .recorder import CANCELLED, ERROR, FROM_PROVIDER, HAS_INPUT_OR_OUTPUT, SUCCESS, Recorder, set_field
from .request import Params, is_true
from .route import Route, Routes
from .stream import watch_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._api import CallSpec
    from .context import SpanContext
    from .inflight import Tail
    from .ring import Ring

ENDPOINTS_MAX = 16
HAS_RETRIES = 1 << NUMBER["retries"]


class Call:
    """One call on its way: its record, its content, and the span that was current before."""

    __slots__ = (
        *("content", "context", "is_foreign", "is_streamed", "place", "previous", "ring", "route", "started_ns"),
        *("tail", "values"),
    )
    context: SpanContext
    previous: object
    place: int  # in the ring's in-flight table

    def __init__(
        self,
        ring: Ring,
        route: Route,
        values: list[int],
        tail: Tail,
        content: bytearray,
        is_foreign: bool,
        is_streamed: bool,
    ) -> None:
        self.ring = ring
        self.route = route
        self.values = values
        self.tail = tail
        self.content = content
        self.is_foreign = is_foreign
        self.is_streamed = is_streamed

    def start(self) -> None:
        values = self.values
        self.previous = CURRENT.get()
        self.context = context = new_context(self.previous)
        CURRENT.set(context)
        identity = context.trace_hi, context.trace_lo, context.id, context.parent, clock_unix_ns()
        values[TRACE_HI:DURATION_NS] = identity
        self.started_ns = clock_monotonic_ns()
        self.place = self.ring.enter(identity, self.started_ns, self.tail)

    def stop(self) -> None:
        """Stop the clock, and give the previous span back, if this one still is current: a coroutine may be closed in
        another context."""
        self.values[DURATION_NS] = clock_monotonic_ns() - self.started_ns
        if CURRENT.get() is self.context:
            CURRENT.set(self.previous)  # type: ignore[arg-type]


class Target:
    """One patched method: its routes, and the steps of a call."""

    def __init__(self, original: Callable[..., Any], spec: CallSpec | Router, recorder: Recorder) -> None:
        self.original = original
        self.recorder = recorder
        self.is_on = True
        self.routes = Routes(spec) if isinstance(spec, Router) else None
        self.route = Route(spec) if not isinstance(spec, Router) else None
        # What all of a router's routes share.
        self.spec: CallSpec = next(iter(spec.routes.values())) if isinstance(spec, Router) else spec
        self.endpoint_path = self.spec.endpoint
        self.call: Callable[..., Any] | None = None  # what stands for the original
        self.params = Params()
        self.endpoints: dict[int, tuple[object, Endpoint]] = {}

    # ---- the request's side ----

    def prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """A call ready to start, None for one that is not recorded."""
        recorder = self.recorder
        if not (recorder.active and self.is_on):
            return None
        try:
            route, bodies = self.route, [kwargs]
            if self.routes is not None:
                route, bodies = self.routes.find(args, kwargs)
            if route is None:
                return None
            ring = recorder.ring
            if ring is None or not ring.alive[0]:
                ring = recorder.ready()
                if ring is None:
                    return None
            return self._read_request(ring, route, args, kwargs, bodies)
        except Exception as error:  # the call goes on without a span
            report(error)
            return None

    def _read_request(
        self, ring: Ring, route: Route, args: tuple[Any, ...], kwargs: dict[str, Any], bodies: list[dict[str, Any]]
    ) -> Call:
        params: list[str] = []
        if len(bodies) == 1:
            model, is_streamed, flags = self.params.read(route.uses, dict.items(bodies[0]), params)
        else:
            model, is_streamed, flags = self.params.read_bodies(route.uses, bodies, params)
        if self.routes is not None:
            wish = kwargs.get(self.routes.stream, False)
            is_streamed = wish is not False and is_true(wish)
        content = self.params.content(params)
        endpoint = self._endpoint(args)
        values, tails = route.template(ring, endpoint, model, content)
        if flags:
            values[FLAGS] |= flags
        is_foreign = endpoint is not None and endpoint.provider != route.spec.sdk
        is_streamed = is_streamed or route.spec.always_streams
        call = Call(ring, route, values, tails[is_streamed], content, is_foreign, is_streamed)
        if self.recorder.capture_input and route.content is not None and bodies:
            self._capture(call, "input", route.content.input, bodies[0])
        if call.is_streamed:
            self._prepare_stream(call, bodies)
        return call

    def _prepare_stream(self, call: Call, bodies: list[dict[str, Any]]) -> None:
        call.values[FLAGS] |= FLAG_STREAM
        amend = call.route.spec.amend
        if amend is None or self.routes is None or not bodies:
            return
        try:
            amend(bodies[0])
        except Exception as error:
            report(error)

    def _endpoint(self, args: tuple[Any, ...]) -> Endpoint | None:
        if not args:
            return None
        key = args[0]
        try:
            for name in self.endpoint_path:
                key = getattr(key, name)
            known = self.endpoints.get(id(key))
            if known is not None and known[0] is key:
                return known[1]
            endpoint: Any = self.spec.resolve(key, args[0])
        except AttributeError:
            return None
        except Exception as error:  # the call is recorded without its host
            report(error)
            return None
        if not (isinstance(endpoint, tuple) and len(endpoint) == 3):
            return None
        provider, address, port = endpoint
        number = port if type(port) is int else None
        return self._remember(key, Endpoint(exact_text(provider) or "", exact_text(address), number))

    def _remember(self, key: object, endpoint: Endpoint) -> Endpoint:
        if len(self.endpoints) >= ENDPOINTS_MAX:
            self.endpoints.clear()
        self.endpoints[id(key)] = (key, endpoint)
        return endpoint

    # ---- the ending ----

    def succeed(self, call: Call, reply: Any) -> Any:
        """The end of a call whose original returned; what the caller gets: the reply, or what watches it. A reply that
        is read later is a call that ends later."""
        try:
            call.stop()
            if call.is_streamed or (self.routes is not None and type(reply) is not call.route.plain_type):
                watched = self._watch(call, reply)
                if watched is not None:
                    return watched
        except BaseException:  # an interrupt goes on
            place, call.place = call.place, NO_PLACE
            call.ring.leave(place)
            raise
        call.values[STATUS] = SUCCESS
        try:
            self.read_reply(call, reply)
        finally:  # an interrupt goes on, and the call was made
            self.push(call)
        return reply

    def _watch(self, call: Call, reply: Any) -> Any:
        """None for a reply that is no more than that."""
        watched, stream = None, call.route.stream
        try:
            if self.routes is not None:
                if watch_raw(self, self.routes.raw, call, reply):
                    return reply
                if not call.is_streamed:
                    call.route.plain_type = type(reply)
            if call.is_streamed and stream is not None:
                watched = watch_stream(self, call, stream, reply)
        except Exception as error:
            report(error)
        if call.is_streamed and watched is None:
            self.recorder.passed_streams += 1
        return watched

    def fail(self, call: Call, error: BaseException) -> None:
        try:
            call.stop()
            self.read_failure(call, error)
        finally:
            self.push(call)

    def cancel(self, call: Call) -> None:
        try:
            call.stop()
            call.values[STATUS] = CANCELLED
        finally:
            self.push(call)

    # ---- the steps of an ending ----

    def read_reply(self, call: Call, reply: Any) -> None:
        """The reply's nodes into the span, its content where that is captured."""
        if reply is not None:
            read, readings = call.route.readers[call.is_foreign]
            read(call.ring, call.values, call.content, 0, readings, reply)
        if call.values[PRESENT] & HAS_INPUT_OR_OUTPUT:
            call.values[USAGE_SOURCE] = FROM_PROVIDER
        if self.recorder.capture_output and call.route.content is not None:
            self._capture(call, "output", call.route.content.output, reply)

    def _capture(self, call: Call, field: str, read: Callable[[Any, int], bytes | None], source: Any) -> None:
        try:
            set_field(call.ring, call.values, call.content, field, read(source, self.recorder.content_max_bytes))
        except Exception as error:
            report(error)

    def read_failure(self, call: Call, error: BaseException) -> None:
        """What the exception tells, into the span."""
        call.values[STATUS] = ERROR
        try:
            fields: Mapping[str, Any] = self.spec.failure(error)
            for name, value in fields.items():
                set_field(call.ring, call.values, call.content, name, value)
        except Exception as unread:  # the user's exception goes on
            report(unread)

    def push(self, call: Call) -> None:
        context = call.context
        if context.retries or context.attempts > 1:
            call.values[RETRIES] = min(context.retries or context.attempts - 1, 0xFFFF)
            call.values[PRESENT] |= HAS_RETRIES
        ring = call.ring
        try:
            self.recorder.push_call(ring, call.values, call.content)
        finally:
            place, call.place = call.place, NO_PLACE
            ring.leave(place)
