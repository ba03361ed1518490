"""The official openai SDK over loopback HTTP, on both cores: the replies, errors and clients of the patched methods."""

from __future__ import annotations

import asyncio
import base64
import inspect
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fasttrace.core._api import CURRENT, Price
from fasttrace.instrumentation import openai as instrumentor
from fasttrace.instrumentation.registry import Instrumentation

openai = pytest.importorskip("openai", reason="the openai SDK is not installed")

MESSAGES = [{"role": "user", "content": "Hello"}]
MODULES = {
    "openai.resources.chat.completions": ("Completions", "AsyncCompletions"),
    "openai.resources.embeddings": ("Embeddings", "AsyncEmbeddings"),
    "openai._base_client": ("SyncAPIClient", "AsyncAPIClient"),
}


def completion(**changes: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Hello!", "refusal": None},
            }
        ],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 0},
        },
        **changes,
    }


def refusal(code: str | None, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "error", "param": None, "code": code}}


def instrumentation_of(recording: Any) -> Instrumentation:
    def method(original: Any, spec: Any) -> Any:
        return recording.core.method(original, spec, recording.recorder)

    return Instrumentation("openai", lambda: instrumentor.patches(method, recording.core.switch))


@pytest.fixture
def patched(recording: Any) -> Any:
    """openai recorded by this core for the length of a test."""
    instrumentation = instrumentation_of(recording)
    instrumentation.apply()
    yield recording
    instrumentation.undo()


@pytest.fixture
def client(provider: Any, patched: Any) -> Any:
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as made:
        yield made


def call_async(provider: Any, call: Any, **options: Any) -> Any:
    async def main() -> Any:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.url, **{"max_retries": 0, **options}) as made:
            return await call(made)

    return asyncio.run(main())


# ---- chat ----


def test_a_chat_completion_is_one_exact_span(provider: Any, client: Any, patched: Any) -> None:
    patched.recorder.prices.put(
        "openai", "gpt-4o-mini-2024-07-18", Price(input=150_000, cache_read=75_000, output=600_000)
    )
    provider.answer(completion())
    reply = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, temperature=0.2, max_tokens=50)
    assert type(reply) is openai.types.chat.ChatCompletion
    assert reply.choices[0].message.content == "Hello!"
    span = patched.span()
    assert (span["kind"], span["operation"], span["name"]) == ("llm", "chat", "chat gpt-4o-mini")
    assert (span["provider"], span["server_address"], span["server_port"]) == ("openai", "127.0.0.1", provider.port)
    assert (span["model_id"], span["request_model"]) == ("gpt-4o-mini-2024-07-18", "gpt-4o-mini")
    assert (span["input_tokens"], span["output_tokens"]) == (100, 20)
    assert (span["cache_read_tokens"], span["reasoning_tokens"]) == (64, 5)
    assert span["cost_usd"] == 0.0000222
    assert span["request_params"] == {"temperature": 0.2, "max_tokens": 50}
    assert (span["response_id"], span["service_tier"], span["status"]) == ("chatcmpl-1", "default", "success")
    assert span["finish_reasons"] == ["stop"]
    assert "input" not in span
    assert "output" not in span


def test_asynchronous_chat_is_the_same(provider: Any, patched: Any) -> None:
    provider.answer(completion())
    reply = call_async(provider, lambda made: made.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES))
    assert type(reply) is openai.types.chat.ChatCompletion
    span = patched.span()
    assert (span["input_tokens"], span["output_tokens"], span["status"]) == (100, 20, "success")


def test_tool_calls_are_named(provider: Any, client: Any, patched: Any) -> None:
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for n, name in enumerate(("get_weather", "get_time"))
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    provider.answer(completion(choices=[{"index": 0, "finish_reason": "tool_calls", "message": message}]))
    client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    span = patched.span()
    assert (span["tool_calls"], span["finish_reasons"]) == (["get_weather", "get_time"], ["tool_calls"])


def test_every_choice_has_its_finish_reason(provider: Any, client: Any, patched: Any) -> None:
    choices = [
        {"index": n, "finish_reason": reason, "message": {"role": "assistant", "content": "x"}}
        for n, reason in enumerate(("stop", "length", "stop"))
    ]
    provider.answer(completion(choices=choices))
    client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, n=3)
    assert patched.span()["finish_reasons"] == ["stop", "length", "stop"]


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "many"}, "none", []], ids=repr)
def test_a_reply_without_usage_has_no_tokens(provider: Any, client: Any, patched: Any, usage: object) -> None:
    provider.answer(completion(usage=usage))
    client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    span = patched.span()
    assert span["status"] == "success"
    assert not {"input_tokens", "output_tokens", "usage_source", "cost_usd"} & span.keys()


