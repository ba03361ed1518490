"""How things are timed on a machine that is shared and changes its speed.

CPU time of the thread that calls, not wall time; everything that is compared is measured in turn, in many short rounds;
noise only ever adds, so the least round is the figure, and the median of per-round quotients is a ratio.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

from sdks import REQUEST

if TYPE_CHECKING:
    from collections.abc import Callable

    Rounds = dict[str, list[float]]

ROUNDS, CALLS = 40, 500
UNIT_NS = 200.0  # an empty call on the machine that times are stated for


def empty(**kw: object) -> None:
    """The unit: a call with the arguments of a request that does nothing."""


def empty_call_ns(calls: int) -> float:
    """Nanoseconds of thread CPU that one empty call takes."""
    began = time.thread_time_ns()
    for _ in range(calls):
        empty(**REQUEST)
    return (time.thread_time_ns() - began) / calls


class Timing(NamedTuple):
    """Nanoseconds a call by round, for each thing that was measured in turn."""

    rounds: Rounds

    def least(self, name: str) -> float:
        return min(self.rounds[name])

    def added_us(self, name: str, to: str, unit: str) -> float:
        """What `name` adds `to` another in microseconds: as timed, or at the speed at which `unit` takes UNIT_NS where
        the machine is slower than that just now."""
        return min(self.least(name) - self.least(to), self.in_units(name, to, unit) * UNIT_NS) / 1000

    def in_units(self, name: str, to: str, unit: str) -> float:
        """What `name` adds `to` another, as multiples of `unit`: the median of the rounds."""
        each = zip(self.rounds[name], self.rounds[to], self.rounds[unit], strict=True)
        return statistics.median((with_it - without) / one for with_it, without, one in each)


def in_turn(
    loops: dict[str, Callable[[int], float]], between: Callable[[], object], rounds: int = ROUNDS, calls: int = CALLS
) -> Timing:
    """Run each loop (calls -> nanoseconds a call) once per round, `between` before each; the collector is off."""
    timed: Rounds = {name: [] for name in loops}
    gc.collect()
    gc.disable()
    try:
        for round_number in range(rounds + 1):
            for name, loop in loops.items():
                between()
                taken = loop(calls)
                if round_number:  # the first warms caches and allocators
                    timed[name].append(taken)
    finally:
        gc.enable()
    return Timing(timed)
