"""The exporter thread: takes spans out of the ring, makes batches of them, and has them delivered.

One turn: settle what an earlier turn could not; empty the ring by batches (whole ones at once, a last partial one when
the flush interval is over or somebody waits); replay the spool while the collector answers; wait to be woken. The
ring is told that spans are settled only when they are sent or on disk, so whoever recovers its file after a crash
finds everything else.

While the thread waits for a slow collector, or sits out a back-off, the ring goes on filling. Every wait therefore
ends early when producers report a quarter lap, and from half full the ring is emptied into the spool before the wait
goes on. Producers never wait for any of this; when even that is too slow, the oldest spans are lost and counted.

All methods run on the exporter thread but those under "any thread". Where no thread can be had, `stop` runs the last
turn on the caller's.
"""

from __future__ import annotations

import time
from _thread import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from fasttrace.errors import report
from fasttrace.exporters.descriptor import identity
from fasttrace.trace import fork
from fasttrace.trace.intake import Intake
from fasttrace.trace.stats import FlushResult, RingLedger, Stats, without_zeros
from fasttrace.trace.wakeup import Wakeup, original

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fasttrace.config import Config
    from fasttrace.core._api import Core, Recorder, Ring
    from fasttrace.core._backing import Backing
    from fasttrace.exporters.base import Answer, Exporter
    from fasttrace.exporters.delivery import Delivery
    from fasttrace.trace.encoder import Encoder
    from fasttrace.trace.recovery import Recovery
    from fasttrace.trace.redaction import Redaction

AFTER_FAILURE_WAIT_S = 1.0
SIGN_OF_LIFE_S = 1.0
SPOOLING_GRACE_S = 0.2  # beyond the time to stop, for a disk that is slow
LAST_RECOVERY_S = 0.25
HOLD_WAIT_S = 0.1
HOLD_IMPORTS_S = 10.0  # what is being imported when a process forks can never be imported in the child
FOREVER = float("inf")


class Waiter(NamedTuple):
    """Somebody in `flush`: until when, the lock they wait on, and where the answer goes."""

    deadline_s: float
    lock: Any
    answer: list[FlushResult]


class Setup(NamedTuple):
    """What a configuration changes: the settings, what each line says of the process, the exporter, if one is given,
    and the user's own redaction, if there is one."""

    config: Config
    resource: bytes
    exporter: Exporter | None
    redaction: Redaction | None = None


def reserve_s(timeout_s: float) -> float:
    """The end of a deadline is kept for writing to the spool what could not be sent."""
    return min(timeout_s * 0.2, 0.25)


