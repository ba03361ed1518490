"""The Responses API of the openai SDK over loopback HTTP: made, streamed, parsed, fetched, in the background."""

from __future__ import annotations

import threading
from typing import Any

import openai_calls as calls
import pytest
from openai_calls import MODEL, ask, response, stream_type

from fasttrace.core._api import Price

openai = calls.openai
pytestmark = calls.needs_responses

NO_USAGE = {"input_tokens", "output_tokens", "usage_source", "cost_usd", "tool_calls"}


def create(client: Any, **changes: Any) -> Any:
    return client.responses.create(**{"model": "gpt-4o-mini", "input": "Hello", **changes})


def event(kind: str, **members: Any) -> Any:
    return kind, {"type": kind, "sequence_number": 0, **members}


def of_text(kind: str, delta: str) -> Any:
    return event(kind, item_id="msg_1", output_index=0, content_index=0, summary_index=0, delta=delta, logprobs=[])


def begun(**changes: Any) -> Any:
    return event(
        "response.created",
        response=response(status="in_progress", output=[], usage=None, service_tier="auto", **changes),
    )


def item_added(index: int, **item: Any) -> Any:
    return event("response.output_item.added", output_index=index, item=item)


def ended(kind: str = "response.completed", **changes: Any) -> Any:
    return event(kind, response=response(**changes))


def whole_stream(**changes: Any) -> list[Any]:
    return [
        begun(),
        item_added(0, type="message", id="msg_1", role="assistant", status="in_progress", content=[]),
        of_text("response.output_text.delta", "Hel"),
        of_text("response.output_text.delta", "lo!"),
        ended(**changes),
    ]


# ---- made ----


def test_a_response_is_one_exact_span(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(response())
    reply = ask(
        provider,
        mode,
        lambda client: create(
            client,
            temperature=0.5,
            max_output_tokens=99,
            reasoning={"effort": "low"},
            text={"verbosity": "high", "format": {"type": "text"}},
            instructions="Be brief",
            previous_response_id="resp_0",
        ),
    )
    assert type(reply) is openai.types.responses.Response
    assert reply.output_text == "Hello!"
    span = patched_openai.span()
    assert (span["kind"], span["operation"], span["name"]) == ("llm", "chat", "chat gpt-4o-mini")
    assert (span["model_id"], span["response_id"], span["service_tier"]) == (MODEL, "resp_1", "default")
    assert (span["input_tokens"], span["output_tokens"], span["usage_source"]) == (100, 20, "provider")
    assert (span["cache_read_tokens"], span["reasoning_tokens"], span["status"]) == (64, 5, "success")
    assert span["request_params"] == {
        "temperature": 0.5,
        "max_output_tokens": 99,
        "effort": "low",
        "verbosity": "high",
        "previous_response_id": "resp_0",
    }
    assert not {"finish_reasons", "tool_calls", "error_code"} & span.keys()


def test_tools_that_the_model_asks_for_are_named(provider: Any, patched_openai: Any, mode: str) -> None:
    output = [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "get_weather", "arguments": "{}"},
        {"type": "custom_tool_call", "id": "ct_1", "call_id": "c2", "name": "shell", "input": "ls"},
    ]
    provider.answer(response(output=output))
    ask(provider, mode, create)
    assert patched_openai.span()["tool_calls"] == ["get_weather", "shell"]


