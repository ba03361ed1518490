"""Prices and exact cost: whole pico-USD, Python integers, saturating at 64 bits as the record's field does.

The table is read by every call and written by the exporter thread; a dict is safe for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._api import Price
from .layout import COUNTS, EMPTY_RECORD, FIRST_COUNT, MASK64, NUMBER, PRESENT

if TYPE_CHECKING:
    from collections.abc import Mapping

UNKNOWN = Price(input_limit=-1)  # never asked: compared by identity
KEY_MAX_CHARACTERS = 4096
COUNTS_END = FIRST_COUNT + len(COUNTS)
HAS_INPUT = 1 << NUMBER["input_tokens"]


class PriceTable:
    """(provider, model) → Price, None for a model known to have none. Bounded; `put` is False when full."""

    def __init__(self, capacity: int = 4096) -> None:
        self.capacity = capacity
        self._prices: dict[tuple[str, str], Price | None] = {}

    def put(self, provider: str, model: str, price: Price | None) -> bool:
        """Add or replace. False when the table is full; OverflowError for an amount that is no 64-bit number."""
        key = (provider, model)
        if price is not None and not 0 <= min(price) <= max(price) <= MASK64:
            raise OverflowError(f"not a price: {price}")
        if len(provider) > KEY_MAX_CHARACTERS or len(model) > KEY_MAX_CHARACTERS:
            return False
        if key not in self._prices and len(self._prices) >= self.capacity:
            return False
        self._prices[key] = price
        return True

    def find(self, provider: str, model: str) -> Price | None:
        """The price; None: asked, and there is none; UNKNOWN: never asked."""
        return self._prices.get((provider, model), UNKNOWN)

    def cost(self, provider: str, model: str, counts: Mapping[str, int]) -> int | None:
        """Pico-USD of token counts by field name; None where the price or the cost is unknown."""
        price = self.find(provider, model)
        if price is None or price is UNKNOWN:
            return None
        values = EMPTY_RECORD[:]
        for at, name in enumerate(COUNTS, FIRST_COUNT):
            if name in counts:
                values[at] = counts[name]
                values[PRESENT] |= 1 << NUMBER[name]
        return cost_of(price, values)


def cost_of(price: Price, values: list[int]) -> int | None:
    """Pico-USD of a record's counts (0 where absent). Writes to a cache for an hour are counted among all writes.

    None where input is unknown or beyond the price's limit, where the parts contradict the whole, and where cached
    tokens may be audio or pictures that have a price of their own.
    """
    if not values[PRESENT] & HAS_INPUT:
        return None
    per_input, per_read, per_write, per_write_1h, per_in_audio, per_image, per_output, per_out_audio, *_ = price
    total_in, total_out, read, write, write_1h, _, in_audio, out_audio, image, searches = values[FIRST_COUNT:COUNTS_END]
    rest_in, rest_out = total_in - read - write - in_audio - image, total_out - out_audio
    limit = price.input_limit
    if rest_in < 0 or rest_out < 0 or write_1h > write or (limit and total_in > limit):
        return None
    if read and ((in_audio and per_in_audio != per_input) or (image and per_image != per_input)):
        return None
    cost = price.request + rest_in * per_input + read * per_read + rest_out * per_output
    if write or in_audio or image or out_audio or searches:
        cost += (write - write_1h) * per_write + write_1h * per_write_1h + in_audio * per_in_audio + image * per_image
        cost += out_audio * per_out_audio + searches * price.web_search
    return cost if cost <= MASK64 else MASK64
