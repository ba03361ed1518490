"""The official anthropic package, generations 0 to 2: the API's own, Bedrock, Vertex and other clients, any base URL.

Patched is `request`, which every call goes through once: the public methods, the stream helper, `parse`, the tool
runner's single turns and raw responses are the SDK's own objects, and one HTTP call (with its retries) is one span.
Clients of other clouds rewrite the path after that, and give the same replies and events.

What the API calls `input_tokens` leaves out what was read from a cache or written to one; a span's has all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace import semconv
from fasttrace.core._api import CallSpec, Node, StreamSpec
from fasttrace.instrumentation.anthropic.second_stream import second_stream_patches
from fasttrace.instrumentation.call import CLIENT_ENDPOINT, client_patches, resolver
from fasttrace.instrumentation.content import messages_content
from fasttrace.trace.failure import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from fasttrace.core._api import ContentSpec, Use
    from fasttrace.instrumentation.registry import Patch

SDK = semconv.ANTHROPIC

# Bases of clients that usually have a host which tells as much; these tell where a gateway stands before it.
PROVIDER_BY_CLASS = {
    "BaseBedrockClient": semconv.BEDROCK,
    "BaseMantleClient": semconv.BEDROCK,
    "BaseVertexClient": semconv.VERTEX,
    "BaseFoundryClient": semconv.AZURE_INFERENCE,
}

# Asking for a tier of service is no tier yet: the reply tells which it was. Faster answers, and answers that stay in
# one part of the world, have prices of their own and no reply that tells.
MESSAGES_REQUEST: dict[str, Use] = {
    "model": "model",
    "speed": "rate",
    "inference_geo": "rate",
    "thinking": {"budget_tokens": "param"},
    "output_config": {"effort": "param"},
    "tool_choice": {"disable_parallel_tool_use": "param"},
    **dict.fromkeys(("max_tokens", "temperature", "top_p", "top_k", "service_tier"), "param"),
}
COUNT_TOKENS_REQUEST: dict[str, Use] = {"model": "model"}
COMPLETE_REQUEST: dict[str, Use] = {
    "model": "model",
    **dict.fromkeys(("max_tokens_to_sample", "temperature", "top_p", "top_k"), "param"),
}

# The message that starts a stream has the counts of the input, and of the output only what there is of it by then.
INPUT_USAGE = (
    Node("input_tokens", "input_tokens"),
    Node("cache_read_input_tokens", "cache_read_tokens", adds="input_tokens"),
    Node("cache_creation_input_tokens", "cache_write_tokens", adds="input_tokens"),
    Node("cache_creation", children=(Node("ephemeral_1h_input_tokens", "cache_write_1h_tokens"),)),
    Node("service_tier", "service_tier"),
)
USAGE = (
    *INPUT_USAGE,
    Node("output_tokens", "output_tokens"),
    Node("output_tokens_details", children=(Node("thinking_tokens", "reasoning_tokens"),)),
    Node("server_tool_use", children=(Node("web_search_requests", "web_search_requests"),)),
)
IDENTITY = (Node("model", "model_id"), Node("id", "response_id"))
# Tools that the provider runs itself are no calls the model asks the application for.
TOOL_NAME = Node("name", "tool_calls", types=("tool_use",))

MESSAGE = (
    *IDENTITY,
    Node("stop_reason", "finish_reasons"),
    Node("content", each=True, children=(TOOL_NAME,)),
    Node("usage", children=USAGE),
)
MESSAGE_EVENTS = {
    "message_start": (Node("message", children=(*IDENTITY, Node("usage", children=INPUT_USAGE))),),
    "content_block_start": (
        Node(
            "content_block",
            children=(TOOL_NAME, Node("text", mark="text"), Node("name", mark="token"), Node("data", mark="token")),
        ),
    ),
    "content_block_delta": (
        Node(
            "delta",
            children=(
                Node("text", mark="text"),
                Node("thinking", mark="token"),
                Node("partial_json", mark="token"),
            ),
        ),
    ),
    "message_delta": (
        Node("delta", children=(Node("stop_reason", "finish_reasons", mark="end"),)),
        Node("usage", children=USAGE),
    ),
}

COMPLETION = (*IDENTITY, Node("stop_reason", "finish_reasons"))
COMPLETION_EVENTS = {
    "completion": (
        *IDENTITY,
        Node("completion", mark="text"),
        Node("stop_reason", "finish_reasons", mark="end"),
    ),
}

_resolve = resolver(SDK, PROVIDER_BY_CLASS)


def _spec(
    kind: str,
    operation: str,
    request: Mapping[str, Use],
    reply: tuple[Node, ...] = (),
    *,
    events: Mapping[str, tuple[Node, ...]] | None = None,
    content: ContentSpec | None = None,
) -> CallSpec:
    stream = StreamSpec("_iterator", ("response", "stream"), events=events) if events else None
    return CallSpec(kind, operation, SDK, False, request, reply, CLIENT_ENDPOINT, _resolve, failure, stream, content)


ROUTES = {
    "post /v1/messages": _spec(
        "llm", semconv.CHAT, MESSAGES_REQUEST, MESSAGE, events=MESSAGE_EVENTS, content=messages_content()
    ),
    # Nothing is generated and nothing billed: no model call, and what it counts is no usage.
    "post /v1/messages/count_tokens": _spec("task", semconv.COUNT_TOKENS, COUNT_TOKENS_REQUEST),
    "post /v1/complete": _spec("llm", semconv.TEXT_COMPLETION, COMPLETE_REQUEST, COMPLETION, events=COMPLETION_EVENTS),
}


def _routes(is_async: bool) -> Mapping[str, CallSpec]:
    return {route: spec._replace(is_async=is_async) for route, spec in ROUTES.items()}


def patches(method: Callable[[Any, Any], Any], switch: Callable[[Any, bool], None]) -> list[Patch]:
    """The table of what is replaced; `method(original, router)` makes what records, `switch` turns it off."""
    return [*client_patches(SDK, _routes, method, switch), *second_stream_patches()]
