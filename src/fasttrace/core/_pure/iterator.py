"""What watches a stream from inside the SDK's objects: the iterator that stands around the SDK's own, and what stands
in the place of its body's `close`. The Python half of csrc/python/{iterator,async_iterator,closer}.c.

Chunks are handed out untouched, and exceptions are the SDK's own objects, through one frame of ours. To everybody who
asks, the iterator is the one that it stands around: its class, its words, its attributes. It holds that one and the
watch, and nothing of ours holds it, so that a stream dies as it would die without us.
Runs on the threads that read a stream or close it.
"""

from __future__ import annotations

import sys
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import ref

from .._report import report
from .chunk import STEPPING, UNASKED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .stream import Watch


class Iterator:
    """What both sorts have in common."""

    __slots__ = ("__weakref__", "_fasttrace_inner", "_fasttrace_watch")
    _fasttrace_inner: Any
    _fasttrace_watch: Watch | None
    STEPS: ClassVar[Mapping[str, Callable[..., Any]]] = {}  # the methods that are there where the inner one has them

    def __init__(self, inner: Any, watch: Watch) -> None:
        _set_inner(self, inner)
        _set_watch(self, watch)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        try:
            if self._fasttrace_watch is not None:
                self._fasttrace_watch.abandon()
        except Exception as error:
            if not is_finalizing():  # by then there may be nothing to report with
                report(error)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_fasttrace_"):
            raise AttributeError(name)
        found, step = getattr(self._fasttrace_inner, name), type(self).STEPS.get(name)
        return found if step is None else MethodType(step, self)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._fasttrace_inner, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._fasttrace_inner, name)

    def __repr__(self) -> str:
        return repr(self._fasttrace_inner)

    def __dir__(self) -> Any:
        return dir(self._fasttrace_inner)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._fasttrace_inner.__reduce_ex__(protocol)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._fasttrace_inner.__class__


_set_inner: Callable[[object, object], None] = Iterator.__dict__["_fasttrace_inner"].__set__
_set_watch: Callable[[object, object], None] = Iterator.__dict__["_fasttrace_watch"].__set__


def forget(iterator: Iterator) -> None:
    """It has nobody to tell: it found no place."""
    _set_watch(iterator, None)


# ---- synchronous ----


def _close(self: Any) -> Any:
    self._fasttrace_watch.close()
    return self._fasttrace_inner.close()


def _step(name: str) -> Callable[..., Any]:
    """A step by another way than the next one."""

    def step(self: Any, *args: Any) -> Any:
        watch = self._fasttrace_watch
        way = getattr(self._fasttrace_inner, name)
        state = watch.state
        if state > UNASKED:
            return way(*args)
        if state:
            watch.enter()
        watch.state = STEPPING
        try:
            chunk = way(*args)
        except StopIteration:
            watch.complete()
            raise
        except BaseException as error:
            watch.fail(error)
            raise
        finally:
            if state:
                watch.leave()
        watch.feed(chunk)
        return chunk

    return step


class SyncIterator(Iterator):
    __slots__ = ()
    STEPS: ClassVar = {"close": _close, "send": _step("send"), "throw": _step("throw")}

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        watch: Any = self._fasttrace_watch
        state = watch.state
        if state:
            if state != UNASKED:
                return next(self._fasttrace_inner)
            watch.enter()
        watch.state = STEPPING
        try:
            chunk = next(self._fasttrace_inner)
        except StopIteration:
            watch.complete()
            raise
        except BaseException as error:
            watch.fail(error)
            raise
        finally:
            if state:
                watch.leave()
        watch.feed(chunk)
        return chunk


# ---- asynchronous ----


def _aclose(self: Any) -> Any:
    return _closed(self._fasttrace_watch, self._fasttrace_inner.aclose())


async def _closed(watch: Watch, closing: Any) -> Any:
    """It is closed when that is awaited."""
    watch.close()
    return await closing


async def _stepped(watch: Watch, way: Any) -> Any:
    """What an awaitable gives that was asked of the inner iterator; asking may run ahead of awaiting."""
    if watch.state:
        return await way
    watch.state = STEPPING
    try:
        chunk = await way
    except StopAsyncIteration:
        watch.complete()
        raise
    except BaseException as error:
        watch.fail(error)
        raise
    watch.feed(chunk)
    return chunk


def _asend(self: Any, value: Any) -> Any:
    return _stepped(self._fasttrace_watch, self._fasttrace_inner.asend(value))


def _athrow(self: Any, *args: Any) -> Any:
    return _stepped(self._fasttrace_watch, self._fasttrace_inner.athrow(*args))


class AsyncIterator(Iterator):
    __slots__ = ()
    STEPS: ClassVar = {"aclose": _aclose, "asend": _asend, "athrow": _athrow}

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        watch: Any = self._fasttrace_watch
        if watch.state:
            return await anext(self._fasttrace_inner)
        watch.state = STEPPING
        try:
            chunk = await anext(self._fasttrace_inner)
        except StopAsyncIteration:
            watch.complete()
            raise
        except BaseException as error:
            watch.fail(error)
            raise
        watch.feed(chunk)
        return chunk


# ---- the body ----


class Closer:
    """Stands in an object in the place of its `close` or `aclose`: tells the watch, and calls what was there.

    It holds the object that holds it: a weak reference would be gone when the collector, which takes a stream with its
    generator, has that generator close the response. So that the object dies at once where nothing else keeps it, the
    watch takes the closer out again at its end.
    """

    __slots__ = ("__weakref__", "_known", "_name", "_owner", "_watch")

    def __init__(self, owner: Any, name: str, watch: Watch) -> None:
        self._owner = owner
        self._name = name
        self._known = getattr(owner, name)
        self._watch = watch

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._watch.close()
        return self._known(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """The rest (name, documentation, what kind of function it is) is told by what it stands for."""
        if name in Closer.__slots__:
            raise AttributeError(name)
        return getattr(self._known, name)

    def take_out(self) -> None:
        """Put back what was there, unless somebody else has put something there since."""
        try:
            if getattr(self._owner, self._name) is not self:
                return
            if type(self._known) is MethodType and self._known.__self__ is self._owner:
                delattr(self._owner, self._name)
            else:
                setattr(self._owner, self._name, self._known)
        except Exception as error:  # the owner's own code
            report(error)


def see_closing(watch: Watch, found: Any, path: tuple[str, ...], is_async: bool) -> None:
    """See the object at `path` closed; one that cannot be seen is left alone."""
    if watch.closer is not None:
        return
    name = "aclose" if is_async else "close"
    try:
        for step in path:
            found = getattr(found, step)
        closer = Closer(found, name, watch)
        setattr(found, name, closer)
        watch.closer = ref(closer)
    except (AttributeError, TypeError):
        return
    except Exception as error:
        report(error)
