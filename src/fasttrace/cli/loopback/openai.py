"""The OpenAI API as the loopback provider speaks it: chat completions and embeddings, plain and streamed.

Usage has cached and reasoning tokens, models answer under their dated names, tools are called where there are some.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import time
from typing import TYPE_CHECKING

from .dialect import Refusal, reply_words, server_sent, tokens

if TYPE_CHECKING:
    from .dialect import Asked
    from .server import Json

DATED = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "o4-mini": "o4-mini-2025-04-16",
}
EMBEDDING_MODELS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
ERROR_TYPES = {400: "invalid_request_error", 401: "invalid_request_error", 404: "invalid_request_error"}


def answer(asked: Asked) -> Json:
    if asked.path.endswith("/chat/completions"):
        return _chat(asked)
    if asked.path.endswith("/embeddings"):
        return _embeddings(asked.request)
    raise Refusal(404, None, f"Invalid URL (POST {asked.path})")


def refused(refusal: Refusal) -> Json:
    kind = ERROR_TYPES.get(refusal.status, "server_error" if refusal.status >= 500 else "requests")
    return {"error": {"message": str(refusal), "type": kind, "param": None, "code": refusal.code}}


def _chat(asked: Asked) -> Json:
    request = asked.request
    model = DATED.get(asked.model, asked.model)
    choices = [_choice(index, request) for index in range(request.get("n") or 1)]
    return {
        "id": f"chatcmpl-loopback{asked.number:08d}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": _usage(model, asked, choices),
        "service_tier": "default",
        "system_fingerprint": "fp_loopback",
    }


def _usage(model: str, asked: Asked, choices: list[Json]) -> Json:
    reasoning = 64 if re.match(r"o\d", model) else 0
    messages = asked.request.get("messages") or [{}]
    prompt = sum(tokens(message.get("content")) + 4 for message in messages)
    completion = reasoning + sum(tokens(json.dumps(choice["message"])) for choice in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": asked.cached_tokens(messages[0].get("content")), "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    }


def _choice(index: int, request: Json) -> Json:
    message: Json = {"role": "assistant", "content": None, "refusal": None}
    if request.get("tools"):
        call = {"name": request["tools"][0]["function"]["name"], "arguments": '{"order":"A-1042"}'}
        message["tool_calls"] = [{"id": f"call_{index}", "type": "function", "function": call}]
        reason = "tool_calls"
    else:
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        message["content"], is_cut = reply_words(limit)
        reason = "length" if is_cut else "stop"
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def _embeddings(request: Json) -> Json:
    texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
    size = request.get("dimensions") or EMBEDDING_MODELS.get(request["model"], 8)
    used = sum(tokens(text) for text in texts)
    return {
        "object": "list",
        "model": request["model"],
        "data": [{"object": "embedding", "index": i, "embedding": _vector(request, size)} for i in range(len(texts))],
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


def _vector(request: Json, size: int) -> str | list[float]:
    """All 0.5: little-endian floats in base64 where the SDK asks for that."""
    if request.get("encoding_format") != "base64":
        return [0.5] * size
    return base64.b64encode(struct.pack(f"<{size}f", *[0.5] * size)).decode()


def events(reply: Json, request: Json) -> bytes:
    """The same answer as a stream: a role frame, the words, the end, and usage where it was asked for."""
    choice = reply["choices"][0]
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": f"{word} "} for word in (choice["message"]["content"] or "").split()]
    frames = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    frames.append([{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}])
    head = {key: reply[key] for key in ("id", "created", "model", "service_tier", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    chunks = [{**head, "choices": frame} for frame in frames]
    if (request.get("stream_options") or {}).get("include_usage"):
        chunks.append({**head, "choices": [], "usage": reply["usage"]})
    return b"".join(server_sent(chunk) for chunk in chunks) + b"data: [DONE]\n\n"
