"""How fast the spool is replayed: as fast as the collector answers, and slower at first.

A collector that comes back after an hour has every process of its users waiting with a full spool. Were they all to
send as fast as they can, the first minute would end it again. So a process begins at a random moment, leaves a gap
after each segment about as long as its request took, which halves the load it makes and lets fresh spans pass, and
starts slowly: the first gaps are eight, four and two times as long. Gaps are jittered, so that processes which fell
into step fall out of it.

Whether a gap is kept is for the caller: nobody who waits in `flush` is made to wait for manners. Exporter thread only.
"""

from __future__ import annotations

import random

START_MAX_S = 2.0
GAP_MIN_S, GAP_MAX_S = 0.005, 5.0
SLOW_START = 8.0


class Pace:
    """When the next segment is due. Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The collector was away: the next segment is the first again."""
        self._due_s: float | None = None
        self._slowness = SLOW_START

    def left_s(self, now_s: float) -> float:
        """Seconds until the next segment is due, 0 when it is. The first call after a restart sets the moment."""
        if self._due_s is None:
            self._due_s = now_s + random.uniform(0.0, START_MAX_S)
        return max(self._due_s - now_s, 0.0)

    def sent(self, now_s: float, took_s: float) -> float:
        """A segment was taken after `took_s`; returns the seconds until the next is due, never 0."""
        gap_s = min(max(took_s, GAP_MIN_S) * self._slowness, GAP_MAX_S) * random.uniform(0.5, 1.5)
        self._slowness = max(self._slowness / 2, 1.0)
        self._due_s = now_s + gap_s
        return gap_s
