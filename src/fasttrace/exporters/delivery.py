"""What is done with a batch until it is settled: sent, spooled, or, line by line, rejected or dropped.

An exporter makes single attempts. Here is the policy around them:

  accepted   settled; the lines that the collector refused go to rejected/
  retry      again after a back-off with full jitter, and not before the collector said (Retry-After); after
             `max_retries` the batch goes to the spool, and so does every later one until the back-off is over. Then one
             attempt shows whether the collector is back; while it fails, the back-off doubles, up to 30 s
  pause      to the spool at once, and nothing is sent for a minute at first, five minutes at last (full half of it
             jittered, so that no minute has more than two attempts)
  bisect     halved, depth first, until each bad line stands alone: that one goes to rejected/, see below
  halve      halved until it fits; a span too large by itself goes without its content, or not at all
  recode     sent again at once, by an exporter that says it in a simpler encoding

When the collector takes a batch again, the spool is replayed, oldest first, at the pace that pace.py tells, unless
somebody waits for it. A piece that can neither be sent nor written to the spool is handed back: its spans stay with the
caller, who tries again; if it came from the spool, its segment stays there until then.

What a refusal (400, 422) of a line, or of everything, leads to is told in course.py.

One thread: the exporter's.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from fasttrace.errors import report
from fasttrace.exporters.base import EncodedBatch, Outcome, RejectedLine, TellsLoss
from fasttrace.exporters.course import Course
from fasttrace.exporters.pace import Pace
from fasttrace.exporters.truncate import without_content

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from fasttrace.exporters.base import Exporter, Patience
    from fasttrace.exporters.spool import Evicted, Segment, Spool

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.5, 30.0
PAUSE_FIRST_S, PAUSE_MAX_S = 60.0, 300.0
REFUSALS_MAX = 32  # of a batch of which nothing was accepted; a single bad line of ten thousand makes 15
REFUSES_ALL = "the collector refuses every span (%s): see FASTTRACE_COLLECTOR_URL, FASTTRACE_TENANT_ID"
LOOK_INTERVAL_S = 10.0
RECODINGS_MAX = 2


class Replay(NamedTuple):
    """What came of a replay. again_s: seconds until another segment is due, never 0; None when there is nothing more to
    do now. left: pieces that could neither be sent nor spooled."""

    again_s: float | None = None
    left: Sequence[EncodedBatch] = ()


class Tally:
    """What became of one writer's spans. Written by the exporter thread, read by any."""

    def __init__(self) -> None:
        self.sent = 0
        self.spooled = 0
        self.rejected = 0
        self.dropped: dict[str, int] = {}

    def drop(self, reason: str, count: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    @property
    def settled(self) -> int:
        return self.sent + self.spooled + self.rejected + sum(self.dropped.values())

    def add(self, more: Tally) -> None:
        self.sent += more.sent
        self.spooled += more.spooled
        self.rejected += more.rejected
        for reason, count in more.dropped.items():
            self.drop(reason, count)


class Link:
    """Whether the collector is worth an attempt now."""

    def __init__(self) -> None:
        self.failures = 0
        self._pauses = 0
        self._closed_until_s = self._closed_firmly_until_s = 0.0

    def is_open(self) -> bool:
        return time.monotonic() >= self._closed_until_s

    def answered(self) -> None:
        self.failures = 0
        self._closed_until_s = self._closed_firmly_until_s = 0.0

    def accepted(self) -> None:
        """The next pause, if there is one, is the first again."""
        self._pauses = 0

    def failed(self, retry_after_s: float | None) -> float:
        """Close until the next attempt may be made; returns the seconds until then."""
        delay_s = random.uniform(0.0, min(BACKOFF_FIRST_S * 2 ** min(self.failures, 16), BACKOFF_MAX_S))
        self.failures += 1
        return self._close(delay_s, retry_after_s or 0.0)

    def pause(self) -> float:
        longest_s = min(PAUSE_FIRST_S * 2 ** min(self._pauses, 8), PAUSE_MAX_S)
        self._pauses += 1
        return self._close(0.0, random.uniform(longest_s / 2, longest_s))

    def _close(self, delay_s: float, firm_s: float) -> float:
        now_s = time.monotonic()
        self._closed_firmly_until_s = now_s + firm_s
        self._closed_until_s = now_s + max(delay_s, firm_s)
        return max(delay_s, firm_s)

    def hurry(self) -> None:
        """Somebody waits: try now, or when the delay is over that the collector itself asked for."""
        self._closed_until_s = self._closed_firmly_until_s


class Delivery:
    """Settles batches and replays the spool. `exporter` None: everything goes to the spool. `writers`: the ids of this
    process's rings, whose spans are counted as its own."""

    def __init__(
        self,
        exporter: Exporter | None,
        spool: Spool,
        patience: Patience,
        writers: Collection[str],
        max_retries: int = 3,
    ) -> None:
        self.tally = Tally()
        self._settling = Tally()  # of the batch that is being settled: while it is sent, others may be spooled
        self.retries = self.batches = self.bytes_sent = self.replayed = self.evicted = 0
        self.last_error: str | None = None
        self._sent_for_all = 0
        self._patience = patience
        self._writers = writers
        self._releases: dict[str, Callable[[], None]] = {}  # of segments, by the pieces of them that are left
        self._insured: dict[str, Segment] = {}  # batches that are on disk while they are being sent
        self.redirect(exporter, spool, max_retries)

    def redirect(self, exporter: Exporter | None, spool: Spool, max_retries: int) -> None:
        """Deliver this way from now on. The counters go on."""
        self._exporter = exporter
        self._spool = spool
        self._max_retries = max_retries
        self.why_paused = ""
        self.is_refused_all = self._has_failed = False  # the last batch that was attempted
        self._link = Link()
        self._has_accepted = False  # a span, of anybody's, since a pause in which it refused all
        self._pace = Pace()
        self._next_look_s = 0.0

    # ---- one batch ----

    def deliver(self, batch: EncodedBatch) -> list[EncodedBatch]:
        """Send a batch or spool it. Returns the pieces of which neither was possible."""
        left = self._settle(batch, self._to_spool)
        release = self._releases.pop(batch.batch_id, None)
        if release is not None:
            self._release_after(left, release)
        segment = self._insured.pop(batch.batch_id, None)
        if segment is not None:
            self._release_after(left, partial(self._spool.release, segment))
        return left

    def insure(self, batch: EncodedBatch) -> bool:
        """Have a batch that is being delivered on disk meanwhile, as a segment that is claimed: should the process die
        it is others' to send. False when that is not possible."""
        try:
            if batch.batch_id not in self._insured:
                self._insured[batch.batch_id] = self._spool.write_claimed(batch)
        except OSError as error:
            report("spool", "spans cannot be spooled (%s); see FASTTRACE_STATE_DIR", error)
            return False
        return True

    def spool_only(self, batch: EncodedBatch) -> list[EncodedBatch]:
        """Spool a batch, because there is no time to send it now."""
        return [] if self._to_spool(batch) else [batch]

    def keep(self, batch: EncodedBatch, created_ns: int) -> bool:
        """Have a batch of a dead process, of spans of about that time, where it is safe: in the spool, or, where that
        does not go the exporter's way, with the exporter. False when that is not possible now: it stays in its ring,
        and no other spans have to go for it."""

        def adopt(piece: EncodedBatch) -> bool:
            return self._spool.has_room(len(piece.body)) and self._to_spool(piece, created_ns)

        if self._exporter is not None and not self._exporter.takes_spool:
            return not self._settle(batch, adopt)
        return self._spool.holds(batch.batch_id) or adopt(batch)

    def _settle(self, batch: EncodedBatch, keep: Callable[[EncodedBatch], bool]) -> list[EncodedBatch]:
        course = Course(batch)
        self._settling = Tally()
        self.is_refused_all = self._has_failed = False
        try:
            self._follow(course)
            left = course.left()
            self._tally_of(batch).add(self._settling)
        except Exception as error:  # ours, or of a lack of memory: as if nothing had come of it, and all of it again
            report("settle", "a batch could not be settled (%s)", type(error).__name__, exc_info=True)
            self._has_failed, left = True, [batch]
        return [piece for piece in left if not keep(piece)]

    def _follow(self, course: Course) -> None:
        while course.pieces:
            piece = course.pieces.popleft()
            outcome = self._attempt(piece)
            if outcome is None:
                course.later.append(piece)
                continue
            try:
                self._act(course, piece, outcome)
            except (ValueError, RecursionError) as error:
                self._undecodable(piece, error)
            self._doubt(course, outcome)

    def _act(self, course: Course, piece: EncodedBatch, outcome: Outcome) -> None:
        """Settle a piece that was answered, or put the smaller ones in its place."""
        if outcome.action == "accepted":
            self._accepted(course, piece, outcome)
        elif outcome.action == "discarded":
            self._dropped(piece, "discarded")
        elif outcome.action == "halve":
            course.first(self._shrink(piece))
        else:
            self._refused(course, piece, outcome.reason)

    def _refused(self, course: Course, piece: EncodedBatch, reason: str) -> None:
        course.refusals += 1
        if piece.span_count > 1:
            course.first(piece.halves())
        elif self._has_accepted:
            self._rejected(piece, [RejectedLine(1, reason)])
        else:
            course.suspects.append((piece, reason))

    def _doubt(self, course: Course, outcome: Outcome) -> None:
        """Whether it is not a line that is refused but everything: then nothing is rejected."""
        is_much = course.refusals >= REFUSALS_MAX and not course.is_any_accepted
        if self._has_accepted:
            self._has_accepted = not is_much or bool(course.pieces or course.later)
        elif is_much or course.is_all_refused():
            course.hold_back()
            self.is_refused_all = True
            self._pause(outcome._replace(advice=REFUSES_ALL % outcome.reason))

    def _attempt(self, piece: EncodedBatch) -> Outcome | None:
        """An answer to the piece, or None when it is to be kept for later."""
        if self._exporter is None or not self._link.is_open():
            return None
        for attempts_left in range(max(self._max_retries - self._link.failures, 0), -1, -1):
            if self._patience.is_over():
                return None
            outcome = self._try(self._exporter, piece)
            if outcome.action == "pause":
                self._pause(outcome)
                return None
            if outcome.action != "retry":
                self._link.answered()
                self.why_paused = ""
                return outcome
            delay_s = self._link.failed(outcome.retry_after_s)
            if not attempts_left or not self._patience.back_off(delay_s):
                self._report_undelivered(outcome)
                return None
            self.retries += 1
        return None

    def _report_undelivered(self, outcome: Outcome) -> None:
        report(
            "undelivered",
            "spans cannot be delivered (%s): the spool keeps them; see %s",
            outcome.reason,
            outcome.advice or "FASTTRACE_COLLECTOR_URL",
        )

    def _try(self, exporter: Exporter, piece: EncodedBatch) -> Outcome:
        outcome = self._try_once(exporter, piece)
        for _ in range(RECODINGS_MAX):
            if outcome.action != "recode":
                break
            self.retries += 1
            outcome = self._try_once(exporter, piece)
        if outcome.action in ("retry", "pause"):
            self._pace.restart()
        return outcome

    def _try_once(self, exporter: Exporter, piece: EncodedBatch) -> Outcome:
        try:
            outcome = exporter.export(piece)
        except Exception as error:
            report("exporter", "an exporter failed", exc_info=True)
            outcome = Outcome("retry", type(error).__name__)
        if outcome.reason:
            self.last_error = outcome.reason
        return outcome

    def _pause(self, outcome: Outcome) -> None:
        reason = f" ({outcome.reason})"
        self.why_paused = outcome.advice + (reason if reason not in outcome.advice else "")
        delay_s = self._link.pause()
        report("pause", "%s; the spool keeps spans, next attempt in %d s", self.why_paused, delay_s)

    # ---- how a piece ends ----

    def _tally_of(self, batch: EncodedBatch) -> Tally:
        """Segments of other processes are sent for them, and do not count as spans of this one."""
        return self.tally if batch.writer in self._writers else Tally()

    def _accepted(self, course: Course, piece: EncodedBatch, outcome: Outcome) -> None:
        rejected = len(outcome.rejected) + outcome.unnamed
        sent = piece.span_count - rejected
        self._settling.sent += sent
        self._sent_for_all += sent
        self.batches += 1
        self.bytes_sent += len(piece.body)
        if rejected:
            self._settling.rejected += rejected
            self._keep_rejected(piece, _with_suspects(piece, outcome), rejected)
        if sent:
            self._has_accepted = course.is_any_accepted = True
            self._link.accepted()
            suspects, course.suspects = course.suspects, []
            for suspect, reason in suspects:
                self._rejected(suspect, [RejectedLine(1, reason)])

    def _undecodable(self, piece: EncodedBatch, error: Exception) -> None:
        """Neither the collector nor we can read it: kept in corrupt/ for whoever can."""
        report("undecodable", "%d spans cannot be read (%s): see %s/corrupt", piece.span_count, error, self._spool.path)
        try:
            self._spool.set_aside(piece)
        except OSError as failure:
            report("unkept", "they could not be kept: %s; see FASTTRACE_STATE_DIR", failure)
        self._dropped(piece, "undecodable")

    def _dropped(self, piece: EncodedBatch, reason: str) -> list[EncodedBatch]:
        self._settling.drop(reason, piece.span_count)
        return []

    def _rejected(self, piece: EncodedBatch, rejected: Sequence[RejectedLine]) -> None:
        self._settling.rejected += len(rejected)
        self._keep_rejected(piece, rejected, len(rejected))

    def _keep_rejected(self, piece: EncodedBatch, lines: Sequence[RejectedLine], count: int) -> None:
        why, folder = lines[0].error, f"{self._spool.path}/rejected"
        report("rejected", "the collector rejected %d spans (%s): see %s", count, why, folder)
        try:
            self._spool.reject(piece, lines)
        except (OSError, ValueError) as error:
            report("unkept", "rejected spans could not be kept: %s", error)

    def _shrink(self, piece: EncodedBatch) -> list[EncodedBatch]:
        if piece.span_count > 1:
            return piece.halves()
        (line,) = piece.lines()
        smaller = without_content(line)
        if len(smaller) < len(line):
            return [piece.piece([smaller], 0)]
        report("too_large", "the collector takes no span of %d bytes: dropped", len(line))
        return self._dropped(piece, "too_large")

    def _to_spool(self, piece: EncodedBatch, created_ns: int | None = None) -> bool:
        segment = self._insured.pop(piece.batch_id, None)
        if segment is not None:
            self._spool.restore(segment)
            self._tally_of(piece).spooled += piece.span_count
            return True
        try:
            evicted = self._spool.write(piece, created_ns)
        except (OSError, MemoryError) as error:
            self.last_error = f"spool: {error or type(error).__name__}"
            report("spool", "spans cannot be spooled (%r); see FASTTRACE_STATE_DIR", error)
            return False
        self._tally_of(piece).spooled += piece.span_count
        self.evicted += sum(segment.span_count for segment in evicted)
        self._count_gone(evicted, "spool_full")
        if evicted:
            report("spool_full", "the spool is full: its oldest spans were dropped; see FASTTRACE_SPOOL_MAX_BYTES")
        return True

    def _count_gone(self, segments: Sequence[Evicted], reason: str) -> None:
        exporter: object = self._exporter
        for segment in segments:
            if segment.writer in self._writers:
                self.tally.spooled -= segment.span_count
                self.tally.drop(reason, segment.span_count)
            elif isinstance(exporter, TellsLoss):
                exporter.others_lost += segment.span_count

    # ---- the spool ----

    def hurry(self) -> None:
        """Somebody waits for what is spooled: attempt it now, and look at the directory anew."""
        self._link.hurry()
        self._next_look_s = 0.0

    def ask_again(self) -> None:
        """A batch was refused wholly: end the pause, so that the next of the spool shows whether it was the batch."""
        self._link.answered()

    def replay(self) -> Replay:
        """Send the oldest segment, if it is time to."""
        if not self._may_replay():
            return Replay()
        again_s = self._pace.left_s(time.monotonic())
        if again_s and not self._patience.is_awaited():
            return Replay(again_s)
        segment = self._next_segment()
        return Replay() if segment is None else self._replayed(segment)

    def _replayed(self, segment: Segment) -> Replay:
        batch = segment.batch
        tally = self._tally_of(batch)
        tally.spooled -= batch.span_count
        sent_before, begun_s = self._sent_for_all, time.monotonic()
        is_whole = False

        def keep(piece: EncodedBatch) -> bool:
            nonlocal is_whole
            is_whole = piece is batch
            return is_whole or self._to_spool(piece)

        try:
            left = self._settle(batch, keep)
        except Exception as error:
            report("replay", "a segment could not be replayed (%s)", type(error).__name__, exc_info=True)
            is_whole = self._has_failed = True
        if is_whole:
            self._spool.restore(segment, is_first=not (self.is_refused_all or self._has_failed))
            tally.spooled += batch.span_count
            return Replay()
        self.replayed += self._sent_for_all - sent_before
        self._release_after(left, partial(self._spool.release, segment))
        now_s = time.monotonic()
        return Replay(self._pace.sent(now_s, now_s - begun_s), left)

    def _release_after(self, left: Sequence[EncodedBatch], release: Callable[[], None]) -> None:
        """A segment stays on disk while pieces of it are in memory alone."""
        self._releases.update({piece.batch_id: release for piece in left})
        if release not in self._releases.values():
            release()

    def _may_replay(self) -> bool:
        if self._exporter is None or not self._exporter.takes_spool:
            return False
        return self._link.is_open() and not self._patience.is_over()

    def _next_segment(self) -> Segment | None:
        try:
            return self._spool.claim() or self._look_again()
        except OSError as error:
            self.last_error = f"spool: {error}"
            report("spool", "the spool cannot be read (%s); see FASTTRACE_STATE_DIR", error)
            return None
        finally:
            self._count_gone(self._spool.damaged(), "corrupt")

    def _look_again(self) -> Segment | None:
        """Other processes leave segments too; their directory is read every now and then."""
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return None
        self._next_look_s = now_s + LOOK_INTERVAL_S
        return self._spool.claim() if self._spool.look() else None


def _with_suspects(piece: EncodedBatch, outcome: Outcome) -> Sequence[RejectedLine]:
    """The rejected lines; every line of the piece where some were rejected without being named."""
    if not outcome.unnamed:
        return outcome.rejected
    why = {line.line: line.error for line in outcome.rejected}
    suspect = f"one of the lines of which {outcome.unnamed} were rejected, without saying which"
    return [RejectedLine(line, why.get(line, suspect)) for line in range(1, piece.span_count + 1)]
