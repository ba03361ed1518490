"""The package google-generativeai 0.8, Gemini's first: `GenerativeModel` and what is made of it, sync and async.

Patched is the generated client that it calls, over gRPC or REST. The public methods have no model and no configuration
among their arguments, both are the model object's; and `GenerateContentResponse` has taken the first chunk of a stream
from its iterator before anybody gets it. The client is given the whole request, and every chunk passes through it.

Its messages are protocol buffers: an attribute that was never sent reads as zero, and a list of them is no list. So
what the driver sees of a message is a dictionary of what was sent, made when it is read, and the caller gets the
message. That takes a function of ours around the driver and one inside it, once a call, and one object more a chunk.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from typing import TYPE_CHECKING, Any

from fasttrace import semconv
from fasttrace.core._api import CURRENT, CallSpec, Node, StreamSpec
from fasttrace.instrumentation.call import resolver
from fasttrace.instrumentation.content import legacy_generate_content_content
from fasttrace.instrumentation.google import CHUNK_PART, COUNTS, FUNCTION, candidates
from fasttrace.instrumentation.registry import Patch
from fasttrace.trace.failure import failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from fasttrace.core._api import Endpoint, Use, Value

SERVICE = "google.ai.generativelanguage_v1beta.services.generative_service"
RETRIES = ("retry_unary", "retry_unary_async", "retry_streaming", "retry_streaming_async")

REQUEST: dict[str, Use] = {
    "model": "model",
    "config": dict.fromkeys(
        (
            *("temperature", "top_p", "top_k", "max_output_tokens", "candidate_count", "presence_penalty"),
            *("frequency_penalty", "response_mime_type", "response_logprobs", "logprobs"),
        ),
        "param",
    ),
}
ANSWER = (Node("model_version", "model_id"), Node("usage_metadata", children=COUNTS, late=True))
REPLY = (Node("sent", children=(*ANSWER, candidates(FUNCTION))),)
CHUNK = (Node("sent", children=(*ANSWER, candidates(*CHUNK_PART))),)

_resolve_url = resolver(semconv.GEMINI)


def _resolve(endpoint: Any, client: Any) -> Endpoint:
    return _resolve_url(endpoint if "://" in endpoint else f"https://{endpoint}", client)


def _failure(exception: BaseException) -> dict[str, Value]:
    """What a call of google.api_core's tells besides: its `code` is an enumeration's member, and gRPC has one, too."""
    fields: dict[str, Any] = {**failure(exception)}
    status, code = getattr(exception, "code", None), getattr(exception, "grpc_status_code", None)
    if isinstance(status, int):
        fields["http_status"] = int(status)
        fields["error_code"] = str(int(status)) if code is None else str(code.name)
    if fields.get("error_code") == "DEADLINE_EXCEEDED":
        fields["status"] = "timeout"
    return fields


class _Seen:
    """A message, and what was sent of it; who looks for content is shown the message."""

    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message

    @property
    def sent(self) -> dict[str, Any]:
        return _sent(self.message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.message, name)


def _sent(message: Any) -> dict[str, Any]:
    form: Any = importlib.import_module("google.protobuf.json_format")
    sent: dict[str, Any] = form.MessageToDict(type(message).pb(message), preserving_proto_field_name=True)
    return sent


class _Iterator:
    """What the client streams, each message seen (or its own again), all else as it is."""

    def __init__(self, stream: Any, each: Callable[[Any], Any]) -> None:
        self._stream = stream
        self._each = each

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Chunks(_Iterator):
    def __iter__(self) -> _Chunks:
        return self

    def __next__(self) -> Any:
        return self._each(next(self._stream))


class _AsyncChunks(_Iterator):
    """gRPC's stream is no iterator, it has one."""

    def __init__(self, stream: Any, each: Callable[[Any], Any]) -> None:
        super().__init__(stream, each)
        self._iterator = stream.__aiter__()

    def __aiter__(self) -> _AsyncChunks:
        return self

    async def __anext__(self) -> Any:
        return self._each(await self._iterator.__anext__())