def test_a_cost_that_a_gateway_reports_is_taken(provider: Any, patched: Any) -> None:
    """OpenRouter's replies carry the cost as an undeclared field of usage; here its host is a name for loopback."""
    body = completion()
    body["usage"]["cost"] = 0.00195
    provider.answer(body)
    import httpx

    base = f"http://openrouter.ai.localhost:{provider.port}/v1"

    def resolve(url: Any) -> Any:
        from fasttrace.core._api import Endpoint

        return Endpoint("openrouter", "openrouter.ai", None)

    assert httpx.URL(base).host.endswith("localhost")
    chat = instrumentor.CHAT_REPLY
    spec = instrumentor._spec("llm", "chat", instrumentor.CHAT_REQUEST, chat, is_async=False)._replace(resolve=resolve)
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as made:
        original = openai.resources.chat.completions.Completions.create.__wrapped__
        create = patched.core.method(original, spec, patched.recorder)
        create(made.chat.completions, model="gpt-4o-mini", messages=MESSAGES)
    span = patched.span()
    assert (span["provider"], span["cost_usd"], span["cost_source"]) == ("openrouter", 0.00195, "provider")


# ---- embeddings ----


def test_embeddings_are_one_span(provider: Any, client: Any, patched: Any) -> None:
    vector = base64.b64encode(struct.pack("2f", 0.5, 0.25)).decode()
    provider.answer(
        {
            "object": "list",
            "model": "text-embedding-3-small",
            "data": [{"object": "embedding", "index": 0, "embedding": vector}],
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        }
    )
    reply = client.embeddings.create(model="text-embedding-3-small", input="Hello", dimensions=2)
    assert reply.data[0].embedding == [0.5, 0.25]
    span = patched.span()
    assert (span["kind"], span["operation"]) == ("embedding", "embeddings")
    assert (span["model_id"], span["input_tokens"]) == ("text-embedding-3-small", 7)
    assert span["request_params"] == {"dimensions": 2}
    assert "output_tokens" not in span
    assert "request_model" not in span


def test_asynchronous_embeddings_are_the_same(provider: Any, patched: Any) -> None:
    provider.answer(
        {
            "object": "list",
            "model": "text-embedding-3-small",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        }
    )

    def call(made: Any) -> Any:
        return made.embeddings.create(model="text-embedding-3-small", input="Hello", encoding_format="float")

    call_async(provider, call)
    assert patched.span()["input_tokens"] == 7


# ---- errors ----


@pytest.mark.parametrize(
    ("status", "code", "error_class", "error_code"),
    [
        (400, "context_length_exceeded", "BadRequestError", "context_length_exceeded"),
        (401, "invalid_api_key", "AuthenticationError", "invalid_api_key"),
        (404, "model_not_found", "NotFoundError", "model_not_found"),
        (429, "rate_limit_exceeded", "RateLimitError", "rate_limit_exceeded"),
        (500, None, "InternalServerError", "500"),
    ],
)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_error_reply_is_the_users_exception_and_one_span(
    provider: Any, patched: Any, mode: str, status: int, code: str | None, error_class: str, error_code: str
) -> None:
    provider.answer(refusal(code, "no, because sk-abcdefghijklmnopqrstuvwxyz123456 is wrong"), status)
    with pytest.raises(getattr(openai, error_class)) as caught:
        if mode == "async":
            call_async(provider, lambda made: made.chat.completions.create(model="m", messages=MESSAGES))
        else:
            with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as made:
                made.chat.completions.create(model="m", messages=MESSAGES)
    assert caught.value.status_code == status
    span = patched.span()
    assert (span["status"], span["error_type"]) == ("error", f"openai.{error_class}")
    assert (span["http_status"], span["error_code"]) == (status, error_code)
    assert "sk-abc" not in span["error_message"]
    assert span["model_id"] == "m"
    assert "retries" not in span


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_retries_that_the_sdk_makes_are_counted_in_one_span(provider: Any, patched: Any, mode: str) -> None:
    for _ in range(2):
        provider.answer(refusal("rate_limit_exceeded", "slow down"), 429, retry_after_ms="1")
    provider.answer(completion())
    if mode == "async":
        call_async(provider, lambda made: made.chat.completions.create(model="m", messages=MESSAGES), max_retries=3)
    else:
        with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=3) as made:
            made.chat.completions.create(model="m", messages=MESSAGES)
    assert len(provider.requests) == 3
    span = patched.span()
    assert (span["retries"], span["status"], span["input_tokens"]) == (2, "success", 100)


def test_a_refused_connection_is_an_error(patched: Any) -> None:
    with openai.OpenAI(api_key="k", base_url="http://127.0.0.1:9/v1", max_retries=0) as made:
        with pytest.raises(openai.APIConnectionError):
            made.chat.completions.create(model="m", messages=MESSAGES)
    span = patched.span()
    assert (span["status"], span["error_type"]) == ("error", "openai.APIConnectionError")
    assert "http_status" not in span


def test_a_timeout_is_a_timeout(patched: Any) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with openai.OpenAI(api_key="k", base_url=base, max_retries=0, timeout=0.05) as made:
            with pytest.raises(openai.APITimeoutError):
                made.chat.completions.create(model="m", messages=MESSAGES)
    span = patched.span()
    assert (span["status"], span["error_type"]) == ("timeout", "openai.APITimeoutError")


def test_missing_arguments_are_the_sdks_own_error(client: Any, patched: Any) -> None:
    with pytest.raises(TypeError, match="Missing required arguments"):
        client.chat.completions.create(model="m")
    assert patched.span()["error_type"] == "TypeError"


