"""`fasttrace demo`: an application calls OpenAI through the official SDK, and the terminal shows the spans that arrive.

Both ends are on the loopback interface (with --live the provider is the real one); everything between them is what
runs in production: the patched SDK, the ring, the exporter thread, NDJSON, zstd, HTTP. The calls run on a thread
of their own, this one draws. Exit code 0 only where every call gave exactly one span, with the tokens of its reply.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING

import fasttrace
from fasttrace.cli import terminal
from fasttrace.core._backing import SHARED_MEMORY

from .loopback import KEY, Collector, Provider

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from .overhead import Overhead
    from .workload import Desk

NEEDED = ("openai", "rich")
LATENCY_S = 0.15
FRAME_S = 0.1
ARRIVAL_S = 10.0
WIDTH_MIN = 120


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code: 0 held, 1 a call without its one span, 2 cannot start."""
    problem = _cannot_start(arguments.live)
    if problem:
        print(f"fasttrace demo: {problem}", file=sys.stderr)
        return 2
    with private_directory() as directory, Collector() as collector:
        fasttrace.init(
            enabled=True,
            exporter="http",
            collector_url=collector.url,
            api_key="demo",
            state_dir=directory,
            ring_dir=os.path.join(directory, "ring"),
            service_name="fasttrace-demo",
            flush_interval=FRAME_S,
        )
        fasttrace.instrument("openai")
        demo = Demo(arguments, collector, directory)
        try:
            return demo.run_live() if arguments.live else demo.run_loopback()
        finally:
            fasttrace.shutdown(2.0)


def private_directory() -> tempfile.TemporaryDirectory[str]:
    """In memory, where the system has that: not among the rings of real applications, which the demo would deliver."""
    memory = SHARED_MEMORY if os.path.isdir(SHARED_MEMORY) else None
    return tempfile.TemporaryDirectory(prefix="fasttrace-demo-", dir=memory)


def _cannot_start(live: bool) -> str | None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        return f"needs {' and '.join(missing)}: pip install 'fasttrace[cli]'"
    if live and not os.environ.get("OPENAI_API_KEY"):
        return "--live calls the real API: set OPENAI_API_KEY"
    return None


class Demo:
    """One showing: the application runs, its spans are drawn as they arrive, then held against what was called."""

    def __init__(self, arguments: argparse.Namespace, collector: Collector, state_dir: str) -> None:
        from rich.console import Console

        self.arguments = arguments
        self.collector = collector
        self.state_dir = state_dir
        self.console = Console(stderr=arguments.json, highlight=False, soft_wrap=True)
        if not self.console.is_terminal:
            self.console.width = max(self.console.width, WIDTH_MIN)

    def run_loopback(self) -> int:
        from . import workload

        with (
            Provider(limited={workload.LIMITED_MODEL}, flaky={workload.FLAKY_MODEL}, latency_s=LATENCY_S) as provider,
            workload.Desk(provider.base_url, KEY) as desk,
        ):
            return self._show(desk, lambda: workload.run_loopback(desk))

    def run_live(self) -> int:
        from . import workload

        with workload.Desk() as desk:
            return self._show(desk, lambda: workload.run_live(desk, self.arguments.model))

    def _show(self, desk: Desk, work: Callable[[], None]) -> int:
        from .workload import differences

        calls = _Calls(work)
        calls.start()
        self._watch(calls, desk)
        if calls.error is not None:
            raise calls.error
        if self.arguments.json:
            sys.stdout.write("".join(f"{line.decode()}\n" for line in self.collector.lines))
        else:
            self._report()
        problems = differences(desk, self.collector.spans)
        self._verdict(len(desk.notes), problems)
        return 1 if problems else 0

    def _watch(self, calls: _Calls, desk: Desk) -> None:
        """Until the application is done and its spans are here; on a terminal, with a table that grows meanwhile."""
        if self.console.is_terminal:
            self._draw(calls)
        calls.join()
        fasttrace.flush(ARRIVAL_S)
        self.collector.wait(len(desk.notes) + len(desk.tasks), ARRIVAL_S)

    def _draw(self, calls: _Calls) -> None:
        from rich.live import Live

        from .table import spans_table

        rows_max = max(self.console.height - 8, 5)
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            while calls.is_alive():
                live.update(spans_table(self.collector.spans, self.console.width, rows_max), refresh=True)
                calls.join(FRAME_S)

    def _report(self) -> None:
        from .table import spans_table

        self.console.print(spans_table(self.collector.spans, self.console.width))
        self._print_facts(self._places())
        if not self.arguments.no_overhead:
            with self.console.status("measuring what fasttrace adds to a call…"):
                figures = list(_overheads())
            self._print_facts(figures)

    def _print_facts(self, facts: Iterable[tuple[str, str]]) -> None:
        from rich.text import Text

        for name, text in facts:
            self.console.print(Text(f"{name:<10}", style="bold"), Text(terminal.plain(text)))

    def _places(self) -> Iterator[tuple[str, str]]:
        """Where the data lies."""
        stats, collector = fasttrace.stats(), self.collector
        each = collector.wire_bytes / max(collector.span_count, 1)
        lost = sum(stats.dropped.values()) + stats.rejected
        yield (
            "collector",
            f"{collector.url}: {collector.span_count} spans in {len(collector.batches)} batches, "
            f"{collector.wire_bytes:,} bytes of zstd, {each:.0f} a span (less in larger batches)",
        )
        yield "ring", f"{stats.backing}: room for {stats.ring_slots:,} spans, {stats.ring_used} waiting"
        yield "spool", f"{os.path.join(self.state_dir, 'spool')}: {stats.spooled} waiting (it goes with this demo)"
        yield "ledger", f"{stats.recorded} recorded = {stats.sent} sent + {stats.spooled} spooled + {lost} dropped"

    def _verdict(self, calls: int, problems: list[str]) -> None:
        if not problems:
            self.console.print(f"[green]each of the {calls} calls gave one span, with the tokens of its own reply[/]")
        for problem in problems:
            self.console.print(terminal.plain(problem), style="red", markup=False)


class _Calls(threading.Thread):
    """The application's thread; keeps what it raised."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(name="demo-application", daemon=True)
        self.error: BaseException | None = None
        self._work = work

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error


def _overheads() -> Iterator[tuple[str, str]]:
    from .overhead import measure_elsewhere

    with private_directory() as directory, Collector(keep=False) as sink:
        for core, is_pure in (("native", False), ("pure", True)):
            figure = measure_elsewhere(is_pure, sink.url, directory)
            yield f"+ {core}", figure if isinstance(figure, str) else _overhead_text(figure)


def _overhead_text(figure: Overhead) -> str:
    return (
        f"{figure.added_us:.2f} µs added to a call; without network the SDK itself takes {figure.sdk_us:.0f} µs "
        f"(CPU of the calling thread, {figure.calls:,} calls)"
    )
