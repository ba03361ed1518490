"""The call driver of the pure core: the function that stands for a provider method.

One call: read the keyword arguments, become the current span, call, read the reply or the exception, push. It is the
Python half of csrc/python/{call,method,awaitable}.c and keeps to the same rules: the caller gets the very reply and the
very exception, a reader that fails costs a log line, an interrupt (KeyboardInterrupt and its kind) is never swallowed.
Runs on the callers' threads.

What does not change between calls of one method to one host with one model is prepared once, as a record template.
"""

from __future__ import annotations

import functools
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from .._api import CURRENT, Endpoint
from .._report import report
from .._text import clean, clip, exact_text, quote, render_param
from .context import SpanContext, clock_monotonic_ns, clock_unix_ns, new_context
from .layout import (
    CLIP_BYTES,
    COUNTS,
    DURATION_NS,
    EMPTY_RECORD,
    MASK64,
    NUMBER,
    PRESENT,
    RETRIES,
    START_UNIX_NS,
    STATUS,
    USAGE_SOURCE,
)
from .recorder import SETTERS, Recorder, add_json, set_field, set_identity, set_reported_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._api import CallSpec, Node
    from .recorder import Setter
    from .ring import Ring

TEMPLATES_MAX = 512
MODEL_MAX = 256
PARAMS_MAX = 256
PARAM_MAX = 128
ELEMENTS_MAX = 1024  # choices of one reply
HAS_USAGE = 1 << NUMBER["input_tokens"] | 1 << NUMBER["output_tokens"]
HAS_RETRIES = 1 << NUMBER["retries"]
REQUEST_PARAMS = NUMBER["request_params"]
TARGET = "_fasttrace_target"  # attribute of a method
PLAIN_SCALARS = frozenset((str, int, float, bool))
SUCCESS, ERROR, CANCELLED = 1, 2, 4
FROM_PROVIDER = 1


_Reading = tuple[str, int, "Setter | None", int, Any, tuple[Any, ...], bool, bool]
_MISSING = object()


def _reading(node: Node) -> _Reading:
    """A Node with its field's setter at hand: name, presence bit of a count, setter, place, detail, children, each,
    foreign. Counts are most of what is read: they are set without a call."""
    children = tuple(_reading(child) for child in node.children)
    if node.field is None:
        return node.name, 0, None, 0, None, children, node.each, node.foreign
    setter, at, detail = SETTERS[node.field]
    if node.field == "cost_usd":
        setter = set_reported_cost
    bit = 1 << NUMBER[node.field] if node.field in COUNTS and not node.each else 0
    return node.name, bit, setter, at, detail, children, node.each, node.foreign


