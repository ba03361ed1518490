"""Rows C1 to C3: a ring that overflows, a producer that stops in the middle of a push, threads that come and go."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from host import Host

    Rounds = Callable[[int, int], int]

SMALL = {"FASTTRACE_QUEUE_MAX_SIZE": "256"}


def test_c01_an_overflow_keeps_the_order_and_counts_exactly(host: Host) -> None:
    """The exporter is kept from reading while one thread pushes five laps: the oldest are gone, the newest in order."""
    ((dropped, recorded),) = host.run(
        """
record(1); PROCESSOR.flush(20)
held = PROCESSOR.worker.hold_still()
record(5 * 256)
held.release()
assert PROCESSOR.flush(20).pending == 0
say(stats().dropped, stats().recorded)
""",
        **SMALL,
    )
    assert (dropped, recorded) == ({"overwritten": 1024}, 1281)
    host.settle(dropped=1024)
    arrived = [span["span_id"] for batch in host.collector.accepted() for span in batch.spans]
    assert arrived == [host.ledger.begun[0], *host.ledger.begun[-256:]]


def test_c01_many_producers_over_a_small_ring(host: Host, rounds: Rounds) -> None:
    ((dropped, recorded),) = host.run(
        f"""
def burst(): record({rounds(2000, 100_000)})
threads = [threading.Thread(target=burst) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert PROCESSOR.flush(30).pending == 0
say(sum(stats().dropped.values()), stats().recorded)
""",
        **SMALL,
    )
    assert recorded == len(host.ledger.returned)
    host.settle(dropped=dropped)


STALL = """
import mmap
from fasttrace.core._pure import layout
record(3)
PROCESSOR.flush(20)
ring, path = PROCESSOR.recorder.ring, stats().backing
with open(path, "r+b") as file: words = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
if core.BACKEND == "pure":  # its tickets come from a counter of its own
    names = ring.push.__code__.co_freevars
    ticket = ring.push.__closure__[names.index("take_ticket")].cell_contents()
else:
    ticket = words[layout.HEAD]
words[layout.HEAD] = ticket + 1
slot = layout.offsets_of(ring.shape).slots // 8 + (ticket % ring.shape.slots) * layout.SLOT_WORDS
words[slot] = 2 * ticket + 1
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no file behind a ring")
def test_c02_a_producer_that_stops_inside_a_push_stops_nobody(host: Host) -> None:
    """Its ticket is taken and its slot claimed, as a thread leaves them that the system stops there. The consumer steps
    over it and looks after it later; whoever comes to the slot a lap later gives way. Nothing else is lost."""
    ((dropped, pending, recorded),) = host.run(
        STALL
        + """
for _ in range(8):
    record(48)
    assert PROCESSOR.flush(20).pending <= 1, stats()
say(stats().dropped, stats().pending, stats().recorded)
""",
        **SMALL,
    )
    assert (dropped, pending, recorded) == ({"busy": 1}, 1, 3 + 1 + 8 * 48)
    host.settle(dropped=1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self")
def test_c03_threads_by_the_thousand_leave_nothing_behind(host: Host, rounds: Rounds) -> None:
    ((grown_kib, grown_fds),) = host.run(f"""
def resident_kib():
    with open("/proc/self/statm") as statm: return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
def churn(count):
    for _ in range(count // 10):
        threads = [threading.Thread(target=record) for _ in range(10)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    PROCESSOR.flush(20)
churn(2000)
before = resident_kib(), len(os.listdir("/proc/self/fd"))
churn({rounds(2000, 10_000)})
say(resident_kib() - before[0], len(os.listdir("/proc/self/fd")) - before[1])
""")
    assert grown_kib < 1024
    assert grown_fds == 0
    host.settle()
