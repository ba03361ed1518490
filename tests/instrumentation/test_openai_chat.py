"""Chat completions of the openai SDK over loopback HTTP: create, parse, and the dialects of other providers."""

from __future__ import annotations

import json
from typing import Any

import openai_calls as calls
import pytest
from openai_calls import MODEL, ask, chat, completion, usage

from fasttrace import semconv
from fasttrace.core._api import Price

openai = calls.openai

NO_USAGE = {"input_tokens", "output_tokens", "usage_source", "cost_usd"}


def test_a_chat_completion_is_one_exact_span(provider: Any, patched_openai: Any, mode: str) -> None:
    price = Price(input=150_000, cache_read=75_000, output=600_000)
    patched_openai.recorder.prices.put("openai", MODEL, price)
    provider.answer(completion())
    reply = ask(provider, mode, lambda client: chat(client, temperature=0.2, max_tokens=50))
    assert type(reply) is openai.types.chat.ChatCompletion
    assert reply.choices[0].message.content == "Hello!"
    span = patched_openai.span()
    assert (span["kind"], span["operation"], span["name"]) == ("llm", "chat", "chat gpt-4o-mini")
    assert (span["provider"], span["server_address"], span["server_port"]) == ("openai", "127.0.0.1", provider.port)
    assert (span["model_id"], span["request_model"]) == (MODEL, "gpt-4o-mini")
    assert (span["input_tokens"], span["output_tokens"], span["usage_source"]) == (100, 20, "provider")
    assert (span["cache_read_tokens"], span["reasoning_tokens"]) == (64, 5)
    assert span["cost_usd"] == 0.0000222
    assert span["request_params"] == {"temperature": 0.2, "max_tokens": 50}
    assert (span["response_id"], span["service_tier"], span["status"]) == ("chatcmpl-1", "default", "success")
    assert span["finish_reasons"] == ["stop"]
    assert not {"stream", "chunks", "first_chunk_ms", "input", "output"} & span.keys()


def test_parameters_are_recorded_and_content_is_not(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(completion())
    secret = "the content of this call"
    ask(
        provider,
        mode,
        lambda client: chat(
            client,
            messages=[{"role": "user", "content": secret}],
            seed=7,
            parallel_tool_calls=False,
            tools=[{"type": "function", "function": {"name": "f", "description": secret, "parameters": {}}}],
            tool_choice={"type": "function", "function": {"name": "f"}},
            response_format={"type": "json_object"},
            user=secret,
            extra_body={"top_k": 5, "reasoning": {"effort": "low"}, "metadata": {"key": secret}},
        ),
    )
    span = patched_openai.span()
    assert span["request_params"] == {"seed": 7, "parallel_tool_calls": False, "top_k": 5, "effort": "low"}
    assert secret not in json.dumps(span)


def test_tool_calls_are_named(provider: Any, patched_openai: Any, mode: str) -> None:
    tools = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for n, name in enumerate(("get_weather", "get_time"))
    ]
    tools.append({"id": "call_2", "type": "custom", "custom": {"name": "shell", "input": "ls"}})
    message = {"role": "assistant", "content": None, "tool_calls": tools}
    provider.answer(completion(choices=[{"index": 0, "finish_reason": "tool_calls", "message": message}]))
    ask(provider, mode, chat)
    span = patched_openai.span()
    assert (span["tool_calls"], span["finish_reasons"]) == (["get_weather", "get_time", "shell"], ["tool_calls"])


def test_every_choice_has_its_finish_reason(provider: Any, patched_openai: Any, mode: str) -> None:
    choices = [
        {"index": n, "finish_reason": reason, "message": {"role": "assistant", "content": "x"}}
        for n, reason in enumerate(("stop", "length", "stop"))
    ]
    provider.answer(completion(choices=choices))
    ask(provider, mode, lambda client: chat(client, n=3))
    assert patched_openai.span()["finish_reasons"] == ["stop", "length", "stop"]


@pytest.mark.parametrize("found", [None, {}, {"prompt_tokens": "many"}, "none", []], ids=repr)
def test_a_reply_without_usage_has_no_tokens(provider: Any, patched_openai: Any, found: object) -> None:
    provider.answer(completion(usage=found))
    ask(provider, "sync", chat)
    span = patched_openai.span()
    assert span["status"] == "success"
    assert not NO_USAGE & span.keys()


def test_audio_and_images_are_parts_of_the_tokens(provider: Any, patched_openai: Any) -> None:
    body = usage(
        prompt_tokens_details={"cached_tokens": 0, "audio_tokens": 40, "image_tokens": 30},
        completion_tokens_details={"reasoning_tokens": 0, "audio_tokens": 9},
    )
    provider.answer(completion(usage=body))
    ask(provider, "sync", chat)
    span = patched_openai.span()
    assert (span["input_audio_tokens"], span["input_image_tokens"], span["output_audio_tokens"]) == (40, 30, 9)
    assert not {"cache_read_tokens", "reasoning_tokens"} & span.keys()


