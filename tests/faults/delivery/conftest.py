"""What the faults of transport and disk share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from shipment import Shipment

from fasttrace import errors
from fasttrace.config import load
from fasttrace.trace.processor import Processor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIELDS = {"kind": "llm", "operation": "chat", "provider": "openai", "model_id": "gpt-4o-mini", "status": "success"}


class Subject(Processor):
    """A processor that can record by itself."""

    def record(self, count: int = 1, **fields: Any) -> list[str]:
        """Record spans; returns their ids."""
        ids = []
        for _ in range(count):
            context = self._core.new_context(None)
            self.recorder.record(context, 1_700_000_000_000_000_000, 1_234_567, {**FIELDS, **fields})
            ids.append(context.span_id)
        return ids

    def check_ledger(self) -> None:
        """At a quiet point: every span that was recorded is somewhere."""
        stats = self.stats()
        settled = stats.sent + stats.spooled + stats.rejected + sum(stats.dropped.values())
        assert stats.recorded == settled + stats.pending, stats


@pytest.fixture
def open_processor(core: Any, tmp_path: Path) -> Iterator[Callable[..., Subject]]:
    """Make processors whose rings and spool lie in `tmp_path`. `options` are settings."""
    opened: list[Subject] = []

    def make(**options: Any) -> Subject:
        settings = {"state_dir": tmp_path / "state", "ring_dir": tmp_path / "ring", "max_retries": 0, **options}
        opened.append(Subject(core, load({}, settings)[0]))
        return opened[-1]

    yield make
    for processor in opened:
        processor.shutdown(1.0)


@pytest.fixture
def open_shipment(tmp_path: Path) -> Iterator[Callable[..., Shipment]]:
    opened: list[Shipment] = []

    def make(url: str, **options: Any) -> Shipment:
        opened.append(Shipment(url, tmp_path, **options))
        return opened[-1]

    yield make
    for shipment in opened:
        shipment.close()


@pytest.fixture(autouse=True)
def no_line_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log lines are limited per minute; a test starts with none written."""
    monkeypatch.setattr(errors, "_last_lines", {})
