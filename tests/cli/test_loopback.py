"""The loopback provider answers the official SDK as the API does; the loopback collector decodes what it is sent."""

from __future__ import annotations

import gzip
import json
import urllib.error
import urllib.request
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest
import zstandard
from google import genai

from fasttrace.cli.loopback import KEY, Collector, Provider

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = "You are helpful. " * 60
SCHEMA: Any = {"type": "object", "properties": {}}
TOOL: Any = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(limited={"gpt-4-turbo"}, broken={"gpt-4"}, flaky={"gpt-4.1"}) as provider:
        yield provider


@pytest.fixture
def client(provider: Provider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.base_url, api_key=KEY, max_retries=0) as client:
        yield client


def chat(client: openai.OpenAI, model: str = "gpt-4o-mini", **more: Any) -> Any:
    messages: Any = [{"role": "system", "content": LONG}, {"role": "user", "content": "Hello"}]
    return client.chat.completions.create(model=model, messages=messages, **more)


def test_a_model_answers_under_its_dated_name(client: openai.OpenAI) -> None:
    assert chat(client).model == "gpt-4o-mini-2024-07-18"


def test_a_prefix_seen_before_is_cached_in_whole_blocks(client: openai.OpenAI) -> None:
    first, second = chat(client).usage, chat(client).usage
    assert first.prompt_tokens == second.prompt_tokens
    assert first.prompt_tokens_details.cached_tokens == 0
    cached = second.prompt_tokens_details.cached_tokens
    assert 0 < cached < second.prompt_tokens
    assert cached % 128 == 0


def test_reasoning_models_report_reasoning_tokens(client: openai.OpenAI) -> None:
    assert chat(client, "o4-mini").usage.completion_tokens_details.reasoning_tokens > 0
    assert chat(client).usage.completion_tokens_details.reasoning_tokens == 0


def test_tools_are_called_and_limits_cut(client: openai.OpenAI) -> None:
    (choice,) = chat(client, tools=[TOOL]).choices
    assert (choice.finish_reason, choice.message.tool_calls[0].function.name) == ("tool_calls", "look_up")
    assert [choice.finish_reason for choice in chat(client, n=2, max_tokens=3).choices] == ["length", "length"]


def test_a_stream_ends_with_usage_where_asked(client: openai.OpenAI) -> None:
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.split() == chat(client).choices[0].message.content.split()
    assert chunks[-1].usage.completion_tokens > 0


def test_embeddings_come_as_floats(client: openai.OpenAI) -> None:
    reply = client.embeddings.create(model="text-embedding-3-small", input=["one", "two words"])
    assert [len(item.embedding) for item in reply.data] == [1536, 1536]
    assert set(reply.data[0].embedding) == {0.5}
    assert reply.usage.prompt_tokens == 3


@pytest.mark.parametrize(
    ("model", "error", "code"),
    [
        ("gpt-4-turbo", openai.RateLimitError, "rate_limit_exceeded"),
        ("gpt-4", openai.InternalServerError, None),
        ("gpt-4.1", openai.InternalServerError, None),
    ],
)
def test_errors_are_the_sdks_own(client: openai.OpenAI, model: str, error: Any, code: str | None) -> None:
    with pytest.raises(error) as caught:
        chat(client, model)
    assert caught.value.code == code


