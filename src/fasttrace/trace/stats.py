"""The ledger: where every span of this process stands.

    recorded = sent + spooled + rejected + dropped + pending

holds at every quiet point (after `flush`, and whenever nothing is on its way). Each side is counted where it happens:
`recorded` by the producers' tickets, `pending` by what the ring and the exporter hold, the rest as batches are settled.
The counts are written by the exporter thread alone and read by any thread.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fasttrace.core._api import RingCounters


class FlushResult(NamedTuple):
    """Where this process's spans stand, from its start to now; the four add up to the number recorded.

    `spooled` wait on disk and are sent later. `dropped` includes those that the collector rejected (kept in the
    spool's rejected/). `pending` were not settled before the timeout.
    """

    sent: int = 0
    spooled: int = 0
    dropped: int = 0
    pending: int = 0


class Stats(NamedTuple):
    """Counters of this process since its start.

    recorded, sent, spooled, rejected, pending: spans; `spooled` are those still handed to the spool, a replayed one is
    sent. dropped: spans by reason (`overwritten`: the ring was lapped before they were read, `busy`, `unstarted`: no
    ring to be had, `spool_full`: evicted from the spool, `too_large`, `discarded`: FASTTRACE_EXPORTER=none).
    replayed, evicted: spans sent from, and dropped from, the spool, those of other processes included.
    content_lost: spans that kept their numbers but lost their texts, captured content included. unpriced: models met
    that have no price. recovered: spans found in the rings of dead processes and kept; aborted: calls that were in the
    air when their process died, or when this one ends, as spans; torn: pushes of the dead that had not returned;
    recovered_lost: spans of the dead that were overwritten in the ring before they were read;
    corrupt_rings: ring files that could not be read, set aside. inflight_full: calls that a crash would not have shown
    in the air, because more of them were than there is room for; they are recorded all the same. passed_streams:
    streamed calls whose chunks are not watched; each has a span of its own.
    ring_used and ring_slots: spans. backing: path of the ring's file, `anonymous`, or `none` before the first span.
    """

    recorded: int = 0
    sent: int = 0
    spooled: int = 0
    rejected: int = 0
    dropped: Mapping[str, int] = MappingProxyType({})
    pending: int = 0
    replayed: int = 0
    evicted: int = 0
    retries: int = 0
    batches: int = 0
    bytes_sent: int = 0
    content_lost: int = 0
    unpriced: int = 0
    recovered: int = 0
    aborted: int = 0
    torn: int = 0
    recovered_lost: int = 0
    corrupt_rings: int = 0
    inflight_full: int = 0
    passed_streams: int = 0
    ring_used: int = 0
    ring_slots: int = 0
    backing: str = "none"
    backend: str = ""
    last_error: str | None = None


class RingLedger(NamedTuple):
    """What a ring's tickets say: all that were taken, and where they went."""

    recorded: int
    delivered: int
    unread: int
    busy: int
    overwritten: int
    content_lost: int

    @classmethod
    def of(cls, counters: RingCounters) -> RingLedger:
        """A push that gave way is counted by its producer at once, and as lost when the reader passes its ticket."""
        busy = min(counters.busy, counters.lost)
        return cls(
            counters.recorded,
            counters.delivered,
            counters.recorded - counters.delivered - counters.lost,
            busy,
            counters.lost - busy,
            counters.content_lost + counters.content_too_large,
        )


def without_zeros(dropped: Mapping[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in dropped.items() if count}


def added(past: Stats, now: Stats) -> Stats:
    """The counters of both; what is not a count is as it is now."""
    reasons = {**past.dropped, **now.dropped}
    sums = {name: getattr(past, name) + getattr(now, name) for name in COUNTS}
    dropped = {reason: past.dropped.get(reason, 0) + now.dropped.get(reason, 0) for reason in reasons}
    return now._replace(**sums, dropped=dropped)


# Not here: `unstarted` drops and `passed_streams`, which the recorder counts over all its rings.
COUNTS = (
    *("recorded", "sent", "spooled", "rejected", "pending", "replayed", "evicted", "retries", "batches"),
    *("bytes_sent", "content_lost", "unpriced", "recovered", "aborted", "torn", "recovered_lost", "corrupt_rings"),
    "inflight_full",
)
