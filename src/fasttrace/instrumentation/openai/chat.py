"""Chat completions, and the two older APIs that share their usage: completions and embeddings.

Providers that speak this API differ in where they say what: reasoning is `reasoning_content` or `reasoning`, DeepSeek
and Moonshot name cached tokens beside the usual place, gateways and Perplexity report a cost. xAI and Gemini do not
count reasoning into `completion_tokens`, but into `total_tokens`. Reading all of them by name costs little where they
are not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.core._api import Node
from fasttrace.trace.failure import failure
from fasttrace.trace.tracer import PROCESSOR

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fasttrace.core._api import Use, Value

SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "n",
    "seed",
    "max_tokens",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logprobs",
)
STREAM_OPTIONS: Mapping[str, Use] = {"include_usage": "param"}
CHAT_REQUEST: Mapping[str, Use] = {
    "model": "model",
    "service_tier": "tier",
    "reasoning": {"effort": "param"},
    "stream_options": STREAM_OPTIONS,
    **dict.fromkeys(
        (
            *SAMPLING,
            "max_completion_tokens",
            "top_logprobs",
            "parallel_tool_calls",
            "tool_choice",
            "reasoning_effort",
            "response_format",
            "verbosity",
            "store",
            "prompt_cache_retention",
        ),
        "param",
    ),
}
COMPLETION_REQUEST: Mapping[str, Use] = {
    "model": "model",
    "service_tier": "tier",
    "stream_options": STREAM_OPTIONS,
    **dict.fromkeys((*SAMPLING, "best_of", "echo"), "param"),
}
EMBEDDINGS_REQUEST: Mapping[str, Use] = {
    "model": "model",
    **dict.fromkeys(("dimensions", "encoding_format", "input_type", "truncate"), "param"),
}

COST = (
    Node("cost", "cost_usd", foreign=True),
    Node("cost", foreign=True, children=(Node("total_cost", "cost_usd"),)),
)
USAGE = (
    Node("prompt_tokens", "input_tokens"),
    Node("completion_tokens", "output_tokens"),
    Node("cached_tokens", "cache_read_tokens", foreign=True),
    Node("prompt_cache_hit_tokens", "cache_read_tokens", foreign=True),
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
    Node("total_tokens", "total_tokens", foreign=True),
    *COST,
)
HEAD = (Node("model", "model_id"), Node("id", "response_id"), Node("service_tier", "service_tier"))
TOOL_NAMES = (
    Node("function", children=(Node("name", "tool_calls"),)),
    Node("custom", children=(Node("name", "tool_calls"),)),
)

CHAT_REPLY = (
    *HEAD,
    Node("usage", children=USAGE),
    Node(
        "choices",
        each=True,
        children=(
            Node("finish_reason", "finish_reasons"),
            Node("message", children=(Node("tool_calls", each=True, children=TOOL_NAMES),)),
        ),
    ),
)
# This API leaves the count of an answer without a token out.
COMPLETION_USAGE = tuple(node._replace(otherwise=0) if node.name == "completion_tokens" else node for node in USAGE)
COMPLETION_REPLY = (
    *HEAD,
    Node("usage", children=COMPLETION_USAGE),
    Node("choices", each=True, children=(Node("finish_reason", "finish_reasons"),)),
)
EMBEDDINGS_REPLY = (
    Node("model", "model_id"),
    Node("usage", children=(Node("prompt_tokens", "input_tokens"), *COST)),
)

END = Node("finish_reason", "finish_reasons", mark="end")
DELTA = Node(
    "delta",
    children=(
        Node("content", mark="text"),
        Node("refusal", mark="text"),
        Node("reasoning_content", mark="token"),
        Node("reasoning", mark="token"),
        Node("audio", mark="token"),
        Node("function_call", mark="token"),
        Node("tool_calls", each=True, mark="token", children=TOOL_NAMES),
    ),
)


def _chunk(counts: tuple[Node, ...], *of_choice: Node) -> tuple[Node, ...]:
    """The usage of a stream comes in its last chunk, whose `choices` are empty, or grows from chunk to chunk; Groq and
    Moonshot have places of their own for it, which count for less."""
    usage = Node("usage", late=True, children=counts)
    return (
        *HEAD,
        Node("choices", each=True, children=(END, *of_choice, usage._replace(foreign=True))),
        Node("x_groq", late=True, children=(Node("usage", children=counts),)),
        usage,
    )


CHAT_CHUNK = _chunk(USAGE, DELTA)
COMPLETION_CHUNK = _chunk(COMPLETION_USAGE, Node("text", mark="text"))

# What `parse` raises for a reply that it does not parse.
REFUSALS = ("LengthFinishReasonError", "ContentFilterFinishReasonError")
LISTS = ("finish_reasons", "tool_calls")


def include_usage(body: Any) -> None:
    """Have a stream end with its usage, where a setting asks for it and the user has not decided about it. Other
    options of the user's are sent along, from a copy of their dictionary."""
    if PROCESSOR.config.openai_stream_usage:
        options = body.get("stream_options", {})
        if isinstance(options, dict) and "include_usage" not in options:
            body["stream_options"] = {**options, "include_usage": True}


def failure_of_chat(error: BaseException) -> Mapping[str, Value]:
    """What an exception tells. `parse` refuses a reply that was cut off, which is billed all the same: its exception
    has the reply. Never raises but for an interrupt."""
    fields: dict[str, Any] = failure(error)
    if type(error).__name__ in REFUSALS:
        _read_reply(getattr(error, "completion", None), CHAT_REPLY, fields)
        fields |= {"usage_source": "provider"} if "input_tokens" in fields else {}
    return fields


def _read_reply(found: object, nodes: tuple[Node, ...], fields: dict[str, Any]) -> None:
    """The nodes of a reply as the cores read them, in a call that has failed already and may take its time."""
    for node in nodes:
        value = None if node.foreign else getattr(found, node.name, None)
        for element in value if node.each and isinstance(value, list) else (value,):
            if element is None:
                continue
            if node.field in LISTS:
                fields.setdefault(node.field, []).append(element)
            elif node.field is not None and node.field != "total_tokens":
                fields[node.field] = element
            _read_reply(element, node.children, fields)
