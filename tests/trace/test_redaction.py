"""The user's own redaction: what leaves the process is what it returned, whatever it does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import fasttrace
from fasttrace.errors import ConfigError
from fasttrace.exporters.truncate import members
from fasttrace.trace import redaction
from fasttrace.trace.redaction import FIELDS, Failures, Redaction, redacted_lines
from fasttrace.trace.tracer import PROCESSOR, configure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector import Collector

    Open = Callable[..., Any]

FLUSH_S = 10.0
HIDDEN = "hunter2"
VALUES: dict[str, Any] = {
    "error_message": f"refused {HIDDEN}",
    "error_stack": f"line {HIDDEN}",
    "request_params": b'{"user":"hunter2","temperature":0.1}',
    "attributes": b'{"a":"hunter2","n":1e-05}',
    "events": b'[{"name":"hunter2"}]',
    "input": b'{"messages":["hunter2"]}',
    "output": b'"hunter2"',
}
LINE = (
    '{"name":"chat","duration_ms":0.00001,"error_message":"hunter2 \\u0001é","cost_usd":0.000000000001,'
    '"attributes":{"a":1e-05,"b":["hunter2"]},"input":"hunter2","service":"s"}\n'
)


def without(field: str, value: Any) -> Any:
    """As a user may write it."""
    if isinstance(value, str):
        return value.replace(HIDDEN, "?")
    if isinstance(value, list):
        return [without(field, item) for item in value]
    return {key: without(field, item) for key, item in value.items()} if isinstance(value, dict) else value


def lines(hook: Any, body: str = LINE) -> tuple[str, int]:
    failures = Failures()
    return Redaction(hook, failures).lines(body.encode()).decode(), failures.count


def test_the_hook_is_asked_about_every_text_and_nothing_else() -> None:
    asked: list[tuple[str, Any]] = []

    def hook(field: str, value: Any) -> Any:
        asked.append((field, value))
        return value

    lines(hook)
    assert asked == [
        ("error_message", "hunter2 \x01é"),
        ("attributes", {"a": 1e-05, "b": ["hunter2"]}),
        ("input", "hunter2"),
    ]


def test_what_it_returns_takes_the_place_and_the_rest_keeps_its_bytes() -> None:
    changed, failures = lines(without, LINE * 3)
    first, _, rest = changed.partition("\n")
    assert failures == 0 and rest == f"{first}\n" * 2
    before, after = dict(members(LINE.rstrip())), dict(members(first))
    assert list(after) == list(before)
    assert {name for name in before if before[name] != after[name]} == {"error_message", "attributes", "input"}
    assert after["duration_ms"] == "0.00001" and after["cost_usd"] == "0.000000000001"
    assert json.loads(after["attributes"]) == {"a": 1e-05, "b": ["?"]} and after["input"] == '"?"'


def test_none_leaves_the_field_out() -> None:
    changed, failures = lines(lambda field, value: None if field in ("error_message", "input") else value)
    assert list(json.loads(changed)) == ["name", "duration_ms", "cost_usd", "attributes", "service"] and failures == 0


class Evil:
    def __repr__(self) -> str:
        raise RuntimeError(HIDDEN)


def raises(error: BaseException) -> Callable[[str, Any], Any]:
    def hook(field: str, value: Any) -> Any:
        raise error

    return hook


@pytest.mark.parametrize("error", [ValueError(HIDDEN), SystemExit(3), KeyboardInterrupt(), RecursionError()])
def test_a_hook_that_raises_costs_the_fields(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    changed, failures = lines(raises(error), LINE * 2)
    assert failures == 6 and HIDDEN not in changed
    assert [list(json.loads(line)) for line in changed.splitlines()] == [
        ["name", "duration_ms", "cost_usd", "service"]
    ] * 2
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3 and all(type(error).__name__ in line for line in told) and "error_message" in told[0]
    assert HIDDEN not in caplog.text


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "returned", [object(), Evil(), {1, 2}, b"bytes", float("nan"), {"a": float("inf")}, CYCLE, {"a": Evil()}, "\ud800"]
)
def test_what_is_no_json_costs_the_field(returned: Any) -> None:
    changed, failures = lines(lambda field, value: returned if field == "input" else value)
    assert failures == 1 and "input" not in json.loads(changed) and "attributes" in json.loads(changed)


@pytest.mark.parametrize(
    ("field", "returned"), [("error_message", {"a": 1}), ("attributes", "text"), ("attributes", [1])]
)
def test_what_cannot_stand_in_the_field_costs_it(field: str, returned: Any) -> None:
    changed, failures = lines(lambda name, value: returned if name == field else value)
    assert failures == 1 and field not in json.loads(changed)


def test_a_text_that_it_returns_is_clipped_as_any_other() -> None:
    changed, _ = lines(lambda field, value: "é" * 5000 if field == "error_message" else value)
    assert json.loads(changed)["error_message"] == "é" * 1024


@pytest.mark.parametrize("field", ["input", "attributes"])
@pytest.mark.parametrize("character", ["x", "é"])
def test_json_of_more_than_a_mebibyte_costs_the_field(field: str, character: str) -> None:
    size = len(character.encode())
    for spare in (0, 1):
        length = (redaction.MAX_JSON_BYTES - len('{"a":""}')) // size + spare
        value = {"a": character * length}
        changed, failures = lines(lambda name, old, value=value: value if name == field else old)
        assert failures == spare and (field in json.loads(changed)) == (not spare)


def test_a_value_nested_in_itself_many_times_costs_the_field() -> None:
    value: Any = "x" * 1000
    for _ in range(12):
        value = [value, value]
    changed, failures = lines(lambda field, old: value if field == "input" else old)
    assert failures == 1 and "input" not in json.loads(changed)


def test_without_a_hook_the_very_bytes_stay() -> None:
    body = LINE.encode()
    assert redacted_lines(body, None) is body


def recorded(processor: Any) -> list[str]:
    ids: list[str] = processor.record(2, **VALUES)
    return ids


def test_what_is_sent_has_only_what_it_returned(open_processor: Open, collector: Collector) -> None:
    processor = open_processor(collector_url=collector.url)
    processor.reconfigure(processor.config, redact=without)
    ids = recorded(processor)
    processor.flush(FLUSH_S)
    assert collector.accepted_ids() == ids
    for line in collector.batches[0].lines:
        assert HIDDEN.encode() not in line and set(FIELDS) < set(json.loads(line))


def test_so_have_the_spool_and_the_file(open_processor: Open, tmp_path: Path) -> None:
    for way in ("spool", "file"):
        processor = open_processor(way=way, compression="none")
        processor.reconfigure(processor.config, redact=without)
        recorded(processor)
        processor.flush(FLUSH_S)
    written = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    data = b"".join(path.read_bytes() for path in written)
    assert b"refused ?" in data and HIDDEN.encode() not in data


def test_failures_are_counted_over_configurations_and_lose_no_span(open_processor: Open, collector: Collector) -> None:
    processor = open_processor(collector_url=collector.url)
    processor.reconfigure(processor.config, redact=raises(SystemExit()))
    ids = recorded(processor)
    processor.flush(FLUSH_S)
    processor.reconfigure(processor.config, redact=raises(ValueError()))
    ids += recorded(processor)
    processor.flush(FLUSH_S)
    stats = processor.stats()
    assert stats.redaction_failures == 2 * 2 * len(FIELDS) and stats.sent == 4
    assert collector.accepted_ids() == ids
    assert not any(set(FIELDS) & set(span) for batch in collector.batches for span in batch.spans)


def test_what_was_recorded_before_is_delivered_as_it_was_asked_for_then(
    open_processor: Open, collector: Collector
) -> None:
    processor = open_processor(collector_url=collector.url, flush_interval=3600)
    processor.reconfigure(processor.config, redact=without)
    recorded(processor)
    processor.reconfigure(processor.config)
    processor.record(1, error_message=HIDDEN)
    processor.flush(FLUSH_S)
    spans = [span for batch in collector.batches for span in batch.spans]
    assert [span["error_message"] for span in spans] == ["refused ?", "refused ?", HIDDEN]


@pytest.mark.parametrize("wrong", ["a word", 3, [], {"field": "input"}])
def test_what_is_no_function_is_refused(wrong: Any) -> None:
    before = PROCESSOR.config
    with pytest.raises(ConfigError, match=r"redact=.*expected a function"):
        configure({"redact": wrong, "service_name": "other"})
    assert PROCESSOR.config is before


def test_init_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(
        type(PROCESSOR), "reconfigure", lambda self, config, exporter=None, redact=None: told.append(redact)
    )
    fasttrace.init(redact=without)
    fasttrace.init()
    assert told == [without, None]


def test_every_field_that_may_hold_what_users_wrote_is_the_hooks() -> None:
    assert set(redaction.FIELDS) == set(VALUES)
