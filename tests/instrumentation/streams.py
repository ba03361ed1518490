"""A made-up SDK for the tests of streams: its stream objects (the reply, and what it closes), chunks and specs."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from calls import REPLY, caller, spec

from fasttrace.core._api import ContentSpec, Node, Router, StreamSpec

USAGE = (
    Node("prompt_tokens", "input_tokens"),
    Node("completion_tokens", "output_tokens"),
    Node("cached_tokens", "cache_read_tokens"),
)
CHUNK = (
    Node("model", "model_id"),
    Node("id", "response_id"),
    Node("tier", "service_tier"),
    Node("usage", children=USAGE),
    Node(
        "choices",
        each=True,
        children=(
            Node("finish_reason", "finish_reasons", mark="end"),
            Node(
                "delta",
                children=(
                    Node("content", mark="text", unless="thought"),
                    Node("reasoning", mark="token"),
                    Node(
                        "tool_calls",
                        mark="token",
                        each=True,
                        children=(Node("function", children=(Node("name", "tool_calls"),)),),
                    ),
                ),
            ),
        ),
    ),
)
STREAM = StreamSpec("_iterator", ("response", "stream"), CHUNK)


# ---- chunks ----


def choice(index: Any = 0, finish: Any = None, **delta: Any) -> SimpleNamespace:
    return SimpleNamespace(index=index, finish_reason=finish, delta=SimpleNamespace(**delta))


def chunk(*choices: Any, **members: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"choices": list(choices), **members})


def text(content: Any, **members: Any) -> SimpleNamespace:
    return chunk(choice(content=content), **members)


def final(reason: str = "stop", **members: Any) -> SimpleNamespace:
    return chunk(choice(finish=reason), **members)


def counted(prompt: Any = 12, completion: Any = 3, **more: Any) -> SimpleNamespace:
    """The last chunk of a stream whose usage was asked for."""
    return chunk(usage=SimpleNamespace(prompt_tokens=prompt, completion_tokens=completion, **more))


def conversation() -> list[Any]:
    return [text("", model="m-1", id="r-1"), text("Hello"), text(" world"), final(), counted()]


# ---- what the SDK closes ----


class Body:
    """What stands behind a response: it is closed once, by whoever comes first."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> str:
        self.closed += 1
        return "closed"


class AsyncBody(Body):
    async def aclose(self) -> str:
        return self.close()


class Response:
    def __init__(self, body: Body, content: bytes | None = None) -> None:
        self.stream = body
        self.is_closed = False
        if content is not None:
            self._content = content

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.stream.close()

    async def aclose(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            await self.stream.aclose()  # type: ignore[attr-defined]


# ---- streams ----


class Stream:
    """Holds its iterator, a generator that refers to the stream: a cycle, unless `IS_CYCLE` is false."""

    IS_CYCLE = True

    def __init__(self, *chunks: Any, body: Body | None = None) -> None:
        self.response = Response(body or Body())
        self._iterator = _read(chunks, self.response, self if self.IS_CYCLE else None)

    def __next__(self) -> Any:
        return self._iterator.__next__()

    def __iter__(self) -> Any:
        for one in self._iterator:  # noqa: UP028 -- unlike `yield from`, leaving this does not close the iterator
            yield one

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.response.close()


class PlainStream(Stream):
    IS_CYCLE = False


class AsyncStream:
    IS_CYCLE = True

    def __init__(self, *chunks: Any, body: AsyncBody | None = None) -> None:
        self.response = Response(body or AsyncBody())
        self._iterator = _aread(chunks, self.response, self if self.IS_CYCLE else None)

    async def __anext__(self) -> Any:
        return await self._iterator.__anext__()

    async def __aiter__(self) -> Any:
        async for one in self._iterator:
            yield one

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.response.aclose()


class PlainAsyncStream(AsyncStream):
    IS_CYCLE = False


def _read(chunks: Any, response: Response, stream: Stream | None) -> Any:
    """An exception among the chunks is raised; of what can be called the answer is the chunk."""
    try:
        for one in chunks:
            if isinstance(one, BaseException):
                raise one
            yield one() if callable(one) else one
    finally:
        response.close()


async def _aread(chunks: Any, response: Response, stream: AsyncStream | None) -> Any:
    """The same; an awaitable that was called for is awaited."""
    try:
        for one in chunks:
            if isinstance(one, BaseException):
                raise one
            made = one() if callable(one) else one
            yield await made if hasattr(made, "__await__") else made
    finally:
        await response.aclose()


# ---- content ----


class Joined:
    """Puts the texts of a stream together."""

    def __init__(self, limit: int) -> None:
        self.limit, self.parts = limit, []  # type: ignore[var-annotated]

    def feed(self, one: Any) -> None:
        self.parts += [found.delta.content for found in one.choices if found.delta.content]

    def result(self) -> bytes:
        return json.dumps("".join(self.parts)[: self.limit]).encode()


CONTENT = ContentSpec(lambda source, limit: None, lambda reply, limit: None, Joined)


# ---- calls ----


def opened(recording: Any, reply: Any, **changes: Any) -> Any:
    """What a streamed call gives that is answered by `reply`, which nobody else holds afterwards."""
    answers = [reply]
    del reply
    create = caller(recording, lambda self, **kwargs: answers.pop(), **{"stream": STREAM, **changes})
    return create(model="m", stream=True)


async def aopened(recording: Any, reply: Any, **changes: Any) -> Any:
    answers = [reply]
    del reply

    async def answer(self: Any, **kwargs: Any) -> Any:
        return answers.pop()

    return await caller(recording, answer, is_async=True, **{"stream": STREAM, **changes})(model="m", stream=True)


def read(recording: Any, *chunks: Any, **changes: Any) -> dict[str, Any]:
    """The span of a stream of these chunks, read to its end."""
    assert list(opened(recording, Stream(*chunks), **changes)) == list(chunks)
    return dict(recording.span())


# ---- raw replies ----


class Options:
    """The request object of a router's method."""

    def __init__(self, url: str = "/chat", **body: Any) -> None:
        self.method, self.url, self.json_data, self.extra_json = "post", url, {"model": "m", **body}, None


class Raw:
    """A reply that the user parses later; `parse` gives what it was told to give."""

    def __init__(self, response: Response, parsed: Any = None) -> None:
        self._parsed_by_type: dict[Any, Any] = {}
        self.http_response = response
        self.parsed = parsed

    def parse(self, to: Any = object) -> Any:
        if to not in self._parsed_by_type:
            self._parsed_by_type[to] = self.parsed
        return self._parsed_by_type[to]


def raw_opened(recording: Any, raw: Any, *, is_stream: bool = False, **changes: Any) -> Any:
    """What a router's call gives that is answered by the reply `raw`."""
    answers = [raw]
    del raw
    return raw_caller(recording, answers, **changes)(object, Options(), stream=is_stream)


def raw_caller(recording: Any, answers: list[Any], **changes: Any) -> Any:
    """A router's method that gives the last of `answers`, and takes it off."""

    class Resource:
        def __init__(self) -> None:
            self._client = SimpleNamespace(_base_url="https://api.example.com:8443/v1")

    def request(self: Any, cast_to: Any, options: Any, *, stream: bool = False) -> Any:
        return answers.pop()

    router = Router({"post /chat": spec(**{"stream": STREAM, "reply": REPLY, **changes})})
    Resource.request = recording.core.method(request, router, recording.recorder)  # type: ignore[attr-defined]
    return Resource().request  # type: ignore[attr-defined]