def test_a_parsed_completion_is_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    import pydantic

    class Answer(pydantic.BaseModel):
        city: str

    message = {"role": "assistant", "content": '{"city": "Vienna"}', "refusal": None}
    provider.answer(completion(choices=[{"index": 0, "finish_reason": "stop", "message": message}]))

    def parse(client: Any) -> Any:
        completions = client.chat.completions
        completions = completions if hasattr(completions, "parse") else client.beta.chat.completions
        return completions.parse(model="gpt-4o-mini", messages=calls.MESSAGES, response_format=Answer)

    reply = ask(provider, mode, parse)
    assert reply.choices[0].message.parsed == Answer(city="Vienna")
    span = patched_openai.span()
    assert (span["operation"], span["input_tokens"], span["finish_reasons"]) == ("chat", 100, ["stop"])
    assert "request_params" not in span


def test_the_beta_path_is_the_same_call(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(completion())
    ask(provider, mode, lambda client: client.beta.chat.completions.parse(model="m", messages=calls.MESSAGES))
    span = patched_openai.span()
    assert (span["operation"], span["request_model"], span["output_tokens"]) == ("chat", "m", 20)


def test_a_call_below_the_public_methods_is_one_too(provider: Any, patched_openai: Any, mode: str) -> None:
    """The SDK's own way to call what it has no method for."""
    provider.answer(completion())

    def post(client: Any) -> Any:
        body = {"model": "m", "messages": calls.MESSAGES}
        return client.post("/chat/completions", body=body, cast_to=openai.types.chat.ChatCompletion)

    ask(provider, mode, post)
    assert patched_openai.span()["input_tokens"] == 100


def test_other_paths_are_not_recorded(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer({"object": "list", "data": []})
    provider.answer({"id": "batch_1", "object": "batch"})
    ask(provider, mode, lambda client: client.models.list(), use=lambda page: None)
    ask(
        provider,
        mode,
        lambda client: client.batches.create(
            input_file_id="f", endpoint="/v1/chat/completions", completion_window="24h"
        ),
    )
    assert patched_openai.spans() == []


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"prompt_tokens": 11, "total_tokens": 11}, (11, 0)),
        ({"prompt_tokens": 41, "completion_tokens": 104, "total_tokens": 445}, (41, 404)),
        ({"prompt_tokens": 41, "completion_tokens": 104, "total_tokens": 100}, (41, 104)),
        ({"prompt_tokens": 41, "total_tokens": 40}, (41, None)),
        ({"prompt_tokens": 41, "total_tokens": "99"}, (41, None)),
        ({"total_tokens": 99}, (None, None)),
    ],
    ids=["an empty completion", "reasoning counted apart", "too little", "less than the input", "no number", "alone"],
)
@pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
def test_what_the_total_leaves_is_output(
    provider: Any,
    patched_openai: Any,
    found: Any,
    expected: tuple[int | None, ...],
    is_streamed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a provider that is not OpenAI: here the loopback interface is xAI's host."""
    monkeypatch.setitem(semconv.PROVIDER_BY_HOST, "127.0.0.1", "x_ai")
    if is_streamed:
        provider.stream([*calls.text_chunks(), calls.final_chunk(usage=found), calls.DONE])
    else:
        provider.answer(completion(usage=found))
    ask(provider, "sync", lambda client: chat(client, stream=is_streamed))
    span = patched_openai.span()
    assert (span.get("input_tokens"), span.get("output_tokens")) == expected


# ---- dialects of other providers ----


@pytest.mark.parametrize(
    ("host", "provider_name", "changes", "expected"),
    [
        ("openrouter.ai", "openrouter", {"cost": 0.00195}, {"cost_usd": 0.00195, "cost_source": "provider"}),
        ("api.perplexity.ai", "perplexity", {"cost": {"total_cost": 0.006}}, {"cost_usd": 0.006}),
        ("api.moonshot.cn", "moonshot_ai", {"cached_tokens": 11}, {"cache_read_tokens": 11}),
        ("api.deepseek.com", "deepseek", {"prompt_cache_hit_tokens": 13}, {"cache_read_tokens": 13}),
        ("api.openai.com", "openai", {"cost": 5.0, "cached_tokens": 11}, {"cost_usd": None, "cache_read_tokens": None}),
    ],
)
def test_where_other_providers_say_what(
    provider: Any, patched_openai: Any, host: str, provider_name: str, changes: Any, expected: dict[str, Any]
) -> None:
    """Through a proxy, so that the client believes it speaks to the host."""
    provider.answer(completion(usage=usage(prompt_tokens_details=None, **changes)))
    http_client = openai.DefaultHttpxClient(proxy=f"http://127.0.0.1:{provider.port}")
    ask(provider, "sync", chat, base_url=f"http://{host}/v1", http_client=http_client)
    assert provider.requests[0][0] == f"http://{host}/v1/chat/completions"
    span = patched_openai.span()
    assert (span["provider"], span["server_address"]) == (provider_name, host)
    assert "server_port" not in span
    assert {name: span.get(name) for name in expected} == expected
