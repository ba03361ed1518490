"""A process's spans, from the recorder that takes them to the worker that delivers them.

The processor is made once and costs next to nothing: ring, thread and exporter come with the first span of the
process, and anew with the first span of every fork child. It may be called from any thread, also before any span, in
`atexit`, in a fork child and after shutdown. What runs on a caller's thread here is the opening of the ring (once) and
waiting in `flush` and `shutdown`; exporting is the worker's.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from fasttrace.core._backing import Backing, new_owner, open_ring_file
from fasttrace.errors import report
from fasttrace.trace import fork, interrupt
from fasttrace.trace.resource import resource_members
from fasttrace.trace.stats import FlushResult, Stats, added
from fasttrace.trace.wakeup import original

if TYPE_CHECKING:
    from fasttrace.config import Config
    from fasttrace.core._api import Core, Price, Recorder, Ring, RingOwner
    from fasttrace.exporters.base import Exporter
    from fasttrace.trace.encoder import Encoder, PriceResolver
    from fasttrace.trace.redaction import Failures, Hook, Redaction
    from fasttrace.trace.worker import Setup, Worker

RESTART_INTERVAL_S = 30.0
WAIT_MAX_S = 86_400.0
HOLD_OPENING_S = 10.0


def no_prices(provider: str, model: str) -> Price | None:
    return None


def clamped(timeout_s: float) -> float:
    """Seconds that a lock can wait: none for what is not a number, a day at most."""
    return min(timeout_s, WAIT_MAX_S) if timeout_s > 0 else 0.0


class Processor:
    """Owns `recorder`, and through it everything that is recorded. `exporter` takes the place of the configured one."""

    def __init__(
        self, core: Core, config: Config, resolve_price: PriceResolver = no_prices, exporter: Exporter | None = None
    ) -> None:
        self.config = config
        self.recorder: Recorder = core.Recorder(self._start)
        self._core = core
        self._tell_recorder()
        self._resolve_price = resolve_price
        self._exporter = exporter
        self._redaction: Redaction | None = None
        self._redaction_failures: Failures | None = None
        self._is_down = False
        self._begin()
        fork.watch_opening(self)
        atexit.register(self._at_exit)

    def _tell_recorder(self) -> None:
        """What the recording path follows from the next call on."""
        config, recorder = self.config, self.recorder
        recorder.capture_input, recorder.capture_output = config.capture_input, config.capture_output
        recorder.content_max_bytes = config.content_limit
        recorder.active = config.enabled

    def _begin(self) -> None:
        """The state of a process that has recorded nothing."""
        self._pid = os.getpid()
        self._lock: Any = original("_thread", "RLock")()
        self._opening: Any = original("_thread", "RLock")()  # held while a thread opens the ring
        self._worker: Worker | None = None
        self._past = Stats()
        self._writers: list[str] = []
        self._is_starting = False
        self._next_start_s = 0.0

    # ---- start ----

    def _start(self) -> None:
        """The recorder's call for a ring, at the first span of a process. Never raises."""
        self._check_process()
        if self._is_down or not self.config.enabled:  # before the lock: `shutdown` may hold it for a while
            return
        with self._lock:
            if self._is_starting or self._worker is not None:
                return
            if time.monotonic() < self._next_start_s:
                return
            self._is_starting = True
            try:
                with self._opening:
                    self._open()
            except Exception as error:
                self._next_start_s = time.monotonic() + RESTART_INTERVAL_S
                report("start", "no ring, spans are not recorded: %s", error, exc_info=True)
            finally:
                self._is_starting = False

    def _open(self) -> None:
        fork.watch(self)
        owner = new_owner()
        backing = open_ring_file(self.config.ring_dir, self.config.ring_shape, owner, self._core.region_bytes)
        backing, ring = self._map(backing, owner)
        writers = [*self._writers, owner.writer_id.hex()]
        try:
            from fasttrace.trace.worker import Worker

            worker = Worker(self._core, self._setup(), self.recorder, ring, backing, writers, self.encoder())
        except BaseException:
            backing.remove()
            backing.close()
            raise
        self._worker, self._writers = worker, writers
        self.recorder.wake_fd = worker.wakeup.fd
        self.recorder.ring = ring
        worker.start()
        self._deliver_in_multiprocessing_child()

    def encoder(self) -> Encoder:
        """One that knows this process's prices."""
        from fasttrace.trace.encoder import Encoder

        return Encoder(self.recorder, self._resolve_price)

    def _setup(self) -> Setup:
        from fasttrace.trace.worker import Setup

        return Setup(self.config, resource_members(self.config), self._exporter, self._redaction)

    def _map(self, backing: Backing, owner: RingOwner) -> tuple[Backing, Ring]:
        """The ring over its file, or over anonymous memory where the file cannot be mapped."""
        try:
            return backing, self._core.Ring(backing.fd, backing.shape, owner)
        except OSError as error:
            backing.remove()
            backing.close()
            report("map", "the ring's file cannot be mapped: %s", error)
        anonymous = Backing(-1, None, backing.shape, "anonymous", "not mappable")
        return anonymous, self._core.Ring(-1, backing.shape, owner)

    def _deliver_in_multiprocessing_child(self) -> None:
        """`atexit` does not run in a child of multiprocessing; its own finalizers do."""
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.Finalize(None, self._at_exit, exitpriority=-100)

    # ---- what the package's functions of the same names do ----

    def flush(self, timeout_s: float | None = None) -> FlushResult:
        """Have everything recorded so far sent or spooled, waiting at most `timeout_s` (default: EXPORT_TIMEOUT)."""
        self._check_process()
        worker = self._worker
        if worker is None:
            return self._result(FlushResult())
        return self._result(worker.flush(clamped(self.config.export_timeout if timeout_s is None else timeout_s)))

    def _result(self, result: FlushResult) -> FlushResult:
        """With what the recorder and earlier workers of this process counted."""
        past = self._past
        return FlushResult(
            result.sent + past.sent,
            result.spooled + past.spooled,
            result.dropped + past.rejected + sum(past.dropped.values()) + self.recorder.dropped_unstarted,
            result.pending + past.pending,
        )

    def stats(self) -> Stats:
        """Every counter, as of now."""
        self._check_process()
        stats = added(self._past, self._worker.stats() if self._worker else Stats())
        unstarted = self.recorder.dropped_unstarted
        return stats._replace(
            recorded=stats.recorded + unstarted,
            dropped={**stats.dropped, "unstarted": unstarted} if unstarted else stats.dropped,
            passed_streams=self.recorder.passed_streams,
            redaction_failures=self._redaction_failures.count if self._redaction_failures else 0,
            backend=self._core.BACKEND,
        )

    def shutdown(self, timeout_s: float | None = None, *, is_last: bool = False) -> FlushResult:
        """Stop recording, deliver within `timeout_s` (default: SHUTDOWN_TIMEOUT), spool the rest. Safe to repeat.

        Streams that are still open become spans first, as they are; what is read of them later is not recorded.
        `is_last`: the process ends, and with it whatever call is in the air: it becomes a span of status `aborted`.
        """
        self._check_process()
        try:
            self._core.end_streams(self.recorder)
        except Exception as error:
            report("streams", "streams were still open and are not recorded: %s", error, exc_info=True)
        return self._stop(timeout_s, is_last)

    def _stop(self, timeout_s: float | None, is_last: bool = False) -> FlushResult:
        self.recorder.active = False
        self._is_down = True
        atexit.unregister(self._at_exit)
        return self._retire(clamped(self.config.shutdown_timeout if timeout_s is None else timeout_s), is_last)

    def reconfigure(self, config: Config, exporter: Exporter | None = None, redact: Hook | None = None) -> None:
        """Use another configuration from the next span on; what was recorded is delivered under the present one.
        `redact`: the user's own redaction.

        The ring stays, unless another one is asked for, as capturing content does. Calls and streams that are on their
        way become spans under the new configuration. A processor that was shut down records again.
        """
        self._check_process()
        with self._lock:
            before, self.config, self._exporter = self.config, config, exporter
            self._redaction = None if redact is None else self._redaction_by(redact)
            if not self._is_changed(before):
                self._stop(before.shutdown_timeout)
            self._next_start_s = 0.0
            self._is_down = False
            atexit.unregister(self._at_exit)
            atexit.register(self._at_exit)
            self._tell_recorder()

    def _redaction_by(self, hook: Hook) -> Redaction:
        """The failures of all hooks of a process are counted together."""
        from fasttrace.trace.redaction import Failures, Redaction

        self._redaction_failures = self._redaction_failures or Failures()
        return Redaction(hook, self._redaction_failures)

    def _is_changed(self, before: Config) -> bool:
        """Have the worker go on by the new configuration; False where it cannot, or there is none."""
        worker, config = self._worker, self.config
        is_same_ring = (before.ring_dir, before.ring_shape) == (config.ring_dir, config.ring_shape)
        return worker is not None and is_same_ring and worker.change(self._setup(), before.shutdown_timeout)

    def _retire(self, timeout_s: float, is_last: bool) -> FlushResult:
        """End the worker; its counters stay."""
        with self._lock:
            worker = self._worker
            if worker is None:
                return self._result(FlushResult())
            self.recorder.ring = None
            self.recorder.wake_fd = -1
            worker.stop(timeout_s, is_last)
            self._past = added(self._past, worker.stats())
            self._worker = None
            return self._result(FlushResult())

    def _at_exit(self) -> None:
        is_interrupted = interrupt.is_ending()
        try:
            self.shutdown(is_last=True)
        except Exception:
            report("exit", "the end of the process met an error of ours", exc_info=True)
        if is_interrupted:
            interrupt.is_ending_again()

    # ---- fork ----

    def _check_process(self) -> None:
        """A child of a fork that Python did not make finds out here."""
        if self._pid != os.getpid():
            self.forget_parent()

    def hold_opening(self) -> Any:
        """Before a fork: see fork.py."""
        return self._opening if self._opening.acquire(timeout=HOLD_OPENING_S) else None

    @property
    def worker(self) -> Worker | None:
        return self._worker

    def forget_parent(self) -> None:
        """In a fork child: let go of the parent's ring, thread and files, count from zero."""
        worker = self._worker
        self._begin()
        self.recorder.ring = None
        self.recorder.wake_fd = -1
        self.recorder.reset_counts()
        if self._redaction_failures is not None:
            self._redaction_failures.count = 0
        if worker is not None:
            worker.abandon()
