"""Spans copied out of the ring: priced where they could not be before, and written as NDJSON. Exporter thread only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import layout
from .layout import FLAG_UNPRICED, PRESENT, RECORD
from .ndjson import HAS_COST, STRING_NUMBERS, Texts, index_content
from .price import UNKNOWN, cost_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .price import PriceTable
    from .region import Region

PROVIDER_AT, MODEL_AT, REQUEST_MODEL_AT, VERSION_AT = (
    layout.FIRST_STRING + layout.RECORD_STRINGS.index(name)
    for name in ("provider", "model_id", "request_model", "price_version")
)


class Batch:
    """Spans copied out of the ring, not yet acknowledged."""

    def __init__(self, ring: Region) -> None:
        self.count = 0
        self.first_ticket = 0
        self.next_ticket = 0
        self.content_bytes = 0
        self.tickets: list[int] = []
        self.records: list[bytes] = []
        self.contents: list[bytes] = []
        self._ring = ring
        self._unpriced: list[int] = []  # positions of records that the table had no price for

    def add(self, ticket: int, record: bytes, content: bytes, is_unpriced: bool) -> None:
        if not self.count:
            self.first_ticket = ticket
        if is_unpriced:
            self._unpriced.append(self.count)
        self.count += 1
        self.content_bytes += len(content)
        self.tickets.append(ticket)
        self.records.append(record)
        self.contents.append(content)

    def unpriced(self) -> list[tuple[str, str]]:
        """The distinct (provider, model) whose price the table did not know when they were recorded."""
        found: dict[tuple[str, str], None] = {}
        for position in self._unpriced:
            provider, *models = self._names(position, RECORD.unpack(self.records[position]))
            found.update(((provider, model), None) for model in models if model)
        return list(found)

    def encode(self, prices: PriceTable, price_version: str, resource: bytes) -> bytes:
        """NDJSON of the batch; `resource` is ready JSON members without braces."""
        for position in self._unpriced:
            self._price(position, prices, price_version)
        self._unpriced.clear()
        line = self._ring.writer.line
        lines = [line(record, content) for record, content in zip(self.records, self.contents, strict=True)]
        end = f",{resource.decode('utf-8', 'surrogateescape')}}}\n" if resource else "}\n"
        return end.join([*lines, ""] if lines else lines).encode("utf-8", "surrogateescape")

    def _price(self, position: int, prices: PriceTable, price_version: str) -> None:
        """Price a record whose model the table did not know when it was recorded."""
        values = list(RECORD.unpack(self.records[position]))
        values[layout.FLAGS] &= ~FLAG_UNPRICED
        cost = None if values[PRESENT] & HAS_COST else self._cost(position, values, prices)
        if cost is not None:
            values[layout.COST], values[layout.COST_SOURCE] = cost, 1
            values[PRESENT] |= HAS_COST
            values[VERSION_AT] = self._ring.index(VERSION_AT - layout.FIRST_STRING, price_version)
        self.records[position] = RECORD.pack(*values)

    def _cost(self, position: int, values: list[int], prices: PriceTable) -> int | None:
        """By the price of the model that answered, else of the one that was asked for."""
        provider, *models = self._names(position, values)
        for model in models:
            price = prices.find(provider, model) if provider and model else None
            if price is not None and price is not UNKNOWN:
                return cost_of(price, values)
        return None

    def _names(self, position: int, values: Sequence[int]) -> list[str]:
        """Provider, model and requested model; from the content where the string table was full."""
        texts = index_content(self.contents[position])[0]
        return [self._name(values, at, texts) for at in (PROVIDER_AT, MODEL_AT, REQUEST_MODEL_AT)]

    def _name(self, values: Sequence[int], at: int, texts: Texts) -> str:
        data = self._ring.string(values[at]) if values[at] else texts.get(STRING_NUMBERS[at - layout.FIRST_STRING])
        return (data or b"").decode("utf-8", "replace")
