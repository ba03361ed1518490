"""What the pure core writes for what was recorded: the rules of the line, of money, and of what does not fit."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttrace.core import _pure
from fasttrace.core._api import KINDS, Price, RingOwner, RingShape
from fasttrace.core._pure import layout
from fasttrace.wire import FIELDS, decode

OWNER = RingOwner(b"w" * 16, b"b" * 16, 1, 2, 3)
CONTEXT = _pure.SpanContext(1, 2, 3, 0)
START_NS = 1_763_757_600_000_000_001
PREFIX = '{"schema_version":"1.0","trace_id":"00000000000000010000000000000002","span_id":"0000000000000003"'


def recorder_of(**shape: int) -> _pure.Recorder:
    recorder = _pure.Recorder(lambda: None)
    sizes = {"slots": 64, "arena_bytes": 1 << 16, "strtab_bytes": 1 << 14, "inflight": 1} | shape
    recorder.ring = _pure.Ring(-1, RingShape(**sizes), OWNER)
    return recorder


def lines_of(recorder: _pure.Recorder, resource: bytes = b"", version: str = "") -> list[str]:
    assert recorder.ring is not None
    return recorder.ring.read(1000, 1 << 20).encode(recorder.prices, version, resource).decode().splitlines()


def line_of(fields: dict[str, Any], context: _pure.SpanContext = CONTEXT, duration_ns: int = 0) -> str:
    recorder = recorder_of()
    assert recorder.record(context, START_NS, duration_ns, fields)
    (line,) = lines_of(recorder)
    return line


def span_of(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of the line but for those that every line has."""
    span = json.loads(line_of(fields))
    for name in ("schema_version", "trace_id", "span_id", "timestamp", "duration_ms"):
        del span[name]
    return span


def test_an_empty_span_has_its_identity_and_its_times() -> None:
    assert line_of({}) == PREFIX + ',"timestamp":"2025-11-21T20:40:00.000000001Z","duration_ms":0}'


EVERYTHING: dict[str, Any] = (
    {"kind": "llm", "operation": "chat", "name": "chat gpt-4o", "provider": "openai", "model_id": "gpt-4o-2024"}
    | {"request_model": "gpt-4o", "server_address": "localhost", "server_port": 8080, "stream": True}
    | {"first_chunk_ms": 1, "first_token_ms": 1_500_000, "first_text_ms": 2_000_000, "chunks": 0, "status": "error"}
    | {"error_type": "openai.RateLimitError", "error_code": "429", "error_message": "slow", "error_stack": "at"}
    | {"http_status": 429, "retries": 2, "response_id": "r", "finish_reasons": ["stop", "length"], "tool_calls": ["f"]}
    | {"input_tokens": 20, "output_tokens": 30, "cache_read_tokens": 1, "cache_write_tokens": 2}
    | {"cache_write_1h_tokens": 3, "reasoning_tokens": 4, "input_audio_tokens": 5, "output_audio_tokens": 6}
    | {"input_image_tokens": 7, "web_search_requests": 8, "usage_source": "provider", "cost_usd": 15}
    | {"cost_source": "local", "price_version": "v1", "service_tier": "flex", "request_params": b'{"top_p":1.0}'}
    | {"session_id": "s", "user_id": "u", "tags": ["a", "b"], "goal": "g", "capsule_id": "c"}
    | {"attributes": b'{"k":1}', "events": b"[]", "input": b'"i"', "output": b'{"o":2}'}
)
RESOURCE = b'"service":"x","environment":"e","tenant_id":"t","workflow_id":"w","sdk":"y"'


def test_every_field_is_written_in_the_order_of_the_schema_whatever_the_order_of_the_call() -> None:
    recorder = recorder_of()
    context = _pure.new_context(CONTEXT)
    recorder.record(context, START_NS, 1_000_100, dict(reversed(EVERYTHING.items())))
    (line,) = lines_of(recorder, RESOURCE)
    span = json.loads(line)
    assert list(span) == [field.name for field in FIELDS]
    assert (span["trace_id"], span["parent_span_id"]) == (CONTEXT.trace_id, CONTEXT.span_id)
    for number in (
        '"duration_ms":1.0001,',
        '"first_chunk_ms":0.000001,',
        '"first_token_ms":1.5,',
        '"first_text_ms":2,',
    ):
        assert number in line
    assert '"cost_usd":0.000000000015,' in line
    changed = ("first_chunk_ms", "first_token_ms", "first_text_ms", "cost_usd")
    for name in EVERYTHING.keys() - {*changed, *layout.JSONS}:
        assert span[name] == EVERYTHING[name]
    for name in layout.JSONS:
        assert f'"{name}":{EVERYTHING[name].decode()}' in line
    assert line.endswith(RESOURCE.decode() + "}")


