"""The function that stands for a provider method. The Python half of csrc/python/{method,awaitable}.c.

The caller gets the very reply and the very exception, through one frame of ours; who asks what kind of function it is
is told what the original is. Runs on the callers' threads.
"""

from __future__ import annotations

import functools
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, cast

from .call import Call, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._api import CallSpec, Router
    from .recorder import Recorder

TARGET = "_fasttrace_target"  # attribute of a method


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


async def _drive(target: Target, call: Call, unstarted: _Unstarted) -> Any:
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
    return target.succeed(call, reply)


def _plain(target: Target) -> Callable[..., Any]:
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
        return target.succeed(prepared, reply)

    return call


def _asynchronous(target: Target) -> Callable[..., Any]:
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
            return target.succeed(prepared, coroutine)
        driven: Any = _drive(target, prepared, _Unstarted(coroutine))
        driven.__name__, driven.__qualname__ = coroutine.__name__, coroutine.__qualname__
        return driven

    return call


def _coroutine_function(target: Target) -> Callable[..., Any]:
    """For an `async def`: what stands for it is one too, because people ask."""
    original = _unbound(target.original)

    @functools.wraps(target.original)
    async def call(*args: Any, **kwargs: Any) -> Any:
        prepared = target.prepare(args, kwargs)
        if prepared is None:
            return await original(*args, **kwargs)
        prepared.start()
        try:
            reply = await original(*args, **kwargs)
        except GeneratorExit:
            target.cancel(prepared)
            raise
        except BaseException as error:
            target.fail(prepared, error)
            raise
        return target.succeed(prepared, reply)

    return call


def method(original: Callable[..., Any], spec: CallSpec | Router, recorder: Recorder) -> Any:
    """The function that stands for `original` and records every call of it."""
    import inspect

    target = Target(original, spec, recorder)
    if not target.spec.is_async:
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
    if type(target) is not Target or target.call is not method:  # who wraps a function copies its attributes
        raise TypeError(f"{method!r} is not a recording method")
    target.is_on = is_on