def test_an_incomplete_response_says_why(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(response(status="incomplete", incomplete_details={"reason": "max_output_tokens"}))
    ask(provider, mode, create)
    span = patched_openai.span()
    assert (span["status"], span["finish_reasons"]) == ("success", ["max_output_tokens"])


def test_a_failed_response_is_an_error(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(
        response(status="failed", error={"code": "server_error", "message": "no"}, usage=None, output=[]),
    )
    ask(provider, mode, create)
    span = patched_openai.span()
    assert (span["status"], span["error_code"]) == ("error", "server_error")
    assert not NO_USAGE & span.keys()


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_response_in_the_background_has_no_usage_yet(
    provider: Any, patched_openai: Any, mode: str, status: str
) -> None:
    provider.answer(response(status=status, usage=None, output=[], background=True))
    ask(provider, mode, lambda client: create(client, background=True))
    span = patched_openai.span()
    assert (span["status"], span["response_id"]) == ("success", "resp_1")
    assert span["request_params"] == {"background": True}
    assert not NO_USAGE & span.keys()


def test_a_parsed_response_is_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    import pydantic

    class Answer(pydantic.BaseModel):
        city: str

    body = response()
    body["output"][0]["content"][0]["text"] = '{"city": "Vienna"}'
    provider.answer(body)
    reply = ask(provider, mode, lambda client: client.responses.parse(model="m", input="x", text_format=Answer))
    assert reply.output_parsed == Answer(city="Vienna")
    span = patched_openai.span()
    assert (span["operation"], span["input_tokens"], span["request_model"]) == ("chat", 100, "m")


# ---- fetched again ----


def test_a_fetched_response_is_not_counted_again(provider: Any, patched_openai: Any, mode: str) -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "get_weather", "arguments": "{}"}
    provider.answer(response(output=[call]))
    reply = ask(provider, mode, lambda client: client.responses.retrieve("resp_1"))
    assert reply.usage.input_tokens == 100
    span = patched_openai.span()
    assert (span["operation"], span["name"], span["kind"]) == ("fetch_response", "fetch_response", "llm")
    assert (span["response_id"], span["model_id"], span["status"]) == ("resp_1", MODEL, "success")
    assert not NO_USAGE & span.keys()


def test_a_fetch_that_finds_a_failure_is_a_success_itself(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(response(status="failed", error={"code": "server_error", "message": "no"}, usage=None))
    ask(provider, mode, lambda client: client.responses.retrieve("resp_1"))
    span = patched_openai.span()
    assert span["status"] == "success"
    assert "error_code" not in span


def test_a_fetched_stream_is_not_counted_again(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(whole_stream())
    ask(provider, mode, lambda client: client.responses.retrieve("resp_1", stream=True))
    span = patched_openai.span()
    assert (span["operation"], span["stream"], span["chunks"]) == ("fetch_response", True, 5)
    assert (span["response_id"], span["model_id"], span["status"]) == ("resp_1", MODEL, "success")
    assert "first_text_ms" in span
    assert not NO_USAGE & span.keys()


def test_cancelling_deleting_and_listing_are_no_calls_of_a_model(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(response(status="cancelled"))
    provider.answer({"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None})
    ask(provider, mode, lambda client: client.responses.cancel("resp_1"))
    ask(provider, mode, lambda client: client.responses.input_items.list("resp_1"), use=lambda page: None)
    assert patched_openai.spans() == []


# ---- streamed ----


def test_a_streamed_response_is_one_exact_span(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(whole_stream())
    given = ask(provider, mode, lambda client: create(client, stream=True))
    assert given.kind is stream_type(mode)
    assert type(given.items[-1]) is openai.types.responses.ResponseCompletedEvent
    span = patched_openai.span()
    assert (span["operation"], span["stream"], span["chunks"], span["status"]) == ("chat", True, 5, "success")
    assert (span["model_id"], span["response_id"]) == (MODEL, "resp_1")
    assert (span["input_tokens"], span["output_tokens"], span["usage_source"]) == (100, 20, "provider")
    assert (span["cache_read_tokens"], span["reasoning_tokens"]) == (64, 5)
    assert "finish_reasons" not in span


def test_the_tier_is_the_one_that_served_it(provider: Any, patched_openai: Any, mode: str) -> None:
    """The first event says which was asked for, the last one which it was."""
    provider.stream(whole_stream(service_tier="flex"))
    ask(provider, mode, lambda client: create(client, stream=True))
    assert patched_openai.span()["service_tier"] == "flex"


def test_reasoning_comes_before_text(provider: Any, patched_openai: Any) -> None:
    pieces = [
        begun(),
        of_text("response.reasoning_summary_text.delta", "hm"),
        of_text("response.output_text.delta", "yes"),
        ended(),
    ]
    gates = [threading.Event() for _ in pieces]
    provider.stream([piece for pair in zip(gates, pieces, strict=True) for piece in pair])
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
        gates[0].set()
        stream = create(client, stream=True)
        for gate in [*gates[1:], threading.Event()]:
            next(stream)
            gate.set()
        assert list(stream) == []
    span = patched_openai.span()
    assert 0 < span["first_chunk_ms"] < span["first_token_ms"] < span["first_text_ms"] < span["duration_ms"]


def test_tools_of_a_streamed_response_are_named_once(provider: Any, patched_openai: Any, mode: str) -> None:
    def function(name: str, arguments: str) -> dict[str, Any]:
        return {"type": "function_call", "id": "fc", "call_id": "c", "name": name, "arguments": arguments}

    finished = [function("get_weather", "{}"), function("get_weather", '{"a":1}')]
    provider.stream(
        [
            begun(),
            item_added(0, type="reasoning", id="rs_1", summary=[]),
            item_added(1, **function("get_weather", "")),
            event("response.function_call_arguments.delta", item_id="fc", output_index=1, delta="{}"),
            event("response.output_item.done", output_index=1, item=finished[0]),
            item_added(2, **function("get_weather", "")),
            event("response.output_item.done", output_index=2, item=finished[1]),
            ended(output=finished),
        ]
    )
    ask(provider, mode, lambda client: create(client, stream=True))
    span = patched_openai.span()
    assert span["tool_calls"] == ["get_weather", "get_weather"]
    assert "first_token_ms" in span
    assert "first_text_ms" not in span


def test_an_incomplete_stream_of_events_says_why(provider: Any, patched_openai: Any, mode: str) -> None:
    last = ended("response.incomplete", status="incomplete", incomplete_details={"reason": "content_filter"})
    provider.stream([*whole_stream()[:-1], last])
    ask(provider, mode, lambda client: create(client, stream=True))
    span = patched_openai.span()
    assert (span["status"], span["finish_reasons"], span["output_tokens"]) == ("success", ["content_filter"], 20)


def test_a_response_that_fails_while_it_streams_is_an_error(provider: Any, patched_openai: Any, mode: str) -> None:
    last = ended("response.failed", status="failed", error={"code": "rate_limit_exceeded", "message": "no"}, usage=None)
    provider.stream([begun(), last])
    ask(provider, mode, lambda client: create(client, stream=True))
    span = patched_openai.span()
    assert (span["status"], span["error_code"], span["chunks"]) == ("error", "rate_limit_exceeded", 2)


@pytest.mark.parametrize(("code", "expected"), [("server_error", "server_error"), (None, "error")])
def test_an_error_event_is_an_error(
    provider: Any, patched_openai: Any, mode: str, code: str | None, expected: str
) -> None:
    provider.stream([begun(), event("error", code=code, message="no", param=None)])
    ask(provider, mode, lambda client: create(client, stream=True))
    span = patched_openai.span()
    assert (span["status"], span["error_code"]) == ("error", expected)


def test_the_stream_helper_is_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(
        [
            begun(),
            item_added(0, type="message", id="msg_1", role="assistant", status="in_progress", content=[]),
            event(
                "response.content_part.added",
                item_id="msg_1",
                output_index=0,
                content_index=0,
                part={"type": "output_text", "text": "", "annotations": []},
            ),
            of_text("response.output_text.delta", "Hello!"),
            ended(),
        ]
    )
    given = ask(provider, mode, lambda client: client.responses.stream(model="gpt-4o-mini", input="Hello"))
    assert given.kind.__name__ == ("ResponseStream" if mode == "sync" else "AsyncResponseStream")
    span = patched_openai.span()
    assert (span["chunks"], span["input_tokens"], span["status"]) == (5, 100, "success")


def test_a_streamed_response_left_early_is_incomplete(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.stream(whole_stream())

    async def leave_async(stream: Any) -> None:
        await stream.__anext__()
        await stream.close()

    def leave(stream: Any) -> None:
        next(stream)
        stream.close()

    ask(
        provider,
        mode,
        lambda client: create(client, stream=True),
        use=leave if mode == "sync" else leave_async,
    )
    span = patched_openai.span()
    assert (span["status"], span["usage_source"], span["chunks"]) == ("incomplete", "partial", 1)
    assert (span["model_id"], span["response_id"]) == (MODEL, "resp_1")


def searched() -> dict[str, Any]:
    searches = [{"type": "web_search_call", "id": f"ws_{n}", "status": "completed"} for n in range(2)]
    return calls.response(output=[*searches, *calls.response()["output"]])


@pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
def test_web_searches_are_counted_and_billed(provider: Any, patched_openai: Any, is_streamed: bool) -> None:
    price = Price(input=10, cache_read=1, output=100, web_search=10_000_000_000)
    patched_openai.recorder.prices.put("openai", calls.MODEL, price)
    if is_streamed:
        events = [{"type": "response.completed", "sequence_number": 1, "response": searched()}]
        provider.stream([(event["type"], event) for event in events])
    else:
        provider.answer(searched())
    create = {"model": calls.MODEL, "input": "Hello", "stream": is_streamed}
    calls.ask(provider, "sync", lambda client: client.responses.create(**create))
    span = patched_openai.span()
    assert span["web_search_requests"] == 2
    assert span["cost_usd"] == pytest.approx(0.02 + (36 * 10 + 64 * 1 + 20 * 100) / 1e12, abs=1e-15)
