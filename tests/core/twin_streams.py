"""Streams for both twins: an SDK's stream objects over the same chunks, a spec that asks for everything, and the ways
in which a stream ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from twin_calls import CHAT, Resource

from fasttrace.core._api import ContentSpec, Node, StreamSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twins import Twin

    from fasttrace.core._api import CallSpec

USAGE = (
    Node("input", "input_tokens", otherwise=1),
    Node("cached", "cache_read_tokens", adds="input_tokens"),
    Node("written", "cache_write_tokens", adds="input_tokens"),
    Node("thought", adds="output_tokens"),
    Node("output", "output_tokens", types=("counted",)),
    Node(
        "details", children=(Node("audio", "input_audio_tokens"), Node("parts", adds="web_search_requests", each=True))
    ),
    Node("kinds", each=True, children=(Node("count", "output_audio_tokens", types=("AUDIO", ""), tag="kind"),)),
    Node("cost", "cost_usd", foreign=True),
)
NAMES = (
    Node("function", children=(Node("name", "tool_calls"),)),
    Node("name", "tool_calls", types=("tool", "custom")),
)
CHOICES = Node(
    "choices",
    each=True,
    children=(
        Node("finish", "finish_reasons", mark="end"),
        Node(
            "delta",
            children=(
                Node("content", mark="text", unless="hidden"),
                Node("reasoning", mark="token"),
                Node("calls", each=True, mark="token", children=NAMES),
            ),
        ),
    ),
)
CHUNK = (
    Node("model", "model_id"),
    Node("version", "model_id"),
    Node("id", "response_id"),
    Node("usage", children=USAGE),
    Node("late", late=True, children=(Node("tier", "service_tier"), Node("usage", children=USAGE), CHOICES)),
    CHOICES,
)
EVENTS = {
    "begun": (Node("message", children=(Node("model", "model_id"), Node("id", "response_id"))),),
    "delta": (Node("content", mark="text"), Node("usage", children=USAGE), Node("model", "model_id")),
    "tool": (Node("name", "tool_calls", mark="token"), Node("finish", "finish_reasons")),
    "ended": (Node("type", mark="end"), Node("message", children=(Node("model", "model_id"),)), CHOICES),
    "error": (Node("type", "error_code"), Node("code", "error_code"), Node("message", "error_message")),
}
STREAM = StreamSpec("_iterator", ("response", "stream"), CHUNK, EVENTS)
BY_ITSELF = STREAM._replace(iterator=None, body=())


class Collected:
    """The content of a stream: what was fed, by the count."""

    def __init__(self, limit: int) -> None:
        self.limit, self.fed = limit, 0

    def feed(self, chunk: Any) -> None:
        self.fed += 1
        if chunk is None:
            raise ValueError("nothing to be fed with")

    def result(self) -> bytes:
        return b'{"fed":%d,"limit":%d}' % (self.fed, self.limit)


CONTENT = ContentSpec(
    input=lambda source, limit: repr(sorted(source)).replace("'", '"').encode(),
    output=lambda reply, limit: b'{"type":"%b"}' % type(reply).__name__.encode(),
    stream=Collected,
)


def spec(stream: StreamSpec | None = STREAM, **changes: Any) -> CallSpec:
    return CHAT._replace(stream=stream, always_streams=True, content=CONTENT, **changes)


# ---- what an SDK gives ----


class Body:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


class Response:
    def __init__(self) -> None:
        self.stream = Body()


class Stream:
    """In a cycle with its own generator, as the SDKs' are; `error` is raised where the chunks are used up."""

    def __init__(self, chunks: Iterable[Any], error: BaseException | None = None) -> None:
        self.response = Response()
        self._iterator = self._generate(chunks, error)

    def _generate(self, chunks: Iterable[Any], error: BaseException | None) -> Any:
        try:
            yield from chunks
            if error is not None:
                raise error
        finally:
            self.response.stream.close()

    def __next__(self) -> Any:
        return self._iterator.__next__()


