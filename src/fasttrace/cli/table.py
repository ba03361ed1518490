"""Spans as a table on the terminal: a tree by parent, with tokens, cost, latency and status, and a line of totals."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Span = Mapping[str, Any]

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


def spans_table(spans: Sequence[Span], rows_max: int | None = None) -> Table:
    """The table; with rows_max only its last rows, for a terminal of that height."""
    table = Table(title="spans, as the collector received them", title_justify="left", title_style="bold", expand=False)
    table.add_column("span", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for name in ("in", "cached", "out", "cost $", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    rows = [_row(depth, span) for depth, span in as_tree(spans)]
    for row in rows if rows_max is None else rows[-rows_max:]:
        table.add_row(*row)
    total = totals(spans)
    table.add_section()
    table.add_row(
        Text(f"{total.spans} spans, {total.calls} calls", style="bold"),
        "",
        f"{total.input_tokens:,}",
        f"{total.cache_read_tokens:,}",
        f"{total.output_tokens:,}",
        _dollars(total.cost_usd),
        "",
        f"{total.failed} failed",
    )
    return table


def as_tree(spans: Iterable[Span]) -> Iterator[tuple[int, Span]]:
    """Depth first, oldest first; a span whose parent has not arrived yet stands at the root."""
    spans = sorted(spans, key=lambda span: span["timestamp"])
    known = {span["span_id"] for span in spans}
    children: dict[str | None, list[Span]] = {}
    for span in spans:
        parent = span.get("parent_span_id")
        children.setdefault(parent if parent in known else None, []).append(span)

    def below(parent: str | None, depth: int) -> Iterator[tuple[int, Span]]:
        for span in children.get(parent, ()):
            yield depth, span
            yield from below(span["span_id"], depth + 1)

    return below(None, 0)


def _row(depth: int, span: Span) -> list[Text | str]:
    is_call = span["kind"] in PROVIDER_KINDS
    label = span["operation"] if is_call else span["name"]
    return [
        Text(f"{'   ' * (depth - 1)}{'└─ ' if depth else ''}{label}", style="" if is_call else "bold cyan"),
        span.get("model_id", UNKNOWN) if is_call else "",
        *(_count(span, name) for name in ("input_tokens", "cache_read_tokens", "output_tokens")),
        _dollars(span["cost_usd"]) if "cost_usd" in span else UNKNOWN if is_call else "",
        f"{float(span['duration_ms']):.1f}",
        _status(span),
    ]


def _count(span: Span, name: str) -> Text | str:
    if name in span:
        return f"{span[name]:,}"
    return UNKNOWN if span["kind"] in PROVIDER_KINDS else ""


def _dollars(amount: Decimal | int) -> str:
    return f"{amount:.8f}"


def _status(span: Span) -> Text:
    text = span["status"]
    if "http_status" in span and text != "success":
        text = f"{span['http_status']} {span.get('error_type', '').rpartition('.')[2]}"
    if span.get("retries"):
        text += f", {span['retries']} retried"
    return Text(text, style=STATUS_STYLE.get(span["status"], "yellow"))