# ---- other clients and other ways to call ----


def test_an_azure_client_is_recorded(provider: Any, patched: Any) -> None:
    provider.answer(completion())
    with openai.AzureOpenAI(
        api_key="k", api_version="2024-06-01", azure_endpoint=f"http://127.0.0.1:{provider.port}", max_retries=0
    ) as made:
        made.chat.completions.create(model="deployment", messages=MESSAGES)
    span = patched.span()
    assert (span["model_id"], span["request_model"]) == ("gpt-4o-mini-2024-07-18", "deployment")
    assert provider.requests[0][0].startswith("/openai/deployments/deployment/")


def test_the_module_level_client_is_recorded(provider: Any, patched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "api_key", "k")
    monkeypatch.setattr(openai, "base_url", provider.url)
    openai._reset_client()
    provider.answer(completion())
    openai.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert patched.span()["status"] == "success"
    openai._reset_client()


def test_a_raw_response_is_left_to_the_user(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(completion(), x_request_id="req-1")
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=MESSAGES)
    assert raw.headers["x-request-id"] == "req-1"
    assert raw.parse().usage.prompt_tokens == 100
    span = patched.span()
    assert (span["status"], span["model_id"]) == ("success", "gpt-4o-mini")
    assert "input_tokens" not in span


def test_a_stream_goes_through_untouched(provider: Any, client: Any, patched: Any) -> None:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
    import json

    provider.answer(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), content_type="text/event-stream")
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert isinstance(stream, openai.Stream)
    assert len(list(stream)) == 1
    assert patched.spans() == []
    assert patched.recorder.passed_streams == 1


def test_nothing_of_the_request_changes(provider: Any, patched: Any) -> None:
    """The same call with and without us: the same bytes, the same headers."""

    def call() -> tuple[str, dict[str, str], bytes]:
        provider.answer(completion())
        with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as made:
            made.chat.completions.create(model="m", messages=MESSAGES, temperature=0.5, extra_headers={"x-mine": "1"})
        return provider.requests[-1]

    method = openai.resources.chat.completions.Completions.__dict__["create"]
    ours = call()
    patched.core.switch(method, False)
    theirs = call()
    patched.core.switch(method, True)

    def constant(headers: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in headers.items() if name not in ("idempotency-key", "host")}

    assert (ours[0], constant(ours[1]), ours[2]) == (theirs[0], constant(theirs[1]), theirs[2])


def test_concurrent_calls_are_one_span_each(provider: Any, client: Any, patched: Any) -> None:
    for n in range(40):
        provider.answer(completion(id=f"chatcmpl-{n}"))

    def call(n: int) -> str:
        return client.chat.completions.create(model=f"m-{n}", messages=MESSAGES).id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(call, range(40)))
    spans = patched.spans()
    assert sorted(span["response_id"] for span in spans) == sorted(ids)
    assert len({span["span_id"] for span in spans}) == 40


def test_it_is_the_providers_method_to_everybody_who_asks(patched: Any) -> None:
    for module, classes in MODULES.items():
        if module == "openai._base_client":
            continue
        for name in classes:
            owner = getattr(__import__(module, fromlist=[name]), name)
            stand_in, original = owner.create, owner.create.__wrapped__
            assert inspect.signature(stand_in) == inspect.signature(original)
            assert inspect.iscoroutinefunction(stand_in) == inspect.iscoroutinefunction(original)
            assert (stand_in.__doc__, stand_in.__qualname__) == (original.__doc__, original.__qualname__)


def test_undoing_leaves_every_attribute_as_it_was(recording: Any) -> None:
    owners = [getattr(__import__(module, fromlist=[name]), name) for module, names in MODULES.items() for name in names]
    before = [dict(vars(owner)) for owner in owners]
    instrumentation = instrumentation_of(recording)
    instrumentation.apply()
    assert vars(owners[0])["create"] is not before[0]["create"]
    instrumentation.undo()
    for owner, attributes in zip(owners, before, strict=True):
        assert vars(owner).keys() == attributes.keys()
        assert all(vars(owner)[name] is value for name, value in attributes.items())


def test_a_call_inside_a_transport_is_a_child(provider: Any, client: Any, patched: Any) -> None:
    """A gateway's client that calls another model from an event hook of its HTTP client."""
    import openai._base_client as base

    inner_client = client.with_options(max_retries=0)
    nested: list[Any] = []

    class Outer(openai.OpenAI):
        def _prepare_options(self, options: Any) -> Any:
            assert CURRENT.get() is not None
            nested.append(inner_client.chat.completions.create(model="inner", messages=MESSAGES))
            return super()._prepare_options(options)

    assert base is not None
    provider.answer(completion(id="inner"))
    provider.answer(completion(id="outer"))
    with Outer(api_key="k", base_url=provider.url, max_retries=0) as outer:
        outer.chat.completions.create(model="outer", messages=MESSAGES)
    child, parent = patched.spans()
    assert (child["response_id"], parent["response_id"]) == ("inner", "outer")
    assert child["parent_span_id"] == parent["span_id"]
