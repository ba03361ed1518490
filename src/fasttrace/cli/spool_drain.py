"""`fasttrace spool drain`: what dead processes left is taken over, and all that waits is sent to the collector.

What a live process would do, done now and told: segments are claimed, sent and removed as always, so that any number
of processes and drains may work on one spool. The first Ctrl-C has what is under way put back; nothing is lost by the
second either, the claim of a process that is gone is undone by the next.

Exit code: 0 when nothing waits any more, 1 when something does, 2 when it cannot even be tried.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from fasttrace.cli import terminal
from fasttrace.cli.patience import CommandTime
from fasttrace.cli.spool import state_of
from fasttrace.cli.terminal import count, plain
from fasttrace.config import VERSION, without_secrets
from fasttrace.exporters.delivery import Delivery
from fasttrace.exporters.http import HttpExporter
from fasttrace.exporters.spool import Spool
from fasttrace.exporters.spool_view import SpoolView, totals_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fasttrace.config import Config
    from fasttrace.exporters.base import EncodedBatch, Outcome
    from fasttrace.exporters.spool_view import Waiting

DECISIVE = ("collector_url", "api_key", "allow_http", "tenant_id", "state_dir")
STALLED_S = 30.0
WAIT_S = 0.1
PROGRESS_INTERVAL_S = 1.0


class EveryWriter:
    """The ids of all rings: this command answers for the spans of every process."""

    def __contains__(self, writer: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 1


class NotingExporter(HttpExporter):
    """Remembers how the last attempt ended."""

    last: Outcome | None = None

    def export(self, batch: EncodedBatch) -> Outcome:
        self.last = super().export(batch)
        return self.last

    @property
    def is_refused(self) -> bool:
        """Whether another attempt now would end no better."""
        return self.last is not None and self.last.action in ("retry", "pause")


def run(config: Config, problems: list[str]) -> int:
    """The command; returns its exit code."""
    variables = [f"FASTTRACE_{name.upper()}" for name in DECISIVE]
    wrong = [problem for problem in problems if problem.startswith(tuple(f"{name}=" for name in variables))]
    if config.collector_url is None and not wrong:
        wrong = ["there is nobody to send to: set FASTTRACE_COLLECTOR_URL, like https://collector.example.com"]
    for problem in wrong:
        terminal.error("spool drain", plain(problem))
    if wrong or config.collector_url is None:
        return 2
    with CommandTime() as patience:
        return Drain(config, config.collector_url, patience).run()


class Drain:
    """One run of the command."""

    def __init__(self, config: Config, url: str, patience: CommandTime) -> None:
        self._config = config
        self._url = url
        self._patience = patience
        self._view = SpoolView(config.state_directory)
        self._spool = Spool(config.state_directory, config.spool_max_bytes)
        self._exporter = NotingExporter(
            url,
            patience=patience,
            version=VERSION,
            api_key=config.api_key,
            tenant_id=config.tenant_id,
            timeout_s=config.export_timeout,
            encoding=config.compression,
            trust_env=config.trust_env,
        )
        writers: Collection[str] = EveryWriter()
        self._delivery = Delivery(self._exporter, self._spool, patience, writers, config.max_retries)
        self._in_hand: list[EncodedBatch] = []
        self._unadopted = 0
        self._next_progress_s = 0.0

    def run(self) -> int:
        adopted = self._adopt()
        try:
            self._send()
        finally:
            self._exporter.close()
        print(f"{self._summary()}{adopted}")
        remains = list(self._remains())
        for why in remains:
            terminal.error("spool drain", why)
        return 1 if remains else 0

    def _adopt(self) -> str:
        """Have the rings of dead processes written to the spool; what came of it, for the summary."""
        try:
            from fasttrace.trace.recovery import adopt
        except ImportError:
            return ""
        adopted = adopt(self._spool, self._config)
        self._unadopted = adopted.waiting
        if not adopted.rings:
            return ""
        spans = f"{count(adopted.spans, 'span')}, {adopted.aborted:,} aborted, {adopted.torn:,} torn"
        return f"; adopted {count(adopted.rings, 'ring')} of dead processes: {spans}"

    # ---- sending

    def _send(self) -> None:
        """Until nothing waits, the collector does not take it, or somebody is in no mood to wait."""
        progress_s, done = time.monotonic(), (0, 0)
        while not self._patience.is_interrupted:
            again_s, left = self._delivery.replay()
            self._in_hand += left
            self._settle_in_hand()
            if self._done() != done:
                progress_s, done = time.monotonic(), self._done()
                self._show_progress()
            if again_s is not None:  # there is more, and whoever runs this waits for it
                continue
            if self._exporter.is_refused or not self._waiting() or time.monotonic() - progress_s > STALLED_S:
                return
            self._delivery.hurry()  # the directory is looked at anew
            self._patience.back_off(WAIT_S)

    def _done(self) -> tuple[int, int]:
        tally = self._delivery.tally
        return tally.sent, tally.rejected + sum(tally.dropped.values())

    def _waiting(self) -> list[Waiting]:
        """Segments that this command could send: those that nobody else is sending."""
        return [segment for segment in self._view.segments() if not segment.is_sent]

    def _settle_in_hand(self) -> None:
        """Pieces of a segment that could neither be sent nor written again: once more, both ways."""
        pieces, self._in_hand = self._in_hand, []
        for piece in pieces:
            self._in_hand += self._delivery.deliver(piece)

    def _show_progress(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_progress_s:
            return
        self._next_progress_s = now_s + PROGRESS_INTERVAL_S
        left = totals_of(self._view.segments()).spans
        print(f"{count(self._delivery.tally.sent, 'span')} sent, {left:,} left", file=sys.stderr)

    # ---- telling

    def _summary(self) -> str:
        tally = self._delivery.tally
        text = f"sent {count(tally.sent, 'span')} to {plain(without_secrets(self._url))}"
        if tally.rejected:
            text += f"; {count(tally.rejected, 'span')} rejected by it, kept in {plain(self._view.path)}/rejected"
        for reason, spans in tally.dropped.items():
            text += f"; {count(spans, 'span')} dropped ({reason})"
        return text

    def _remains(self) -> Iterator[str]:
        """What is left, and why."""
        segments = self._view.segments()
        waiting = [segment for segment in segments if not segment.is_sent]
        if waiting:
            total = totals_of(waiting)
            yield f"{count(total.spans, 'span')} in {count(total.segments, 'segment')} still wait: {self._why()}"
        for segment in segments:
            if segment.is_sent:
                yield f"{count(segment.span_count, 'span')} {state_of(segment)}"
        if self._unadopted:
            yield f"{count(self._unadopted, 'ring')} of dead processes could not be taken over: see FASTTRACE_STATE_DIR"
        if self._in_hand:
            spans = sum(piece.span_count for piece in self._in_hand)
            yield f"{count(spans, 'span')} could neither be sent nor be written back: {self._why()}"

    def _why(self) -> str:
        if self._patience.is_interrupted:
            return "interrupted"
        outcome = self._exporter.last
        if outcome is None or not self._exporter.is_refused:
            return plain(self._delivery.last_error or "they came while others were sent")
        return plain(f"{outcome.advice} ({outcome.reason})" if outcome.advice else outcome.reason)
