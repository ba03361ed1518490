"""One call of a patched method, from its arguments to its record. The Python half of csrc/python/{call,request}.c.

It keeps to the same rules: a reader that fails costs a log line, an interrupt (KeyboardInterrupt and its kind) is never
swallowed. What does not change between calls of one method to one host with one model is prepared once, as a record
template. Runs on the callers' threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._api import CURRENT, Endpoint
from .._report import report
from .._text import clean, clip, exact_text, quote, render_param
from .context import clock_monotonic_ns, clock_unix_ns, new_context
from .layout import (
    CLIP_BYTES,
    DURATION_NS,
    EMPTY_RECORD,
    FLAG_OTHER_TIER,
    FLAGS,
    NUMBER,
    PARENT_SPAN_ID,
    PRESENT,
    RETRIES,
    SPAN_ID,
    START_UNIX_NS,
    STATUS,
    TRACE_HI,
    TRACE_LO,
    USAGE_SOURCE,
)
from .recorder import STANDARD_TIERS, Recorder, add_json, set_field
from .reply import Reading, read_fields, readings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._api import CallSpec
    from .ring import Ring

TEMPLATES_MAX = 512
MODEL_MAX = 256
PARAMS_MAX = 256
PARAM_MAX = 128
PARAMS_ENTRY_MAX_BYTES = 1024
HAS_USAGE = 1 << NUMBER["input_tokens"] | 1 << NUMBER["output_tokens"]
HAS_RETRIES = 1 << NUMBER["retries"]
REQUEST_PARAMS = NUMBER["request_params"]
PLAIN_SCALARS = frozenset((str, int, float, bool))
SUCCESS, ERROR, CANCELLED = 1, 2, 4
FROM_PROVIDER = 1


class Call:
    """One call on its way: its record, its content, and the span that was current before."""

    __slots__ = ("content", "context", "previous", "reply", "ring", "started_ns", "values")

    def __init__(self, ring: Ring, values: list[int], content: bytearray, reply: tuple[Reading, ...]) -> None:
        self.ring = ring
        self.values = values
        self.content = content
        self.reply = reply

    def start(self) -> None:
        values = self.values
        self.previous = CURRENT.get()
        self.context = context = new_context(self.previous)
        CURRENT.set(context)
        values[TRACE_HI], values[TRACE_LO] = context.trace_hi, context.trace_lo
        values[SPAN_ID], values[PARENT_SPAN_ID] = context.id, context.parent
        values[START_UNIX_NS] = clock_unix_ns()
        self.started_ns = clock_monotonic_ns()

    def leave(self) -> None:
        """Give the previous span back, if this one still is current: a coroutine may be closed in another context."""
        self.values[DURATION_NS] = clock_monotonic_ns() - self.started_ns
        if CURRENT.get() is self.context:
            CURRENT.set(self.previous)
        if self.context.retries:
            self.values[RETRIES] = min(self.context.retries, 0xFFFF)
            self.values[PRESENT] |= HAS_RETRIES


class Target:
    """One patched method: its specification made ready, and the steps of a call."""

    def __init__(self, original: Callable[..., Any], spec: CallSpec, recorder: Recorder) -> None:
        self.original = original
        self.spec = spec
        self.recorder = recorder
        self.is_on = True
        self.uses = {name: use for name, use in spec.request.items() if use != "ignored"}
        self.endpoint_path = spec.endpoint
        self.call: Callable[..., Any] | None = None  # what stands for the original
        self.reply, self.foreign_reply = (readings(spec.reply, is_foreign) for is_foreign in (False, True))
        self.params: dict[tuple[str, type, object], str] = {}
        self.param_entries: dict[str, bytes] = {}
        self.endpoints: dict[int, tuple[object, Endpoint]] = {}

    # ---- the request's side ----

    def prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """A call ready to start, None for one that is not recorded."""
        recorder = self.recorder
        if not (recorder.active and self.is_on):
            return None
        ring = recorder.ring
        if ring is None or not ring.alive[0]:
            ring = recorder.ready()
            if ring is None:
                return None
        try:
            return self._read_request(ring, args, kwargs)
        except Exception as error:  # the call goes on without a span
            report(error)
            return None

    def _read_request(self, ring: Ring, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        use_of = self.uses.get
        model = None
        has_other_tier = False
        params: list[str] = []
        for name, value in kwargs.items():
            use = use_of(name)
            if use is None:
                continue
            if use == "param" or use == "tier":
                if use == "tier":
                    has_other_tier = (exact_text(value) or "") not in STANDARD_TIERS
                if type(value) in PLAIN_SCALARS:
                    params.append(self.params.get((name, type(value), value)) or self._param(name, value))
                elif issubclass(type(value), (str, int, float)):
                    params += self._unusual_param(name, value)
            elif use == "model":
                model = value
            elif use == "stream" and _is_true(value):
                self.recorder.passed_streams += 1
                return None
        content = self._content(",".join(params)) if params else bytearray()
        endpoint = self._endpoint(args)
        values = self._template(ring, endpoint, model, content)
        if has_other_tier:
            values[FLAGS] |= FLAG_OTHER_TIER
        is_foreign = endpoint is not None and endpoint.provider != self.spec.sdk
        return Call(ring, values, content, self.foreign_reply if is_foreign else self.reply)

    def _content(self, params: str) -> bytearray:
        """Content that opens with the request's parameters, whose entry is remembered."""
        known = self.param_entries.get(params)
        if known is not None:
            return bytearray(known)
        content = bytearray()
        add_json(content, REQUEST_PARAMS, f"{{{params}}}".encode())
        if 0 < len(content) <= PARAMS_ENTRY_MAX_BYTES:
            if len(self.param_entries) >= PARAMS_MAX:
                self.param_entries.clear()
            self.param_entries[params] = bytes(content)
        return content

    def _param(self, name: str, value: str | int | float) -> str:
        """`"name":value`, remembered: most callers send the same few. Not zero, which equals minus zero."""
        member = f"{quote(name)}:{(render_param(value) or b'null').decode()}"
        if value and len(member) <= PARAM_MAX and (type(value) is not str or len(value) <= PARAM_MAX):
            if len(self.params) >= PARAMS_MAX:
                self.params.clear()
            self.params[name, type(value), value] = member
        return member

    def _unusual_param(self, name: str, value: str | int | float) -> tuple[str, ...]:
        """An enumeration's member, a number of numpy's: a method of theirs that raises costs the parameter."""
        try:
            return (f"{quote(name)}:{(render_param(value) or b'null').decode()}",)
        except Exception as error:
            report(error)
            return ()

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
            endpoint: Any = self.spec.resolve(key)
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
        if len(self.endpoints) >= 16:
            self.endpoints.clear()
        self.endpoints[id(key)] = (key, endpoint)
        return endpoint

    def _template(self, ring: Ring, endpoint: Endpoint | None, model: Any, content: bytearray) -> list[int]:
        """A copy of the record with everything that is known before the call."""
        if model is not None and type(model) is not str:
            model = exact_text(model)
        key = (self, endpoint, model)
        known = ring.templates.get(key)
        if known is not None:
            return known[:]
        values = EMPTY_RECORD[:]
        before = len(content)
        self._fill(ring, values, content, endpoint, model)
        if len(content) == before and len(model or "") <= MODEL_MAX:  # the string table had room for all of it
            if len(ring.templates) >= TEMPLATES_MAX:
                ring.templates.clear()
            ring.templates[key] = values[:]
        return values

    def _fill(self, ring: Ring, values: list[int], content: bytearray, endpoint: Endpoint | None, model: Any) -> None:
        spec = self.spec
        fields: dict[str, Any] = {"kind": spec.kind, "operation": spec.operation, "name": spec.operation}
        if model is not None:
            requested = clean(model, CLIP_BYTES["request_model"])
            fields["request_model"] = requested.decode()
            name = f"{spec.operation} ".encode() + requested
            fields["name"] = clip(name, CLIP_BYTES["name"]).decode()
        if endpoint is not None:
            fields.update(provider=endpoint.provider, server_address=endpoint.address, server_port=endpoint.port)
        for name_, value in fields.items():
            set_field(ring, values, content, name_, value)

    # ---- the ending ----

    def succeed(self, call: Call, reply: object) -> None:
        call.leave()
        values = call.values
        values[STATUS] = SUCCESS
        try:
            if reply is not None:
                read_fields(call.ring, values, call.content, 0, call.reply, reply)
                if values[PRESENT] & HAS_USAGE:
                    values[USAGE_SOURCE] = FROM_PROVIDER
        finally:  # an interrupt goes on, and the call was made
            self.recorder.push_call(call.ring, call.values, call.content)

    def fail(self, call: Call, error: BaseException) -> None:
        call.leave()
        call.values[STATUS] = ERROR
        try:
            fields: Mapping[str, Any] = self.spec.failure(error)
            for name, value in fields.items():
                set_field(call.ring, call.values, call.content, name, value)
        except Exception as unread:  # the user's exception goes on
            report(unread)
        finally:
            self.recorder.push_call(call.ring, call.values, call.content)

    def cancel(self, call: Call) -> None:
        call.leave()
        call.values[STATUS] = CANCELLED
        self.recorder.push_call(call.ring, call.values, call.content)


def _is_true(value: Any) -> bool:
    """As the SDK asks it; its "not given" is false. A value that cannot be asked is not a wish to stream."""
    try:
        return bool(value)
    except Exception as error:
        report(error)
        return False
