"""A provider that speaks the OpenAI chat completions and embeddings API on the loopback interface.

It answers as the API does: dated model names, usage with cached and reasoning tokens, tool calls, streams, and the
errors 400, 401, 404, 429 and 500 in the API's own shape, so that the official SDK makes real HTTP calls with no network
and no key. One thread per connection; what was seen before is guarded by the server's condition.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import time
from typing import TYPE_CHECKING

from .server import Handler, Json, Server

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

KEY = "sk-loopback"
DATED = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "o4-mini": "o4-mini-2025-04-16",
}
EMBEDDING_MODELS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
ANSWER = (
    "The parcel left the depot on Tuesday and is due before noon tomorrow; the carrier will ring first, "
    "and the refund for the late delivery has been booked to the card that paid for it."
)
CACHE_BLOCK = 128
ERROR_TYPES = {400: "invalid_request_error", 401: "invalid_request_error", 404: "invalid_request_error"}


class Refusal(Exception):
    """A reply that is an error, in the API's shape."""

    def __init__(self, status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {
            "error": {
                "message": message,
                "type": ERROR_TYPES.get(status, "server_error" if status >= 500 else "requests"),
                "param": None,
                "code": code,
            }
        }


class Provider(Server):
    """Answers chat completions and embeddings as the OpenAI API does.

    key: the only API key that is accepted; any other gives 401. limited: models that answer 429. broken: models that
    answer 500. flaky: models that answer 500 once, then well, so that the SDK retries. latency_s: added to each answer.
    """

    def __init__(
        self,
        *,
        key: str = KEY,
        limited: Collection[str] = (),
        broken: Collection[str] = (),
        flaky: Collection[str] = (),
        latency_s: float = 0.0,
    ) -> None:
        self.key = key
        self.limited, self.broken = frozenset(limited), frozenset(broken)
        self.latency_s = latency_s
        self.requests: list[Json] = []
        self._to_fail_once = set(flaky)
        self._prefixes: set[str] = set()
        super().__init__(_ProviderHandler)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, path: str, authorization: str, request: Json) -> Json:
        """The reply to one request; raises Refusal."""
        with self.changed:
            self.requests.append(request)
            number = len(self.requests)
            self.changed.notify_all()
        self._admit(authorization, request)
        time.sleep(self.latency_s)
        if path.endswith("/chat/completions"):
            return self._chat(number, request)
        if path.endswith("/embeddings"):
            return _embeddings(request)
        raise Refusal(404, None, f"Invalid URL (POST {path})")

    def _admit(self, authorization: str, request: Json) -> None:
        model = request.get("model")
        if authorization != f"Bearer {self.key}":
            raise Refusal(401, "invalid_api_key", "Incorrect API key provided.")
        if not isinstance(model, str):
            raise Refusal(400, None, "you must provide a model parameter")
        if model in self.limited:
            raise Refusal(429, "rate_limit_exceeded", f"Rate limit reached for {model}: limit 3 requests per minute.")
        if model in self.broken or self._fails_once(model):
            raise Refusal(500, None, "The server had an error while processing your request.", {"retry-after-ms": "5"})

    def _fails_once(self, model: str) -> bool:
        with self.changed:
            due = model in self._to_fail_once
            self._to_fail_once.discard(model)
            return due

    def _chat(self, number: int, request: Json) -> Json:
        model = DATED.get(request["model"], str(request["model"]))
        choices = [_choice(index, request) for index in range(request.get("n") or 1)]
        return {
            "id": f"chatcmpl-loopback{number:08d}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": choices,
            "usage": self._usage(model, request, choices),
            "service_tier": "default",
            "system_fingerprint": "fp_loopback",
        }

    def _usage(self, model: str, request: Json, choices: list[Json]) -> Json:
        reasoning = 64 if re.match(r"o\d", model) else 0
        prompt = sum(_tokens(message.get("content")) + 4 for message in request.get("messages", ()))
        completion = reasoning + sum(_tokens(json.dumps(choice["message"])) for choice in choices)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": self._cached(request), "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
        }

    def _cached(self, request: Json) -> int:
        """Tokens of a first message that was seen before with this model, in whole blocks."""
        messages = request.get("messages") or [{}]
        first = f"{request['model']} {messages[0].get('content')}"
        with self.changed:
            seen = first in self._prefixes
            self._prefixes.add(first)
        return _tokens(messages[0].get("content")) // CACHE_BLOCK * CACHE_BLOCK if seen else 0


class _ProviderHandler(Handler):
    def do_POST(self) -> None:
        request = json.loads(self.body() or b"{}")
        head = {"x-request-id": "req_loopback", "openai-processing-ms": "1"}
        try:
            answer = self.owner.answer(self.path, self.headers.get("authorization", ""), request)
        except Refusal as refusal:
            self.reply_json(refusal.status, refusal.body, {**head, **refusal.headers})
            return
        if request.get("stream"):
            self.reply(200, _events(answer, request), {**head, "content-type": "text/event-stream"})
        else:
            self.reply_json(200, answer, head)


def _tokens(text: object) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text if isinstance(text, str) else json.dumps(text)))


def _choice(index: int, request: Json) -> Json:
    message: Json = {"role": "assistant", "content": None, "refusal": None}
    reason = "stop"
    if request.get("tools"):
        call = {"name": request["tools"][0]["function"]["name"], "arguments": '{"order":"A-1042"}'}
        message["tool_calls"] = [{"id": f"call_{index}", "type": "function", "function": call}]
        reason = "tool_calls"
    else:
        words = ANSWER.split()
        limit = request.get("max_completion_tokens") or request.get("max_tokens") or len(words)
        message["content"] = " ".join(words[:limit])
        reason = "length" if limit < len(words) else "stop"
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def _embeddings(request: Json) -> Json:
    texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
    size = request.get("dimensions") or EMBEDDING_MODELS.get(request["model"], 8)
    used = sum(_tokens(text) for text in texts)
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


def _events(answer: Json, request: Json) -> bytes:
    """The same answer as a stream: a role frame, the words, the end, and usage where it was asked for."""
    choice = answer["choices"][0]
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": f"{word} "} for word in (choice["message"]["content"] or "").split()]
    frames = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    frames.append([{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}])
    head = {key: answer[key] for key in ("id", "created", "model", "service_tier", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    chunks = [{**head, "choices": frame} for frame in frames]
    if (request.get("stream_options") or {}).get("include_usage"):
        chunks.append({**head, "choices": [], "usage": answer["usage"]})
    return b"".join(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks) + b"data: [DONE]\n\n"
