"""Delivery, HTTP exporter and spool as one process has them, without a ring: batches go in, the ledger comes out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttrace.exporters.base import EncodedBatch, OwnTime
from fasttrace.exporters.compression import compress
from fasttrace.exporters.delivery import Delivery
from fasttrace.exporters.http import HttpExporter
from fasttrace.exporters.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector import Collector

WRITER = "ab" * 16
WAIT_S = 60.0


def wait_until(is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def batch_of(count: int, first: int = 0, lines: list[bytes] | None = None, encoding: str = "zstd") -> EncodedBatch:
    """A batch of small spans, numbered from `first`; or of the given lines."""
    lines = lines or [b'{"span_id":"%016x","n":%d}' % (n, n) for n in range(first, first + count)]
    body = compress(b"".join(line + b"\n" for line in lines), encoding)
    return EncodedBatch(f"{WRITER}:{first}:{len(lines)}", body, encoding, len(lines))


class Brisk(OwnTime):
    """Waits for sockets as anybody does, and for nothing else."""

    def __init__(self) -> None:
        self.delays: list[float] = []

    def back_off(self, delay_s: float) -> bool:
        self.delays.append(delay_s)
        return True


class Shipment:
    """What is shipped is counted: `recorded` = sent + spooled + rejected + dropped + pending."""

    def __init__(self, url: str, folder: Path, max_retries: int = 0, **options: Any) -> None:
        self.patience = Brisk()
        self.spool = Spool(str(folder), options.pop("max_bytes", 1 << 26))
        options = {"timeout_s": 10.0, "version": "1.2.3", **options}
        self.exporter = HttpExporter(url, patience=self.patience, **options)
        self.delivery = Delivery(self.exporter, self.spool, self.patience, {WRITER}, max_retries)
        self.recorded = 0
        self.pending: list[EncodedBatch] = []

    def ship(self, batch: EncodedBatch) -> None:
        self.recorded += batch.span_count
        self.pending += self.delivery.deliver(batch)

    def replay(self) -> None:
        """Send all that can be sent now."""
        self.delivery.hurry()
        batches, self.pending = self.pending, []
        for batch in batches:
            self.pending += self.delivery.deliver(batch)
        while (replay := self.delivery.replay()).again_s:
            self.pending += replay.left

    @property
    def waiting(self) -> list[Path]:
        """The segments on disk."""
        return sorted(Path(self.spool.path).glob("*.ndjson*"))

    def check_ledger(self) -> None:
        tally = self.delivery.tally
        pending = sum(batch.span_count for batch in self.pending)
        assert self.recorded == tally.settled + pending, (self.recorded, vars(tally), pending)

    def check_all_arrived(self, collector: Collector) -> None:
        """Every span is there, each once after the collector's dedupe, and nothing is left."""
        self.check_ledger()
        tally = self.delivery.tally
        assert (tally.sent, tally.spooled, tally.rejected, tally.dropped) == (self.recorded, 0, 0, {})
        assert sorted(collector.accepted_ids()) == [f"{n:016x}" for n in range(self.recorded)]
        assert self.waiting == []

    def close(self) -> None:
        self.exporter.close()