@pytest.mark.parametrize("name", [*layout.COUNTS[2:], "retries"])
def test_a_part_of_nothing_is_not_written(name: str) -> None:
    assert span_of({name: 0}) == {}
    assert span_of({name: 1}) == {name: 1}


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "chunks", "http_status", "server_port", "cost_usd"])
def test_zero_is_a_fact_where_it_can_be_one(name: str) -> None:
    assert span_of({name: 0}) == {name: 0}
    assert span_of({}) == {}


def test_zero_parts_in_a_file_that_has_them_are_left_out_too() -> None:
    recorder = recorder_of()
    values = layout.EMPTY_RECORD[:]
    values[layout.PRESENT] = 1 << layout.NUMBER["cache_read_tokens"] | 1 << layout.NUMBER["reasoning_tokens"]
    values[layout.FIRST_COUNT + 5] = 9
    assert recorder.ring is not None
    recorder.ring.push(values, b"")
    (line,) = lines_of(recorder)
    assert line.endswith('"duration_ms":0,"reasoning_tokens":9}')


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("input_tokens", [-1, 2**64, True, 1.0, "1", None]),
        ("http_status", [-1, 65536, True, "200"]),
        ("kind", ["nonsense", "", None, 1]),
        ("provider", ["", None, 1, b"openai"]),
        ("response_id", ["", None, b"r"]),
        ("finish_reasons", [[], (), None, 1, [1, None], {"stop"}]),
        ("request_params", ["{}", None, {}, b""]),
        ("stream", [False, 1, None]),
        ("cost_usd", [-1, -0.5, 9007.0, float("nan"), float("inf")]),
        ("no_such_field", ["x", 1]),
        ("trace_id", ["0" * 32]),
        ("service", ["s"]),
    ],
)
def test_what_does_not_fit_a_field_is_left_out(name: str, values: list[object]) -> None:
    for value in values:
        assert span_of({name: value}) == {}


@pytest.mark.parametrize("name", layout.CLIP_BYTES)
def test_text_is_clipped_on_a_character_boundary(name: str) -> None:
    limit = layout.CLIP_BYTES[name]
    for text in ("x" * (limit + 1), "x" * (limit - 1) + "é"):
        (value,) = span_of({name: text}).values()
        assert value in ("x" * limit, ["x" * limit], "x" * (limit - 1), ["x" * (limit - 1)])
        assert text.startswith(value if isinstance(value, str) else value[0])


def test_text_is_escaped_and_always_valid() -> None:
    line = line_of({"name": 'a"%s%%\x00\x7f\ud800é', "error_message": "\\\n", "tags": ["%d"], "goal": "%"})
    assert r'"name":"a\"%s%%\u0000\u007f' + '\ufffdé"' in line
    assert r'"error_message":"\\\n"' in line
    assert '"tags":["%d"],"goal":"%"' in line


def test_strings_travel_in_the_content_when_the_table_is_full() -> None:
    recorder = recorder_of(strtab_bytes=4096)
    assert recorder.ring is not None
    for number in range(20):
        recorder.ring.index(1, f"{number:0254}")
    while recorder.ring.intern(b"x" * 8 + os.urandom(8).hex().encode()[:8]):
        pass
    fields = {name: f"{name} kept" for name in layout.RECORD_STRINGS} | {"kind": "llm", "status": "error"}
    recorder.record(CONTEXT, START_NS, 0, fields)
    recorder.record(CONTEXT, START_NS, 0, {"goal": "no strings here"})
    first, second = (json.loads(line) for line in lines_of(recorder))
    assert {name: first[name] for name in fields} == fields
    assert list(first)[-3:] == ["error_code", "price_version", "service_tier"]
    assert second["goal"] == "no strings here"
    assert "provider" not in second


@pytest.mark.parametrize(
    ("unix_ns", "timestamp"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (-1, "1970-01-01T00:00:00.000000000Z"),
        (951_782_399_999_999_999, "2000-02-28T23:59:59.999999999Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807Z"),
    ],
)
def test_timestamps_have_nine_decimals(unix_ns: int, timestamp: str) -> None:
    recorder = recorder_of()
    for _ in range(2):
        recorder.record(CONTEXT, unix_ns, 0, {})
    assert all(f'"timestamp":"{timestamp}"' in line for line in lines_of(recorder))


