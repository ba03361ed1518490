"""The spans of processes that died: taken out of their rings and put where they will be delivered.

    ring file, its owner dead ──► locked ──► read whole ──► batches ──► spool ──► file deleted

Exactly once. Only who holds the file's lock adopts it (core/_orphans.py), and it is deleted only when all of it is in
the spool. Whoever dies in between leaves the file; the next one makes the same batches of it, under the same ids, and
passes over those that the spool holds already. What the dead owner had in its hands it had read in batches, whose
limits stand in the header: an open one is made again as it was (its collector may have had it), a settled one is
passed over. The calls that were in the air come last, as spans of status `aborted`.

What a span says of its process (service, tenant, ...) is in the ring's header too, so that it is told as the owner
would have told it. So is whether its user had a redaction (`init(redact=...)`): whoever has none leaves the texts out.
A file that cannot be read as a ring is set aside, under a name that says so.

Runs on the exporter thread a batch at a time, between its own batches, or all at once in a command.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from fasttrace.core import _orphans
from fasttrace.core._api import OtherVersion, UnusedRing
from fasttrace.errors import INFO, report
from fasttrace.trace.intake import BATCH_MAX_BYTES
from fasttrace.trace.redaction import Failures, Redaction, withheld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fasttrace.config import Config
    from fasttrace.core._api import Batch, Core, RecoveredRing
    from fasttrace.exporters.base import EncodedBatch
    from fasttrace.exporters.spool import Spool
    from fasttrace.trace.encoder import Encoder

    Keep = Callable[[EncodedBatch, int], bool]

LOOK_INTERVAL_S = 30.0
NO_LIMIT = (1 << 62) - 1
WITHHOLDING = Redaction(withheld, Failures())


class Adopted(NamedTuple):
    """What was found in the rings of dead processes.

    rings: files that were taken over. spans: of them and safe now, `aborted` ones among them. torn: pushes that had not
    returned. lost: spans that were overwritten before they were read. corrupt: files that are no rings, set aside.
    waiting: rings of dead processes that could not be taken over, as where the disk is full; counted at each look.
    """

    rings: int = 0
    spans: int = 0
    aborted: int = 0
    torn: int = 0
    lost: int = 0
    corrupt: int = 0
    waiting: int = 0

    def plus(self, more: Adopted) -> Adopted:
        return Adopted(*map(sum, zip(self, more, strict=True)))


class Recovery:
    """Looks for rings of the dead every now and then. `keep` puts a batch, of spans of about that time, where it is
    safe; false when it could not: the ring then waits for a later look. `own_path`: of this process's own ring."""

    def __init__(
        self, core: Core, encoder: Encoder, config: Config, keep: Keep, own_path: str | None = None
    ) -> None:
        self.adopted = Adopted()
        self._core = core
        self._encoder = encoder
        self._directory = config.ring_dir
        self._own_path = own_path
        self._batch_size = config.batch_size
        self._keep = keep
        self._orphan: _orphans.Orphan | None = None
        self._work: Iterator[None] = iter(())
        self._next_look_s = 0.0

    def step(self) -> bool:
        """A bounded piece of the work: one batch at most. Whether there is more to be done at once."""
        for _ in self._work:
            return True
        if time.monotonic() < self._next_look_s:
            return False
        self._next_look_s = time.monotonic() + LOOK_INTERVAL_S
        self.adopted = self.adopted._replace(waiting=0)
        self._work = self._adopt_all()
        return True

    def close(self) -> None:
        """Let go of the file in hand; a later look finds it again. In a fork child: of the parent's."""
        self._work = iter(())
        orphan, self._orphan = self._orphan, None
        if orphan is not None:
            orphan.close()

    def _adopt_all(self) -> Iterator[None]:
        for path in _orphans.find(self._directory, self._own_path):
            orphan = self._orphan = _orphans.adopt(path)
            if orphan is None:
                continue
            try:
                yield from self._adopt(orphan)
            except Exception as error:
                self._postpone(orphan, error)
            finally:
                orphan.close()

    def _adopt(self, orphan: _orphans.Orphan) -> Iterator[None]:
        ring = self._read(orphan)
        if ring is None:
            return
        for batch, created_ns in encoded_batches(ring, self._encoder, self._batch_size):
            if not self._keep(batch, created_ns):
                self._postpone(orphan, "its spans could not be kept")
                return
            yield
        orphan.remove()
        if ring.has_redaction and self._encoder.redaction is None:
            report("withheld", "texts of a dead process were left out: it had a redact= of its own, there is none here")
        self._count(ring, orphan.path)

    def _postpone(self, orphan: _orphans.Orphan, why: object) -> None:
        self.adopted = self.adopted.plus(Adopted(waiting=1))
        report("recovery", "%s: the ring of a dead process waits for a later look: %s", orphan.path, why)

    def _read(self, orphan: _orphans.Orphan) -> RecoveredRing | None:
        """None for a file without a ring, which is dealt with."""
        try:
            return self._core.RecoveredRing(orphan.read())
        except UnusedRing:
            orphan.remove()
        except OtherVersion as error:
            self._postpone(orphan, error)
        except ValueError as error:
            orphan.set_aside()
            self.adopted = self.adopted.plus(Adopted(corrupt=1))
            report("orphan", "%s is no ring (%s): set aside as *%s", orphan.path, error, _orphans.ASIDE)
        return None

    def _count(self, ring: RecoveredRing, path: str) -> None:
        counters = ring.counters()
        found = counters.delivered + counters.aborted
        self.adopted = self.adopted.plus(
            Adopted(rings=1, spans=found, aborted=counters.aborted, torn=counters.torn, lost=counters.lost)
        )
        if found or counters.lost:
            text = "process %d died: %d spans of it were in %s (%d of them aborted calls), %d had been overwritten"
            report("recovered", text, ring.owner.pid, found, path, counters.aborted, counters.lost, level=INFO)