def _message_of(seen: _Seen) -> Any:
    return seen.message


def _request(args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """What the driver reads of a request, which the client takes in three forms, and the arguments themselves."""
    request = args[0] if args else options.get("request")
    if request is None or isinstance(request, dict):
        fields = request or options
        config = fields.get("generation_config")
    else:
        fields = {"model": request.model}
        config = _sent(request.generation_config) if "generation_config" in request else None
    seen = {"model": fields.get("model"), "config": config, "call": (args, options)}
    return {**seen, "request": request, "contents": options.get("contents")}


def _recorded(original: Any, method: Callable[[Any, CallSpec], Any], streams: bool) -> Any:
    def call(client: Any, *, call: Any, **seen: Any) -> Any:
        reply = original(client, *call[0], **call[1])
        return _Chunks(reply, _Seen) if streams else _Seen(reply)

    recorded = method(call, _spec(False, streams))

    @functools.wraps(original)
    def stand_in(client: Any, *args: Any, **options: Any) -> Any:
        seen = recorded(client, **_request(args, options))
        return _Chunks(seen, _message_of) if streams else seen.message

    stand_in.recorded = recorded  # type: ignore[attr-defined]
    return stand_in


def _recorded_async(original: Any, method: Callable[[Any, CallSpec], Any], streams: bool) -> Any:
    async def call(client: Any, *, call: Any, **seen: Any) -> Any:
        reply = await original(client, *call[0], **call[1])
        return _AsyncChunks(reply, _Seen) if streams else _Seen(reply)

    recorded = method(call, _spec(True, streams))

    async def seen(client: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        reply = await recorded(client, **_request(args, options))
        return _AsyncChunks(reply, _message_of) if streams else reply.message

    @functools.wraps(original)
    async def coroutine_function(client: Any, *args: Any, **options: Any) -> Any:
        return await seen(client, args, options)

    @functools.wraps(original)
    def function(client: Any, *args: Any, **options: Any) -> Any:
        return seen(client, args, options)

    stand_in: Any = coroutine_function if inspect.iscoroutinefunction(original) else function
    stand_in.recorded = recorded
    return stand_in


def _spec(is_async: bool, streams: bool) -> CallSpec:
    return CallSpec(
        "llm",
        semconv.GENERATE_CONTENT,
        semconv.GEMINI,
        is_async,
        REQUEST,
        REPLY,
        ("_client", "_api_endpoint") if is_async else ("_api_endpoint",),
        _resolve,
        _failure,
        stream=StreamSpec(None, chunk=CHUNK) if streams else None,
        content=legacy_generate_content_content(),
        always_streams=streams,
    )


def _count_retry(original: Callable[..., Any]) -> Callable[..., Any]:
    """Stand for the function that says how long to wait before the next attempt; it raises where there is none."""

    @functools.wraps(original)
    def counted(*args: Any, **options: Any) -> Any:
        pause = original(*args, **options)
        context = CURRENT.get()
        if context is not None:
            context.retries += 1
        return pause

    return counted


def patches(method: Callable[[Any, CallSpec], Any], switch: Callable[[Any, bool], None]) -> list[Patch]:
    """The table of what is replaced; `method(original, spec)` makes the recording callable, `switch` turns it off."""

    def patch(module: str, path: str, record: Callable[..., Any], streams: bool) -> Patch:
        return Patch(
            f"{SERVICE}.{module}",
            path,
            lambda original: record(original, method, streams),
            lambda stand_in, is_on: switch(stand_in.recorded, is_on),
        )

    found = []
    for name, streams in (("generate_content", False), ("stream_generate_content", True)):
        found.append(patch("client", f"GenerativeServiceClient.{name}", _recorded, streams))
        found.append(patch("async_client", f"GenerativeServiceAsyncClient.{name}", _recorded_async, streams))
    # Releases of google-api-core before 2.16 have no such function.
    for module in RETRIES:
        found.append(Patch(f"google.api_core.retry.{module}", "_retry_error_helper", _count_retry, is_optional=True))
    return found
