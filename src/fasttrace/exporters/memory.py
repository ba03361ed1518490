"""Exporters that lead nowhere: into memory, for tests and notebooks, and into nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fasttrace.exporters.base import ACCEPTED, EncodedBatch, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator


class MemoryExporter:
    """Keeps every batch. `batches` may be read from any thread, `spans` gives them as dicts in order of arrival."""

    encoding = "none"
    takes_spool = True

    def __init__(self) -> None:
        self.batches: list[EncodedBatch] = []

    @property
    def spans(self) -> list[dict[str, Any]]:
        return list(self._parsed())

    def _parsed(self) -> Iterator[dict[str, Any]]:
        import json

        for batch in list(self.batches):
            yield from map(json.loads, batch.lines())

    def prepare(self) -> None:
        """Nothing to open."""

    def export(self, batch: EncodedBatch) -> Outcome:
        self.batches.append(batch)
        return ACCEPTED

    def close(self) -> None:
        """Nothing to close: the batches stay."""

    def abandon(self) -> None:
        """Nothing to let go of."""


class DiscardExporter:
    """Throws spans away, as FASTTRACE_EXPORTER=none asks; they are counted as dropped."""

    encoding = "none"
    takes_spool = False

    def prepare(self) -> None:
        """Nothing to open."""

    def export(self, batch: EncodedBatch) -> Outcome:
        return Outcome("discarded")

    def close(self) -> None:
        """Nothing to close."""

    def abandon(self) -> None:
        """Nothing to let go of."""
