"""Settings: from the environment, from keywords, and what happens to bad ones."""

from __future__ import annotations

import os
from typing import Any

import pytest

from fasttrace.config import SETTINGS, Config, load, settings_table
from fasttrace.errors import ConfigError

GOOD = {
    "enabled": ("off", False),
    "auto_instrument": ("no", False),
    "service_name": ("checkout\n", "checkout"),
    "tenant_id": (" acme ", "acme"),
    "environment": ("production", "production"),
    "workflow_id": ("refunds", "refunds"),
    "collector_url": ("https://c.example.com", "https://c.example.com/api/ingest"),
    "api_key": (" ft_secret ", "ft_secret"),
    "allow_http": ("TRUE", True),
    "exporter": ("Spool", "spool"),
    "file": ("/x/spans.jsonl", "/x/spans.jsonl"),
    "queue_max_size": ("100", 100),
    "batch_size": ("7", 7),
    "flush_interval": ("0.25", 0.25),
    "export_timeout": ("3", 3.0),
    "max_retries": ("0", 0),
    "shutdown_timeout": ("0", 0.0),
    "compression": ("gzip", "gzip"),
    "trust_env": ("yes", True),
    "ring_dir": ("/x/ring", "/x/ring"),
    "state_dir": ("/x/state", "/x/state"),
    "spool_max_bytes": ("1048576", 1 << 20),
    "log_level": ("debug", "DEBUG"),
    "capture_content": (" Output ", "output"),
    "content_max_bytes": ("256", 256),
    "openai_stream_usage": ("on", True),
}
BAD = {
    "enabled": "perhaps",
    "service_name": "a\nb",
    "tenant_id": "x" * 300,
    "collector_url": "collector.example.com",
    "api_key": "two words",
    "exporter": "kafka",
    "queue_max_size": "0",
    "batch_size": "many",
    "flush_interval": "nan",
    "export_timeout": "inf",
    "max_retries": "-1",
    "compression": "lz4",
    "spool_max_bytes": "1.5",
    "log_level": "LOUD",
    "capture_content": "both",
    "content_max_bytes": "900001",
    "openai_stream_usage": "sometimes",
}


def test_no_variables_give_the_defaults() -> None:
    assert load({}, {}) == (Config(), [])


def test_the_table_names_every_field_in_order() -> None:
    assert [setting.name for setting in SETTINGS] == list(Config._fields)
    assert GOOD.keys() == set(Config._fields)


@pytest.mark.parametrize("name", GOOD)
def test_a_variable_is_parsed(name: str) -> None:
    text, value = GOOD[name]
    config, problems = load({f"FASTTRACE_{name.upper()}": text}, {})
    assert (getattr(config, name), problems) == (value, [])


@pytest.mark.parametrize("name", GOOD)
def test_a_keyword_is_parsed_like_its_variable(name: str) -> None:
    text, value = GOOD[name]
    assert getattr(load({}, {name: text})[0], name) == value
    assert getattr(load({}, {name: value})[0], name) == value


@pytest.mark.parametrize("name", BAD)
def test_a_bad_variable_costs_one_problem_and_leaves_the_default(name: str) -> None:
    variable = f"FASTTRACE_{name.upper()}"
    config, problems = load({variable: BAD[name]}, {})
    assert config == Config()
    assert len(problems) == 1
    assert variable in problems[0] and "expected" in problems[0]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_keyword_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}=.*expected"):
        load({}, {name: BAD[name]})


@pytest.mark.parametrize("value", [["a"], {}, b"x", object()])
def test_a_keyword_of_another_type_is_an_error(value: Any) -> None:
    with pytest.raises(ConfigError, match="service_name"):
        load({}, {"service_name": value})


def test_an_empty_variable_is_an_unset_one() -> None:
    assert load({"FASTTRACE_BATCH_SIZE": ""}, {}) == (Config(), [])


