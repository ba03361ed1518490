"""A collector on the loopback interface: takes what an exporter posts, decodes it and keeps every line.

One thread per connection; the batches are guarded by the server's condition.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import NamedTuple

from fasttrace.wire.decode import decompress

from .server import Handler, Json, Server


class Received(NamedTuple):
    """One batch as it came in: its headers (lower-case), bytes on the wire, and lines."""

    headers: dict[str, str]
    wire_bytes: int
    lines: list[bytes]


class Collector(Server):
    """Takes batches at `url`, drops those whose X-Batch-ID it has seen, and keeps the rest.

    keep: False counts the spans and forgets them. Fractions are parsed as Decimal: sums of cost are exact.
    """

    def __init__(self, *, keep: bool = True) -> None:
        self.keep = keep
        self.span_count = 0
        self.wire_bytes = 0
        self.batches: list[Received] = []
        self._batch_ids: set[str] = set()
        super().__init__(_CollectorHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/ingest"

    @property
    def lines(self) -> list[bytes]:
        with self.changed:
            return [line for batch in self.batches for line in batch.lines]

    @property
    def spans(self) -> list[Json]:
        """Every span received so far, as parsed JSON, in order of arrival."""
        return [json.loads(line, parse_float=Decimal) for line in self.lines]

    def take(self, batch: Received) -> None:
        batch_id = batch.headers.get("x-batch-id", "")
        with self.changed:
            if batch_id and batch_id in self._batch_ids:
                return
            self._batch_ids.add(batch_id)
            self.span_count += len(batch.lines)
            self.wire_bytes += batch.wire_bytes
            if self.keep:
                self.batches.append(batch)
            self.changed.notify_all()

    def wait(self, count: int, timeout_s: float = 10.0) -> bool:
        """Whether `count` spans are here before the timeout."""
        with self.changed:
            return self.changed.wait_for(lambda: self.span_count >= count, timeout_s)


class _CollectorHandler(Handler):
    def do_POST(self) -> None:
        wire = self.body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            lines = [line for line in decompress(wire, headers.get("content-encoding", "")).split(b"\n") if line]
            for line in lines:
                json.loads(line)
        except Exception as error:
            self.reply_json(400, {"error": f"not a batch of spans: {error}"})
            return
        self.owner.take(Received(headers, len(wire), lines))
        self.reply_json(200, {"accepted": len(lines), "rejected": 0, "errors": []})