@given(st.integers(0, 2**64 - 1) | st.sampled_from([1, 10**6 - 1, 10**6, 10**12 - 1, 10**12, 2**64 - 1]))
@settings(max_examples=200, deadline=None)
def test_fixed_point_numbers_are_exact_and_without_trailing_zeros(value: int) -> None:
    line = line_of({"cost_usd": value}, duration_ns=value)
    for name, decimals in (("duration_ms", 6), ("cost_usd", 12)):
        text = line.partition(f'"{name}":')[2].partition(",")[0].rstrip("}")
        whole, _, part = text.partition(".")
        assert int(whole) * 10**decimals + int(part.ljust(decimals, "0")) == value
        assert not part.endswith("0") and len(part) <= decimals and "e" not in text


# ---- models and money ----

PRICE = Price(input=10, cache_read=1, cache_write=20, cache_write_1h=30, input_audio=40, output=100, request=7)
CALL = {"provider": "openai", "model_id": "m", "input_tokens": 10, "output_tokens": 2}


def priced(fields: dict[str, Any], **prices: Price | None) -> dict[str, Any]:
    recorder = recorder_of()
    recorder.price_version = "now"
    for model, price in prices.items():
        assert recorder.prices.put("openai", model, price)
    recorder.record(CONTEXT, START_NS, 0, fields)
    (line,) = lines_of(recorder)
    span = json.loads(line)
    return {name: span[name] for name in ("cost_usd", "cost_source", "price_version") if name in span}


def local(pico_usd: int) -> dict[str, Any]:
    return {"cost_usd": pico_usd / 10**12, "cost_source": "local", "price_version": "now"}


@pytest.mark.parametrize(
    ("more", "cost"),
    [
        ({}, 7 + 100 + 200),
        ({"cache_read_tokens": 4}, 7 + 60 + 4 + 200),
        ({"cache_write_tokens": 3, "cache_write_1h_tokens": 2, "input_audio_tokens": 5}, 7 + 20 + 20 + 60 + 200 + 200),
        ({"cache_write_tokens": 3, "cache_write_1h_tokens": 4}, None),
        ({"cache_read_tokens": 11}, None),
        ({"cache_read_tokens": 6, "input_image_tokens": 5}, None),
        ({"output_audio_tokens": 3}, None),
        ({"input_tokens": None}, None),
        ({"output_tokens": None}, 7 + 100),
    ],
)
def test_cost_is_exact_or_absent(more: dict[str, Any], cost: int | None) -> None:
    assert priced(CALL | more, m=PRICE) == ({} if cost is None else local(cost))


def test_cost_saturates_and_respects_the_limit_of_a_price() -> None:
    many = CALL | {"input_tokens": 2**64 - 1}
    assert priced(many, m=PRICE) == local(2**64 - 1)
    assert priced(CALL, m=PRICE._replace(input_limit=10)) == local(307)
    assert priced(CALL, m=PRICE._replace(input_limit=9)) == {}


def test_a_reported_cost_is_kept_and_never_replaced() -> None:
    assert priced(CALL | {"cost_usd": 0.25}, m=PRICE) == {"cost_usd": 0.25, "cost_source": "provider"}
    assert priced(CALL | {"cost_usd": 5}, m=PRICE) == {"cost_usd": 5e-12}


def test_the_requested_models_price_counts_where_the_answering_model_has_none() -> None:
    both = CALL | {"request_model": "asked"}
    assert priced(both, m=None, asked=PRICE) == local(307)
    assert priced(both, m=PRICE, asked=None) == local(307)
    assert priced(both, m=None, asked=None) == {}


def test_the_requested_model_stands_in_and_is_not_repeated() -> None:
    assert span_of({"request_model": "m"}) == {"model_id": "m"}
    assert span_of({"request_model": "m", "model_id": "m"}) == {"model_id": "m"}
    assert span_of({"request_model": "m", "model_id": "n"}) == {"model_id": "n", "request_model": "m"}


def test_what_was_recorded_before_its_price_was_known_is_priced_by_the_exporter() -> None:
    recorder = recorder_of()
    recorder.price_version = "then"
    for fields in (CALL, CALL | {"model_id": "other", "request_model": "m"}, CALL, {**CALL, "input_tokens": None}):
        recorder.record(CONTEXT, START_NS, 0, fields)
    assert recorder.ring is not None
    batch = recorder.ring.read(10, 1 << 20)
    assert sorted(batch.unpriced()) == [("openai", "m"), ("openai", "other")]
    recorder.prices.put("openai", "m", PRICE)
    recorder.prices.put("openai", "other", None)
    encoded = batch.encode(recorder.prices, "now", b"")
    spans = decode(encoded)
    assert [span.get("cost_usd") for span in spans] == [307e-12] * 3 + [None]
    assert [span.get("price_version") for span in spans] == ["now"] * 3 + [None]
    assert batch.encode(recorder.prices, "later", b"") == encoded


