"""What the tests of the pipeline share: a collector, and processors with directories of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collector import Collector
from fasttrace import errors
from fasttrace.config import load
from fasttrace.trace.processor import Processor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIELDS = {
    "kind": "llm",
    "operation": "chat",
    "name": "chat gpt-4o-mini",
    "provider": "openai",
    "model_id": "gpt-4o-mini",
    "status": "success",
    "input_tokens": 12,
    "output_tokens": 3,
}


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

    def ledger(self) -> int:
        """The right side of the ledger."""
        stats = self.stats()
        return stats.sent + stats.spooled + stats.rejected + sum(stats.dropped.values()) + stats.pending


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def open_processor(core: Any, tmp_path: Path) -> Iterator[Callable[..., Subject]]:
    """Make processors whose rings and spool lie in `tmp_path`. `options` are settings (`way` is the one that is called
    `exporter`), or the processor's own arguments `exporter` and `resolve_price`."""
    opened: list[Subject] = []

    def make(**options: Any) -> Subject:
        arguments = {name: options.pop(name) for name in ("exporter", "resolve_price") if name in options}
        options["exporter"] = options.pop("way", "http")
        settings = {"state_dir": tmp_path / "state", "ring_dir": tmp_path / "ring", "max_retries": 0, **options}
        opened.append(Subject(core, load({}, settings)[0], **arguments))
        return opened[-1]

    yield make
    for processor in opened:
        processor.shutdown(1.0)


@pytest.fixture(autouse=True)
def no_line_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log lines are limited per minute; a test starts with none written."""
    monkeypatch.setattr(errors, "_last_lines", {})