def encoded_batches(
    ring: RecoveredRing, encoder: Encoder, batch_size: int
) -> Iterator[tuple[EncodedBatch, int]]:
    """Each batch, and when its first span began. One whose texts are left out must not pass for the whole one."""
    is_withheld = ring.has_redaction and encoder.redaction is None
    writer = ring.owner.writer_id.hex()
    for spans, is_aborted in batches_of(ring, batch_size):
        lines = encoder.lines(spans, ring.resource, WITHHOLDING if is_withheld else None)
        yield encoder.packed(lines, spans, writer, is_aborted or is_withheld), started_unix_ns(lines)


def batches_of(ring: RecoveredRing, batch_size: int) -> Iterator[tuple[Batch, bool]]:
    """What is not settled, in order: the owner's open batches as they were, the rest by `batch_size`, and last (then
    the second value is true) the calls that were in the air."""
    for held in ring.ranges:
        yield from _until(ring, batch_size, held.first_ticket)
        if held.is_settled:
            ring.skip(held.next_ticket)
        else:
            yield from _until(ring, NO_LIMIT, held.next_ticket, NO_LIMIT)
    yield from _until(ring, batch_size, ring.head)
    aborted = ring.aborted()
    if aborted.count:
        yield aborted, True


def _until(
    ring: RecoveredRing, max_spans: int, ticket: int, max_bytes: int = BATCH_MAX_BYTES
) -> Iterator[tuple[Batch, bool]]:
    while (spans := ring.read(max_spans, max_bytes, ticket)).count:
        yield spans, False


def started_unix_ns(lines: bytes) -> int:
    """When the first of these spans began, to the second: how old they are, whoever delivers them."""
    import json
    from datetime import datetime

    second = json.loads(lines.partition(b"\n")[0])["timestamp"][:19]
    return int(datetime.fromisoformat(f"{second}+00:00").timestamp()) * 1_000_000_000


def adopt(spool: Spool, config: Config, is_over: Callable[[], bool] = lambda: False) -> Adopted:
    """Put the spans of every dead process into the spool, now, as far as there is room for them without others having
    to go; rings for which there is none wait. Between two batches `is_over` is asked: a ring that is left in the midst
    is adopted from its start by whoever comes next, who passes over what the spool holds."""
    from fasttrace.core import core
    from fasttrace.exporters.compression import usable_encoding
    from fasttrace.trace.tracer import PROCESSOR

    def keep(batch: EncodedBatch, created_ns: int) -> bool:
        if spool.holds(batch.batch_id):
            return True
        if not spool.has_room(len(batch.body)):
            return False
        spool.write(batch, created_ns)
        return True

    encoder = PROCESSOR.encoder()
    encoder.encoding = usable_encoding(config.compression)
    recovery = Recovery(core, encoder, config, keep)
    try:
        while not is_over() and recovery.step():
            continue
    finally:
        recovery.close()
    return recovery.adopted
