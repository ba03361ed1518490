"""`fasttrace spool show`: the spans that wait, as a table, as one line each (`--follow`), or as the JSON they are.

Segments are only read. While following, a directory that has not changed costs one look at its time of change, several
times a second; segments that come and are sent between two looks are not seen. On a terminal with rich the table is
that of `fasttrace demo`; elsewhere it is plain.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from fasttrace.cli import terminal
from fasttrace.cli.terminal import count, plain_json, text_of
from fasttrace.exporters.spool_view import SpoolView

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Mapping

    from fasttrace.config import Config
    from fasttrace.exporters.spool_view import Waiting

    Span = Mapping[str, Any]

TABLE_LIMIT = 100
LOOK_INTERVAL_S = 0.2
NEEDED = {"kind": str, "status": str, "span_id": str, "timestamp": str, "duration_ms": (int, float)}
NUMBERS = ("input_tokens", "output_tokens", "cache_read_tokens", "cost_usd", "http_status", "retries")
TEXTS = ("operation", "name", "model_id", "request_model", "error_type", "parent_span_id", "service")
LINE = "{time:<8}  {span:<16}  {model:<20}  {input:>6}  {output:>5}  {cost:>8}  {ms:>7}  {status}"
HEADING = LINE.format(
    time="time", span="span", model="model", input="in", output="out", cost="cost $", ms="ms", status="status"
)


class Filter(NamedTuple):
    """Which spans are wanted; None: any."""

    model: str | None
    status: str | None
    service: str | None

    def takes(self, span: Any) -> bool:
        if not any(self):
            return True
        return (
            isinstance(span, dict)
            and _matches(self.model, span.get("model_id"), span.get("request_model"))
            and _matches(self.status, span.get("status"))
            and _matches(self.service, span.get("service"))
        )


def _matches(pattern: str | None, *values: object) -> bool:
    return pattern is None or any(isinstance(value, str) and fnmatchcase(value, pattern) for value in values)


def run(arguments: argparse.Namespace, config: Config) -> int:
    """The command; returns its exit code."""
    if arguments.limit is not None and arguments.limit < 0:
        terminal.error("spool show", f"--limit {arguments.limit}: expected a number of spans")
        return 2
    showing = Showing(SpoolView(config.state_directory), arguments)
    try:
        showing.show()
        if arguments.follow:
            showing.follow()
    except KeyboardInterrupt:
        return 0
    return 0


class Showing:
    """One run of the command: what is asked for, and which segments were seen."""

    def __init__(self, view: SpoolView, arguments: argparse.Namespace) -> None:
        self._view = view
        self._filter = Filter(arguments.model, arguments.status, arguments.service)
        self._is_json = arguments.json
        self._is_following = arguments.follow
        self._limit = arguments.limit
        if self._limit is None and not self._is_json:
            self._limit = TABLE_LIMIT
        self._seen: set[str] = set()

    def show(self) -> None:
        """What is there now, the newest last."""
        segments = self._view.segments()
        self._seen = {segment.name for segment in segments}
        lines = self._lines(segments) if self._limit is None else self._newest(segments, self._limit)
        if self._is_json:
            self._write(lines)
        elif self._is_following:
            print(HEADING)
            self._write(lines)
        else:
            self._table(list(lines), sum(segment.span_count for segment in segments))

    def _lines(self, segments: Iterable[Waiting]) -> Iterator[bytes]:
        for segment in segments:
            yield from self._lines_of(segment)

    def _lines_of(self, segment: Waiting) -> list[bytes]:
        """The wanted lines of a segment; none where it is gone or damaged, which is said."""
        try:
            lines = self._view.lines(segment)
        except (OSError, ValueError) as error:
            terminal.error("spool show", terminal.plain(error))
            return []
        return [line for line in lines or [] if not any(self._filter) or self._filter.takes(_parsed(line))]

    def _newest(self, segments: list[Waiting], limit: int) -> Iterable[bytes]:
        """The last `limit` lines, without reading the segments before them."""
        newest: deque[bytes] = deque()
        for segment in reversed(segments):
            lines = self._lines_of(segment)
            newest.extendleft(reversed(lines[max(len(lines) - (limit - len(newest)), 0) :]))
            if len(newest) >= limit:
                break
        return newest

    # ---- following

    def follow(self) -> None:
        """Until interrupted, or until nobody reads."""
        changed_ns = 0
        while True:
            now_ns = _changed_ns(self._view.path)
            if now_ns != changed_ns:
                changed_ns = now_ns
                self._write(self._lines(self._unseen()))
            time.sleep(LOOK_INTERVAL_S)

    def _unseen(self) -> list[Waiting]:
        segments = self._view.segments()
        new = [segment for segment in segments if segment.name not in self._seen]
        self._seen = {segment.name for segment in segments}
        return new

    # ---- printing

    def _write(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if not self._is_json:
                print(one_line(_parsed(line)))
            elif sys.stdout.isatty():
                print(terminal.json_for_terminal(line))
            else:
                sys.stdout.buffer.write(line + b"\n")
        sys.stdout.flush()

    def _table(self, lines: list[bytes], waiting: int) -> None:
        parsed = [plain_json(_parsed(line)) for line in lines]
        spans = [span for span in parsed if is_span(span)]
        if spans:
            print_table(spans)
        if len(spans) < len(parsed):
            print(f"{count(len(parsed) - len(spans), 'line')} more that no span is in: see --json")
        if not parsed:
            print("no span that is waiting matches" if waiting else "nothing is waiting")
        elif waiting > len(parsed):
            which = "that match, " if any(self._filter) else ""
            print(f"the newest {count(len(parsed), 'span')} {which}of {waiting:,} that are waiting")


def _changed_ns(path: str) -> int:
    """When an entry of the directory last came or went; 0 where there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _parsed(line: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def is_span(value: Any) -> bool:
    """Whether the table can show it: what it needs is there, and what it uses is of its type."""
    return (
        isinstance(value, dict)
        and all(_is_a(value.get(name), kind) for name, kind in NEEDED.items())
        and all(_is_a(value[name], (int, float)) for name in NUMBERS if name in value)
        and all(_is_a(value[name], str) for name in TEXTS if name in value)
        and ("operation" in value or "name" in value)
    )


def _is_a(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def print_table(spans: list[Span]) -> None:
    """The spans as a tree with rich, else a line each; sorted by time."""
    try:
        from rich.console import Console

        from fasttrace.cli.table import spans_table
    except ImportError:
        print(HEADING)
        for span in sorted(spans, key=lambda span: str(span["timestamp"])):
            print(one_line(span))
        return
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = terminal.WIDTH
    console.print(spans_table(spans, console.width, title="spans that are waiting"))


def one_line(span: Any) -> str:
    """A span within the width; what is not known is left blank."""
    if not isinstance(span, dict):
        return "(not a span)"
    error = text_of(span, "http_status", "error_type")
    status = f"{text_of(span, 'status')} {error}".rstrip()
    text = LINE.format(
        time=text_of(span, "timestamp")[11:19],
        span=terminal.cut(text_of(span, "name", "operation"), 16),
        model=terminal.cut(text_of(span, "model_id", "request_model"), 20),
        input=text_of(span, "input_tokens"),
        output=text_of(span, "output_tokens"),
        cost=_number(span.get("cost_usd"), 6),
        ms=_number(span.get("duration_ms"), 1),
        status=status,
    )
    return terminal.cut(text.rstrip(), terminal.WIDTH)


def _number(value: object, decimals: int) -> str:
    return f"{value:.{decimals}f}" if isinstance(value, (int, float)) else ""
