"""A plain call of a patched method: what it records, how it fails, whose child it is. On both cores."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from calls import REQUEST, caller, full_reply, usage

from fasttrace.core._api import CURRENT, Endpoint, Price

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
    ids=lambda value: type(value).__name__,
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
    caller(recording, lambda self, **kwargs: reply, resolve=lambda url, client: Endpoint("other", None, None))(
        model="m"
    )
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


def test_a_streamed_call_that_nobody_watches_ends_with_its_reply_and_is_counted(recording: Any) -> None:
    reply = object()
    assert caller(recording, lambda self, **kwargs: reply)(model="m", stream=True) is reply
    assert recording.span()["stream"] is True
    assert recording.recorder.passed_streams == 1


@pytest.mark.parametrize(("value", "is_streamed"), [(1, True), (0, False), (None, False), (False, False), ("x", True)])
def test_stream_is_asked_for_as_the_sdk_asks(recording: Any, value: object, is_streamed: bool) -> None:
    caller(recording, lambda self, **kwargs: None)(model="m", stream=value)
    assert recording.span().get("stream", False) is is_streamed
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
