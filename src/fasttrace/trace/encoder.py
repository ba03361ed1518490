"""From spans copied out of a ring to a batch on the wire: priced, as NDJSON, compressed. Exporter thread only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.errors import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from fasttrace.core._api import Batch, Price, Recorder
    from fasttrace.exporters.base import EncodedBatch
    from fasttrace.trace.redaction import Redaction

    PriceResolver = Callable[[str, str], Price | None]

REMEMBERED_MODELS = 4096


class Encoder:
    """Makes batches of a process's own spans, and of those of dead ones.

    encoding: how bodies are compressed. redaction: the user's own, or None.
    """

    def __init__(self, recorder: Recorder, resolve_price: PriceResolver) -> None:
        self.encoding = "none"
        self.redaction: Redaction | None = None
        self.unpriced: set[tuple[str, str]] = set()  # models met that have no price
        self._recorder = recorder
        self._resolve_price = resolve_price

    def encode(self, spans: Batch, writer: str, resource: bytes, is_apart: bool = False) -> EncodedBatch:
        """`writer`: id of the ring that the spans come from; `resource`: JSON members of the process that made them.
        `is_apart`: they are not what a batch of these tickets holds, and must not go by its id."""
        return self.packed(self.lines(spans, resource), spans, writer, is_apart)

    def lines(self, spans: Batch, resource: bytes, redaction: Redaction | None = None) -> bytes:
        """NDJSON, redacted by the user's own function, or the one given instead."""
        from fasttrace.trace.redaction import redacted_lines

        return redacted_lines(self._body(spans, resource), redaction or self.redaction)

    def packed(self, lines: bytes, spans: Batch, writer: str, is_apart: bool = False) -> EncodedBatch:
        """Those lines of these spans as a batch."""
        from fasttrace.exporters.base import EncodedBatch
        from fasttrace.exporters.compression import compress

        first = f"{spans.first_ticket}+0" if is_apart else f"{spans.first_ticket}"
        batch_id = f"{writer}:{first}:{spans.count}"
        return EncodedBatch(batch_id, compress(lines, self.encoding), self.encoding, spans.count)

    def _body(self, spans: Batch, resource: bytes) -> bytes:
        for provider, model in spans.unpriced():
            self._price(provider, model)
        return spans.encode(self._recorder.prices, self._recorder.price_version, resource)

    def _price(self, provider: str, model: str) -> None:
        """Put a model's price into the table, for this batch and every later call."""
        try:
            price = self._resolve_price(provider, model)
        except Exception:
            report("price", "the price of %s could not be looked up", model, exc_info=True)
            price = None
        self._recorder.prices.put(provider, model, price)
        if price is None and len(self.unpriced) < REMEMBERED_MODELS:
            self.unpriced.add((provider, model))
