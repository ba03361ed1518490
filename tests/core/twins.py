"""Both cores side by side: the same input into each, and the lines that come out, byte for byte.

Contexts have equal ids in both: the native core draws them, the pure one is told. Whoever imports this is skipped, with
the reason, where only one core is under test.
"""

from __future__ import annotations

import importlib
import json
import os
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from fasttrace.core._api import RingOwner, RingShape
from fasttrace.wire.fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fasttrace.core._api import Price

if os.environ.get("FASTTRACE_PURE") == "1":
    pytest.skip("the pure core alone is under test: no twin to compare it with", allow_module_level=True)
try:
    NATIVE = importlib.import_module("fasttrace.core._native")
except ImportError:
    if os.environ.get("FASTTRACE_PURE") == "0":
        raise
    pytest.skip("the native core is not built: no twin to compare the pure one with", allow_module_level=True)
PURE = importlib.import_module("fasttrace.core._pure")
CORES = (NATIVE, PURE)

OWNER = RingOwner(bytes(range(16)), b"b" * 16, 7, 8, 9)
VERSION = "2026-11-01"
SHAPE = RingShape(slots=16, arena_bytes=1 << 17, strtab_bytes=16 << 10, inflight=1)
EXAMPLES_OF_A_PAIR = 25
START_UNIX_NS = 1_700_000_000_123_456_789
ORDER = [field.name for field in FIELDS]
LIMITS = {field.name: field.clip_bytes for field in FIELDS}


def examples(count: int) -> Any:
    """Hypothesis' settings here: the same examples in every run, and no clock in the verdict."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


class Twin:
    """One core with a recorder and a ring of its own."""

    def __init__(self, core: Any, shape: RingShape = SHAPE, fd: int = -1) -> None:
        self.core = core
        self.recorder = core.Recorder(lambda: None)
        self.recorder.ring = core.Ring(fd, shape, OWNER)
        self.recorder.price_version = VERSION

    def read(self) -> Any:
        return self.recorder.ring.read(10_000, 1 << 26)

    def lines(self, version: str = VERSION, resource: bytes = b"") -> list[bytes]:
        encoded: bytes = self.read().encode(self.recorder.prices, version, resource)
        return encoded.splitlines(keepends=True)


def pair(shape: RingShape = SHAPE) -> tuple[Twin, Twin]:
    return Twin(NATIVE, shape), Twin(PURE, shape)


class Pairs:
    """Pairs for the examples of one test: a ring is never unmapped, so each serves a number of them."""

    def __init__(self, shape: RingShape = SHAPE) -> None:
        self.shape = shape
        self.left = 0

    def next(self) -> tuple[Twin, Twin]:
        if not self.left:
            self.twins, self.left = pair(self.shape), EXAMPLES_OF_A_PAIR
        self.left -= 1
        for twin in self.twins:
            twin.recorder.prices = twin.core.PriceTable()
            twin.read()  # what a failed example left
        return self.twins


def put_price(twins: tuple[Twin, Twin], provider: str, model: str, price: Price | None) -> None:
    for twin in twins:
        assert twin.recorder.prices.put(provider, model, price)


def contexts(is_child: bool = False) -> tuple[Any, Any]:
    """Two contexts with the same ids, one for each core."""
    native = NATIVE.new_context(NATIVE.new_context(None) if is_child else None)
    trace, parent = int(native.trace_id, 16), int(native.parent_span_id or "0", 16)
    pure = PURE.context.SpanContext(trace >> 64, trace & (1 << 64) - 1, int(native.span_id, 16), parent)
    return native, pure


def record(
    twins: tuple[Twin, Twin],
    fields: Mapping[str, Any],
    start_unix_ns: int = START_UNIX_NS,
    duration_ns: int = 1_234_567,
    is_child: bool = False,
) -> None:
    """The same span into both; both must say the same about whether it was kept."""
    kept = [
        twin.recorder.record(context, start_unix_ns, duration_ns, fields)
        for twin, context in zip(twins, contexts(is_child), strict=True)
    ]
    assert kept == [True, True]


def same_lines(twins: tuple[Twin, Twin], **options: Any) -> list[bytes]:
    """What both wrote, which is the same."""
    native, pure = (twin.lines(**options) for twin in twins)
    assert native == pure
    return native


def span_of(line: bytes) -> dict[str, Any]:
    """A line as strict JSON: no constants, no key twice; its fields are the schema's, in the schema's order."""
    assert line.endswith(b"\n")
    span: dict[str, Any] = json.loads(line.decode(), parse_constant=refuse, object_pairs_hook=unique)
    assert list(span) == [name for name in ORDER if name in span]
    return span


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    assert len(members) == len(pairs)
    return members