def test_a_keyword_wins_over_its_variable_even_a_bad_one() -> None:
    config, problems = load({"FASTTRACE_BATCH_SIZE": "many"}, {"batch_size": 5})
    assert (config.batch_size, problems) == (5, [])


def test_none_as_keyword_means_the_default() -> None:
    assert load({"FASTTRACE_BATCH_SIZE": "5"}, {"batch_size": None})[0].batch_size == 1000


def test_an_unknown_variable_is_a_problem_with_a_suggestion() -> None:
    _, (problem,) = load({"FASTTRACE_COLECTOR_URL": "x", "PATH": "y"}, {})
    assert "FASTTRACE_COLECTOR_URL" in problem and "did you mean FASTTRACE_COLLECTOR_URL" in problem


def test_an_unknown_keyword_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean batch_size"):
        load({}, {"batchsize": 5})


def test_the_switch_of_the_core_is_known() -> None:
    assert load({"FASTTRACE_PURE": "1"}, {})[1] == []


# ---- where spans may be sent


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "127.9.9.9", "[::1]:80"])
def test_plain_http_is_allowed_on_this_machine(host: str) -> None:
    config, problems = load({"FASTTRACE_COLLECTOR_URL": f"http://{host}/in"}, {})
    assert (config.collector_url, problems) == (f"http://{host}/in", [])


@pytest.mark.parametrize("host", ["collector.example.com", "10.0.0.1", "localhost.example.com", "0.0.0.0"])
def test_plain_http_to_others_is_refused_unless_asked_for(host: str) -> None:
    variables = {"FASTTRACE_COLLECTOR_URL": f"http://{host}/in"}
    config, (problem,) = load(variables, {})
    assert config.collector_url is None
    assert "FASTTRACE_ALLOW_HTTP" in problem
    config, problems = load({**variables, "FASTTRACE_ALLOW_HTTP": "true"}, {})
    assert (config.collector_url, problems) == (f"http://{host}/in", [])
    with pytest.raises(ConfigError, match="FASTTRACE_ALLOW_HTTP"):
        load({}, {"collector_url": f"http://{host}/in"})


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pw@c.example.com",
        "ftp://c.example.com",
        "https://",
        "https://c.example.com:99999",
        "https://bücher",
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="collector_url"):
        load({}, {"collector_url": url})


@pytest.mark.parametrize("path, expected", [("", "/api/ingest"), ("/", "/api/ingest"), ("/v2/in?x=1", "/v2/in?x=1")])
def test_a_url_without_a_path_gets_the_collectors(path: str, expected: str) -> None:
    config = load({}, {"collector_url": f"https://c.example.com{path}"})[0]
    assert config.collector_url == f"https://c.example.com{expected}"


# ---- the key


def test_the_key_is_never_shown() -> None:
    config, _ = load({"FASTTRACE_API_KEY": "ft_secret"}, {})
    assert config.api_key == "ft_secret"
    assert "ft_secret" not in repr(config) and "ft_secret" not in str(config)
    _, problems = load({"FASTTRACE_API_KEY": "ft_secret with words"}, {})
    assert problems and "ft_secret" not in problems[0]
    with pytest.raises(ConfigError) as caught:
        load({}, {"api_key": "ft_secret with words"})
    assert "ft_secret" not in str(caught.value) and "ft_secret" not in repr(caught.value)


@pytest.mark.parametrize("name", ["tenant_id", "api_key"])
@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "bücher", "a\0b", "\x7f"])
def test_what_no_header_can_carry_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load({}, {name: value})


@pytest.mark.parametrize(
    "url",
    [
        "https://bob:hunter2@c.example.com",
        "https://bob:hun@hunter2@c.example.com/in?x=1",
        "bob:hunter2@c.example.com",
        "ftp://c.example.com/in?token=hunter2",
        "http://c.example.com/in?token=hunter2",
        "//hunter2@",
    ],
)
def test_a_secret_in_a_refused_url_is_never_shown(url: str) -> None:
    _, (problem,) = load({"FASTTRACE_COLLECTOR_URL": url}, {})
    assert "***" in problem and "hunter2" not in problem
    with pytest.raises(ConfigError) as caught:
        load({}, {"collector_url": url})
    assert "hunter2" not in str(caught.value) and "hunter2" not in repr(caught.value)


