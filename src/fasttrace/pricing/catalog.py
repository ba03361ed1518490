"""The price list in memory, and what of it the cost arithmetic can use exactly.

A `Price` has ten parts and a limit (core/_api.py); the cost of a call is their integer sum over the span's counts,
where input is what no other input part took. A unit without a price of its own is charged as the unit it is part of:
cached input as input, a one-hour cache write as a cache write, audio output as output.

No price is better than a wrong one. A model has none here when its list
  - names no price for input tokens: it is billed by characters, pages or time, or the source does not know;
  - prices something inside its tokens that spans do not count: reasoning or citations apart from other output,
    pictures and video written, video read, hours of audio;
  - changes by the time of day;
  - holds a number that is not a whole number of pico-USD.
Above its first tier a price does not hold, and `input_limit` says so. Fees for tools that spans do not count (file
search) are not in the cost. Cached audio and cached pictures are not counted apart: the arithmetic takes cached tokens
for text. Prices for a service tier or a batch are in the file but not used yet: these are the standard ones.

Loaded and used by the exporter thread; nothing here locks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.core._api import Price
from fasttrace.pricing.match import find_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Rate = int | str | list[Any]
    Table = Mapping[str, Any]

# Part of a Price -> the units of the list that may price it, the nearest first.
PARTS = {
    "input": ("input",),
    "cache_read": ("cache_read", "input"),
    "cache_write": ("cache_write", "input"),
    "cache_write_1h": ("cache_write_1h", "cache_write", "input"),
    "input_audio": ("input_audio", "input"),
    "input_image": ("input_image", "input"),
    "output": ("output",),
    "output_audio": ("output_audio", "output"),
    "web_search": ("web_searches",),
    "request": ("requests",),
}
# Units that may stand in a list beside the parts without making them wrong: tool fees, and cached audio and pictures.
BESIDE = frozenset(
    {"storage_searches", "social_searches", "code_executions", "cache_audio_read", "cache_image_read", "from"}
)
KNOWN = BESIDE.union(*PARTS.values())
REMEMBERED_MAX = 4096


class Catalog:
    """Prices by provider and model. `version` names the data (and is the span's `price_version`)."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.version: str = data["version"]
        self._providers: Mapping[str, Any] = data["providers"]
        self._remembered: dict[tuple[str, str], Price | None] = {}

    @classmethod
    def load(cls) -> Catalog:
        """Read models.json, which lies beside this module. OSError or ValueError where it is missing or damaged."""
        import json
        import os.path

        with open(os.path.join(os.path.dirname(__file__), "models.json"), "rb") as file:
            return cls(json.loads(file.read()))

    def resolve(self, provider: str, model: str) -> Price | None:
        """Today's standard price of a semconv provider's model; None where it is unknown or cannot be exact."""
        key = (provider, model)
        if key not in self._remembered:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[key] = self._find(provider, model)
        return self._remembered[key]

    def _find(self, provider: str, model: str) -> Price | None:
        entry = find_model(self._providers, provider, model)
        table = None if entry is None else active_table(entry["prices"], today())
        return None if table is None else price_of(table)


def today() -> str:
    """The UTC day as `YYYY-MM-DD`."""
    import time

    return time.strftime("%Y-%m-%d", time.gmtime())


def active_table(prices: Table | list[Table], day: str) -> Table | None:
    """The prices that hold on a UTC day (`YYYY-MM-DD`); None where that depends on the time of day.

    The last that has started counts, the first where none has.
    """
    if not isinstance(prices, list):
        return prices
    for table in reversed(prices):
        if "between" in table:
            return None
        if table.get("from", "") <= day:
            return table
    return prices[0]


def price_of(table: Table) -> Price | None:
    """A list's prices as parts; None where they cannot be expressed exactly."""
    if "input" not in table or not KNOWN.issuperset(table):
        return None
    rates = {unit: rate for unit, rate in table.items() if unit != "from"}
    limits = [rate[1][0] for rate in rates.values() if isinstance(rate, list)]
    bases = {unit: rate[0] if isinstance(rate, list) else rate for unit, rate in rates.items()}
    if 0 in limits or any(isinstance(base, str) for base in bases.values()):
        return None
    parts = {part: _nearest(bases, units) for part, units in PARTS.items()}
    return Price(**parts, input_limit=min(limits, default=0))


def _nearest(rates: Mapping[str, int], units: tuple[str, ...]) -> int:
    return next((rates[unit] for unit in units if unit in rates), 0)
