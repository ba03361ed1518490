"""Spans as a table on the terminal: a tree by parent, with tokens, cost, latency and status, and a line of totals.

What spans say is text, whatever it looks like: never markup (which could colour, link, or fail), never a command of the
terminal.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from fasttrace.cli.terminal import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Span = Mapping[str, Any]
    Cell = Text | str

NARROW = 118
UNKNOWN = Text("·", style="dim")
STATUS_STYLE = {"success": "green", "error": "red", "timeout": "red"}
PROVIDER_KINDS = ("llm", "embedding")


class Totals(NamedTuple):
    """Sums over the spans of provider calls; cost_usd is exact."""

    spans: int
    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cost_usd: Decimal


def totals(spans: Sequence[Span]) -> Totals:
    calls = [span for span in spans if span["kind"] in PROVIDER_KINDS]
    return Totals(
        len(spans),
        len(calls),
        sum(span["status"] != "success" for span in calls),
        sum(span.get("input_tokens", 0) for span in calls),
        sum(span.get("output_tokens", 0) for span in calls),
        sum(span.get("cache_read_tokens", 0) for span in calls),
        sum((Decimal(span.get("cost_usd", 0)) for span in calls), Decimal()),
    )


class Column(NamedTuple):
    """One column: its heading, a span's cell, the cell under all spans, and the terminals it is for."""

    heading: str
    cell: Callable[[Span], Cell]
    total: Callable[[Totals], Cell]
    is_number: bool = True
    when_narrow: bool = True
    when_wide: bool = True


def spans_table(
    spans: Sequence[Span],
    width: int,
    rows_max: int | None = None,
    title: str = "spans, as the collector received them",
) -> Table:
    """The table for a terminal of that width; with rows_max only its last rows, for one of that height."""
    is_narrow = width < NARROW
    columns = [column for column in COLUMNS if (column.when_narrow if is_narrow else column.when_wide)]
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None if is_narrow else box.ROUNDED,
        padding=(0, 1, 0, 0) if is_narrow else (0, 1),
    )
    table.add_column("span", no_wrap=True)
    for column in columns:
        table.add_column(column.heading, justify="right" if column.is_number else "left", no_wrap=True)
    rows = [(_label(depth, span), *(column.cell(span) for column in columns)) for depth, span in as_tree(spans)]
    for row in rows if rows_max is None else rows[-rows_max:]:
        table.add_row(*map(literal, row))
    table.add_section()
    total = totals(spans)
    table.add_row(
        Text(f"{total.spans} spans, {total.calls} calls", style="bold"), *(column.total(total) for column in columns)
    )
    return table


def literal(cell: Cell) -> Text:
    """What is shown letter by letter."""
    text, style = (cell.plain, cell.style) if isinstance(cell, Text) else (cell, "")
    return Text(plain(text), style=style)


def as_tree(spans: Iterable[Span]) -> Iterator[tuple[int, Span]]:
    """Depth first, oldest first, each span once; one whose parent has not arrived yet stands at the root."""
    spans = sorted(spans, key=lambda span: span["timestamp"])
    known = {span["span_id"] for span in spans}
    children: dict[str | None, list[int]] = {}
    for number, span in enumerate(spans):
        parent = span.get("parent_span_id")
        children.setdefault(parent if parent in known else None, []).append(number)
    left = dict.fromkeys(range(len(spans)))
    while left:
        # The roots; then, where spans are one another's parents, any of them.
        waiting = [(0, number) for number in reversed(children.pop(None, []) or [next(iter(left))])]
        while waiting:
            depth, number = waiting.pop()
            if number not in left:
                continue
            del left[number]
            span = spans[number]
            yield depth, span
            waiting += [(depth + 1, child) for child in reversed(children.get(span["span_id"], []))]


def _label(depth: int, span: Span) -> Cell:
    text = span["operation"] if _is_call(span) else span["name"]
    branch = f"{'   ' * (depth - 1)}└─ " if depth else ""
    return Text(f"{branch}{text}", style="" if _is_call(span) else "bold cyan")


def _is_call(span: Span) -> bool:
    return span["kind"] in PROVIDER_KINDS


def _known(span: Span, field: str, show: Callable[[Any], Cell]) -> Cell:
    """A field of a call; a dot where it is unknown, nothing where it makes no sense."""
    if field in span:
        return show(span[field])
    return UNKNOWN if _is_call(span) else ""


def _count(field: str) -> Callable[[Span], Cell]:
    return lambda span: _known(span, field, "{:,}".format)


def _cost(decimals: int) -> Callable[[Any], str]:
    return f"{{:.{decimals}f}}".format


def _model(span: Span) -> Cell:
    return _known(span, "model_id", str)


def _undated_model(span: Span) -> Cell:
    return _known(span, "model_id", lambda name: re.sub(r"-\d{4}-\d\d-\d\d$", "", name))


def _status(span: Span) -> Cell:
    text = span["status"]
    if "http_status" in span and text != "success":
        text = f"{span['http_status']} {span.get('error_type', '').rpartition('.')[2]}"
    if span.get("retries"):
        text += f", {span['retries']} retried"
    return Text(text, style=STATUS_STYLE.get(span["status"], "yellow"))


def _short_status(span: Span) -> Cell:
    text = "ok" if span["status"] == "success" else str(span.get("http_status", span["status"]))
    return Text(text, style=STATUS_STYLE.get(span["status"], "yellow"))


COLUMNS = (
    Column("model", _model, lambda total: "", is_number=False, when_narrow=False),
    Column("model", _undated_model, lambda total: "", is_number=False, when_wide=False),
    Column("in", _count("input_tokens"), lambda total: f"{total.input_tokens:,}"),
    Column("cached", _count("cache_read_tokens"), lambda total: f"{total.cache_read_tokens:,}", when_narrow=False),
    Column("out", _count("output_tokens"), lambda total: f"{total.output_tokens:,}"),
    Column(
        "cost $",
        lambda span: _known(span, "cost_usd", _cost(8)),
        lambda total: _cost(8)(total.cost_usd),
        when_narrow=False,
    ),
    Column(
        "cost $",
        lambda span: _known(span, "cost_usd", _cost(6)),
        lambda total: _cost(6)(total.cost_usd),
        when_wide=False,
    ),
    Column("ms", lambda span: f"{float(span['duration_ms']):.1f}", lambda total: "", when_narrow=False),
    Column("ms", lambda span: f"{float(span['duration_ms']):.0f}", lambda total: "", when_wide=False),
    Column("status", _status, lambda total: f"{total.failed} failed", is_number=False, when_narrow=False),
    Column("status", _short_status, lambda total: f"{total.failed} bad", is_number=False, when_wide=False),
)
