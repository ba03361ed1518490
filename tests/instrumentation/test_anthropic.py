"""The official anthropic SDK over loopback HTTP, on both cores: calls whose reply is one message."""

from __future__ import annotations

import inspect
import json
from typing import Any

import anthropic_calls as calls
import pytest
from anthropic_calls import MESSAGES, MODEL, REQUEST, TOOLS, call_async, message, method_of, tool_use, usage

from fasttrace.core._api import Price

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")

PRICE = Price(input=3_000_000, cache_read=300_000, cache_write=3_750_000, cache_write_1h=6_000_000, output=15_000_000)


@pytest.fixture
def patched(recording: Any) -> Any:
    with calls.instrumented(recording):
        yield recording


@pytest.fixture
def client(provider: Any, patched: Any) -> Any:
    with calls.client_of(provider) as made:
        yield made


def recorded(provider: Any, client: Any, patched: Any, **changes: Any) -> dict[str, Any]:
    """The span of a plain call that is answered by a message with these changes."""
    provider.answer(message(**changes))
    client.messages.create(**REQUEST)
    span: dict[str, Any] = patched.span()
    return span


# ---- messages ----


def test_a_message_is_one_exact_span(provider: Any, client: Any, patched: Any) -> None:
    patched.recorder.prices.put("anthropic", MODEL, PRICE)
    provider.answer(message())
    request = {**REQUEST, "model": "claude-test-latest"}
    reply = client.messages.create(**request, stop_sequences=["."], extra_body={"temperature": 0.2, "top_k": 5})
    assert type(reply) is anthropic.types.Message
    assert reply.content[0].text == "Hello!"
    span = patched.span()
    assert (span["kind"], span["operation"], span["name"]) == ("llm", "chat", "chat claude-test-latest")
    assert (span["provider"], span["server_address"], span["server_port"]) == ("anthropic", "127.0.0.1", provider.port)
    assert (span["model_id"], span["request_model"]) == (MODEL, "claude-test-latest")
    assert (span["input_tokens"], span["output_tokens"], span["usage_source"]) == (100, 20, "provider")
    assert span["request_params"] == {"max_tokens": 64, "temperature": 0.2, "top_k": 5}
    assert (span["response_id"], span["service_tier"], span["status"]) == ("msg_1", "standard", "success")
    assert span["finish_reasons"] == ["end_turn"]
    assert span["cost_usd"] == 0.0006
    absent = {"stream", "input", "output", "tool_calls", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"}
    assert not absent & span.keys()


def test_an_asynchronous_message_is_the_same(provider: Any, patched: Any) -> None:
    provider.answer(message())
    reply = call_async(provider, lambda made: made.messages.create(**REQUEST))
    assert type(reply) is anthropic.types.Message
    span = patched.span()
    assert (span["input_tokens"], span["output_tokens"], span["status"]) == (100, 20, "success")


def test_cached_input_is_part_of_the_input_and_counted_once(provider: Any, client: Any, patched: Any) -> None:
    patched.recorder.prices.put("anthropic", MODEL, PRICE)
    span = recorded(
        provider,
        client,
        patched,
        usage=usage(
            input_tokens=4,
            cache_read_input_tokens=1000,
            cache_creation_input_tokens=500,
            cache_creation={"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 200},
        ),
    )
    assert (span["input_tokens"], span["cache_read_tokens"]) == (1504, 1000)
    assert (span["cache_write_tokens"], span["cache_write_1h_tokens"]) == (500, 200)
    pico = 4 * PRICE.input + 1000 * PRICE.cache_read + 300 * PRICE.cache_write + 200 * PRICE.cache_write_1h
    assert span["cost_usd"] == (pico + 20 * PRICE.output) / 10**12


def test_cache_writes_without_detail_are_for_five_minutes(provider: Any, client: Any, patched: Any) -> None:
    patched.recorder.prices.put("anthropic", MODEL, PRICE)
    counts = {"input_tokens": 4, "cache_creation_input_tokens": 500, "cache_read_input_tokens": 0, "output_tokens": 20}
    span = recorded(provider, client, patched, usage=counts)
    assert (span["input_tokens"], span["cache_write_tokens"]) == (504, 500)
    assert "cache_write_1h_tokens" not in span
    assert span["cost_usd"] == (4 * PRICE.input + 500 * PRICE.cache_write + 20 * PRICE.output) / 10**12


def test_usage_of_before_caches_is_read(provider: Any, client: Any, patched: Any) -> None:
    span = recorded(provider, client, patched, usage={"input_tokens": 7, "output_tokens": 3})
    assert (span["input_tokens"], span["output_tokens"]) == (7, 3)


def test_tools_that_the_application_must_run_are_named(provider: Any, client: Any, patched: Any) -> None:
    content = [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "weather"}},
        {"type": "text", "text": "Let me look."},
        tool_use("get_weather"),
        tool_use("get_time"),
    ]
    span = recorded(provider, client, patched, content=content, stop_reason="tool_use")
    assert (span["tool_calls"], span["finish_reasons"]) == (["get_weather", "get_time"], ["tool_use"])


