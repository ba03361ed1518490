"""The SDKs without their HTTP: real clients, requests and replies, around a method that has its reply ready.

What stands in is what fasttrace replaces, the one method under an SDK's public ones that makes the request. What it is
given and what it returns comes from the SDK's own constructors, so that what is read of the client, the request and the
reply is what is read in production.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import replies

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from replies import Json

REQUEST: Json = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": replies.QUESTION}],
    "temperature": 0.2,
    "max_tokens": 256,
}
SYNC, ASYNC = "SyncAPIClient.request", "AsyncAPIClient.request"
GOOGLE = "Models._generate_content"


def http_library(sdk: Any) -> Any:
    """httpx or httpx2, whichever this release of the SDK uses."""
    return importlib.import_module(sdk.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])


def options(sdk: str, path: str, body: Json) -> Any:
    """A request as an SDK's public method hands it down."""
    made = importlib.import_module(f"{sdk}._models").FinalRequestOptions
    return made.construct(method="post", url=path, json_data=body)


def openai_options(**more: Any) -> Any:
    return options("openai", "/chat/completions", {**REQUEST, **more})


def anthropic_options() -> Any:
    return options("anthropic", "/v1/messages", {**REQUEST, "model": "claude-sonnet-4-5"})


def google_request() -> Json:
    """The keywords with which `generate_content` calls the method that makes the request."""
    from google.genai import types

    contents = [types.Content(role="user", parts=[types.Part(text=replies.QUESTION)])]
    config = types.GenerateContentConfig(temperature=0.2, max_output_tokens=256)
    return {"model": "gemini-2.5-flash", "contents": contents, "config": config}


def client(owner: type, request: Any) -> Any:
    """An SDK's client, `request` its own; it goes nowhere."""
    return type(owner.__name__, (owner,), {"request": request})(api_key="sk-none")


def google_models(generate: Any) -> Any:
    from google import genai
    from google.genai.models import Models

    own = type("Models", (Models,), {"_generate_content": generate})
    return own(genai.Client(api_key="none")._api_client)


# ---- what is returned


def openai_reply() -> Any:
    from openai.types.chat import ChatCompletion

    return ChatCompletion.model_validate(replies.OPENAI)


def anthropic_reply() -> Any:
    from anthropic.types import Message

    return Message.model_validate(replies.ANTHROPIC)


def google_reply() -> Any:
    from google.genai import types

    return types.GenerateContentResponse._from_response(response=replies.GOOGLE, kwargs={})


def openai_chunks(count: int) -> list[Any]:
    """Chunks as the SDK parses them."""
    import openai
    from openai.types.chat import ChatCompletionChunk

    parse: Any = openai.OpenAI(api_key="sk-none")._process_response_data
    response = http_library(openai).Response(200)
    return [parse(data=chunk, cast_to=ChatCompletionChunk, response=response) for chunk in replies.openai_chunks(count)]


def returning(reply: object) -> Callable[..., object]:
    """A `request` that has its reply ready."""

    def request(self: object, cast_to: object, options: object, *, stream: bool = False, stream_cls: Any = None) -> Any:
        return reply

    return request


def returning_async(reply: object) -> Callable[..., Any]:
    async def request(
        self: object, cast_to: object, options: object, *, stream: bool = False, stream_cls: Any = None
    ) -> Any:
        return reply

    return request


def streaming(count: int) -> Callable[..., Any]:
    """A `request` that returns the SDK's own Stream, whose chunks are ready."""
    import openai

    chunks, library = openai_chunks(count), http_library(openai)
    response = library.Response(200)

    class Body(library.SyncByteStream):  # type: ignore[misc, name-defined]
        """What the connection is to the response: a new one for every reply."""

    class Ready(openai.Stream):  # type: ignore[type-arg]
        def __stream__(self) -> Iterator[Any]:
            try:
                yield from chunks
            finally:
                self.response.stream.close()

    def request(self: Any, cast_to: Any, options: object, *, stream: bool = False, stream_cls: Any = None) -> Any:
        response.stream = Body()
        return Ready(cast_to=cast_to, response=response, client=self)

    return request


def streaming_async(count: int) -> Callable[..., Any]:
    import openai

    chunks, library = openai_chunks(count), http_library(openai)
    response = library.Response(200)

    class Body(library.AsyncByteStream):  # type: ignore[misc, name-defined]
        pass

    class Ready(openai.AsyncStream):  # type: ignore[type-arg]
        async def __stream__(self) -> AsyncIterator[Any]:
            try:
                for chunk in chunks:
                    yield chunk
            finally:
                await self.response.stream.aclose()

    async def request(self: Any, cast_to: Any, options: object, *, stream: bool = False, stream_cls: Any = None) -> Any:
        response.stream = Body()
        return Ready(cast_to=cast_to, response=response, client=self)

    return request


def returning_raw() -> Callable[..., Any]:
    """A `request` that returns the SDK's own raw response, read, which has its parsed form ready."""
    import openai
    from openai._legacy_response import LegacyAPIResponse

    reply, response = openai_reply(), http_library(openai).Response(200, json=replies.OPENAI)
    assert "_content" in vars(response)

    class Ready(LegacyAPIResponse):  # type: ignore[type-arg]
        def _parse(self, *, to: Any = None) -> Any:
            return reply

    def request(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        return Ready(raw=response, cast_to=cast_to, client=self, stream=stream, stream_cls=stream_cls, options=options)

    return request
