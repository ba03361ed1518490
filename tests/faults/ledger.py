"""Where every span of an application is, by what the application itself wrote down.

Before each call the application notes a ticket in a file, and notes it again when the call returned. Both are single
appends, so that they outlive the process as they are. A call that returned is somewhere: at the collector, in the
spool, in a ring's file, rejected, or dropped and counted. What was never begun is nowhere, and nothing is in two
batches. A call that was in the air and never returned is somewhere, too.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from fasttrace.exporters.compression import decompress

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from collector import Collector

ENCODINGS = {".zst": "zstd", ".gz": "gzip", ".ndjson": "none"}


def ticket_of(span: dict[str, Any]) -> str:
    """The id of the context that the application made for the call: the span's own, or its parent's."""
    return str(span.get("parent_span_id") or span["span_id"])


class Ledger:
    """The tickets of one application, and the directories in which its spans may be."""

    def __init__(self, core: Any, folder: Path) -> None:
        self._core = core
        self.side_file = folder / "tickets"
        self.state_dir = folder / "state"
        self.ring_dir = folder / "ring"

    # ---- what the application noted ----

    def noted(self, sign: str) -> list[str]:
        """Tickets in the order of their notes; a note cut short by the end of its process is none."""
        if not self.side_file.exists():
            return []
        lines = self.side_file.read_text(encoding="ascii").split("\n")[:-1]
        return [line[1:] for line in lines if line.startswith(sign)]

    @property
    def begun(self) -> list[str]:
        return self.noted("<")

    @property
    def returned(self) -> list[str]:
        return self.noted(">")

    @property
    def in_the_air(self) -> set[str]:
        """Calls whose request was on its way, and which never returned."""
        return set(self.noted("!")) - set(self.returned)

    # ---- where spans are ----

    def spooled(self) -> Iterator[dict[str, Any]]:
        for path in (self.state_dir / "spool").glob("[0-9]*.ndjson*"):
            body = decompress(path.read_bytes(), ENCODINGS[path.suffix])
            yield from map(json.loads, body.splitlines())

    def rejected(self) -> Iterator[dict[str, Any]]:
        for path in (self.state_dir / "spool" / "rejected").glob("*.ndjson"):
            yield from (json.loads(line)["span"] for line in path.read_bytes().splitlines())

    def ring_files(self) -> list[Path]:
        return sorted(self.ring_dir.glob("*.ring"))

    def in_rings(self) -> Iterator[dict[str, Any]]:
        """What is committed in the ring files that are left; counted only where the core reads the rings of others."""
        recovered_ring = getattr(self._core, "RecoveredRing", None)
        if recovered_ring is None:
            return
        for path in self.ring_files():
            ring = recovered_ring(path.read_bytes())
            while (batch := ring.read(1000, 1 << 20)).count:
                lines = batch.encode(self._core.PriceTable(), "", b"").splitlines()
                yield from map(json.loads, lines)

    # ---- the balance ----

    def settle(
        self, *collectors: Collector, dropped: int = 0, aborted: int = 0, beside: Collection[str] = ()
    ) -> Counter[str]:
        """Hold the tickets against the places. `dropped`: how many the application's own counters gave up;
        `aborted`: how many calls that never returned may be at a collector; `beside`: names of spans without a ticket.
        Returns how many tickets are where."""
        delivered = [span for collector in collectors for batch in collector.accepted() for span in batch.spans]
        assert repeated(span["span_id"] for span in delivered) == [], "in two batches"
        places = {"collector": delivered, "spool": self.spooled(), "rejected": self.rejected(), "ring": self.in_rings()}
        found = {
            place: {ticket_of(span) for span in spans if span["name"] not in beside} for place, spans in places.items()
        }
        everywhere = set().union(*found.values())
        begun, returned = set(self.begun), set(self.returned)
        lost, unfinished = returned - everywhere, everywhere - returned
        counts = Counter({place: len(tickets) for place, tickets in found.items()})
        made = f"begun {len(begun)}, returned {len(returned)}"
        print(f"ledger: {made}, {dict(counts)}, dropped {dropped}, lost {len(lost)}")
        assert everywhere <= begun, sorted(everywhere - begun)[:20]
        assert len(lost) == dropped, sorted(lost)[:20]
        assert len(unfinished) <= aborted, sorted(unfinished)[:20]
        assert self.in_the_air <= everywhere, sorted(self.in_the_air - everywhere)[:20]
        return counts


def repeated(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]