class Worker:
    """One ring, its exporter thread, and what both need. Lives from a process's first span to its shutdown."""

    def __init__(
        self,
        core: Core,
        setup: Setup,
        recorder: Recorder,
        ring: Ring,
        backing: Backing,
        writers: Sequence[str],
        encoder: Encoder,
    ) -> None:
        """`writers`: the ids of this process's rings, that of `ring` last."""
        self._core = core
        self.wakeup = Wakeup()
        self._wake_fd = self.wakeup.fd
        self.is_running = self.is_finished = False
        self._setup = setup
        self._next_setup: Setup | None = None
        self._recorder = recorder
        self._ring = ring
        self._backing = backing
        self._ring_file = identity(backing.lock_fd)
        self._writers = writers
        self._encoder = encoder
        self._intake = Intake(ring, writers, encoder)
        self._configure()
        self._recovery: Recovery | None = None
        self._exporter: Exporter | None = None
        self._delivery: Delivery | None = None
        self._is_outlet_open = False
        self._is_last = False
        self._waiters: list[Waiter] = []
        self._stop_deadline_s = self._change_deadline_s = FOREVER
        self._next_tick_s = 0.0
        self._thread_id = 0
        self._work = new_lock()  # held by the thread but while it waits for something

    # ---- any thread ----

    def start(self) -> bool:
        """Start the thread, unless it runs; False when the system or the interpreter has no thread to give."""
        if self.is_running or self.is_finished:
            return True
        self.is_running = True
        try:
            start_thread(self._run)
        except (RuntimeError, MemoryError) as error:
            self.is_running = False
            report("thread", "no exporter thread (%s): spans are delivered at exit", error)
        return self.is_running

    def flush(self, timeout_s: float) -> FlushResult:
        """Wait until everything recorded so far is settled, or the time is over."""
        if self.is_finished or get_ident() == self._thread_id or not self.start():
            return self.result()
        waiter = Waiter(time.monotonic() + timeout_s - reserve_s(timeout_s), new_lock(), [])
        waiter.lock.acquire()
        self._waiters.append(waiter)
        self.wakeup.set()
        waiter.lock.acquire(timeout=max(timeout_s, 0.0))
        return waiter.answer[0] if waiter.answer else self.result()

    def stop(self, timeout_s: float, is_last: bool = False) -> None:
        """Deliver what there is within the time, spool the rest, end the thread. `is_last`: and the process with it."""
        self._is_last = is_last
        self._stop_deadline_s = time.monotonic() + timeout_s - reserve_s(timeout_s)
        if self.is_running:
            self.flush(timeout_s + SPOOLING_GRACE_S)
        elif not self.is_finished:
            self._run()

    def change(self, setup: Setup, timeout_s: float) -> bool:
        """Deliver what there is within the time, spool the rest, and go on by `setup`. False where there is no thread
        to do it. A new redaction is in force at once, also for what was recorded before and is not encoded yet."""
        if self.is_finished or not self.start():
            return False
        if setup.redaction is not None:
            self._encoder.redaction = setup.redaction
            self._ring.has_redaction = True
        self._change_deadline_s = time.monotonic() + timeout_s - reserve_s(timeout_s)
        self._next_setup = setup
        self.flush(timeout_s + SPOOLING_GRACE_S)
        return True

    def result(self) -> FlushResult:
        stats = self.stats()
        dropped = stats.rejected + sum(stats.dropped.values())
        pending = max(stats.recorded - stats.sent - stats.spooled - dropped, 0)
        return FlushResult(stats.sent, stats.spooled, dropped, pending)

    def stats(self) -> Stats:
        """The counters of this worker's spans; those of the recorder are the processor's to add."""
        counters = self._ring.counters()
        ring, shape = RingLedger.of(counters), self._ring.shape
        common = Stats(
            recorded=ring.recorded + self._intake.aborted,
            dropped={"overwritten": ring.overwritten, "busy": ring.busy},
            pending=ring.unread + self._intake.in_hand,
            content_lost=ring.content_lost,
            unpriced=len(self._encoder.unpriced),
            ring_used=min(ring.unread, shape.slots),
            ring_slots=shape.slots,
            backing=self._backing.path or "anonymous",
            inflight_full=counters.inflight_full,
        )
        common = self._with_found(common)
        delivery = self._delivery
        if delivery is None:
            return common._replace(dropped=without_zeros(common.dropped))
        return common._replace(
            sent=delivery.tally.sent,
            spooled=delivery.tally.spooled,
            rejected=delivery.tally.rejected,
            dropped=without_zeros({**common.dropped, **delivery.tally.dropped}),
            replayed=delivery.replayed,
            evicted=delivery.evicted,
            retries=delivery.retries,
            batches=delivery.batches,
            bytes_sent=delivery.bytes_sent,
            last_error=delivery.last_error,
        )

    def _with_found(self, stats: Stats) -> Stats:
        """With what came of the rings of dead processes, and of our own calls that were in the air at the end."""
        own = stats._replace(aborted=self._intake.aborted)
        if self._recovery is None:
            return own
        found = self._recovery.adopted
        return own._replace(
            recovered=found.spans,
            aborted=own.aborted + found.aborted,
            torn=found.torn,
            recovered_lost=found.lost,
            corrupt_rings=found.corrupt,
        )

    def hold_still(self) -> Any:
        """Keep the thread from leaving its next wait; returns the lock to release, None when the time was over."""
        is_own = get_ident() == self._thread_id
        timeout_s = HOLD_WAIT_S if self._intake.is_all_imported else HOLD_IMPORTS_S
        return self._work if not is_own and self._work.acquire(timeout=timeout_s) else None

    def abandon(self) -> None:
        """In a fork child: close this process's copies of what is the parent's."""
        self.is_finished = True
        self.wakeup.close()
        self._close_backing()
        if self._recovery is not None:
            self._recovery.close()
        if self._exporter is not None:
            self._exporter.abandon()

    def _close_backing(self) -> None:
        """But for descriptors that the application closed: their numbers may be of files of its own."""
        backing = self._backing
        if identity(backing.fd) != self._ring_file:
            backing.fd = -1
        if identity(backing.lock_fd) != self._ring_file:
            backing.lock_fd = -1
        backing.close()

    # ---- the thread ----

    def _run(self) -> None:
        self._thread_id = get_ident()
        fork.wait_until_over()
        with self._work:
            while not self.is_finished:
                try:
                    self._turn(self._prepared())
                except Exception:
                    report("turn", "the exporter thread met an error of its own", exc_info=True)
                    self._end_after_failure()
        self.wakeup.close()

    def _configure(self) -> None:
        self._encoder.redaction = self._setup.redaction
        self._ring.has_redaction = self._setup.redaction is not None
        self._intake.configure(self._setup.config.batch_size, self._setup.resource)

    def _rest(self, timeout_s: float, fd: int = -1, writing: bool = False) -> tuple[bool, bool]:
        """Wait, as `Wakeup.wait` does, with nothing held that a fork would leave locked."""
        self._ring.heartbeat()
        self._work.release()
        try:
            return self.wakeup.wait(min(timeout_s, SIGN_OF_LIFE_S), fd, writing)
        finally:
            self._work.acquire()
            if self.wakeup.is_lost and self._recorder.wake_fd == self._wake_fd:
                self._recorder.wake_fd = -1

    def _end_after_failure(self) -> None:
        if self._is_ending() and self.is_over():
            self.is_finished = True
            self._answer(self._waiters)
            return
        self._rest(AFTER_FAILURE_WAIT_S)

    def _prepared(self) -> Delivery:
        """What delivers batches; imports and opens it the first time."""
        if self._delivery is None or not self._is_outlet_open:
            self._delivery = self._open_outlet(self._delivery)
            self._is_outlet_open = True
        return self._delivery

    def _open_outlet(self, delivery: Delivery | None) -> Delivery:
        from fasttrace.exporters.delivery import Delivery
        from fasttrace.trace.outlet import open_outlet

        config, exporter = self._setup.config, self._setup.exporter
        outlet = open_outlet(config, self, exporter, lambda: sum(self.stats().dropped.values()))
        self._exporter, self._encoder.encoding = outlet.exporter, outlet.encoding
        if delivery is None:
            delivery = Delivery(outlet.exporter, outlet.spool, self, self._writers, config.max_retries)
        else:
            delivery.redirect(outlet.exporter, outlet.spool, config.max_retries)
        self._open_recovery(delivery)
        return delivery

    def _open_recovery(self, delivery: Delivery) -> None:
        """Spans of the dead go the way of our own; where those are thrown away, others may have more use for them."""
        from fasttrace.trace.recovery import Adopted, Recovery

        past = Adopted() if self._recovery is None else self._recovery.adopted
        self._close_recovery()
        if self._setup.config.exporter != "none":
            self._recovery = Recovery(
                self._core, self._encoder, self._setup.config, delivery.keep, self._backing.path
            )
            self._recovery.adopted = past

    def _close_recovery(self) -> None:
        if self._recovery is not None:
            self._recovery.close()

    def _turn(self, delivery: Delivery) -> None:
        waiters, setup, is_stopping = list(self._waiters), self._next_setup, self._is_ending()
        is_due = time.monotonic() >= self._next_tick_s
        if waiters:
            delivery.hurry()
        self._drain(delivery, bool(waiters or setup) or is_stopping or is_due)
        if setup is not None:
            delivery = self._go_on_by(setup)
        if is_due:
            self._next_tick_s = time.monotonic() + self._setup.config.flush_interval
        if is_stopping:
            self._finish(delivery)
            waiters = list(self._waiters)
        again_s = FOREVER if is_stopping else min(self._recover(), self._replay(delivery, waiters))
        self._answer(waiters)
        if not is_stopping and not self._waiters:
            self._rest(min(self._next_tick_s - time.monotonic(), again_s))

    def _drain(self, delivery: Delivery, everything: bool) -> None:
        if self._exporter is not None:
            self._encoder.encoding = self._exporter.encoding  # it says it simpler to a collector that asked for that
        self._intake.drain(delivery, everything, self._rest)

    def _is_ending(self) -> bool:
        return self._stop_deadline_s != FOREVER

    def _go_on_by(self, setup: Setup) -> Delivery:
        """Put another configuration in the place of the present one, whose spans are settled."""
        self._close_exporter()
        self._setup = setup
        self._configure()
        self._is_outlet_open = False
        self._next_tick_s = 0.0
        if self._next_setup is setup:
            self._next_setup, self._change_deadline_s = None, FOREVER
        self._intake.is_all_imported = False
        delivery = self._prepared()
        self._intake.is_all_imported = True
        return delivery

    def _close_exporter(self) -> None:
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            exporter.close()

    def _answer(self, waiters: list[Waiter]) -> None:
        for waiter in list(waiters):
            waiter.answer.append(self.result())
            self._waiters.remove(waiter)
            waiter.lock.release()

    def _finish(self, delivery: Delivery) -> None:
        """The last spans; then the ring's file goes, if everything in it is settled."""
        self._drain(delivery, everything=True)
        if self._is_last:
            self._intake.deliver_aborted(delivery)
        self._recover_at_last()
        self._close_recovery()
        self._close_exporter()
        if self.stats().pending == 0:
            self._backing.remove()
            self._close_backing()
        self.is_finished = True

    # ---- other processes' spans, and those on disk ----

    def _recover(self) -> float:
        """A piece of the work on dead processes' rings, unless our own spans wait. Seconds until there is more."""
        if self._recovery is None or self._intake.backlog or self._intake.is_batch_due():
            return FOREVER
        return 0.0 if self._recovery.step() else FOREVER

    def _recover_at_last(self) -> None:
        """A process that was short may have had no turn for it: a little of the time that is left."""
        until_s = min(time.monotonic() + LAST_RECOVERY_S, self._deadline_s())
        while time.monotonic() < until_s and self._recover() == 0.0:
            continue

    def _replay(self, delivery: Delivery, waiters: list[Waiter]) -> float:
        """Send a segment; while somebody waits, all that this process spooled. Seconds until it is worth going on."""
        while not self._intake.backlog:
            again_s, left = delivery.replay()
            self._intake.take_back(left)
            is_awaited = waiters and delivery.tally.spooled and time.monotonic() < waiters[-1].deadline_s
            if again_s is None:
                return FOREVER
            if not is_awaited or self._intake.is_batch_due():
                return again_s
        return FOREVER

    # ---- Patience ----

    def is_over(self) -> bool:
        return time.monotonic() >= self._deadline_s()

    def is_awaited(self) -> bool:
        now_s = time.monotonic()
        return any(now_s < waiter.deadline_s for waiter in list(self._waiters))

    def _deadline_s(self) -> float:
        return min(self._stop_deadline_s, self._change_deadline_s)

    def until_ready(self, timeout_s: float, fd: int, writing: bool) -> bool:
        until_s = time.monotonic() + timeout_s
        while (left_s := min(until_s, self._deadline_s()) - time.monotonic()) > 0:
            woken, is_ready = self._rest(left_s, fd, writing)
            if woken:
                self._relieve()
            if is_ready:
                return True
        return False

    def back_off(self, delay_s: float) -> bool:
        until_s = time.monotonic() + delay_s
        while (left_s := until_s - time.monotonic()) > 0:
            if until_s >= self._patience_ends_s():
                return False
            if self._rest(left_s)[0]:
                self._relieve()
        return True

    def aside(self, act: Callable[[], Answer], timeout_s: float) -> Answer | None:
        answers: list[Answer] = []

        def work() -> None:
            answers.append(act())
            self.wakeup.set()

        try:
            start_thread(work, "fasttrace-lookup")
        except (RuntimeError, MemoryError):  # none to be had, as at exit
            return act()
        until_s = time.monotonic() + timeout_s
        while not answers and (left_s := min(until_s, self._deadline_s()) - time.monotonic()) > 0:
            if self._rest(left_s)[0]:
                self._relieve()
        return answers[0] if answers else None

    def _patience_ends_s(self) -> float:
        return min([self._deadline_s(), *(waiter.deadline_s for waiter in list(self._waiters))])

    def _relieve(self) -> None:
        """A wait goes on only when the ring has room again."""
        if self._delivery is not None:
            self._intake.relieve(self._delivery)


def new_lock() -> Any:
    return original("_thread", "allocate_lock")()


def start_thread(target: Callable[[], None], name: str = "fasttrace-exporter") -> None:
    """An OS thread that does not keep the process alive. RuntimeError when there is none to be had."""
    import _thread
    import threading

    start = original("_thread", "start_new_thread")
    if start is not _thread.start_new_thread:  # threading would give us a greenlet
        start(target, ())
        return
    threading.Thread(target=target, name=name, daemon=True).start()
