"""The callable that stands for a provider method: what its caller sees, and what it records. On both cores."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import sys
import threading
import types
import weakref
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from fasttrace.core._api import CURRENT, CallSpec, Endpoint, Node, Price
from fasttrace.trace.failure import failure

REPLY = (
    Node("model", "model_id"),
    Node("id", "response_id"),
    Node("tier", "service_tier"),
    Node(
        "usage",
        children=(
            Node("prompt_tokens", "input_tokens"),
            Node("completion_tokens", "output_tokens"),
            Node("details", children=(Node("cached_tokens", "cache_read_tokens"),)),
            Node("cost", "cost_usd", foreign=True),
        ),
    ),
    Node("choices", each=True, children=(Node("finish_reason", "finish_reasons"),)),
)
REQUEST = {
    "model": "model",
    "stream": "stream",
    "messages": "ignored",
    **dict.fromkeys(("temperature", "top_p", "seed", "n", "effort", "store"), "param"),
}


class Client:
    def __init__(self, base_url: Any = "https://api.example.com:8443/v1") -> None:
        self._base_url = base_url


def resolve(base_url: object) -> Endpoint:
    return Endpoint("example", "api.example.com", 8443)


def spec(*, is_async: bool = False, **changes: Any) -> CallSpec:
    plain = CallSpec("llm", "chat", "example", is_async, REQUEST, REPLY, ("_client", "_base_url"), resolve, failure)
    return plain._replace(**changes)


def usage(prompt: Any = 12, completion: Any = 3, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(prompt_tokens=prompt, completion_tokens=completion, **more)


def full_reply() -> SimpleNamespace:
    return SimpleNamespace(
        model="m-2026-01-01",
        id="r-1",
        tier="default",
        usage=usage(details=SimpleNamespace(cached_tokens=8)),
        choices=[SimpleNamespace(finish_reason="stop"), SimpleNamespace(finish_reason="length")],
    )


def resource_class(recording: Any, original: Any, **changes: Any) -> Any:
    """A class as an SDK has them, its method patched."""

    class Resource:
        def __init__(self, client: Any = None) -> None:
            self._client = client or Client()

    Resource.create = recording.core.method(original, spec(**changes), recording.recorder)
    return Resource


def caller(recording: Any, function: Any, **changes: Any) -> Any:
    return resource_class(recording, function, **changes)().create


# ---- what is recorded ----


def test_a_call_is_one_span_with_everything_the_reply_tells(recording: Any) -> None:
    reply = full_reply()
    create = caller(recording, lambda self, **kwargs: reply)
    recording.recorder.prices.put("example", "m-2026-01-01", Price(input=100, cache_read=10, output=1000))
    assert create(model="m", messages=[{"role": "user"}], temperature=0.7, seed=7) is reply
    span = recording.span()
    assert span.pop("duration_ms") >= 0
    assert len(span.pop("trace_id")) == 32
    assert len(span.pop("span_id")) == 16
    assert span.pop("timestamp").endswith("Z")
    assert span == {
        "schema_version": "1.0",
        "kind": "llm",
        "operation": "chat",
        "name": "chat m",
        "provider": "example",
        "model_id": "m-2026-01-01",
        "request_model": "m",
        "server_address": "api.example.com",
        "server_port": 8443,
        "status": "success",
        "response_id": "r-1",
        "finish_reasons": ["stop", "length"],
        "input_tokens": 12,
        "output_tokens": 3,
        "cache_read_tokens": 8,
        "usage_source": "provider",
        "cost_usd": (4 * 100 + 8 * 10 + 3 * 1000) / 1e12,
        "cost_source": "local",
        "price_version": "2026-11-01",
        "service_tier": "default",
        "request_params": {"temperature": 0.7, "seed": 7},
    }


def test_a_mapping_is_read_like_an_object(recording: Any) -> None:
    reply = {"model": "m", "usage": {"prompt_tokens": 4, "completion_tokens": 2}, "choices": [{"finish_reason": "x"}]}
    create = caller(recording, lambda self, **kwargs: reply)
    assert create(model="m") is reply
    span = recording.span()
    assert (span["input_tokens"], span["output_tokens"], span["finish_reasons"]) == (4, 2, ["x"])
    assert "request_model" not in span


def test_the_requested_model_stands_where_the_reply_names_none(recording: Any) -> None:
    caller(recording, lambda self, **kwargs: SimpleNamespace())(model="m")
    span = recording.span()
    assert span["model_id"] == "m"
    assert "request_model" not in span


def test_a_call_without_a_model_is_named_by_its_operation(recording: Any) -> None:
    caller(recording, lambda self, **kwargs: None)()
    span = recording.span()
    assert span["name"] == "chat"
    assert "model_id" not in span


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.7, "0.7"),
        (1.0, "1.0"),
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (-1.25, "-1.25"),
        (1e-05, "1e-05"),
        (0.1 + 0.2, "0.30000000000000004"),
        (123456789.0625, "123456789.0625"),
        (1e22, "1e+22"),
        (5e-324, "5e-324"),
        (float("nan"), '"NaN"'),
        (float("-inf"), '"-Infinity"'),
        (0, "0"),
        (-(1 << 63), "-9223372036854775808"),
        ((1 << 63) - 1, "9223372036854775807"),
        (True, "true"),
        ("high", '"high"'),
        ('a"\\\n\x7f', '"a\\"\\\\\\n\\u007f"'),
        ("\ud800x", '"\ufffdx"'),
        ("é" * 40, '"' + "é" * 32 + '"'),
    ],
)
def test_scalar_parameters_are_written_as_sent(recording: Any, value: object, written: str) -> None:
    caller(recording, lambda self, **kwargs: None)(model="m", temperature=value)
    (line,) = recording.lines()
    assert f'"request_params":{{"temperature":{written}}}'.encode() in line


def test_what_is_no_scalar_is_no_parameter(recording: Any) -> None:
    caller(recording, lambda self, **kwargs: None)(model="m", temperature=object(), seed=None, n=[1], effort={"a": 1})
    assert "request_params" not in recording.span()


def test_keyword_names_need_not_be_interned(recording: Any) -> None:
    name = "".join(["tempe", "rature"])
    caller(recording, lambda self, **kwargs: None)(**{name: 0.5, "".join(["mo", "del"]): "m"})
    span = recording.span()
    assert span["request_params"] == {"temperature": 0.5}
    assert span["model_id"] == "m"


@pytest.mark.parametrize("odd", [-1, 1 << 64, 1.5, True, "12", None, b"1", [1], MagicMock()])
def test_what_is_no_count_is_unknown_not_zero(recording: Any, odd: object) -> None:
    caller(recording, lambda self, **kwargs: SimpleNamespace(usage=usage(odd, 3)))(model="m")
    span = recording.span()
    assert "input_tokens" not in span
    assert span["output_tokens"] == 3


@pytest.mark.parametrize("count", [0, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_counts_are_exact_at_the_limits(recording: Any, count: int) -> None:
    caller(recording, lambda self, **kwargs: SimpleNamespace(usage=usage(count, count)))(model="m")
    span = recording.span()
    assert (span["input_tokens"], span["output_tokens"]) == (count, count)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        0,
        "text",
        b"bytes",
        [],
        {},
        object(),
        MagicMock(),
        SimpleNamespace(model=7, id=None, usage="none", choices="stop"),
        SimpleNamespace(model="\ud800", id="x" * 1000, usage=usage(None, None), choices=[None, 1, {}]),
    ],
    ids=repr,
)
def test_a_reply_of_any_shape_is_returned_and_recorded(recording: Any, reply: object) -> None:
    assert caller(recording, lambda self, **kwargs: reply)(model="m") is reply
    span = recording.span()
    assert span["status"] == "success"
    assert "usage_source" not in span


class Raising:
    """Every attribute raises."""

    def __init__(self, error: BaseException) -> None:
        object.__setattr__(self, "error", error)

    def __getattribute__(self, name: str) -> Any:
        if name in ("__class__", "__dict__"):
            return object.__getattribute__(self, name)
        raise object.__getattribute__(self, "error")


def test_a_reply_that_raises_costs_one_log_line(
    recording: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttrace.core._report._next_time", 0.0)
    reply = Raising(ValueError("odd reply"))
    create = caller(recording, lambda self, **kwargs: reply)
    assert create(model="m") is reply
    assert create(model="m") is reply
    assert [span["status"] for span in recording.spans()] == ["success", "success"]
    assert [record.name for record in caplog.records] == ["fasttrace"]
    assert "odd reply" in caplog.text


def test_an_interrupt_while_the_reply_is_read_reaches_the_caller(recording: Any) -> None:
    create = caller(recording, lambda self, **kwargs: Raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        create(model="m")
    assert CURRENT.get() is None


def test_a_cost_that_the_reply_reports_is_the_cost_where_the_endpoint_is_foreign(recording: Any) -> None:
    reply = SimpleNamespace(model="m", usage=usage(cost=0.00014))
    recording.recorder.prices.put("other", "m", Price(input=1))
    caller(recording, lambda self, **kwargs: reply, resolve=lambda url: Endpoint("other", None, None))(model="m")
    span = recording.span()
    assert (span["cost_usd"], span["cost_source"]) == (0.00014, "provider")
    assert "price_version" not in span
    caller(recording, lambda self, **kwargs: reply)(model="m")
    assert "cost_usd" not in recording.span()


def test_a_price_learned_after_the_call_prices_the_span_before_it_is_sent(recording: Any) -> None:
    caller(recording, lambda self, **kwargs: SimpleNamespace(model="m", usage=usage()))(model="m")
    batch = recording.recorder.ring.read(10, 1 << 20)
    assert batch.unpriced() == [("example", "m")]
    recording.recorder.prices.put("example", "m", Price(input=2, output=1))
    assert b'"cost_usd":0.000000000027,' in batch.encode(recording.recorder.prices, "v", b"")


@pytest.mark.parametrize(
    ("tier", "is_priced"),
    [(None, True), ("default", True), ("auto", True), ("on_demand", True), ("flex", False), ("priority", False)],
)
def test_only_the_standard_tier_has_the_lists_price(recording: Any, tier: str | None, is_priced: bool) -> None:
    recording.recorder.prices.put("example", "m", Price(input=1))
    reply = SimpleNamespace(model="m", tier=tier, usage=usage())
    caller(recording, lambda self, **kwargs: reply)(model="m")
    assert ("cost_usd" in recording.span()) is is_priced
    fields = {"kind": "llm", "provider": "example", "model_id": "m", "input_tokens": 7, "output_tokens": 0}
    fields |= {"service_tier": tier} if tier else {}
    context = recording.core.new_context(None)
    recording.recorder.record(context, 0, 1, fields)
    assert ("cost_usd" in recording.span()) is is_priced


def test_a_streamed_call_goes_through_untouched_and_is_counted(recording: Any) -> None:
    reply = object()
    assert caller(recording, lambda self, **kwargs: reply)(model="m", stream=True) is reply
    assert recording.spans() == []
    assert recording.recorder.passed_streams == 1


@pytest.mark.parametrize(("value", "is_streamed"), [(1, True), (0, False), (None, False), (False, False), ("x", True)])
def test_stream_is_asked_for_as_the_sdk_asks(recording: Any, value: object, is_streamed: bool) -> None:
    caller(recording, lambda self, **kwargs: None)(model="m", stream=value)
    assert len(recording.spans()) == (0 if is_streamed else 1)
    assert recording.recorder.passed_streams == (1 if is_streamed else 0)


@pytest.mark.parametrize(
    ("asked", "reported", "is_priced"),
    [
        (None, None, True),
        ("auto", None, True),
        ("flex", None, False),
        ("flex", "default", True),
        ("auto", "flex", False),
        (7, None, True),
    ],
)
def test_a_tier_asked_for_and_not_reported_has_no_price(
    recording: Any, asked: object, reported: str | None, is_priced: bool
) -> None:
    recording.recorder.prices.put("example", "m", Price(input=1))
    reply = SimpleNamespace(model="m", tier=reported, usage=usage())
    create = caller(recording, lambda self, **kwargs: reply, request={**REQUEST, "service_tier": "tier"})
    create(model="m", service_tier=asked)
    span = recording.span()
    assert ("cost_usd" in span) is is_priced
    assert span.get("request_params") == (None if asked is None else {"service_tier": asked})


def test_a_chat_whose_output_is_unknown_has_no_cost(recording: Any) -> None:
    recording.recorder.prices.put("example", "m", Price(input=1, output=2))
    reply = SimpleNamespace(model="m", usage=SimpleNamespace(prompt_tokens=5))
    caller(recording, lambda self, **kwargs: reply)(model="m")
    span = recording.span()
    assert span["input_tokens"] == 5
    assert "cost_usd" not in span
    caller(recording, lambda self, **kwargs: reply, kind="embedding")(model="m")
    assert recording.span()["cost_usd"] == 5e-12


# ---- failures ----


def test_the_exception_is_the_users_own(recording: Any) -> None:
    cause = OSError("socket")
    error = ValueError("no such model")
    error.__cause__ = cause

    def create(self: Any, **kwargs: Any) -> None:
        raise error

    with pytest.raises(ValueError, match="no such model") as caught:
        caller(recording, create)(model="m")
    assert caught.value is error
    assert error.__cause__ is cause
    assert error.__context__ is None
    frames = [entry.name for entry in caught.traceback]
    assert frames[-1] == "create"
    assert len(frames) <= 3  # this test, at most one frame of ours, the SDK's
    span = recording.span()
    assert (span["status"], span["error_type"], span["error_message"]) == ("error", "ValueError", "no such model")
    assert "in create" in span["error_stack"]


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (KeyboardInterrupt(), "cancelled", "KeyboardInterrupt"),
        (asyncio.CancelledError(), "cancelled", "asyncio.exceptions.CancelledError"),
        (GeneratorExit(), "cancelled", "GeneratorExit"),
        (TimeoutError("late"), "timeout", "TimeoutError"),
        (RuntimeError(""), "error", "RuntimeError"),
    ],
    ids=lambda value: getattr(value, "__class__", type(value)).__name__,
)
def test_cancellation_timeout_and_error_are_told_apart(
    recording: Any, error: BaseException, status: str, error_type: str
) -> None:
    def create(self: Any, **kwargs: Any) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        caller(recording, create)(model="m")
    assert caught.value is error
    span = recording.span()
    assert (span["status"], span["error_type"]) == (status, error_type)


def test_an_exception_whose_text_raises_is_still_recorded(recording: Any) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    def create(self: Any, **kwargs: Any) -> None:
        raise Mute

    with pytest.raises(Mute):
        caller(recording, create)(model="m")
    assert recording.span()["error_message"] == "<ZeroDivisionError in __str__>"


def test_a_failure_reader_that_fails_leaves_the_exception_alone(
    recording: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttrace.core._report._next_time", 0.0)

    def broken(error: BaseException) -> dict[str, Any]:
        raise RuntimeError("reader")

    def create(self: Any, **kwargs: Any) -> None:
        raise ValueError("users")

    with pytest.raises(ValueError, match="users") as caught:
        caller(recording, create, failure=broken)(model="m")
    assert caught.value.__context__ is None
    assert recording.span()["status"] == "error"
    assert "reader" in caplog.text


def test_arguments_that_do_not_fit_are_the_originals_error(recording: Any) -> None:
    def create(self: Any, *, model: str) -> None: ...

    with pytest.raises(TypeError, match=r"create\(\)"):
        caller(recording, create)()
    assert recording.span()["error_type"] == "TypeError"


def test_secrets_in_an_error_are_redacted(recording: Any) -> None:
    def create(self: Any, **kwargs: Any) -> None:
        raise ValueError("Incorrect API key provided: sk-proj-abcdefghijklmnopqrstuvwxyz0123456789")

    with pytest.raises(ValueError, match="sk-proj"):
        caller(recording, create)(model="m")
    (line,) = recording.lines()
    assert b"sk-proj-abc" not in line
    assert b"[redacted]" in line


# ---- parents and children ----


def test_a_call_inside_a_call_is_its_child(recording: Any) -> None:
    inner = caller(recording, lambda self, **kwargs: "inner")
    outer = caller(recording, lambda self, **kwargs: inner(model="inner"))
    assert outer(model="outer") == "inner"
    child, parent = recording.spans()
    assert (child["name"], parent["name"]) == ("chat inner", "chat outer")
    assert child["trace_id"] == parent["trace_id"]
    assert child["parent_span_id"] == parent["span_id"]
    assert "parent_span_id" not in parent
    assert CURRENT.get() is None


def test_the_current_span_is_given_back_after_a_failure(recording: Any) -> None:
    def create(self: Any, **kwargs: Any) -> None:
        assert CURRENT.get() is not None
        raise ValueError

    with pytest.raises(ValueError):
        caller(recording, create)(model="m")
    assert CURRENT.get() is None


def test_threads_do_not_share_a_current_span(recording: Any) -> None:
    both = threading.Barrier(2)

    def create(self: Any, **kwargs: Any) -> None:
        both.wait(10)

    call = caller(recording, create)
    threads = [threading.Thread(target=call, kwargs={"model": "m"}) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    spans = recording.spans()
    assert len({span["trace_id"] for span in spans}) == 2
    assert not any("parent_span_id" in span for span in spans)


def test_retries_counted_meanwhile_are_the_spans(recording: Any) -> None:
    def create(self: Any, **kwargs: Any) -> None:
        CURRENT.get().retries += 2

    caller(recording, create)(model="m")
    assert recording.span()["retries"] == 2


# ---- asynchronous calls ----


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_an_asynchronous_call_is_one_span(recording: Any) -> None:
    reply = full_reply()

    async def create(self: Any, **kwargs: Any) -> Any:
        assert CURRENT.get() is not None
        await asyncio.sleep(0)
        return reply

    async def main() -> None:
        assert await caller(recording, create, is_async=True)(model="m", temperature=1) is reply
        assert CURRENT.get() is None

    run(main())
    span = recording.span()
    assert (span["status"], span["input_tokens"], span["request_params"]) == ("success", 12, {"temperature": 1})


def test_a_plain_function_that_returns_a_coroutine_is_recorded_the_same(recording: Any) -> None:
    async def body() -> str:
        await asyncio.sleep(0)
        return "done"

    def create(self: Any, **kwargs: Any) -> Any:
        return body()

    assert run(caller(recording, create, is_async=True)(model="m")) == "done"
    assert recording.span()["status"] == "success"


def test_what_a_plain_function_raises_before_its_coroutine_is_raised_at_once(recording: Any) -> None:
    def create(self: Any, **kwargs: Any) -> Any:
        raise TypeError("Missing required arguments")

    with pytest.raises(TypeError, match="Missing"):
        caller(recording, create, is_async=True)()
    assert recording.span()["error_type"] == "TypeError"


def test_something_that_is_no_coroutine_comes_back_as_it_is(recording: Any) -> None:
    reply = object()
    assert caller(recording, lambda self, **kwargs: reply, is_async=True)(model="m") is reply
    assert recording.span()["status"] == "success"


def test_tasks_have_their_own_parents(recording: Any) -> None:
    async def inner(self: Any, **kwargs: Any) -> str:
        await asyncio.sleep(0)
        return kwargs["model"]

    inner_call = caller(recording, inner, is_async=True)

    async def outer(self: Any, **kwargs: Any) -> str:
        await asyncio.sleep(0)
        return await inner_call(model=f"child of {kwargs['model']}")

    outer_call = caller(recording, outer, is_async=True)

    async def main() -> None:
        await asyncio.gather(*(asyncio.create_task(outer_call(model=f"{n}")) for n in range(200)))

    run(main())
    spans = recording.spans()
    by_id = {span["span_id"]: span for span in spans}
    children = [span for span in spans if "parent_span_id" in span]
    assert len(spans) == 400
    assert len(children) == 200
    for child in children:
        assert child["model_id"] == f"child of {by_id[child['parent_span_id']]['model_id']}"


def test_a_cancelled_call_is_cancelled(recording: Any) -> None:
    entered = asyncio.Event()

    async def create(self: Any, **kwargs: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(caller(recording, create, is_async=True)(model="m"))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert recording.span()["status"] == "cancelled"


def test_a_call_that_times_out_from_outside_is_cancelled(recording: Any) -> None:
    async def create(self: Any, **kwargs: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(caller(recording, create, is_async=True)(model="m"), 0.01)

    run(main())
    assert recording.span()["status"] == "cancelled"


def test_a_coroutine_closed_midway_is_cancelled(recording: Any) -> None:
    @types.coroutine
    def pause() -> Any:
        yield "paused"

    async def create(self: Any, **kwargs: Any) -> None:
        await pause()

    coroutine = caller(recording, create, is_async=True)(model="m")
    assert coroutine.send(None) == "paused"
    coroutine.close()
    assert recording.span()["status"] == "cancelled"
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        coroutine.send(None)
    assert recording.spans() == []


def test_a_coroutine_dropped_midway_is_cancelled(recording: Any, unraisable: list[Any]) -> None:
    @types.coroutine
    def pause() -> Any:
        yield

    async def create(self: Any, **kwargs: Any) -> None:
        await pause()

    coroutine = caller(recording, create, is_async=True)(model="m")
    coroutine.send(None)
    del coroutine
    gc.collect()
    assert recording.span()["status"] == "cancelled"
    assert unraisable == []


def test_a_coroutine_closed_in_another_context_leaves_that_context_alone(recording: Any) -> None:
    import contextvars

    @types.coroutine
    def pause() -> Any:
        yield

    async def create(self: Any, **kwargs: Any) -> None:
        await pause()

    coroutine = caller(recording, create, is_async=True)(model="m")
    contextvars.copy_context().run(coroutine.send, None)
    assert CURRENT.get() is None
    contextvars.copy_context().run(coroutine.close)
    assert CURRENT.get() is None
    assert recording.span()["status"] == "cancelled"


def test_throw_that_the_coroutine_answers_by_returning_is_a_success(recording: Any) -> None:
    @types.coroutine
    def pause() -> Any:
        yield

    async def create(self: Any, **kwargs: Any) -> str:
        try:
            await pause()
        except ValueError:
            return "recovered"
        return "never"

    coroutine = caller(recording, create, is_async=True)(model="m")
    coroutine.send(None)
    with pytest.raises(StopIteration) as stop:
        coroutine.throw(ValueError())
    assert stop.value.value == "recovered"
    assert recording.span()["status"] == "success"


@pytest.mark.parametrize("value", [(1, 2), StopIteration(3), None])
def test_any_value_returns_through_send(recording: Any, value: object) -> None:
    async def create(self: Any, **kwargs: Any) -> object:
        return value

    coroutine = caller(recording, create, is_async=True)(model="m")
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value is value


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_coroutine_that_is_never_awaited_is_no_call(recording: Any) -> None:
    async def create(self: Any, **kwargs: Any) -> None: ...

    coroutine = caller(recording, create, is_async=True)(model="m")
    del coroutine
    gc.collect()
    assert recording.spans() == []


def test_what_is_returned_is_a_coroutine_to_everybody_who_asks(recording: Any) -> None:
    async def create(self: Any, **kwargs: Any) -> None: ...

    call = caller(recording, create, is_async=True)
    assert inspect.iscoroutinefunction(call)
    coroutine = call(model="m")
    assert inspect.iscoroutine(coroutine)
    assert inspect.isawaitable(coroutine)
    assert asyncio.iscoroutine(coroutine)
    assert isinstance(coroutine, types.CoroutineType)
    assert coroutine.__name__ == "create"
    assert coroutine.cr_frame is not None
    assert not coroutine.cr_running
    run(coroutine)


def test_a_coroutine_dropped_inside_another_span_leaves_that_span_alone(recording: Any) -> None:
    @types.coroutine
    def pause() -> Any:
        yield

    async def create(self: Any, **kwargs: Any) -> None:
        await pause()

    coroutine = caller(recording, create, is_async=True)(model="m")
    coroutine.send(None)
    mine = recording.core.new_context(None)
    token = CURRENT.set(mine)
    coroutine.close()
    assert CURRENT.get() is mine
    CURRENT.reset(token)
    CURRENT.set(None)


def test_a_coroutine_that_runs_cannot_be_stepped_and_its_call_goes_on(recording: Any) -> None:
    coroutine: Any = None

    async def create(self: Any, **kwargs: Any) -> str:
        for step in (lambda: coroutine.send(None), lambda: coroutine.throw(KeyError()), coroutine.close):
            with pytest.raises(ValueError, match="coroutine already executing"):
                step()
        return "done"

    coroutine = caller(recording, create, is_async=True)(model="m")
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == "done"
    assert recording.span()["status"] == "success"


def test_a_coroutine_is_awaited_once(recording: Any) -> None:
    async def create(self: Any, **kwargs: Any) -> str:
        await asyncio.sleep(0)
        return "done"

    async def main() -> None:
        coroutine = caller(recording, create, is_async=True)(model="m")

        async def wait() -> Any:
            return await coroutine

        first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
        assert await first == "done"
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            await second

    run(main())
    assert recording.span()["status"] == "success"


def test_a_coroutine_is_no_generator_and_no_iterator(recording: Any) -> None:
    import collections.abc

    async def create(self: Any, **kwargs: Any) -> None: ...

    ours, theirs = caller(recording, create, is_async=True)(model="m"), create(None)
    for name in ("Awaitable", "Coroutine", "Generator", "Iterator", "Iterable", "AsyncIterator", "Callable"):
        kind = getattr(collections.abc, name)
        assert isinstance(ours, kind) == isinstance(theirs, kind), name
    ours.close()
    theirs.close()


def test_a_task_cancelled_before_its_first_step_is_no_call_and_no_warning(recording: Any) -> None:
    async def body() -> None: ...

    def create(self: Any, **kwargs: Any) -> Any:
        return body()

    async def main() -> None:
        task = asyncio.create_task(caller(recording, create, is_async=True)(model="m"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    gc.collect()
    assert recording.spans() == []


# ---- others around us ----


@pytest.mark.parametrize("is_async", [False, True])
def test_a_wrapt_wrapper_below_ours_learns_its_instance(recording: Any, is_async: bool) -> None:
    """Other tools patch with wrapt, and may have come first."""
    wrapt = pytest.importorskip("wrapt")
    seen: list[Any] = []

    def plain(self: Any, **kwargs: Any) -> str:
        return kwargs["model"]

    async def coroutine(self: Any, **kwargs: Any) -> str:
        return kwargs["model"]

    def theirs(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append(instance._client)
        return wrapped(*args, **kwargs)

    wrapper = wrapt.FunctionWrapper(coroutine if is_async else plain, theirs)
    resource = resource_class(recording, wrapper, is_async=is_async)
    instance = resource()
    reply = instance.create(model="m")
    assert (run(reply) if is_async else reply) == "m"
    recording.recorder.active = False
    reply = instance.create(model="m")
    assert (run(reply) if is_async else reply) == "m"
    recording.recorder.active = True
    assert seen == [instance._client] * 2
    assert len(recording.spans()) == 1


def test_a_wrapt_wrapper_above_ours_works(recording: Any) -> None:
    wrapt = pytest.importorskip("wrapt")
    resource = resource_class(recording, documented)
    seen: list[Any] = []

    def theirs(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append(instance)
        return wrapped(*args, **kwargs)

    resource.create = wrapt.FunctionWrapper(resource.__dict__["create"], theirs)
    instance = resource()
    assert instance.create(model="m") == "m"
    assert seen == [instance]
    assert len(recording.spans()) == 1


# ---- indistinguishable from the original ----


def documented(self: Any, *, model: str, temperature: float = 1.0) -> str:
    """Create a completion."""
    return model


def test_it_looks_like_the_original(recording: Any) -> None:
    stand_in = recording.core.method(documented, spec(), recording.recorder)
    assert stand_in.__wrapped__ is documented
    assert inspect.signature(stand_in) == inspect.signature(documented)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(stand_in, name) == getattr(documented, name)
    assert inspect.isfunction(stand_in)
    assert isinstance(stand_in, types.FunctionType)
    assert inspect.getsource(stand_in) == inspect.getsource(documented)
    assert not inspect.iscoroutinefunction(stand_in)
    assert callable(stand_in)


def test_bound_it_is_a_method(recording: Any) -> None:
    resource = resource_class(recording, documented)()
    assert inspect.ismethod(resource.create)
    assert resource.create.__self__ is resource
    assert resource.create == resource.create
    assert resource.create(model="m") == "m"
    assert type(resource).create(resource, model="n") == "n"
    assert len(recording.spans()) == 2


def test_it_is_pickled_and_copied_as_functions_are(recording: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = recording.core.method(documented, spec(), recording.recorder)
    monkeypatch.setattr(sys.modules[__name__], "documented", stand_in)
    monkeypatch.setitem(sys.modules, stand_in.__module__, sys.modules[__name__])
    assert pickle.loads(pickle.dumps(stand_in)) is stand_in
    assert copy.copy(stand_in) is stand_in
    assert copy.deepcopy(stand_in) is stand_in


def test_it_can_be_weakly_referenced_and_collected(recording: Any) -> None:
    stand_in = recording.core.method(documented, spec(), recording.recorder)
    assert weakref.ref(stand_in)() is stand_in


# ---- on and off ----


def test_switched_off_it_is_a_plain_call(recording: Any) -> None:
    resource = resource_class(recording, documented)
    kept = resource().create
    recording.core.switch(resource.__dict__["create"], False)
    assert kept(model="m") == "m"
    assert recording.spans() == []
    recording.core.switch(resource.__dict__["create"], True)
    assert kept(model="m") == "m"
    assert len(recording.spans()) == 1


def test_an_inactive_recorder_makes_plain_calls(recording: Any) -> None:
    create = caller(recording, documented)
    recording.recorder.active = False
    assert create(model="m") == "m"
    recording.recorder.active = True
    assert recording.spans() == []


def test_only_a_method_of_this_core_can_be_switched(core: Any) -> None:
    with pytest.raises(TypeError, match="not a recording method"):
        core.switch(documented, False)


def test_without_a_ring_calls_go_on_and_are_counted(recording: Any) -> None:
    create = caller(recording, documented)
    recorder = recording.core.Recorder(lambda: None)
    recorder.active = True
    stand_in = recording.core.method(documented, spec(), recorder)
    assert stand_in(object(), model="m") == "m"
    assert recorder.dropped_unstarted == 1
    assert create(model="m") == "m"


def test_a_start_that_raises_never_reaches_the_caller(
    core: Any, unraisable: list[Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttrace.core._report._next_time", 0.0)

    def start() -> None:
        raise OSError("no memory")

    recorder = core.Recorder(start)
    recorder.active = True
    assert core.method(documented, spec(), recorder)(object(), model="m") == "m"
    assert recorder.dropped_unstarted == 1
    assert "no memory" in caplog.text
    assert unraisable == []


def test_an_exception_of_the_applications_own_goes_on_from_the_start(core: Any) -> None:
    """A worker's time limit or a SIGTERM handler's SystemExit may arrive while the first span opens the ring."""

    class TimeLimitExceeded(BaseException): ...

    def start() -> None:
        raise TimeLimitExceeded

    recorder = core.Recorder(start)
    recorder.active = True
    with pytest.raises(TimeLimitExceeded):
        core.method(documented, spec(), recorder)(object(), model="m")
    with pytest.raises(TimeLimitExceeded):
        recorder.record(core.new_context(None), 0, 0, {"kind": "task"})


def test_clients_that_come_and_go_keep_their_own_endpoints(recording: Any) -> None:
    hosts = [f"https://h{n}.example.com" for n in range(100)]
    asked: list[str] = []

    def by_host(base_url: Any) -> Endpoint:
        asked.append(base_url.url)
        return Endpoint("example", base_url.url.removeprefix("https://"), None)

    resource = resource_class(recording, documented, resolve=by_host)
    for _ in range(2):
        for host in hosts:
            resource(Client(SimpleNamespace(url=host))).create(model="m")
    spans = recording.spans()
    assert [span["server_address"] for span in spans] == 2 * [host.removeprefix("https://") for host in hosts]


def test_a_client_is_not_kept_alive(recording: Any) -> None:
    resource = resource_class(recording, documented)
    client = Client()
    resource(client).create(model="m")
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None


def test_references_are_balanced(recording: Any) -> None:
    """A leak of one reference a call would show a hundredfold."""
    reply = full_reply()

    def failing(self: Any, **kwargs: Any) -> None:
        raise ValueError("x")

    async def coroutine(self: Any, **kwargs: Any) -> Any:
        return reply

    model = "model-of-this-test"
    client = Client()
    plain, fails = resource_class(recording, lambda self, **kwargs: reply), resource_class(recording, failing)
    waits = resource_class(recording, coroutine, is_async=True)

    def calls() -> None:
        plain(client).create(model=model, temperature=0.123456789)
        with pytest.raises(ValueError):
            fails(client).create(model=model)
        with pytest.raises(StopIteration):
            waits(client).create(model=model).send(None)

    watched = (reply, reply.usage, reply.choices, model, client, client._base_url)
    calls()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in watched]
    for _ in range(100):
        calls()
    gc.collect()
    after = [sys.getrefcount(thing) for thing in watched]
    assert all(abs(a - b) < 10 for a, b in zip(after, before, strict=True)), (before, after)