class AsyncStream(Stream):
    def _generate(self, chunks: Iterable[Any], error: BaseException | None) -> Any:
        return self._agenerate(chunks, error)

    async def _agenerate(self, chunks: Iterable[Any], error: BaseException | None) -> Any:
        try:
            for chunk in chunks:
                await asyncio.sleep(0)
                yield chunk
            if error is not None:
                raise error
        finally:
            await self.response.stream.aclose()


# ---- how it ends ----

# Each takes a stream that was read for a while, and its twin; what it returns is looked at by nobody.
ENDINGS: dict[str, Callable[[Any, Twin], Any]] = {
    "read to its end": lambda stream, twin: list(stream._iterator),
    "body closed": lambda stream, twin: stream.response.stream.close(),
    "iterator closed": lambda stream, twin: stream._iterator.close(),
    "dropped": lambda stream, twin: None,
    "process ends": lambda stream, twin: twin.core.end_streams(twin.recorder),
    "closed twice": lambda stream, twin: (stream.response.stream.close(), stream._iterator.close()),
    "thrown into": lambda stream, twin: raised(stream._iterator.throw, KeyError("users")),
    "made to exit": lambda stream, twin: raised(stream._iterator.throw, GeneratorExit()),
}
ASYNC_ENDINGS: dict[str, Callable[[Any, Twin], Any]] = {
    "read to its end": lambda stream, twin: drain(stream._iterator),
    "body closed": lambda stream, twin: stream.response.stream.aclose(),
    "iterator closed": lambda stream, twin: stream._iterator.aclose(),
    "dropped": lambda stream, twin: None,
    "process ends": lambda stream, twin: twin.core.end_streams(twin.recorder),
    "thrown into": lambda stream, twin: araised(stream._iterator.athrow, KeyError("users")),
    "made to exit": lambda stream, twin: araised(stream._iterator.athrow, GeneratorExit()),
    "cancelled": lambda stream, twin: araised(stream._iterator.athrow, asyncio.CancelledError()),
}


def raised(function: Any, error: BaseException) -> None:
    try:
        function(error)
    except BaseException as same:
        assert same is error or isinstance(same, StopIteration)


async def araised(function: Any, error: BaseException) -> None:
    try:
        await function(error)
    except BaseException as same:
        assert same is error or isinstance(same, StopAsyncIteration)


async def drain(iterator: Any) -> list[Any]:
    return [chunk async for chunk in iterator]


def watched(twin: Twin, reply: Any, call_spec: CallSpec) -> Any:
    """The reply of a streamed call, as the caller gets it; the method keeps nothing of it."""
    given = [reply]
    del reply

    def original(self: Any, **kwargs: Any) -> Any:
        return given.pop()

    return twin.core.method(original, call_spec, twin.recorder)(Resource(), model="asked")


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Ends with a collection of what was made within; there is none before."""
    gc.disable()
    try:
        yield
        gc.collect(0)
    finally:
        gc.enable()


def read(twin: Twin, make: Callable[[], Any], call_spec: CallSpec, steps: int, ending: str) -> list[Any]:
    """What was read of a stream that ends so after some steps, or with its chunks."""
    seen: list[Any] = []
    with collected():
        stream = watched(twin, make(), call_spec)
        try:
            for _ in range(steps):
                seen.append(next(stream))
            ENDINGS[ending](stream, twin)
        except (StopIteration, ValueError) as error:
            seen.append(type(error))
        del stream
    return seen


def read_async(twin: Twin, make: Callable[[], Any], call_spec: CallSpec, steps: int, ending: str) -> list[Any]:
    async def reading(seen: list[Any]) -> None:
        with collected():
            stream = watched(twin, make(), call_spec)
            try:
                for _ in range(steps):
                    seen.append(await anext(stream._iterator))
                made = ASYNC_ENDINGS[ending](stream, twin)
                if inspect.isawaitable(made):
                    await made
            except (StopAsyncIteration, ValueError) as error:
                seen.append(type(error))
            del stream

    seen: list[Any] = []
    asyncio.run(reading(seen))
    return seen


def as_objects(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_objects(member) for name, member in value.items()})
    return [as_objects(item) for item in value] if isinstance(value, list) else value