def test_a_secret_in_the_wrong_place_is_never_shown() -> None:
    for wrong in ({"apikey": "hunter2"}, {"api_key": b"hunter2"}, {"tenant_id": {"key": "hunter2"}}):
        with pytest.raises(ConfigError) as caught:
            load({}, wrong)
        assert "hunter2" not in str(caught.value) and "hunter2" not in repr(caught.value)


# ---- derived


@pytest.mark.parametrize(
    "spans, slots", [(1, 256), (256, 256), (257, 512), (8192, 8192), (8193, 16384), (1 << 20, 1 << 20)]
)
def test_the_ring_is_the_power_of_two_that_holds_the_queue(spans: int, slots: int, core: Any) -> None:
    shape = Config(queue_max_size=spans).ring_shape
    assert (shape.slots, shape.arena_bytes) == (slots, slots * 256)
    assert core.region_bytes(shape) > slots * 512


@pytest.mark.parametrize(
    ("value", "word", "captured"),
    [
        ("false", "false", (False, False)),
        ("off", "false", (False, False)),
        (False, "false", (False, False)),
        ("TRUE", "true", (True, True)),
        (True, "true", (True, True)),
        ("1", "true", (True, True)),
        ("input", "input", (True, False)),
        ("output", "output", (False, True)),
    ],
)
def test_content_is_captured_as_far_as_it_was_asked_for(value: Any, word: str, captured: tuple[bool, bool]) -> None:
    config, _ = load({}, {"capture_content": value})
    assert config.capture_content == word
    assert (config.capture_input, config.capture_output) == captured


@pytest.mark.parametrize("capture", ["true", "input", "output"])
@pytest.mark.parametrize("most", [256, 65_536, 900_000])
@pytest.mark.parametrize("spans", [1, 8192])
def test_captured_content_fits_into_a_span_and_half_the_arena(capture: str, most: int, spans: int, core: Any) -> None:
    config = Config(capture_content=capture, content_max_bytes=most, queue_max_size=spans)
    fields = 2 if capture == "true" else 1
    assert config.content_limit == (most if fields * most < 1 << 20 else ((1 << 20) - (32 << 10)) // fields)
    assert fields * config.content_limit < 1 << 20
    assert config.ring_shape.arena_bytes >= 4 * fields * config.content_limit
    assert config.ring_shape.arena_bytes >= Config(queue_max_size=spans).ring_shape.arena_bytes
    assert core.region_bytes(config.ring_shape) > config.ring_shape.arena_bytes


def test_state_lies_in_the_xdg_directory_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/x/state")
    monkeypatch.setenv("LOCALAPPDATA", "/x/state")
    assert Config().state_directory == os.path.join("/x/state", "fasttrace")
    assert Config(state_dir="/y").state_directory == "/y"
    assert Config(state_dir="/y").file_path == os.path.join("/y", "spans.jsonl")
    assert Config(file="/z.jsonl").file_path == "/z.jsonl"


# ---- documented


def test_the_printed_table_has_every_setting_with_its_default() -> None:
    rows = settings_table().splitlines()
    for setting in SETTINGS:
        (row,) = [row for row in rows if f"| `{setting.variable}` |" in row]
        assert setting.meaning in row
    assert "| `FASTTRACE_BATCH_SIZE` | `1000` |" in settings_table()
    assert "| `FASTTRACE_ENABLED` | `true` |" in settings_table()
    assert "| `FASTTRACE_API_KEY` | | " in settings_table()
    assert all(row.count("|") == 4 for row in rows[2:])