class _Call:
    """One call on its way: its record, its content, and the span that was current before."""

    __slots__ = ("content", "context", "is_foreign", "previous", "ring", "started_ns", "values")

    def __init__(self, ring: Ring, values: list[int], content: bytearray, is_foreign: bool) -> None:
        self.ring = ring
        self.values = values
        self.content = content
        self.is_foreign = is_foreign

    def start(self) -> None:
        self.previous = CURRENT.get()
        self.context: SpanContext = new_context(self.previous)
        CURRENT.set(self.context)
        set_identity(self.values, self.context)
        self.values[START_UNIX_NS] = clock_unix_ns()
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
        self.call: Callable[..., Any] | None = None  # what stands for the original
        self.reply = tuple(_reading(node) for node in spec.reply)
        self.params: dict[tuple[str, type, object], str] = {}
        self.endpoints: dict[int, tuple[object, Endpoint]] = {}

    # ---- the request's side ----

    def prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call | None:
        """A call ready to start, None for one that is not recorded."""
        if not (self.recorder.active and self.is_on):
            return None
        ring = self.recorder.ready()
        if ring is None:
            return None
        try:
            return self._read_request(ring, args, kwargs)
        except Exception as error:  # the call goes on without a span
            report(error)
            return None

    def _read_request(self, ring: Ring, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call | None:
        uses = self.spec.request
        model = None
        params: list[str] = []
        for name, value in kwargs.items():
            use = uses.get(name)
            if use == "param":
                if type(value) in PLAIN_SCALARS:
                    params.append(self.params.get((name, type(value), value)) or self._param(name, value))
                elif issubclass(type(value), (str, int, float)):
                    params += self._unusual_param(name, value)
            elif use == "model":
                model = value
            elif use == "stream" and value is True:
                self.recorder.passed_streams += 1
                return None
        content = bytearray()
        if params:
            add_json(content, REQUEST_PARAMS, f"{{{','.join(params)}}}".encode())
        endpoint = self._endpoint(args)
        values = self._template(ring, endpoint, model, content)
        return _Call(ring, values, content, endpoint is not None and endpoint.provider != self.spec.sdk)

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
            for name in self.spec.endpoint:
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
                self._read(call, reply, self.reply)
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

    # ---- the reply ----

    def _read(self, call: _Call, found: Any, readings: tuple[_Reading, ...]) -> None:
        """pydantic keeps a model's fields in the instance dictionary: that is asked first, then the attribute."""
        fields = _fields_of(found)
        values = call.values
        for name, bit, setter, at, detail, children, each, foreign in readings:
            if foreign and not call.is_foreign:
                continue
            try:
                value = _MISSING if fields is None else dict.get(fields, name, _MISSING)
                if value is _MISSING:
                    value = None if fields is found else _undeclared(found, fields, name)
                if value is None:
                    continue
                if bit:
                    if type(value) is int and 0 <= value <= MASK64:
                        values[at] = value
                        values[PRESENT] |= bit
                elif each:
                    self._read_each(call, value, setter, at, detail, children)
                elif setter is None:
                    self._read(call, value, children)
                else:
                    setter(call.ring, values, call.content, at, detail, value)
            except AttributeError:
                continue
            except Exception as error:
                report(error)

    def _read_each(
        self, call: _Call, elements: Any, setter: Setter | None, at: int, detail: Any, children: tuple[_Reading, ...]
    ) -> None:
        if not issubclass(type(elements), (list, tuple)):
            return
        for element in elements[:ELEMENTS_MAX]:
            if element is None:
                continue
            if setter is None:
                self._read(call, element, children)
            else:
                setter(call.ring, call.values, call.content, at, detail, element)


def _fields_of(found: Any) -> Any:
    """The dictionary that holds an object's fields, None where there is none. A mapping is its own."""
    if issubclass(type(found), dict):
        return found
    try:
        fields = found.__dict__
    except AttributeError:
        return None
    except Exception as error:
        report(error)
        return None
    return fields if issubclass(type(fields), dict) else None


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


async def _drive(target: _Target, call: _Call, coroutine: Any) -> Any:
    """The coroutine of an asynchronous call, inside its span. A frame of ours, the only one."""
    call.start()
    try:
        reply = await coroutine
    except GeneratorExit:
        target.cancel(call)
        raise
    except BaseException as error:
        target.fail(call, error)
        raise
    target.succeed(call, reply)
    return reply


def _plain(target: _Target) -> Callable[..., Any]:
    original = target.original

    @functools.wraps(original)
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
    original = target.original

    @functools.wraps(original)
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
        driven: Any = _drive(target, prepared, coroutine)
        driven.__name__, driven.__qualname__ = coroutine.__name__, coroutine.__qualname__
        return driven

    return call


def _coroutine_function(target: _Target) -> Callable[..., Any]:
    """For an `async def`: what stands for it is one too, because people ask."""
    original = target.original

    @functools.wraps(original)
    async def call(*args: Any, **kwargs: Any) -> Any:
        prepared = target.prepare(args, kwargs)
        if prepared is None:
            return await original(*args, **kwargs)
        return await _drive(target, prepared, original(*args, **kwargs))

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
