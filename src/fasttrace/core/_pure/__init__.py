"""The core in pure Python: what runs where the native one was not built, cannot load, or is not wanted.

It writes the same ring file and the same NDJSON as the native core; `_api.Core` is what both export.
"""

from __future__ import annotations

from .context import SpanContext, clock_monotonic_ns, clock_unix_ns, new_context
from .layout import region_bytes
from .method import method, switch
from .price import PriceTable
from .recorder import Recorder
from .recovered import RecoveredRing
from .ring import Ring
from .stream import end_streams

BACKEND = "pure"

__all__ = [
    "BACKEND",
    "PriceTable",
    "Recorder",
    "RecoveredRing",
    "Ring",
    "SpanContext",
    "clock_monotonic_ns",
    "clock_unix_ns",
    "end_streams",
    "method",
    "new_context",
    "region_bytes",
    "switch",
]
