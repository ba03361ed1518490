"""A core with a ring of its own, and the methods that its tables replace."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from fasttrace.core._api import Price, RingOwner, RingShape

if TYPE_CHECKING:
    from types import ModuleType

CORES = ("native", "pure")
PRICES = {
    ("openai", "gpt-4o-mini-2024-07-18"): Price(150_000, 75_000, 150_000, 150_000, output=600_000),
    ("anthropic", "claude-sonnet-4-5-20250929"): Price(3_000_000, 300_000, 3_750_000, 6_000_000, output=15_000_000),
    ("gcp.gemini", "gemini-2.5-flash"): Price(300_000, 75_000, output=2_500_000),
}


class Rig:
    """One core with a ring of its own in anonymous memory, ready to record; `drain` empties the ring."""

    def __init__(self, name: str, shape: RingShape | None = None) -> None:
        self.name = name
        self.core: ModuleType = importlib.import_module(f"fasttrace.core._{name}")
        self.ring = self.core.Ring(-1, shape or RingShape(), RingOwner(bytes(range(16)), bytes(16), os.getpid(), 0, 1))
        self.recorder = self.core.Recorder(lambda: None)
        self.recorder.ring = self.ring
        self.recorder.active = True
        self.prices = self.core.PriceTable()
        for (provider, model), price in PRICES.items():
            self.prices.put(provider, model, price)
        self.recorder.prices = self.prices
        self.recorder.price_version = "2026-01-01+benchmark"

    def drain(self) -> int:
        """Read and acknowledge all there is; how many spans that was."""
        drained = 0
        while (batch := self.ring.read(8192, 8 << 20)).count:
            drained += batch.count
            self.ring.acknowledge(batch.next_ticket)
        return drained

    def lines(self) -> list[bytes]:
        """What was recorded since the last look, as lines of JSON."""
        batch = self.ring.read(8192, 8 << 20)
        lines = batch.encode(self.prices, self.recorder.price_version, b"").splitlines()
        self.ring.acknowledge(batch.next_ticket)
        return list(lines)

    def recording(self, sdk: str, path: str, original: Any) -> Any:
        """The callable that stands for a method of an SDK's table, around an original of ours."""
        table = importlib.import_module(f"fasttrace.instrumentation.{sdk}")
        found = table.patches(lambda function, spec: self.core.method(function, spec, self.recorder), lambda *_: None)
        return next(patch for patch in found if patch.path == path).replace(original)
