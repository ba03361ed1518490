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
from fasttrace.trace.stats import FlushResult, RingLedger, Stats, without_zeros
from fasttrace.trace.wakeup import Wakeup, original

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fasttrace.config import Config
    from fasttrace.core._api import Batch, Price, Recorder, Ring
    from fasttrace.core._backing import Backing
    from fasttrace.exporters.base import Answer, EncodedBatch, Exporter
    from fasttrace.exporters.delivery import Delivery

    PriceResolver = Callable[[str, str], Price | None]

BATCH_MAX_BYTES = 1 << 20
UNFINISHED_WAIT_S = 0.06
AFTER_FAILURE_WAIT_S = 1.0
REMEMBERED_MODELS = 4096
SPOOLING_GRACE_S = 0.4  # beyond the time to stop, for a disk that is slow
HOLD_WAIT_S = 0.1
HOLD_IMPORTS_S = 10.0  # what is being imported when a process forks can never be imported in the child
FOREVER = float("inf")


class Waiter(NamedTuple):
    """Somebody in `flush`: until when, the lock they wait on, and where the answer goes."""

    deadline_s: float
    lock: Any
    answer: list[FlushResult]


class Setup(NamedTuple):
    """What a configuration changes: the settings, what each line says of the process, and the exporter, if one is
    given."""

    config: Config
    resource: bytes
    exporter: Exporter | None


def reserve_s(timeout_s: float) -> float:
    """The end of a deadline is kept for writing to the spool what could not be sent."""
    return min(timeout_s * 0.2, 0.25)