def test_a_wrong_key_is_refused(provider: Provider) -> None:
    with (
        openai.OpenAI(base_url=provider.base_url, api_key="sk-other") as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        chat(client)
    assert caught.value.code == "invalid_api_key"


def test_a_flaky_model_answers_the_second_time(client: openai.OpenAI, provider: Provider) -> None:
    assert chat(client.with_options(max_retries=1), "gpt-4.1").model == "gpt-4.1-2025-04-14"
    assert len(provider.requests) == 2


# ---- the other APIs


@pytest.fixture
def claude(provider: Provider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=provider.root_url, api_key=KEY, max_retries=0) as client:
        yield client


def message(client: anthropic.Anthropic, model: str = "claude-haiku-4-5", **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": "Hello"}]
    return client.messages.create(model=model, messages=messages, **{"max_tokens": 100, "system": LONG, **more})


def test_messages_have_all_their_input_in_parts(claude: anthropic.Anthropic) -> None:
    first, second = message(claude), message(claude)
    assert (first.model, first.stop_reason) == ("claude-haiku-4-5-20251001", "end_turn")
    assert first.usage.cache_read_input_tokens == 0
    assert second.usage.cache_read_input_tokens > 0
    assert first.usage.input_tokens == second.usage.input_tokens + second.usage.cache_read_input_tokens
    assert message(claude, max_tokens=2).stop_reason == "max_tokens"


@pytest.mark.parametrize("tools", [[], [{"name": "look_up", "input_schema": SCHEMA}]])
def test_a_stream_of_messages_is_the_plain_one_in_pieces(claude: anthropic.Anthropic, tools: Any) -> None:
    with claude.messages.stream(
        model="claude-haiku-4-5", messages=[{"role": "user", "content": "Hello"}], max_tokens=100, tools=tools
    ) as stream:
        whole = stream.get_final_message()
    plain = message(claude, system="", tools=tools)
    assert [block.type for block in whole.content] == [block.type for block in plain.content]
    assert whole.stop_reason == plain.stop_reason
    assert whole.usage.output_tokens == plain.usage.output_tokens


def test_errors_of_messages_are_the_sdks_own(provider: Provider, claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.RateLimitError, match="rate_limit_error"):
        message(claude, "gpt-4-turbo")
    with pytest.raises(anthropic.AuthenticationError):
        message(claude.with_options(api_key="sk-other"))
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.count_tokens(model="claude-haiku-4-5", messages=[{"role": "user", "content": "Hello"}])


@pytest.fixture
def gemini(provider: Provider) -> Any:
    return genai.Client(api_key=KEY, http_options={"base_url": provider.root_url})


def test_gemini_answers_with_thoughts_and_cached_tokens(gemini: Any) -> None:
    ask: Any = {"model": "gemini-2.5-flash", "contents": "Hello", "config": {"system_instruction": LONG}}
    first, second = (gemini.models.generate_content(**ask) for _ in range(2))
    assert first.model_version == "gemini-2.5-flash"
    assert first.usage_metadata.thoughts_token_count > 0
    assert first.usage_metadata.cached_content_token_count is None
    assert 0 < second.usage_metadata.cached_content_token_count < second.usage_metadata.prompt_token_count


def test_gemini_streams_the_same_and_ends_with_all_of_the_usage(gemini: Any) -> None:
    ask: Any = {"model": "gemini-2.5-flash", "contents": "Hello"}
    plain, chunks = gemini.models.generate_content(**ask), list(gemini.models.generate_content_stream(**ask))
    assert "".join(chunk.text for chunk in chunks).split() == plain.text.split()
    assert chunks[-1].usage_metadata.total_token_count == plain.usage_metadata.total_token_count
    assert chunks[-1].candidates[0].finish_reason == "STOP"


def test_gemini_calls_the_function_it_is_given(gemini: Any) -> None:
    tools: Any = [{"function_declarations": [{"name": "look_up"}]}]
    for reply in (
        gemini.models.generate_content(model="gemini-2.5-flash", contents="Hello", config={"tools": tools}),
        *gemini.models.generate_content_stream(model="gemini-2.5-flash", contents="Hello", config={"tools": tools}),
    ):
        assert [call.name for call in reply.function_calls] == ["look_up"]


def test_errors_of_gemini_are_the_sdks_own(gemini: Any) -> None:
    with pytest.raises(genai.errors.ClientError, match="RESOURCE_EXHAUSTED"):
        gemini.models.generate_content(model="gpt-4-turbo", contents="Hello")
    with pytest.raises(genai.errors.ClientError) as caught:
        gemini.models.embed_content(model="gemini-embedding-001", contents="Hello")
    assert caught.value.code == 404


# ---- collector

LINES = b'{"cost_usd":0.000000000001}\n{"cost_usd":2}\n'


def post(collector: Collector, body: bytes, encoding: str = "", batch_id: str = "") -> tuple[int, Any]:
    headers = {"content-encoding": encoding, "x-batch-id": batch_id}
    request = urllib.request.Request(collector.url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("zstd", zstandard.compress(LINES)), ("gzip", gzip.compress(LINES)), ("", LINES)],
    ids=["zstd", "gzip", "none"],
)
def test_a_batch_is_decoded_and_kept(encoding: str, body: bytes) -> None:
    with Collector() as collector:
        assert post(collector, body, encoding) == (200, {"accepted": 2, "rejected": 0, "errors": []})
        assert [span["cost_usd"] for span in collector.spans] == [Decimal("1E-12"), 2]
        assert collector.wire_bytes == len(body)


def test_a_batch_sent_twice_counts_once() -> None:
    with Collector() as collector:
        assert [post(collector, LINES, batch_id="w:0:2")[0] for _ in range(2)] == [200, 200]
        assert collector.span_count == 2
        assert collector.wait(2)


@pytest.mark.parametrize(("encoding", "body"), [("zstd", b"not zstd"), ("", b"not json\n"), ("br", LINES)])
def test_what_is_not_a_batch_is_refused(encoding: str, body: bytes) -> None:
    with Collector() as collector:
        status, reply = post(collector, body, encoding)
        assert status == 400
        assert reply["error"].startswith("not a batch of spans")
        assert collector.span_count == 0
