"""`fasttrace spool drain`: what dead processes left is taken over, and all that waits is sent to the collector.

What a live process would do, done now and told: segments are claimed, sent and removed as always, so that any number
of processes and drains may work on one spool. It is sent first, which makes room for the rings of dead processes; then
these are adopted and sent, and so on while rings wait for room and there is more of it. The first Ctrl-C has what is
under way put back, and leaves a ring that is being adopted where it is; nothing is lost by the second either, the claim
of a process that is gone is undone by the next.

Exit code: 0 when nothing waits any more, 1 when something does, 2 when it cannot even be tried.
"""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING

from fasttrace.cli import terminal
from fasttrace.cli.patience import CommandTime
from fasttrace.cli.spool import state_of
from fasttrace.cli.terminal import count, plain
from fasttrace.config import VERSION, without_secrets
from fasttrace.core._orphans import ASIDE
from fasttrace.exporters.delivery import Delivery
from fasttrace.exporters.directory import check_private
from fasttrace.exporters.http import HttpExporter
from fasttrace.exporters.spool import Spool
from fasttrace.exporters.spool_view import SpoolView, totals_of
from fasttrace.trace.recovery import Adopted, adopt

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from fasttrace.config import Config
    from fasttrace.exporters.base import EncodedBatch, Outcome
    from fasttrace.exporters.spool_view import Waiting

DECISIVE = ("collector_url", "api_key", "allow_http", "tenant_id", "state_dir")
STALLED_S = 30.0
ASKED_MAX = 8
WAIT_S = 0.1
PROGRESS_INTERVAL_S = 1.0
TOLD_DELAY_S, TELL_INTERVAL_S = 2.0, 5.0


class EveryWriter:
    """The ids of all rings: this command answers for the spans of every process."""

    def __contains__(self, writer: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 1


class TellingTime(CommandTime):
    """Says what it waits for, when that takes a while. `why`: asked what for."""

    def __init__(self) -> None:
        super().__init__()
        self.why: Callable[[], str] = str

    def back_off(self, delay_s: float) -> bool:
        until_s = time.monotonic() + delay_s
        while (left_s := until_s - time.monotonic()) > 0 and not self.is_interrupted:
            if delay_s >= TOLD_DELAY_S:
                print(f"waiting {math.ceil(left_s)} s for another attempt: {self.why()}", file=sys.stderr)
            super().back_off(min(left_s, TELL_INTERVAL_S))
        return not self.is_interrupted


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

    @property
    def advice(self) -> str:
        if self.last is None:
            return ""
        return f"{self.last.advice} ({self.last.reason})" if self.last.advice else self.last.reason


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
    patience = TellingTime()
    with patience:
        return Drain(config, config.collector_url, patience).run()


class Drain:
    """One run of the command."""

    def __init__(self, config: Config, url: str, patience: TellingTime) -> None:
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
            dropped=lambda: sum(self._delivery.tally.dropped.values()),
        )
        writers: Collection[str] = EveryWriter()
        self._delivery = Delivery(self._exporter, self._spool, patience, writers, config.max_retries)
        self._in_hand: list[EncodedBatch] = []
        self._adopted = Adopted()
        self._refused_segments = 0
        self._next_progress_s = 0.0
        patience.why = self._why

    def run(self) -> int:
        """OSError for a spool that cannot be read."""
        check_private(self._view.path)
        try:
            self._send()
            while not self._patience.is_interrupted:
                done = self._done()
                self._adopt()
                self._send()
                if not self._adopted.waiting or self._done() == done:
                    break
        finally:
            self._exporter.close()
        print(self._summary())
        remains = list(self._remains())
        for why in remains:
            terminal.error("spool drain", why)
        return 1 if remains else 0

    def _adopt(self) -> None:
        """Have the rings of dead processes written to the spool, as far as there is room."""
        found = adopt(self._spool, self._config, lambda: self._patience.is_interrupted)
        self._adopted = self._adopted._replace(waiting=0).plus(found)

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
            if self._is_another_to_ask():
                continue
            if self._is_refused() or not self._waiting() or time.monotonic() - progress_s > STALLED_S:
                return
            self._delivery.hurry()  # the directory is looked at anew
            self._patience.back_off(WAIT_S)

    def _is_refused(self) -> bool:
        return bool(self._delivery.why_paused) or self._exporter.is_refused

    def _is_another_to_ask(self) -> bool:
        """A segment may be bad from end to end: whether the collector refuses all, the others of the oldest show."""
        if not self._delivery.is_refused_all or self._refused_segments + 1 >= min(len(self._waiting()), ASKED_MAX):
            return False
        self._refused_segments += 1
        self._delivery.ask_again()
        return True

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
        return text + self._adoption()

    def _adoption(self) -> str:
        found, text = self._adopted, ""
        if found.rings:
            spans = f"{count(found.spans, 'span')}, {found.aborted:,} aborted, {found.torn:,} torn"
            text += f"; adopted {count(found.rings, 'ring')} of dead processes: {spans}"
        if found.lost:
            text += f"; {count(found.lost, 'span')} of theirs had been overwritten (recovered_lost)"
        if found.corrupt:
            text += f"; {count(found.corrupt, 'file')} could not be read as rings, set aside as *{ASIDE}"
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
        if self._adopted.waiting:
            rings = count(self._adopted.waiting, "ring")
            settings = "FASTTRACE_SPOOL_MAX_BYTES and FASTTRACE_STATE_DIR"
            yield f"{rings} of dead processes still wait, as where the spool has no room: see {settings}"
        elif self._patience.is_interrupted:
            yield "rings of dead processes may still wait: interrupted"
        if self._in_hand:
            spans = sum(piece.span_count for piece in self._in_hand)
            yield f"{count(spans, 'span')} could neither be sent nor be written back: {self._why()}"

    def _why(self) -> str:
        if self._patience.is_interrupted:
            return "interrupted"
        if self._delivery.why_paused or self._exporter.is_refused:
            return plain(self._delivery.why_paused or self._exporter.advice)
        return plain(self._delivery.last_error or "they came while others were sent")
