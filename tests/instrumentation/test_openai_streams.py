"""Streamed chat and text completions of the official openai SDK over loopback HTTP, however they end."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from typing import Any

import openai_calls as calls
import pytest
from openai_calls import DONE, MODEL, ask, chat, chunk, final_chunk, stream_type, text_chunks, usage, whole_stream

openai = calls.openai


def streamed(client: Any, **changes: Any) -> Any:
    return chat(client, stream=True, **changes)


def cut_short(span: dict[str, Any]) -> tuple[str, str, bool]:
    return span["status"], span["usage_source"], "cost_usd" in span


CUT_SHORT = ("incomplete", "partial", False)

# ---- read to the end ----


def test_a_stream_is_one_exact_span(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(whole_stream())
    given = ask(provider, mode, lambda client: streamed(client, temperature=0.5))
    assert given.kind is stream_type(mode)
    assert [type(item) for item in given.items] == 6 * [openai.types.chat.ChatCompletionChunk]
    span = patched_openai.span()
    assert (span["kind"], span["operation"], span["stream"], span["chunks"]) == ("llm", "chat", True, 6)
    assert (span["model_id"], span["request_model"]) == (MODEL, "gpt-4o-mini")
    assert (span["response_id"], span["service_tier"], span["status"]) == ("chatcmpl-1", "default", "success")
    assert (span["input_tokens"], span["output_tokens"], span["usage_source"]) == (100, 20, "provider")
    assert (span["cache_read_tokens"], span["reasoning_tokens"]) == (64, 5)
    assert (span["finish_reasons"], span["request_params"]) == (["stop"], {"temperature": 0.5})
    assert 0 < span["first_chunk_ms"] <= span["first_token_ms"] == span["first_text_ms"] <= span["duration_ms"]
    assert patched_openai.recorder.passed_streams == 0


def test_the_users_stream_is_the_sdks_own(provider: Any, patched_openai: Any) -> None:
    provider.stream(whole_stream(), x_request_id="req-1")
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
        stream = streamed(client)
        assert type(stream) is openai.Stream
        assert isinstance(stream, openai.Stream)
        assert stream.response.headers["x-request-id"] == "req-1"
        with stream as entered:
            assert entered is stream
            assert next(stream).choices[0].delta.role == "assistant"
            assert "".join(item.choices[0].delta.content or "" for item in stream if item.choices) == (
                "word0 word1 word2 "
            )
        assert list(stream) == []
        with pytest.raises(StopIteration):
            next(stream)
        assert stream.response.is_closed
    assert patched_openai.span()["status"] == "success"


def test_a_stream_without_usage_has_no_tokens(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream([*text_chunks(), DONE])
    ask(provider, mode, streamed)
    span = patched_openai.span()
    assert (span["status"], span["finish_reasons"]) == ("success", ["stop"])
    assert not {"input_tokens", "output_tokens", "usage_source", "cost_usd"} & span.keys()


def test_the_chunk_with_usage_has_no_choices(provider: Any, patched_openai: Any, mode: str) -> None:
    """Whoever reads the first choice of every chunk stumbles over the last one."""
    provider.stream([chunk({"content": "x"}), chunk({}, "length"), final_chunk(), DONE])
    ask(provider, mode, streamed)
    span = patched_openai.span()
    assert (span["output_tokens"], span["finish_reasons"]) == (20, ["length"])


def test_usage_in_every_chunk_is_not_summed(provider: Any, patched_openai: Any, mode: str) -> None:
    pieces = [chunk({"content": "x"}, usage=usage(completion_tokens=n)) for n in range(1, 4)]
    provider.stream([*pieces, chunk({}, "stop", usage=usage(completion_tokens=4)), DONE])
    ask(provider, mode, streamed)
    span = patched_openai.span()
    assert (span["input_tokens"], span["output_tokens"]) == (100, 4)


@pytest.mark.parametrize(
    ("host", "provider_name", "first", "last"),
    [
        ("api.groq.com", "groq", {"x_groq": {"id": "r"}}, {"x_groq": {"id": "r", "usage": usage()}}),
        (
            "api.moonshot.cn",
            "moonshot_ai",
            {},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage()}]},
        ),
    ],
    ids=["groq", "moonshot"],
)
def test_usage_in_a_place_of_a_providers_own(
    provider: Any, patched_openai: Any, mode: str, host: str, provider_name: str, first: Any, last: Any
) -> None:
    pieces = [chunk({"role": "assistant"}, **first), chunk({"content": "x"}), chunk({}, "stop", **last), DONE]
    provider.stream(pieces)
    proxied = openai.DefaultHttpxClient if mode == "sync" else openai.DefaultAsyncHttpxClient
    http_client = proxied(proxy=f"http://127.0.0.1:{provider.port}")
    ask(provider, mode, streamed, base_url=f"http://{host}/v1", http_client=http_client)
    span = patched_openai.span()
    assert (span["provider"], span["finish_reasons"]) == (provider_name, ["stop"])
    assert (span["input_tokens"], span["output_tokens"]) == (100, 20)


def test_azures_first_chunk_has_neither_id_nor_model(provider: Any, patched_openai: Any, mode: str) -> None:
    filters = chunk(id="", model="", choices=[], service_tier=None, prompt_filter_results=[{"prompt_index": 0}])
    provider.stream([filters, *whole_stream()])
    ask(provider, mode, streamed)
    span = patched_openai.span()
    assert (span["response_id"], span["model_id"], span["chunks"]) == ("chatcmpl-1", MODEL, 7)


def test_a_role_is_no_token_and_reasoning_is_no_text(provider: Any, patched_openai: Any) -> None:
    pieces = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "yes"}),
        final_chunk(),
    ]
    gates = [threading.Event() for _ in pieces]
    provider.stream([piece for pair in zip(gates, pieces, strict=True) for piece in pair] + [DONE])
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
        gates[0].set()
        stream = streamed(client)
        for gate in [*gates[1:], threading.Event()]:
            next(stream)
            gate.set()
        assert list(stream) == []
    span = patched_openai.span()
    assert 0 < span["first_chunk_ms"] < span["first_token_ms"] < span["first_text_ms"] < span["duration_ms"]


@pytest.mark.parametrize("delta", [{"refusal": "no"}, {"content": "x"}], ids=["refusal", "content"])
def test_what_is_visible_is_text(provider: Any, patched_openai: Any, delta: Any) -> None:
    provider.stream([chunk(delta), DONE])
    ask(provider, "sync", streamed)
    assert "first_text_ms" in patched_openai.span()


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_of_other_providers_is_a_token(provider: Any, patched_openai: Any, name: str) -> None:
    provider.stream([chunk({name: "hm"}), DONE])
    ask(provider, "sync", streamed)
    span = patched_openai.span()
    assert "first_token_ms" in span
    assert "first_text_ms" not in span


def test_a_tool_call_is_counted_once_though_it_comes_in_pieces(provider: Any, patched_openai: Any, mode: str) -> None:
    def piece(index: int, **changes: Any) -> Any:
        return chunk({"tool_calls": [{"index": index, **changes}]})

    provider.stream(
        [
            piece(0, id="call_0", type="function", function={"name": "get_weather", "arguments": ""}),
            piece(0, function={"arguments": '{"city":'}),
            piece(0, function={"arguments": '"Vienna"}'}),
            piece(1, id="call_1", type="function", function={"name": "get_time", "arguments": "{}"}),
            chunk({}, "tool_calls"),
            final_chunk(),
            DONE,
        ]
    )
    ask(provider, mode, streamed)
    span = patched_openai.span()
    assert (span["tool_calls"], span["finish_reasons"]) == (["get_weather", "get_time"], ["tool_calls"])
    assert "first_token_ms" in span
    assert "first_text_ms" not in span


def test_choices_may_come_in_any_order(provider: Any, patched_openai: Any, mode: str) -> None:
    pieces = [chunk({"content": "x"}, index=n) for n in (2, 0, 1)]
    ends = [chunk({}, reason, index=n) for n, reason in ((1, "length"), (2, "content_filter"), (0, "stop"))]
    provider.stream([*pieces, *ends, final_chunk(), DONE])
    ask(provider, mode, lambda client: streamed(client, n=3))
    assert patched_openai.span()["finish_reasons"] == ["stop", "length", "content_filter"]


def test_the_stream_helper_is_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(whole_stream())

    def helper(client: Any) -> Any:
        completions = client.chat.completions
        completions = completions if hasattr(completions, "stream") else client.beta.chat.completions
        return completions.stream(model="gpt-4o-mini", messages=calls.MESSAGES)

    given = ask(provider, mode, helper)
    assert given.kind.__name__ == ("ChatCompletionStream" if mode == "sync" else "AsyncChatCompletionStream")
    deltas = [event.delta for event in given.items if event.type == "content.delta"]
    assert "".join(deltas) == "word0 word1 word2 "
    span = patched_openai.span()
    assert (span["status"], span["stream"], span["input_tokens"], span["chunks"]) == ("success", True, 100, 6)


def test_a_text_completion_stream(provider: Any, patched_openai: Any, mode: str) -> None:
    def piece(text: str, finish: str | None = None, **changes: Any) -> Any:
        choices = [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]
        return {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1,
            "model": "davinci-002",
            "choices": choices,
            **changes,
        }

    provider.stream([piece("Once"), piece("", "length"), piece("", choices=[], usage=usage()), DONE])
    ask(provider, mode, lambda client: client.completions.create(model="davinci-002", prompt="x", stream=True))
    span = patched_openai.span()
    assert (span["operation"], span["response_id"], span["finish_reasons"]) == ("text_completion", "cmpl-1", ["length"])
    assert (span["input_tokens"], span["output_tokens"], span["chunks"]) == (100, 20, 3)
    assert "first_text_ms" in span


# ---- left before the end ----


def leave(provider: Any, how: Any, **options: Any) -> None:
    """A stream that has given two chunks of many, left in some way; the provider is waiting meanwhile."""
    gate = threading.Event()
    provider.stream([*text_chunks(words=2)[:2], gate, *text_chunks(), DONE])
    try:
        with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0, **options) as client:
            stream = streamed(client)
            next(stream)
            next(stream)
            how(stream)
    finally:
        gate.set()


def leave_with(stream: Any) -> None:
    with pytest.raises(ZeroDivisionError), stream:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "how",
    [
        lambda stream: stream.close(),
        lambda stream: stream.response.close(),
        leave_with,
    ],
    ids=["closed", "response closed", "left by an exception"],
)
def test_a_stream_closed_early_is_incomplete(provider: Any, patched_openai: Any, how: Any) -> None:
    leave(provider, how)
    span = patched_openai.span()
    assert cut_short(span) == CUT_SHORT
    assert (span["chunks"], span["model_id"], span["response_id"]) == (2, MODEL, "chatcmpl-1")
    assert not {"error_type", "finish_reasons", "input_tokens"} & span.keys()


def test_a_stream_closed_early_is_recorded_when_it_is_closed(provider: Any, patched_openai: Any) -> None:
    kept: list[Any] = []

    def close(stream: Any) -> None:
        kept.append(stream)
        stream.close()
        kept.append(patched_openai.span()["status"])
        stream.close()

    leave(provider, close)
    assert kept[1] == "incomplete"
    assert patched_openai.spans() == []


def test_a_stream_that_is_dropped_is_incomplete(provider: Any, patched_openai: Any) -> None:
    def drop(stream: Any) -> None: ...

    leave(provider, drop)
    gc.collect()
    assert cut_short(patched_openai.span()) == CUT_SHORT


def test_a_stream_that_is_never_read_is_incomplete(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(whole_stream())
    ask(provider, mode, streamed, use=lambda stream: None)
    gc.collect()
    span = patched_openai.span()
    assert (span["status"], span["chunks"]) == ("incomplete", 0)
    assert "first_chunk_ms" not in span


def test_a_stream_left_after_its_usage_is_a_success(provider: Any, patched_openai: Any) -> None:
    """Readers that stop at the finish reason, of a provider that sends the usage with it."""
    provider.stream([*text_chunks()[:-1], chunk({}, "stop", usage=usage()), DONE])
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
        stream = streamed(client)
        for item in stream:
            if item.choices[0].finish_reason:
                break
        stream.close()
    span = patched_openai.span()
    assert (span["status"], span["usage_source"], span["output_tokens"]) == ("success", "provider", 20)


def test_an_asynchronous_stream_left_early_is_incomplete(provider: Any, patched_openai: Any) -> None:
    gate = threading.Event()
    provider.stream([*text_chunks(words=2)[:2], gate, *text_chunks(), DONE])

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
            async with await streamed(client) as stream:
                assert isinstance(stream, openai.AsyncStream)
                async for item in stream:
                    if item.choices[0].delta.content:
                        break

    try:
        asyncio.run(main())
    finally:
        gate.set()
    span = patched_openai.span()
    assert cut_short(span) == CUT_SHORT
    assert span["chunks"] == 2


def test_a_task_cancelled_while_it_waits_for_a_chunk(provider: Any, patched_openai: Any) -> None:
    gate = threading.Event()
    provider.stream([*text_chunks(words=2)[:2], gate, *text_chunks(), DONE])

    async def main() -> None:
        read = asyncio.Event()

        async def consume(client: Any) -> None:
            async for item in await streamed(client):
                if item.choices[0].delta.content:
                    read.set()

        async with openai.AsyncOpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
            task = asyncio.create_task(consume(client))
            await read.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    try:
        asyncio.run(main())
    finally:
        gate.set()
    span = patched_openai.span()
    assert (span["status"], span["chunks"], span["usage_source"]) == ("cancelled", 2, "partial")


# ---- errors on the way ----


def test_a_connection_lost_in_the_middle_is_an_error(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream([*text_chunks(words=2)[:3], provider.CUT])
    with pytest.raises(Exception) as caught:
        ask(provider, mode, streamed)
    span = patched_openai.span()
    assert span["status"] == "error"
    assert span["error_type"].endswith(type(caught.value).__name__)
    assert (span["chunks"], span["usage_source"], span["response_id"]) == (3, "partial", "chatcmpl-1")


def test_an_error_inside_a_stream_is_the_providers(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream([chunk({"content": "x"}), calls.refusal("server_overloaded", "Overloaded"), DONE])
    with pytest.raises(openai.APIError, match="Overloaded"):
        ask(provider, mode, streamed)
    span = patched_openai.span()
    assert (span["status"], span["error_type"], span["chunks"]) == ("error", "openai.APIError", 1)
    assert span["error_code"] == "server_overloaded"


def test_a_stream_that_is_refused_is_an_error_of_the_call(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(calls.refusal("rate_limit_exceeded", "slow down"), 429)
    with pytest.raises(openai.RateLimitError):
        ask(provider, mode, streamed)
    span = patched_openai.span()
    assert (span["status"], span["http_status"], span["stream"]) == ("error", 429, True)
    assert "chunks" not in span


def test_retries_before_a_stream_are_counted(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(calls.refusal(None, "try again"), 503, retry_after_ms="1")
    provider.stream(whole_stream())
    ask(provider, mode, streamed, max_retries=2)
    span = patched_openai.span()
    assert (span["retries"], span["status"], span["chunks"]) == (1, "success", 6)


# ---- asking for usage ----


@pytest.fixture
def asks_for_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    from fasttrace.trace.tracer import PROCESSOR

    monkeypatch.setattr(PROCESSOR, "config", PROCESSOR.config._replace(openai_stream_usage=True))


def body_of(provider: Any) -> Any:
    return json.loads(provider.requests[-1][2])


def test_a_streams_request_is_not_changed(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(whole_stream())
    ask(provider, mode, streamed)
    assert body_of(provider).keys() == {"model", "messages", "stream"}


@pytest.mark.usefixtures("asks_for_usage")
def test_where_it_is_configured_a_stream_is_asked_for_its_usage(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(whole_stream())
    ask(provider, mode, streamed)
    assert body_of(provider)["stream_options"] == {"include_usage": True}
    assert patched_openai.span()["output_tokens"] == 20


@pytest.mark.usefixtures("asks_for_usage")
def test_a_stream_with_other_options_is_asked_too(provider: Any, patched_openai: Any, mode: str) -> None:
    options = {"include_obfuscation": False}
    kind = openai.types.chat.ChatCompletionChunk
    body = {"model": MODEL, "messages": [], "stream": True, "stream_options": options}
    how = {"cast_to": kind, "stream": True, "stream_cls": stream_type(mode)[kind]}
    for ask_for_stream in (
        lambda client: streamed(client, stream_options=options),
        lambda client: client.post("/chat/completions", body=body, **how),
    ):
        provider.stream(whole_stream())
        ask(provider, mode, ask_for_stream)
        assert body_of(provider)["stream_options"] == {"include_obfuscation": False, "include_usage": True}
        assert options == {"include_obfuscation": False}


@pytest.mark.usefixtures("asks_for_usage")
def test_what_the_user_says_about_usage_stands(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(whole_stream())
    ask(provider, mode, lambda client: streamed(client, stream_options={"include_usage": False}))
    assert body_of(provider)["stream_options"] == {"include_usage": False}
    provider.answer(calls.completion())
    ask(provider, mode, chat)
    assert "stream_options" not in body_of(provider)