def test_searches_and_thinking_are_counted(provider: Any, client: Any, patched: Any) -> None:
    more = {"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1}}
    more["output_tokens_details"] = {"thinking_tokens": 9}
    content = [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": "Hello!"}]
    span = recorded(provider, client, patched, usage=usage(**more), content=content)
    assert (span["web_search_requests"], span["reasoning_tokens"], span["output_tokens"]) == (2, 9, 20)


def test_parameters_of_thinking_and_tools_are_read_where_they_are(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(message())
    more = {"output_config": {"effort": "low"}, "service_tier": "auto"}
    client.messages.create(
        **REQUEST,
        tools=TOOLS,
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        extra_body={"thinking": {"type": "enabled", "budget_tokens": 1024}, **more},
    )
    assert patched.span()["request_params"] == {
        "max_tokens": 64,
        "budget_tokens": 1024,
        "effort": "low",
        "service_tier": "auto",
        "disable_parallel_tool_use": True,
    }


def test_what_is_sent_last_is_what_counts(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(message(model=None))
    client.messages.create(**REQUEST, extra_body={"model": "claude-test-mine", "max_tokens": 9})
    assert json.loads(provider.requests[0][2])["model"] == "claude-test-mine"
    span = patched.span()
    assert (span["model_id"], span["request_params"]) == ("claude-test-mine", {"max_tokens": 9})


@pytest.mark.parametrize("tier", ["priority", "batch"])
def test_a_tier_with_a_price_list_of_its_own_has_no_cost(provider: Any, client: Any, patched: Any, tier: str) -> None:
    patched.recorder.prices.put("anthropic", MODEL, PRICE)
    span = recorded(provider, client, patched, usage=usage(service_tier=tier))
    assert span["service_tier"] == tier
    assert "cost_usd" not in span


@pytest.mark.parametrize(
    ("asked", "is_priced"),
    [({}, True), ({"speed": "standard"}, True), ({"speed": "fast"}, False), ({"inference_geo": "us"}, False)],
)
def test_what_is_billed_at_another_rate_has_no_cost(
    provider: Any, client: Any, patched: Any, asked: dict[str, str], is_priced: bool
) -> None:
    """The reply names the standard tier all the same."""
    patched.recorder.prices.put("anthropic", MODEL, PRICE)
    provider.answer(message())
    client.messages.create(**REQUEST, extra_body=asked)
    span = patched.span()
    assert ("cost_usd" in span, span["service_tier"]) == (is_priced, "standard")
    assert span["request_params"] == {"max_tokens": 64, **asked}


def test_a_reply_without_usage_has_no_counts(provider: Any, client: Any, patched: Any) -> None:
    span = recorded(provider, client, patched, usage=None)
    assert not {"input_tokens", "output_tokens", "usage_source", "cost_usd"} & span.keys()


# ---- the other methods ----


@pytest.mark.filterwarnings("ignore:The 'output_format' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("path", ["messages.parse", "beta.messages.parse"])
def test_a_parsed_message_is_one_span(provider: Any, patched: Any, path: str, mode: str) -> None:
    from pydantic import BaseModel

    class Answer(BaseModel):
        word: str

    provider.answer(message(content=[{"type": "text", "text": '{"word": "yes"}'}]))

    def call(made: Any) -> Any:
        return method_of(made, path)(**REQUEST, output_format=Answer)

    if mode == "async":
        reply = call_async(provider, call)
    else:
        with calls.client_of(provider) as made:
            reply = call(made)
    assert reply.parsed_output == Answer(word="yes")
    span = patched.span()
    assert (span["operation"], span["input_tokens"], span["output_tokens"]) == ("chat", 100, 20)
    assert "stream" not in span


def test_a_beta_message_is_the_same(provider: Any, patched: Any, mode: str) -> None:
    provider.answer(message())

    def call(made: Any) -> Any:
        return made.beta.messages.create(**REQUEST, betas=["context-1m-2025-08-07"])

    if mode == "async":
        call_async(provider, call)
    else:
        with calls.client_of(provider) as made:
            call(made)
    assert provider.requests[0][0].startswith("/v1/messages")
    span = patched.span()
    assert (span["operation"], span["model_id"], span["input_tokens"]) == ("chat", MODEL, 100)


def test_a_tool_runner_is_one_span_for_each_turn(provider: Any, client: Any, patched: Any) -> None:
    runner_of = method_of(client, "beta.messages.tool_runner")
    asked: list[str] = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Weather in a city."""
        asked.append(city)
        return "rain"

    provider.answer(message(content=[tool_use(input={"city": "Bern"})], stop_reason="tool_use"))
    provider.answer(message(id="msg_2"))
    last = runner_of(**REQUEST, tools=[get_weather]).until_done()
    assert (asked, last.id) == (["Bern"], "msg_2")
    first, second = patched.spans()
    assert (first["tool_calls"], first["finish_reasons"]) == (["get_weather"], ["tool_use"])
    assert (second["response_id"], second["finish_reasons"]) == ("msg_2", ["end_turn"])
    assert first["trace_id"] != second["trace_id"]


def test_an_asynchronous_tool_runner_too(provider: Any, patched: Any) -> None:
    provider.answer(message(content=[tool_use(input={"city": "Bern"})], stop_reason="tool_use"))
    provider.answer(message(id="msg_2"))

    async def call(made: Any) -> Any:
        runner_of = method_of(made, "beta.messages.tool_runner")

        @anthropic.beta_async_tool
        async def get_weather(city: str) -> str:
            """Weather in a city."""
            return "rain"

        return await runner_of(**REQUEST, tools=[get_weather]).until_done()

    assert call_async(provider, call).id == "msg_2"
    assert [span["response_id"] for span in patched.spans()] == ["msg_1", "msg_2"]


@pytest.mark.parametrize("path", ["messages.count_tokens", "beta.messages.count_tokens"])
def test_counting_tokens_is_a_task_that_uses_none(provider: Any, patched: Any, path: str, mode: str) -> None:
    patched.recorder.prices.put("anthropic", MODEL, PRICE)
    provider.answer({"input_tokens": 14})

    def call(made: Any) -> Any:
        return method_of(made, path)(model=MODEL, messages=MESSAGES)

    if mode == "async":
        counted = call_async(provider, call)
    else:
        with calls.client_of(provider) as made:
            counted = call(made)
    assert counted.input_tokens == 14
    span = patched.span()
    assert (span["kind"], span["operation"], span["model_id"]) == ("task", "count_tokens", MODEL)
    assert not {"input_tokens", "usage_source", "cost_usd"} & span.keys()


def test_a_text_completion_is_recorded_without_usage(provider: Any, client: Any, patched: Any) -> None:
    create = method_of(client, "completions.create")
    answered = {"id": "compl_1", "completion": " Hi", "stop_reason": "stop_sequence", "model": "claude-2.1"}
    provider.answer({"type": "completion", **answered})
    create(model="claude-2", max_tokens_to_sample=10, prompt="\n\nHuman: Hi\n\nAssistant:")
    span = patched.span()
    assert (span["kind"], span["operation"], span["model_id"]) == ("llm", "text_completion", "claude-2.1")
    assert (span["finish_reasons"], span["request_params"]) == (["stop_sequence"], {"max_tokens_to_sample": 10})
    assert "usage_source" not in span


def test_what_is_no_model_call_is_not_recorded(provider: Any, client: Any, patched: Any) -> None:
    provider.answer({"data": [], "has_more": False, "first_id": None, "last_id": None})
    method_of(client, "models.list")()
    provider.answer({"id": "msgbatch_1", "type": "message_batch"})
    method_of(client, "messages.batches.create")(requests=[])
    assert [path for path, _, _ in provider.requests] == ["/v1/models", "/v1/messages/batches"]
    assert patched.spans() == []


# ---- the call stays the user's own ----


def test_nothing_of_the_request_changes(provider: Any, patched: Any) -> None:
    """The same call with and without us: the same bytes, the same headers."""

    def call() -> tuple[str, dict[str, str], bytes]:
        provider.answer(message())
        with calls.client_of(provider) as made:
            made.messages.create(**REQUEST, extra_headers={"x-mine": "1"}, metadata={"user_id": "u"})
        path, headers, body = provider.requests[-1]
        ours = {name: value for name, value in headers.items() if name not in ("idempotency-key", "host")}
        return path, ours, body

    request = anthropic._base_client.SyncAPIClient.__dict__["request"]
    recorded = call()
    patched.core.switch(request, False)
    plain = call()
    patched.core.switch(request, True)
    assert recorded == plain
    assert len(patched.spans()) == 1


def test_public_methods_are_the_sdks_own_objects(recording: Any) -> None:
    before = {name: dict(vars(owner)) for name, owner in owners()}
    with calls.instrumented(recording):
        changed = {
            (name, attribute)
            for name, owner in owners()
            for attribute, value in vars(owner).items()
            if before[name].get(attribute) is not value
        }
        request = anthropic._base_client.AsyncAPIClient.request
        assert inspect.iscoroutinefunction(request)
        assert inspect.signature(request) == inspect.signature(before["AsyncAPIClient"]["request"])
    for name, owner in owners():
        assert dict(vars(owner)) == before[name]
        assert all(before[name][attribute] is value for attribute, value in vars(owner).items())
    seam = {"request", "_sleep_for_retry", "_retry_request"}
    elsewhere = {(name, attribute) for name, attribute in changed if attribute not in seam}
    assert {name for name, attribute in changed if attribute in seam} == {"SyncAPIClient", "AsyncAPIClient"}
    # Early releases' stream helpers throw away the stream that is watched.
    assert all(name.endswith("MessageStream") and attribute == "__init__" for name, attribute in elsewhere)


def owners() -> list[tuple[str, Any]]:
    """Every class of the SDK that makes calls, and every reply that is read later."""
    import anthropic.resources as resources

    modules = (anthropic, anthropic._base_client, anthropic._streaming, anthropic._response, resources)
    found = {name: value for module in modules for name, value in vars(module).items() if inspect.isclass(value)}
    return [(name, value) for name, value in found.items() if value.__module__.startswith("anthropic")]


def test_a_middlewares_answer_is_the_reply(provider: Any, patched: Any) -> None:
    """Middleware sits below the patched method, and what it gives instead of a reply is anybody's object."""
    if "middleware" not in inspect.signature(anthropic.Anthropic).parameters:
        pytest.skip(f"anthropic {anthropic.__version__} has no middleware")
    kept = anthropic.types.Message(**json.loads(json.dumps(message(id="msg_kept"))))

    def from_memory(request: Any, call_next: Any) -> Any:
        return kept

    with calls.client_of(provider, middleware=[from_memory]) as made:
        assert made.messages.create(**REQUEST) is kept
    assert provider.requests == []
    assert patched.span()["response_id"] == "msg_kept"
