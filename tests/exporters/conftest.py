"""What the tests of exporters share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collector import Collector
from fasttrace import errors
from fasttrace.exporters.base import EncodedBatch
from fasttrace.exporters.compression import compress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WRITER = "ab" * 16


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def make_batch() -> Callable[..., EncodedBatch]:
    """A batch of `count` small spans, numbered from `first`; or of the given lines."""

    def make(
        count: int = 3, first: int = 0, encoding: str = "zstd", writer: str = WRITER, lines: list[bytes] | None = None
    ) -> EncodedBatch:
        lines = lines or [b'{"span_id":"%016x","n":%d}' % (first + n, first + n) for n in range(count)]
        body = b"".join(line + b"\n" for line in lines)
        return EncodedBatch(f"{writer}:{first}:{len(lines)}", compress(body, encoding), encoding, len(lines))

    return make


@pytest.fixture(autouse=True)
def no_line_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log lines are limited per minute; a test starts with none written."""
    monkeypatch.setattr(errors, "_last_lines", {})
