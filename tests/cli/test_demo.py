"""`fasttrace demo` as a user runs it: exit code, spans, table; and that its verdict would notice a wrong span."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

import fasttrace
from environment import inherited
from fasttrace.cli import table, workload
from fasttrace.cli.loopback import KEY, Provider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`fasttrace ...` with the core of this run and no other setting."""
    return subprocess.run(
        [sys.executable, "-m", "fasttrace", *arguments],
        env={**inherited("FASTTRACE_PURE"), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_version_names_the_core() -> None:
    assert command("--version").stdout == f"fasttrace {fasttrace.__version__} ({fasttrace.backend()} core)\n"


def test_without_a_command_the_help_is_shown() -> None:
    done = command()
    assert done.returncode == 0
    assert "demo" in done.stdout


def test_every_call_of_the_demo_arrives_as_one_span() -> None:
    done = command("demo", "--json")
    assert done.returncode == 0, done.stderr
    spans = [json.loads(line) for line in done.stdout.splitlines()]
    assert Counter(span["kind"] for span in spans) == {"llm": 15, "embedding": 5, "task": 4, "chain": 1}
    assert Counter(span["status"] for span in spans) == {"success": 22, "error": 3}
    assert len({span["span_id"] for span in spans}) == len(spans)


def test_the_table_shows_totals_places_and_figures() -> None:
    done = command("demo")
    assert done.returncode == 0, done.stderr
    assert "25 spans, 20 calls" in done.stdout
    for name in ("collector", "ring", "spool", "ledger", "+ native", "+ pure"):
        assert f"\n{name} " in done.stdout
    assert "25 recorded = 25 sent + 0 spooled + 0 dropped" in done.stdout
    assert "each of the 20 calls gave one span" in done.stdout
    assert " µs added to a call" in done.stdout


def test_live_calls_what_the_key_is_for() -> None:
    with Provider() as provider:
        done = command("demo", "--live", "--json", OPENAI_API_KEY=KEY, OPENAI_BASE_URL=provider.base_url)
        assert done.returncode == 0, done.stderr
        assert [request["model"] for request in provider.requests] == [
            "gpt-4o-mini",
            "text-embedding-3-small",
            "gpt-4o-mini",
        ]
    assert len(done.stdout.splitlines()) == 4


def test_live_without_a_key_says_what_to_set() -> None:
    done = command("demo", "--live", OPENAI_API_KEY="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "set OPENAI_API_KEY" in done.stderr


def test_a_missing_package_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    """A finder that knows no rich, put in front of the others by sitecustomize."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, importlib.util as util; real = util.find_spec\n"
        "util.find_spec = lambda name, *a: None if name == 'rich' else real(name, *a)\n"
    )
    done = command("demo", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fasttrace demo: needs rich: pip install 'fasttrace[cli]'\n"


# ---- the verdict


def span(span_id: str, **fields: Any) -> dict[str, Any]:
    common = {"span_id": span_id, "name": span_id, "timestamp": span_id, "status": "success"}
    return {**common, "duration_ms": Decimal("1.5"), "kind": "llm", "operation": "chat", **fields}


@pytest.fixture
def desk() -> Iterator[workload.Desk]:
    with workload.Desk("http://127.0.0.1:9/v1", KEY) as desk:
        desk.notes.append(workload.Note("chat", "m", None, "id-1", 10, 5, "t"))
        desk.tasks.append("t")
        yield desk


TASK = span("t", kind="task", operation="t")
CALL = span("a", model_id="m", response_id="id-1", input_tokens=10, output_tokens=5, parent_span_id="t")


def test_the_right_spans_have_no_differences(desk: workload.Desk) -> None:
    assert workload.differences(desk, [TASK, CALL]) == []


@pytest.mark.parametrize(
    "spans",
    [
        [TASK],
        [CALL],
        [TASK, CALL, {**CALL, "span_id": "b"}],
        [TASK, {**CALL, "input_tokens": 11}],
        [TASK, {**CALL, "parent_span_id": "elsewhere"}],
        [TASK, {**CALL, "error_type": "openai.APIError"}],
        [TASK, {**CALL, "request_model": "other"}],
    ],
    ids=["lost call", "lost task", "twice", "tokens", "parent", "error", "model"],
)
def test_a_wrong_span_is_noticed(desk: workload.Desk, spans: list[dict[str, Any]]) -> None:
    assert workload.differences(desk, spans)


def test_children_follow_their_parent_and_orphans_stand_at_the_root() -> None:
    spans = [
        span("3", parent_span_id="1"),
        span("1", kind="task"),
        span("2"),
        span("4", parent_span_id="3"),
        span("5", parent_span_id="not here yet"),
    ]
    assert [(depth, item["name"]) for depth, item in table.as_tree(spans)] == [
        (0, "1"),
        (1, "3"),
        (2, "4"),
        (0, "2"),
        (0, "5"),
    ]


def test_totals_are_exact_and_leave_unknown_out() -> None:
    spans = [
        span("1", cost_usd=Decimal("0.000000000001"), input_tokens=3),
        span("2", cost_usd=Decimal("0.1"), output_tokens=4, status="error"),
        span("3", kind="task"),
    ]
    assert table.totals(spans) == (3, 2, 1, 3, 4, 0, Decimal("0.100000000001"))


def cells(width: int, *spans: dict[str, Any]) -> list[list[str]]:
    """What the table shows at that width: its rows, by column."""
    shown = table.spans_table(spans, width)
    columns = [[str(cell) for cell in column.cells] for column in shown.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def test_unknown_is_not_shown_as_zero() -> None:
    rows = cells(120, span("1", model_id="m", output_tokens=0), span("2", kind="task", name="tidy up"))
    assert rows[0] == ["chat", "m", "·", "·", "0", "·", "1.5", "success"]
    assert rows[1] == ["tidy up", "", "", "", "", "", "1.5", "success"]


def test_a_failure_shows_its_http_status_and_its_class() -> None:
    failed = span("1", status="error", http_status=429, error_type="openai.RateLimitError", retries=2)
    assert cells(120, failed)[0][-1] == "429 RateLimitError, 2 retried"
    assert cells(80, failed)[0][-1] == "429"


def test_no_text_of_a_span_is_markup_or_a_command() -> None:
    text = "gpt[/b]x[link=https://example.com]y[/link]\x1b[2J"
    shown = "gpt[/b]x[link=https://example.com]y[/link]"
    failed = span(text, operation=text, model_id=text, status="error", http_status=400, error_type=text)
    for width in (80, 300):
        console = Console(width=width, force_terminal=True)
        with console.capture() as capture:
            console.print(table.spans_table([failed], width))
        assert "\x1b]8" not in capture.get() and "\x1b[2J" not in capture.get()
        assert cells(width, failed)[0][:2] == [shown, shown]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    spans = [
        span("1", kind="chain", name="a long task name"),
        span(
            "2",
            model_id="gpt-4.1-mini-2025-04-14",
            parent_span_id="1",
            input_tokens=12_345,
            output_tokens=1_234,
            cost_usd=Decimal("1.23456789"),
            duration_ms=Decimal("12345.6"),
        ),
    ]
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table.spans_table(spans, width))
    assert "…" not in capture.get()
    assert "12,345" in capture.get()
