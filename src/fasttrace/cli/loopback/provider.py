"""A provider on the loopback interface that speaks the APIs of OpenAI, Anthropic and Google, each at its own paths.

It answers as they do: dated model names, usage with cached and reasoning tokens, tool calls, streams, and the errors
400, 401, 404, 429 and 500 in each API's own shape, so that the official SDKs make real HTTP calls with no network and
no key. One thread per connection; what was seen before is guarded by the server's condition.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from . import anthropic, google, openai
from .dialect import Asked, Refusal
from .server import Handler, Json, Server

if TYPE_CHECKING:
    from collections.abc import Collection
    from email.message import Message

    from .dialect import Dialect

KEY = "sk-loopback"


class Provider(Server):
    """Answers chats and embeddings as the providers' APIs do.

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
        self._seen: set[str] = set()
        super().__init__(_ProviderHandler)

    @property
    def root_url(self) -> str:
        """The base URL of Anthropic's and Google's SDKs."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """The base URL of OpenAI's SDK."""
        return f"{self.root_url}/v1"

    def answer(self, dialect: Dialect, path: str, key: str, request: Json) -> Json:
        """The reply to one request; raises Refusal."""
        with self.changed:
            self.requests.append(request)
            number = len(self.requests)
            self.changed.notify_all()
        model = google.model_of(path) if dialect is google else request.get("model")
        self._admit(key, model)
        time.sleep(self.latency_s)
        return dialect.answer(Asked(path, str(model), request, number, self._is_seen))

    def _admit(self, key: str, model: object) -> None:
        if key != self.key:
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

    def _is_seen(self, text: str) -> bool:
        with self.changed:
            is_seen = text in self._seen
            self._seen.add(text)
            return is_seen


class _ProviderHandler(Handler):
    def do_POST(self) -> None:
        request = json.loads(self.body() or b"{}")
        path = self.path.partition("?")[0]
        dialect = _dialect(path)
        head = {"x-request-id": "req_loopback", "request-id": "req_loopback", "openai-processing-ms": "1"}
        try:
            reply = self.owner.answer(dialect, path, _key(self.headers), request)
        except Refusal as refusal:
            self.reply_json(refusal.status, dialect.refused(refusal), {**head, **refusal.headers})
            return
        if request.get("stream") or path.endswith(":streamGenerateContent"):
            self.reply(200, dialect.events(reply, request), {**head, "content-type": "text/event-stream"})
        else:
            self.reply_json(200, reply, head)


def _dialect(path: str) -> Dialect:
    if ":" in path:
        return google
    return anthropic if "/messages" in path else openai


def _key(headers: Message) -> str:
    bearer = headers.get("authorization", "").removeprefix("Bearer ")
    return headers.get("x-api-key") or headers.get("x-goog-api-key") or bearer
