"""The Anthropic API as the loopback provider speaks it: messages, plain and streamed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .dialect import Refusal, reply_words, server_sent, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .dialect import Asked
    from .server import Json

DATED = {"claude-sonnet-4-5": "claude-sonnet-4-5-20250929", "claude-haiku-4-5": "claude-haiku-4-5-20251001"}
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
}


def answer(asked: Asked) -> Json:
    request = asked.request
    if not asked.path.endswith("/messages"):
        raise Refusal(404, None, f"Not found: {asked.path}")
    content, reason = _content(request)
    prompt = tokens(request.get("system") or "") + sum(tokens(message["content"]) for message in request["messages"])
    cached = asked.cached_tokens(request.get("system") or "")
    return {
        "id": f"msg_loopback{asked.number:08d}",
        "type": "message",
        "role": "assistant",
        "model": DATED.get(asked.model, asked.model),
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": prompt - cached,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": tokens(json.dumps(content)),
            "service_tier": "standard",
        },
    }


def refused(refusal: Refusal) -> Json:
    kind = ERROR_TYPES.get(refusal.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": str(refusal)}, "request_id": "req_loopback"}


def _content(request: Json) -> tuple[list[Json], str]:
    if request.get("tools"):
        use = {"type": "tool_use", "id": "toolu_loopback", "name": request["tools"][0]["name"]}
        return [{**use, "input": {"order": "A-1042"}}], "tool_use"
    text, is_cut = reply_words(request.get("max_tokens"))
    return [{"type": "text", "text": text}], "max_tokens" if is_cut else "end_turn"


def events(reply: Json, request: Json) -> bytes:
    return b"".join(server_sent(event, event["type"]) for event in _events(reply))


def _events(reply: Json) -> Iterator[Json]:
    (block,), usage = reply["content"], reply["usage"]
    begun = {**reply, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    empty: Json = {"text": ""} if block["type"] == "text" else {"input": {}}
    yield {"type": "content_block_start", "index": 0, "content_block": {**block, **empty}}
    yield {"type": "ping"}
    for delta in _deltas(block):
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    end = {"stop_reason": reply["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": end, "usage": {"output_tokens": usage["output_tokens"]}}
    yield {"type": "message_stop"}


def _deltas(block: Json) -> Iterator[Json]:
    if block["type"] == "tool_use":
        yield {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        return
    for word in block["text"].split():
        yield {"type": "text_delta", "text": f"{word} "}
