"""From the ring to settled batches: what is read, what is in hand, what neither collector nor disk took so far.

The ring is told that spans are settled only when they are sent or on disk, so whoever recovers its file after a crash
finds everything else. What is in hand is in the ring's file only as long as no later span took its place: so a batch
that waits for its collector goes to disk, too, before the ring has gone round. A batch that could go nowhere stays in
the backlog, and nothing more is read until it is gone: the ring is the larger buffer, and outlives the process.

Exporter thread only, but for `in_hand` and `aborted`, which any thread may read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.errors import report
from fasttrace.trace.hands import Hands
from fasttrace.trace.stats import RingLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fasttrace.core._api import Batch, Ring
    from fasttrace.exporters.base import EncodedBatch
    from fasttrace.exporters.delivery import Delivery
    from fasttrace.trace.encoder import Encoder

BATCH_MAX_BYTES = 1 << 20
UNFINISHED_WAIT_S = 0.06


class Intake:
    """One ring's spans on their way out. `writers`: the ids of this process's rings, that of `ring` last."""

    def __init__(self, ring: Ring, writers: Sequence[str], encoder: Encoder) -> None:
        self.in_hand = 0  # spans read and not settled, those of segments taken back from the spool included
        self.aborted = 0
        self.is_all_imported = False  # what encoding and delivering need
        self._on_its_way: EncodedBatch | None = None  # delivered just now, and on no disk
        self.backlog: list[EncodedBatch] = []
        self.batch_size = 1
        self.resource = b""
        self._ring = ring
        self._writers = writers
        self._encoder = encoder
        self._hands = Hands(ring)

    def configure(self, batch_size: int, resource: bytes) -> None:
        """`resource`: what each line says of the process, now and after a crash."""
        self.batch_size = batch_size
        self.resource = resource
        self._ring.set_resource(resource)

    def is_batch_due(self, goal: int = 0) -> bool:
        """Whether a whole batch waits in the ring, or anything of its first `goal` tickets."""
        counters = self._ring.counters()
        passed = counters.delivered + counters.lost + counters.pending
        return passed < goal or counters.recorded - passed >= self.batch_size

    def drain(self, delivery: Delivery, everything: bool, rest: Callable[[float], object]) -> None:
        """Settle the spans that are in the ring now; only whole batches of them, unless `everything`."""
        self._settle_backlog(delivery)
        goal = self._ring.counters().recorded if everything else 0
        empty_reads = 0
        while not self.backlog and empty_reads < 2 and self.is_batch_due(goal):
            batch = self._next(delivery)
            if batch is None:
                empty_reads += 1
                rest(UNFINISHED_WAIT_S)  # a producer is in the middle of the oldest one
                continue
            empty_reads = 0
            self._deliver(batch, delivery)

    def relieve(self, delivery: Delivery) -> None:
        """Empty a ring that is half full into the spool, while a batch waits for its collector; that one first."""
        waiting = self._on_its_way
        if waiting is not None and self._is_pressed() and delivery.insure(waiting):
            self._hands.settle(waiting.first_ticket, waiting.span_count)
            self._on_its_way = None
        while not self.backlog and self._is_pressed():
            batch = self._next(delivery)
            if batch is None:
                return
            self._settled(batch, delivery.spool_only(batch))

    def deliver_aborted(self, delivery: Delivery) -> None:
        """The calls that are in the air when the process ends become spans that say so."""
        spans = self._ring.aborted()
        if not spans.count:
            return
        self.aborted += spans.count
        self.in_hand += spans.count
        batch = self._encoded(delivery, spans, is_apart=True)
        if batch is not None:
            self._deliver(batch, delivery)

    def take_back(self, pieces: Sequence[EncodedBatch]) -> None:
        """What is left of a segment that was taken out of the spool."""
        self.in_hand += sum(piece.span_count for piece in pieces if piece.writer in self._writers)
        self.backlog += pieces

    def _settle_backlog(self, delivery: Delivery) -> None:
        for batch in self.backlog[:]:
            self.backlog.remove(batch)
            self._deliver(batch, delivery)

    def _deliver(self, batch: EncodedBatch, delivery: Delivery) -> None:
        """Whatever goes wrong, the batch is settled or in the backlog."""
        self._on_its_way = batch
        try:
            left = delivery.deliver(batch)
        except Exception:
            report("deliver", "%d spans are kept for another attempt", batch.span_count, exc_info=True)
            left = [batch]
        finally:
            self._on_its_way = None
        self._settled(batch, left)

    def _settled(self, batch: EncodedBatch, left: list[EncodedBatch]) -> None:
        """Count a batch as done, but for the pieces left of it."""
        self.backlog += left
        done = batch.span_count - sum(piece.span_count for piece in left)
        if batch.writer in self._writers:
            self.in_hand -= done
        if batch.writer == self._writers[-1]:
            self._hands.settle(batch.first_ticket, done)

    def _next(self, delivery: Delivery) -> EncodedBatch | None:
        """The next spans of the ring as bytes, in hand until they are settled; None when none can be had."""
        spans = self._ring.read(self.batch_size, BATCH_MAX_BYTES)
        self._hands.take(spans)
        if not spans.count:
            return None
        self.in_hand += spans.count
        batch = self._encoded(delivery, spans)
        if batch is None:
            self._hands.settle(spans.first_ticket, spans.count)
        return batch

    def _encoded(self, delivery: Delivery, spans: Batch, is_apart: bool = False) -> EncodedBatch | None:
        """None, and the spans are out of hand, where they cannot be encoded."""
        try:
            batch = self._encoder.encode(spans, self._writers[-1], self.resource, is_apart)
        except Exception:
            report("encode", "%d spans could not be encoded: dropped", spans.count, exc_info=True)
            delivery.tally.drop("unencodable", spans.count)
            self.in_hand -= spans.count
            return None
        self.is_all_imported = True
        return batch

    def _is_pressed(self) -> bool:
        return 2 * RingLedger.of(self._ring.counters()).unread >= self._ring.shape.slots
