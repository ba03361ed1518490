"""The Responses API: its reply, its stream's events, and replies fetched again.

A response that runs in the background has no usage when it is created, and one that is fetched again has been counted
before; a fetch is a call of its own, and never counts tokens or tools. Why a response ended is told only where it is
incomplete; a failed one is an error, although its HTTP status is 200.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.core._api import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fasttrace.core._api import Use

RESPONSE_REQUEST: Mapping[str, Use] = {
    "model": "model",
    "service_tier": "tier",
    "reasoning": {"effort": "param", "summary": "param"},
    "text": {"verbosity": "param"},
    **dict.fromkeys(
        (
            "temperature",
            "top_p",
            "top_logprobs",
            "max_output_tokens",
            "max_tool_calls",
            "parallel_tool_calls",
            "tool_choice",
            "truncation",
            "store",
            "background",
            "conversation",
            "previous_response_id",
            "prompt_cache_retention",
        ),
        "param",
    ),
}
FETCH_REQUEST: Mapping[str, Use] = {}

# What the model asks for by name; the provider's own tools are types without one.
TOOL_TYPES = ("function_call", "custom_tool_call", "mcp_call")

HEAD = (Node("model", "model_id"), Node("id", "response_id"), Node("service_tier", "service_tier"))
USAGE = Node(
    "usage",
    children=(
        Node("input_tokens", "input_tokens"),
        Node("output_tokens", "output_tokens"),
        Node(
            "input_tokens_details",
            children=(Node("cached_tokens", "cache_read_tokens"), Node("cache_write_tokens", "cache_write_tokens")),
        ),
        Node("output_tokens_details", children=(Node("reasoning_tokens", "reasoning_tokens"),)),
        Node("cost", "cost_usd", foreign=True),
    ),
)
INCOMPLETE = Node("incomplete_details", children=(Node("reason", "finish_reasons"),))
ERROR = Node("error", children=(Node("code", "error_code"),))

SEARCH = Node("type", "web_search_requests", types=("web_search_call",))

RESPONSE_REPLY = (
    *HEAD,
    USAGE,
    INCOMPLETE,
    ERROR,
    Node("output", each=True, children=(Node("name", "tool_calls", types=TOOL_TYPES), SEARCH)),
)
FETCH_REPLY = (*HEAD, INCOMPLETE)

TOKEN = (Node("delta", mark="token"),)
TEXT = (Node("delta", mark="text"),)
END = Node("type", mark="end")
BEGUN = (Node("response", children=HEAD),)
FETCHED = (END, Node("response", children=FETCH_REPLY))
ENDED = (
    END,
    Node("response", children=(*HEAD, USAGE, INCOMPLETE, ERROR, Node("output", each=True, children=(SEARCH,)))),
)

_GENERATION: Mapping[str, tuple[Node, ...]] = {
    "response.created": BEGUN,
    "response.queued": BEGUN,
    "response.in_progress": BEGUN,
    "response.output_text.delta": TEXT,
    "response.refusal.delta": TEXT,
    "response.audio.transcript.delta": TEXT,
    "response.audio.delta": TOKEN,
    "response.reasoning_text.delta": TOKEN,
    "response.reasoning_summary_text.delta": TOKEN,
    "response.function_call_arguments.delta": TOKEN,
    "response.custom_tool_call_input.delta": TOKEN,
    "response.mcp_call_arguments.delta": TOKEN,
    "response.code_interpreter_call_code.delta": TOKEN,
    "response.image_generation_call.partial_image": (Node("partial_image_b64", mark="token"),),
}
RESPONSE_EVENTS: Mapping[str, tuple[Node, ...]] = {
    **_GENERATION,
    "response.output_item.added": (
        Node("item", children=(Node("name", "tool_calls", types=TOOL_TYPES, mark="token"),)),
    ),
    **dict.fromkeys(("response.completed", "response.incomplete", "response.failed"), ENDED),
    # The event's own type stands for a code that it does not give.
    "error": (Node("type", "error_code"), Node("code", "error_code")),
}
FETCH_EVENTS: Mapping[str, tuple[Node, ...]] = {
    **_GENERATION,
    **dict.fromkeys(("response.completed", "response.incomplete", "response.failed"), FETCHED),
    "error": RESPONSE_EVENTS["error"],
}