def test_the_price_table_is_bounded_and_replaces() -> None:
    table = _pure.PriceTable(2)
    assert table.put("openai", "a", PRICE)
    assert table.put("openai", "b", None)
    assert not table.put("openai", "c", PRICE)
    assert table.put("openai", "a", PRICE._replace(request=8))
    assert table.cost("openai", "a", {"input_tokens": 1}) == 18
    assert table.cost("openai", "b", {"input_tokens": 1}) is table.cost("openai", "z", {"input_tokens": 1}) is None


# ---- the recorder ----


def test_content_beyond_a_megabyte_is_left_out_field_by_field_and_counted() -> None:
    recorder = recorder_of(arena_bytes=1 << 22)
    big = b'"' + b"x" * (layout.CONTENT_MAX_BYTES - 100) + b'"'
    recorder.record(CONTEXT, START_NS, 0, {"input": big, "output": big, "goal": "kept"})
    span = json.loads(lines_of(recorder)[0])
    assert ("input" in span, "output" in span, span["goal"]) == (True, False, "kept")
    assert recorder.ring is not None
    assert recorder.ring.counters().content_too_large == 1


def test_a_recorder_without_a_ring_asks_for_one_and_counts_what_it_drops() -> None:
    asked = []
    recorder = _pure.Recorder(lambda: asked.append(1))
    assert not recorder.record(CONTEXT, START_NS, 0, {})
    recorder.ring = recorder_of().ring
    assert recorder.record(CONTEXT, START_NS, 0, {})
    assert (len(asked), recorder.dropped_unstarted) == (1, 1)
    recorder.reset_counts()
    assert recorder.dropped_unstarted == 0


def test_a_ring_replaced_during_a_call_refuses_the_old_rings_record() -> None:
    recorder = recorder_of()
    ring = recorder.ready()
    assert ring is not None
    recorder.ring = recorder_of().ring
    assert not recorder.push_call(ring, layout.EMPTY_RECORD[:], bytearray())
    assert recorder.dropped_unstarted == 1


def test_the_exporter_is_woken_each_quarter_lap_and_a_full_pipe_is_no_error() -> None:
    recorder = recorder_of()
    read_fd, recorder.wake_fd = os.pipe()
    os.set_blocking(recorder.wake_fd, False)
    os.set_blocking(read_fd, False)
    for _ in range(33):
        recorder.record(CONTEXT, START_NS, 0, {})
    assert len(os.read(read_fd, 100)) == 16
    with pytest.raises(BlockingIOError):
        while True:
            os.write(recorder.wake_fd, bytes(4096))
    for _ in range(64):
        assert recorder.record(CONTEXT, START_NS, 0, {})
    os.close(read_fd)
    os.close(recorder.wake_fd)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_child_starts_its_own_ring_and_has_its_own_ids() -> None:
    recorder = recorder_of()
    parents_ring = recorder.ring
    recorder._start = lambda: setattr(recorder, "ring", recorder_of().ring)
    read_fd, write_fd = os.pipe()
    child = os.fork()
    if child == 0:
        recorder.record(CONTEXT, START_NS, 0, {"goal": "child"})
        is_own = recorder.ring is not parents_ring and '"goal":"child"' in lines_of(recorder)[0]
        os.write(write_fd, b"%d %d" % (is_own, _pure.new_context(None).id))
        os._exit(0)
    os.waitpid(child, 0)
    is_own, childs_id = (int(word) for word in os.read(read_fd, 100).split())
    assert is_own
    assert parents_ring is not None
    assert parents_ring.counters().recorded == 0
    assert childs_id not in {_pure.new_context(None).id for _ in range(1000)}
    os.close(read_fd)
    os.close(write_fd)


def test_contexts_make_parents_and_children() -> None:
    root = _pure.new_context(None)
    child = _pure.new_context(root)
    assert (root.parent_span_id, child.parent_span_id) == (None, root.span_id)
    assert root.trace_id == child.trace_id != _pure.new_context(object()).trace_id
    assert (len(root.trace_id), len(root.span_id), root.retries) == (32, 16, 0)
    assert len({_pure.new_context(root).id for _ in range(5000)}) == 5000


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None)
def test_lines_of_one_batch_do_not_mix(kinds: list[str]) -> None:
    recorder = recorder_of()
    for number, kind in enumerate(kinds):
        recorder.record(CONTEXT, START_NS, number, {"kind": kind, "input_tokens": number, "goal": f"{number}"})
    spans = [json.loads(line) for line in lines_of(recorder)]
    assert [(span["kind"], span["input_tokens"], span["goal"]) for span in spans] == [
        (kind, number, f"{number}") for number, kind in enumerate(kinds)
    ]
