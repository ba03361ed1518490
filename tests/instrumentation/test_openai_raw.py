"""Raw responses of the official openai SDK over loopback HTTP: parsed at once, late or never, whole or streamed."""

from __future__ import annotations

import gc
import threading
from typing import Any

import openai_calls as calls
import pytest
from openai_calls import DONE, MODEL, Chunks, ask, completion, stream_type, text_chunks, whole_stream

openai = calls.openai


def raw(client: Any, **changes: Any) -> Any:
    return client.chat.completions.with_raw_response.create(
        **{"model": "gpt-4o-mini", "messages": calls.MESSAGES, **changes}
    )


def streaming(client: Any, **changes: Any) -> Any:
    return client.chat.completions.with_streaming_response.create(
        **{"model": "gpt-4o-mini", "messages": calls.MESSAGES, **changes}
    )


def counts(span: dict[str, Any]) -> tuple[Any, ...]:
    return span["status"], span.get("usage_source"), span.get("input_tokens"), span.get("output_tokens")


EXACT = ("success", "provider", 100, 20)

# ---- whole replies ----


def test_a_raw_response_that_is_parsed(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(completion(), x_request_id="req-1")
    seen: list[Any] = []

    def use(reply: Any) -> Any:
        seen.extend((type(reply).__name__, reply.headers["x-request-id"], reply.status_code))
        return reply.parse()

    reply = ask(provider, mode, raw, use=use)
    assert seen == ["LegacyAPIResponse", "req-1", 200]
    assert type(reply) is openai.types.chat.ChatCompletion
    span = patched_openai.span()
    assert counts(span) == EXACT
    assert (span["model_id"], span["response_id"], span["finish_reasons"]) == (MODEL, "chatcmpl-1", ["stop"])
    assert "stream" not in span


def test_a_raw_response_parsed_twice_is_one_span(provider: Any, patched_openai: Any) -> None:
    provider.answer(completion())

    def use(reply: Any) -> Any:
        first = reply.parse()
        assert reply.parse() is first
        reply.parse(to=dict[str, object])
        return first

    ask(provider, "sync", raw, use=use)
    assert counts(patched_openai.span()) == EXACT


def test_a_raw_response_that_is_never_parsed(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(completion())
    body = ask(provider, mode, raw, use=lambda reply: reply.http_response.json())
    assert body["usage"]["prompt_tokens"] == 100
    gc.collect()
    span = patched_openai.span()
    assert counts(span) == EXACT
    assert (span["model_id"], span["finish_reasons"]) == (MODEL, ["stop"])


def test_a_raw_response_is_not_parsed_for_us(provider: Any, patched_openai: Any) -> None:
    """A reply that its user cannot parse costs its user an exception, and nobody else."""
    provider.answer(b"{ not json", content_type="application/json")
    with pytest.raises(ValueError):
        ask(provider, "sync", raw, use=lambda reply: reply.parse())
    gc.collect()
    span = patched_openai.span()
    assert (span["status"], "input_tokens" in span) == ("success", False)


def test_an_error_of_a_raw_call_is_its_own(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(calls.refusal("invalid_api_key", "no"), 401)
    with pytest.raises(openai.AuthenticationError):
        ask(provider, mode, raw)
    span = patched_openai.span()
    assert (span["status"], span["http_status"], span["error_code"]) == ("error", 401, "invalid_api_key")


def test_a_raw_method_kept_from_before_is_recorded(provider: Any, recording: Any) -> None:
    """The SDK makes raw methods of its own and keeps them; they may be older than the instrumentation."""
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
        create = client.chat.completions.with_raw_response.create
        instrumentation = calls.instrumentation_of(recording)
        instrumentation.apply()
        try:
            provider.answer(completion())
            create(model="m", messages=calls.MESSAGES).parse()
        finally:
            instrumentation.undo()
        assert counts(recording.span()) == EXACT
        provider.answer(completion())
        create(model="m", messages=calls.MESSAGES).parse()
        assert recording.spans() == []


# ---- streams of a raw response ----


def test_a_stream_of_a_raw_response(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(whole_stream())
    given = ask(provider, mode, lambda client: raw(client, stream=True), use=lambda reply: reply.parse())
    assert (given.kind, len(given.items)) == (stream_type(mode), 6)
    span = patched_openai.span()
    assert counts(span) == EXACT
    assert (span["stream"], span["chunks"], span["finish_reasons"]) == (True, 6, ["stop"])


def test_a_raw_stream_that_is_never_parsed(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(whole_stream())
    ask(provider, mode, lambda client: raw(client, stream=True), use=lambda reply: None)
    gc.collect()
    span = patched_openai.span()
    assert (span["status"], span["stream"]) == ("incomplete", True)
    assert "input_tokens" not in span


def test_a_raw_stream_read_by_the_user(provider: Any, patched_openai: Any) -> None:
    """Bytes that are read and kept tell the usage, although nobody parsed them."""
    provider.stream(whole_stream())

    def use(reply: Any) -> bytes:
        return reply.http_response.read()

    body = ask(provider, "sync", lambda client: raw(client, stream=True), use=use)
    assert body.endswith(b"[DONE]\n\n")
    gc.collect()
    span = patched_openai.span()
    assert counts(span) == EXACT
    assert (span["model_id"], span["finish_reasons"]) == (MODEL, ["stop"])


# ---- with_streaming_response ----


def test_a_streaming_response_that_is_parsed(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(completion())
    reply = ask(provider, mode, streaming, use=lambda reply: reply.parse())
    assert type(reply) is openai.types.chat.ChatCompletion
    assert counts(patched_openai.span()) == EXACT


def test_a_streaming_response_of_a_stream(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(whole_stream())
    given = ask(provider, mode, lambda client: streaming(client, stream=True), use=lambda reply: reply.parse())
    assert isinstance(given, Chunks)
    assert (given.kind, len(given.items)) == (stream_type(mode), 6)
    span = patched_openai.span()
    assert counts(span) == EXACT
    assert (span["stream"], span["chunks"]) == (True, 6)


def test_a_streaming_response_read_line_by_line(provider: Any, patched_openai: Any, mode: str) -> None:
    """What passes through is not kept, so nothing is known of the usage; that it was read to its end is."""
    provider.stream([*text_chunks(), DONE])

    def read(reply: Any) -> list[str]:
        return [line for line in reply.iter_lines() if line]

    async def read_async(reply: Any) -> list[str]:
        return [line async for line in reply.iter_lines() if line]

    lines = ask(
        provider,
        mode,
        lambda client: streaming(client, stream=True),
        use=read if mode == "sync" else read_async,
    )
    assert lines[-1] == "data: [DONE]"
    gc.collect()
    span = patched_openai.span()
    assert (span["status"], span["stream"]) == ("success", True)
    assert "input_tokens" not in span


def test_a_streaming_response_left_unread(provider: Any, patched_openai: Any, mode: str) -> None:
    gate = threading.Event()
    provider.stream([*text_chunks()[:1], gate, DONE])
    try:
        ask(provider, mode, lambda client: streaming(client, stream=True), use=lambda reply: None)
    finally:
        gate.set()
    gc.collect()
    span = patched_openai.span()
    assert (span["status"], span["stream"]) == ("incomplete", True)


def test_raw_embeddings(provider: Any, patched_openai: Any, mode: str) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    provider.answer({"object": "list", "model": "e", "data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}})

    def call(client: Any) -> Any:
        return client.embeddings.with_raw_response.create(model="e", input="x", encoding_format="float")

    ask(provider, mode, call, use=lambda reply: reply.parse())
    span = patched_openai.span()
    assert (span["operation"], span["input_tokens"]) == ("embeddings", 7)


@calls.needs_responses
def test_a_raw_response_of_the_responses_api(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(calls.response())

    def call(client: Any) -> Any:
        return client.responses.with_raw_response.create(model="gpt-4o-mini", input="x")

    ask(provider, mode, call, use=lambda reply: reply.parse())
    assert counts(patched_openai.span()) == EXACT


def test_a_raw_response_can_be_copied_and_kept(provider: Any, patched_openai: Any) -> None:
    """Its own dictionary is still one to everybody who looks."""
    provider.answer(completion())
    kept: list[Any] = []

    def use(reply: Any) -> Any:
        kept.append(reply)
        assert isinstance(reply._parsed_by_type, dict)
        assert reply._parsed_by_type == {}
        return reply.parse()

    parsed = ask(provider, "sync", raw, use=use)
    assert list(kept[0]._parsed_by_type.values()) == [parsed]
    assert counts(patched_openai.span()) == EXACT