class Worker:
    """One ring, its exporter thread, and what both need. Lives from a process's first span to its shutdown."""

    def __init__(
        self,
        setup: Setup,
        recorder: Recorder,
        ring: Ring,
        backing: Backing,
        writers: Sequence[str],
        resolve_price: PriceResolver,
    ) -> None:
        """`writers`: the ids of this process's rings, that of `ring` last."""
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
        self._resolve_price = resolve_price
        self._exporter: Exporter | None = None
        self._delivery: Delivery | None = None
        self._is_outlet_open = self._is_all_imported = False
        self._encoding = "none"
        self._backlog: list[EncodedBatch] = []
        self._in_hand = 0
        self._read_up_to = ring.shape.first_ticket
        self._unpriced: set[tuple[str, str]] = set()
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

    def stop(self, timeout_s: float) -> None:
        """Deliver what there is within the time, spool the rest, end the thread."""
        self._stop_deadline_s = time.monotonic() + timeout_s - reserve_s(timeout_s)
        if self.is_running:
            self.flush(timeout_s + SPOOLING_GRACE_S)
        elif not self.is_finished:
            self._run()

    def change(self, setup: Setup, timeout_s: float) -> bool:
        """Deliver what there is within the time, spool the rest, and go on by `setup`. False where there is no thread
        to do it."""
        if self.is_finished or not self.start():
            return False
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
        ring = RingLedger.of(self._ring.counters())
        shape = self._ring.shape
        common = Stats(
            recorded=ring.recorded,
            dropped={"overwritten": ring.overwritten, "busy": ring.busy},
            pending=ring.unread + self._in_hand,
            content_lost=ring.content_lost,
            unpriced=len(self._unpriced),
            ring_used=min(ring.unread, shape.slots),
            ring_slots=shape.slots,
            backing=self._backing.path or "anonymous",
        )
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

    def hold_still(self) -> Any:
        """Keep the thread from leaving its next wait; returns the lock to release, None when the time was over."""
        is_own = get_ident() == self._thread_id
        timeout_s = HOLD_WAIT_S if self._is_all_imported else HOLD_IMPORTS_S
        return self._work if not is_own and self._work.acquire(timeout=timeout_s) else None

    def abandon(self) -> None:
        """In a fork child: close this process's copies of what is the parent's."""
        self.is_finished = True
        self.wakeup.close()
        self._close_backing()
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

    def _rest(self, timeout_s: float, fd: int = -1, writing: bool = False) -> tuple[bool, bool]:
        """Wait, as `Wakeup.wait` does, with nothing held that a fork would leave locked."""
        self._work.release()
        try:
            return self.wakeup.wait(timeout_s, fd, writing)
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
        self._exporter, self._encoding = outlet.exporter, outlet.encoding
        if delivery is None:
            return Delivery(outlet.exporter, outlet.spool, self, self._writers, config.max_retries)
        delivery.redirect(outlet.exporter, outlet.spool, config.max_retries)
        return delivery

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
        has_more = not is_stopping and self._replay(delivery, waiters)
        self._answer(waiters)
        if not has_more and not is_stopping and not self._waiters:
            self._rest(self._next_tick_s - time.monotonic())

    def _is_ending(self) -> bool:
        return self._stop_deadline_s != FOREVER

    def _go_on_by(self, setup: Setup) -> Delivery:
        """Put another configuration in the place of the present one, whose spans are settled."""
        self._close_exporter()
        self._setup = setup
        self._is_outlet_open = False
        self._next_tick_s = 0.0
        if self._next_setup is setup:
            self._next_setup, self._change_deadline_s = None, FOREVER
        self._is_all_imported = False
        delivery = self._prepared()
        self._is_all_imported = True
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
        self._drain(delivery, True)
        self._close_exporter()
        if self.stats().pending == 0:
            self._backing.remove()
            self._close_backing()
        self.is_finished = True

    # ---- from the ring to a batch ----

    def _drain(self, delivery: Delivery, everything: bool) -> None:
        """Settle the spans that are in the ring now; only whole batches of them, unless `everything`."""
        self._settle_backlog(delivery)
        goal = self._ring.counters().recorded
        empty_reads = 0
        while not self._backlog and empty_reads < 2 and self._is_batch_due(goal if everything else 0):
            batch = self._encoded_next(delivery)
            if batch is None:
                empty_reads += 1
                self._rest(UNFINISHED_WAIT_S)  # a producer is in the middle of the oldest one
                continue
            empty_reads = 0
            self._settled(batch, delivery.deliver(batch))

    def _is_batch_due(self, goal: int) -> bool:
        counters = self._ring.counters()
        passed = counters.delivered + counters.lost + counters.pending
        return passed < goal or counters.recorded - passed >= self._setup.config.batch_size

    def _settle_backlog(self, delivery: Delivery) -> None:
        for batch in self._backlog[:]:
            self._backlog.remove(batch)
            self._settled(batch, delivery.deliver(batch))

    def _settled(self, batch: EncodedBatch, left: list[EncodedBatch]) -> None:
        """Count a batch as done, but for the pieces left of it."""
        if batch.writer in self._writers:
            self._in_hand -= batch.span_count - sum(piece.span_count for piece in left)
        self._backlog += left
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Tickets are passed in order: while one batch is open, later ones stay in the ring's file too."""
        if not self._in_hand:
            self._ring.acknowledge(self._read_up_to)

    def _encoded_next(self, delivery: Delivery) -> EncodedBatch | None:
        """The next spans of the ring as bytes, in hand until they are settled; None when none can be had."""
        spans = self._ring.read(self._setup.config.batch_size, BATCH_MAX_BYTES)
        self._read_up_to = spans.next_ticket
        self._in_hand += spans.count
        try:
            if spans.count:
                return self._encode(spans)
        except Exception:
            report("encode", "%d spans could not be encoded: dropped", spans.count, exc_info=True)
            delivery.tally.drop("unencodable", spans.count)
            self._in_hand -= spans.count
        self._acknowledge()
        return None

    def _encode(self, spans: Batch) -> EncodedBatch:
        from fasttrace.exporters.base import EncodedBatch
        from fasttrace.exporters.compression import compress

        for provider, model in spans.unpriced():
            self._price(provider, model)
        recorder = self._recorder
        body = spans.encode(recorder.prices, recorder.price_version, self._setup.resource)
        self._is_all_imported = True
        batch_id = f"{self._writers[-1]}:{spans.first_ticket}:{spans.count}"
        return EncodedBatch(batch_id, compress(body, self._encoding), self._encoding, spans.count)

    def _price(self, provider: str, model: str) -> None:
        """Put a model's price into the table, for this batch and every later call."""
        try:
            price = self._resolve_price(provider, model)
        except Exception:
            report("price", "the price of %s could not be looked up", model, exc_info=True)
            price = None
        self._recorder.prices.put(provider, model, price)
        if price is None and len(self._unpriced) < REMEMBERED_MODELS:
            self._unpriced.add((provider, model))

    # ---- the spool ----

    def _replay(self, delivery: Delivery, waiters: list[Waiter]) -> bool:
        """Send a segment; while somebody waits, all that this process spooled. Whether it is worth going on."""
        while not self._backlog:
            has_more, left = delivery.replay()
            self._in_hand += sum(piece.span_count for piece in left if piece.writer in self._writers)
            self._backlog += left
            is_awaited = waiters and delivery.tally.spooled and time.monotonic() < waiters[-1].deadline_s
            if not has_more or not is_awaited or self._is_batch_due(0):
                return has_more
        return False

    # ---- Patience ----

    def is_over(self) -> bool:
        return time.monotonic() >= self._deadline_s()

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
        """Empty a ring that is half full into the spool, while a batch in hand waits for its collector."""
        delivery = self._delivery
        while delivery is not None and not self._backlog and self._is_pressed():
            batch = self._encoded_next(delivery)
            if batch is None:
                return
            self._settled(batch, delivery.spool_only(batch))

    def _is_pressed(self) -> bool:
        ledger = RingLedger.of(self._ring.counters())
        return 2 * ledger.unread >= self._ring.shape.slots


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
