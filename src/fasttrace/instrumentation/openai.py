"""The official openai package, generations 1 to 3, sync, async and Azure clients, any base URL.

Patched are the public methods, not the client's `request` underneath: they have the request as typed arguments and the
reply as the object the user gets, and a method that is not in this table is not touched. The one seam below them is
where the SDK waits before a retry, because nothing in a reply tells how often it was tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace import semconv
from fasttrace.core._api import CallSpec, Node
from fasttrace.instrumentation.call import count_retry, resolver
from fasttrace.instrumentation.registry import Patch
from fasttrace.trace.failure import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

SDK = "openai"
ENDPOINT = ("_client", "_base_url")

CHAT_REQUEST = {
    "model": "model",
    "stream": "stream",
    "messages": "ignored",
    "service_tier": "tier",
    "tools": "ignored",
    **dict.fromkeys(
        (
            "temperature",
            "top_p",
            "n",
            "max_tokens",
            "max_completion_tokens",
            "presence_penalty",
            "frequency_penalty",
            "seed",
            "logprobs",
            "top_logprobs",
            "parallel_tool_calls",
            "tool_choice",
            "reasoning_effort",
            "verbosity",
            "store",
        ),
        "param",
    ),
}
EMBEDDINGS_REQUEST = {
    "model": "model",
    "input": "ignored",
    "dimensions": "param",
    "encoding_format": "param",
}

USAGE = Node(
    "usage",
    children=(
        Node("prompt_tokens", "input_tokens"),
        Node("completion_tokens", "output_tokens"),
        Node(
            "prompt_tokens_details",
            children=(
                Node("cached_tokens", "cache_read_tokens"),
                Node("cache_write_tokens", "cache_write_tokens"),
                Node("audio_tokens", "input_audio_tokens"),
                Node("image_tokens", "input_image_tokens"),
            ),
        ),
        Node(
            "completion_tokens_details",
            children=(
                Node("reasoning_tokens", "reasoning_tokens"),
                Node("audio_tokens", "output_audio_tokens"),
            ),
        ),
        Node("cost", "cost_usd", foreign=True),
    ),
)
CHAT_REPLY = (
    Node("model", "model_id"),
    Node("id", "response_id"),
    Node("service_tier", "service_tier"),
    USAGE,
    Node(
        "choices",
        each=True,
        children=(
            Node("finish_reason", "finish_reasons"),
            Node(
                "message",
                children=(
                    Node(
                        "tool_calls",
                        each=True,
                        children=(
                            Node("function", children=(Node("name", "tool_calls"),)),
                            Node("custom", children=(Node("name", "tool_calls"),)),
                        ),
                    ),
                ),
            ),
        ),
    ),
)
EMBEDDINGS_REPLY = (
    Node("model", "model_id"),
    Node("usage", children=(Node("prompt_tokens", "input_tokens"), Node("cost", "cost_usd", foreign=True))),
)

_resolve = resolver(SDK)


def _spec(
    kind: str, operation: str, request: Mapping[str, str], reply: tuple[Node, ...], *, is_async: bool
) -> CallSpec:
    return CallSpec(kind, operation, SDK, is_async, request, reply, ENDPOINT, _resolve, failure)


def patches(method: Callable[[Any, CallSpec], Any], switch: Callable[[Any, bool], None]) -> list[Patch]:
    """The table of what is replaced; `method(original, spec)` makes the recording callable, `switch` turns it off."""

    def row(module: str, path: str, spec: CallSpec) -> Patch:
        return Patch(module, path, lambda original: method(original, spec), switch)

    found = []
    for prefix, is_async in (("", False), ("Async", True)):
        chat = _spec("llm", semconv.CHAT, CHAT_REQUEST, CHAT_REPLY, is_async=is_async)
        embeddings = _spec("embedding", semconv.EMBEDDINGS, EMBEDDINGS_REQUEST, EMBEDDINGS_REPLY, is_async=is_async)
        client = f"{prefix or 'Sync'}APIClient"
        found += [
            row("openai.resources.chat.completions", f"{prefix}Completions.create", chat),
            row("openai.resources.embeddings", f"{prefix}Embeddings.create", embeddings),
            # Releases before 1.59 retry by calling themselves, later ones in a loop.
            Patch("openai._base_client", f"{client}._sleep_for_retry", count_retry, is_optional=True),
            Patch("openai._base_client", f"{client}._retry_request", count_retry, is_optional=True),
        ]
    return found
