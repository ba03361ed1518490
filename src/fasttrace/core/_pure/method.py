"""The call driver of the pure core: the function that stands for a provider method.

One call: read the keyword arguments, become the current span, call, read the reply or the exception, push. It is the
Python half of csrc/python/{call,method,awaitable}.c and keeps to the same rules: the caller gets the very reply and the
very exception, a reader that fails costs a log line, an interrupt (KeyboardInterrupt and its kind) is never swallowed.
Runs on the callers' threads.

What does not change between calls of one method to one host with one model is prepared once, as a record template.
"""

from __future__ import annotations

import functools
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, cast

from .._api import CURRENT, Endpoint
from .._report import report
from .._text import clean, clip, exact_text, quote, render_param
from .context import clock_monotonic_ns, clock_unix_ns, new_context
from .layout import (
    CLIP_BYTES,
    COUNTS,
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
from .recorder import SETTERS, STANDARD_TIERS, Recorder, add_json, set_field, set_reported_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._api import CallSpec, Node
    from .recorder import Setter
    from .ring import Ring

TEMPLATES_MAX = 512
MODEL_MAX = 256
PARAMS_MAX = 256
PARAM_MAX = 128
PARAMS_ENTRY_MAX_BYTES = 1024
ELEMENTS_MAX = 1024  # choices of one reply
USUAL_COUNTS_END = 1 << 30  # one digit of a Python integer, quick to compare; others take the setter's way
HAS_USAGE = 1 << NUMBER["input_tokens"] | 1 << NUMBER["output_tokens"]
HAS_RETRIES = 1 << NUMBER["retries"]
REQUEST_PARAMS = NUMBER["request_params"]
TARGET = "_fasttrace_target"  # attribute of a method
PLAIN_SCALARS = frozenset((str, int, float, bool))
SUCCESS, ERROR, CANCELLED = 1, 2, 4
FROM_PROVIDER = 1


_Reading = tuple[str, "int | None", int, "Setter", Any]
_MISSING = object()


def _readings(nodes: tuple[Node, ...], is_foreign: bool) -> tuple[_Reading, ...]:
    return tuple(_reading(node, is_foreign) for node in nodes if is_foreign or not node.foreign)


def _reading(node: Node, is_foreign: bool) -> _Reading:
    """A Node with its field's setter at hand: name, presence bit of a count, place, setter, detail. To set an object is
    to read what is below it."""
    setter: Setter = _read_fields
    at, detail = 0, _readings(node.children, is_foreign)
    if node.field is not None:
        setter, at, detail = SETTERS[node.field]
    if node.field == "cost_usd":
        setter = set_reported_cost
    if node.each:
        return node.name, None, at, _read_each, (setter, detail)
    bit = 1 << NUMBER[node.field] if node.field in COUNTS else None
    return node.name, bit, at, setter, detail


class _Call:
    """One call on its way: its record, its content, and the span that was current before."""

    __slots__ = ("content", "context", "previous", "reply", "ring", "started_ns", "values")

    def __init__(self, ring: Ring, values: list[int], content: bytearray, reply: tuple[_Reading, ...]) -> None:
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


class _Target:
    """One patched method: its specification made ready, and the steps of a call."""

    def __init__(self, original: Callable[..., Any], spec: CallSpec, recorder: Recorder) -> None:
        self.original = original
        self.spec = spec
        self.recorder = recorder
        self.is_on = True
        self.uses = {name: use for name, use in spec.request.items() if use != "ignored"}
        self.endpoint_path = spec.endpoint
        self.call: Callable[..., Any] | None = None  # what stands for the original
        self.reply, self.foreign_reply = (_readings(spec.reply, is_foreign) for is_foreign in (False, True))
        self.params: dict[tuple[str, type, object], str] = {}
        self.param_entries: dict[str, bytes] = {}
        self.endpoints: dict[int, tuple[object, Endpoint]] = {}

    # ---- the request's side ----

    def prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call | None:
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

    def _read_request(self, ring: Ring, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call | None:
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
        return _Call(ring, values, content, self.foreign_reply if is_foreign else self.reply)

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

    def succeed(self, call: _Call, reply: object) -> None:
        call.leave()
        values = call.values
        values[STATUS] = SUCCESS
        try:
            if reply is not None:
                _read_fields(call.ring, values, call.content, 0, call.reply, reply)
                if values[PRESENT] & HAS_USAGE:
                    values[USAGE_SOURCE] = FROM_PROVIDER
        finally:  # an interrupt goes on, and the call was made
            self.recorder.push_call(call.ring, call.values, call.content)

    def fail(self, call: _Call, error: BaseException) -> None:
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

    def cancel(self, call: _Call) -> None:
        call.leave()
        call.values[STATUS] = CANCELLED
        self.recorder.push_call(call.ring, call.values, call.content)


# ---- the reply: setters for what is below an attribute ----


def _read_fields(
    ring: Ring, values: list[int], content: bytearray, _: int, readings: tuple[_Reading, ...], found: Any
) -> None:
    """pydantic keeps a model's fields in the instance dictionary: that is asked first, then the attribute. Counts are
    most of what is read: the usual ones are set without a call."""
    try:
        fields = found if issubclass(type(found), dict) else found.__dict__
    except Exception as error:
        fields = _without_fields(error)
    if type(fields) is dict:
        get: Callable[..., Any] = fields.get
    else:
        fields, get = _unusual(fields)
    present = 0
    for name, bit, at, setter, detail in readings:
        try:
            value = get(name)
            if value is None:
                if fields is found or get(name, _MISSING) is None:
                    continue
                value = _undeclared(found, fields, name)
                if value is None:
                    continue
            if bit is not None and type(value) is int and 0 <= value < USUAL_COUNTS_END:
                values[at] = value
                present |= bit
            else:
                setter(ring, values, content, at, detail, value)
        except AttributeError:
            continue
        except Exception as error:
            report(error)
    if present:
        values[PRESENT] |= present


def _read_each(
    ring: Ring, values: list[int], content: bytearray, at: int, of_one: tuple[Setter, Any], elements: Any
) -> None:
    if not issubclass(type(elements), (list, tuple)):
        return
    setter, detail = of_one
    for element in elements[:ELEMENTS_MAX]:
        if element is not None:
            setter(ring, values, content, at, detail, element)


def _without_fields(error: Exception) -> Any:
    """An object without a dictionary is one of many; one that fails to say is worth a line."""
    if not isinstance(error, AttributeError):
        report(error)
    return None


def _unusual(fields: Any) -> tuple[Any, Callable[..., Any]]:
    """A subclass of dict, asked by a dictionary's own rule; None, which has nothing, for what is no dictionary."""
    if issubclass(type(fields), dict):
        return fields, dict.get.__get__(fields)
    return None, lambda name, missing=None: missing


def _undeclared(found: Any, fields: Any, name: str) -> Any:
    """What a pydantic model does not declare is in __pydantic_extra__; other objects are asked for the attribute. The
    class tells: a proxy of a model has the model's attributes, and not its dictionary."""
    if fields is not None and hasattr(type(found), "__pydantic_extra__"):
        try:
            extra = found.__pydantic_extra__
        except AttributeError:
            pass
        else:
            if extra is None or type(extra) is dict:
                return None if extra is None else extra.get(name)
    return getattr(found, name)


def _is_true(value: Any) -> bool:
    """As the SDK asks it; its "not given" is false. A value that cannot be asked is not a wish to stream."""
    try:
        return bool(value)
    except Exception as error:
        report(error)
        return False


def _unbound(original: Any) -> Callable[..., Any]:
    """`original` called with its instance first. Somebody else's wrapper (a wrapt proxy, a descriptor class) learns its
    instance only by being bound to it; functions need no binding."""
    if type(original) is FunctionType or not hasattr(type(original), "__get__"):
        return cast("Callable[..., Any]", original)

    def bind_and_call(*args: Any, **kwargs: Any) -> Any:
        if not args:
            return original(**kwargs)
        return original.__get__(args[0], type(args[0]))(*args[1:], **kwargs)

    return bind_and_call


class _Unstarted:
    """A coroutine that may never be stepped, because a task is cancelled first: then nobody is warned of it, as nobody
    would be without us."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Any) -> None:
        self.coroutine = coroutine

    def take(self) -> Any:
        coroutine, self.coroutine = self.coroutine, None
        return coroutine

    def __del__(self) -> None:
        if self.coroutine is not None:
            self.coroutine.close()


async def _drive(target: _Target, call: _Call, unstarted: _Unstarted) -> Any:
    """The coroutine of an asynchronous call, inside its span. A frame of ours, the only one."""
    call.start()
    try:
        reply = await unstarted.take()
    except GeneratorExit:
        target.cancel(call)
        raise
    except BaseException as error:
        target.fail(call, error)
        raise
    target.succeed(call, reply)
    return reply


def _plain(target: _Target) -> Callable[..., Any]:
    original = _unbound(target.original)

    @functools.wraps(target.original)
    def call(*args: Any, **kwargs: Any) -> Any:
        prepared = target.prepare(args, kwargs)
        if prepared is None:
            return original(*args, **kwargs)
        prepared.start()
        try:
            reply = original(*args, **kwargs)
        except BaseException as error:
            target.fail(prepared, error)
            raise
        target.succeed(prepared, reply)
        return reply

    return call


def _asynchronous(target: _Target) -> Callable[..., Any]:
    """For a function that returns a coroutine: what it raises before, and what it returns instead, is passed on."""
    original = _unbound(target.original)

    @functools.wraps(target.original)
    def call(*args: Any, **kwargs: Any) -> Any:
        prepared = target.prepare(args, kwargs)
        if prepared is None:
            return original(*args, **kwargs)
        try:
            coroutine = original(*args, **kwargs)
        except BaseException as error:
            prepared.start()
            target.fail(prepared, error)
            raise
        if not isinstance(coroutine, CoroutineType):
            prepared.start()
            target.succeed(prepared, coroutine)
            return coroutine
        driven: Any = _drive(target, prepared, _Unstarted(coroutine))
        driven.__name__, driven.__qualname__ = coroutine.__name__, coroutine.__qualname__
        return driven

    return call


def _coroutine_function(target: _Target) -> Callable[..., Any]:
    """For an `async def`: what stands for it is one too, because people ask."""
    original = _unbound(target.original)

    @functools.wraps(target.original)
    async def call(*args: Any, **kwargs: Any) -> Any:
        prepared = target.prepare(args, kwargs)
        if prepared is None:
            return await original(*args, **kwargs)
        return await _drive(target, prepared, _Unstarted(original(*args, **kwargs)))

    return call


def method(original: Callable[..., Any], spec: CallSpec, recorder: Recorder) -> Any:
    """The function that stands for `original` and records every call of it."""
    import inspect

    target = _Target(original, spec, recorder)
    if not spec.is_async:
        call = _plain(target)
    elif inspect.iscoroutinefunction(original):
        call = _coroutine_function(target)
    else:
        call = _asynchronous(target)
    target.call = call
    call.__dict__[TARGET] = target
    return call


def switch(method: Any, is_on: bool) -> None:
    """Turn the recording of one method on or off; off, it is a plain call. TypeError for anything but a method."""
    target = getattr(method, TARGET, None)
    if type(target) is not _Target or target.call is not method:  # who wraps a function copies its attributes
        raise TypeError(f"{method!r} is not a recording method")
    target.is_on = is_on
