"""Row B11: several processes start at once where dead ones left their rings; pids used again; owners still alive."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from host import said
from recovery import needs_recovery, recover

if TYPE_CHECKING:
    from collections.abc import Callable

    from host import Host

    from collector import Collector

    Rounds = Callable[[int, int], int]

pytestmark = [needs_recovery, pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")]

RACES = """
ring_dir = os.environ["FASTTRACE_RING_DIR"]
def orphans(): return set(os.listdir(ring_dir)) if os.path.isdir(ring_dir) else set()
def die():
    record(20, "orphan")
    os.kill(os.getpid(), 9)
def starter(barrier):
    os.read(barrier, 1)
    record(1, "starter")
    wait_until(lambda: not left & orphans())
    PROCESSOR.shutdown(20)
    say(stats().recovered)
    os._exit(0)
for _ in range({races}):
    pid = os.fork()
    if pid == 0: die()
    os.waitpid(pid, 0)
    left = orphans()
    assert len(left) == 1, left
    reads, writes = os.pipe()
    starters = []
    for _ in range({starters}):
        pid = os.fork()
        if pid == 0:
            os.close(writes)
            starter(reads)
        starters.append(pid)
    os.close(reads); os.close(writes)
    for pid in starters: assert os.waitpid(pid, 0)[1] == 0
    assert not orphans()
"""


def test_b11_each_orphan_is_adopted_once_however_many_start(host: Host, rounds: Rounds) -> None:
    """The orphan's exporter never ran: what it recorded is in its ring alone."""
    races = rounds(20, 1000)
    said_by_starters = host.run(RACES.format(races=races, starters=3), FASTTRACE_FLUSH_INTERVAL="0.05")
    recover(host)
    assert host.settle()["collector"] == len(host.ledger.returned) == races * (20 + 3) + 1
    assert sum(recovered for (recovered,) in said_by_starters) == races * 20


def test_b11_a_pid_that_is_used_again_hides_no_orphan(host: Host, collector: Collector) -> None:
    """Its owner's pid is that of a living process: the lock that nobody holds decides."""
    from fasttrace.core._pure import layout

    collector.gate.clear()
    host.run("record(20)\nos.kill(os.getpid(), 9)", exit_code=-9)
    collector.gate.set()
    (ring,) = host.ledger.ring_files()
    header = bytearray(ring.read_bytes()[: layout.HEADER.size])
    members = list(layout.HEADER.unpack(header))
    members[-3] = os.getpid()
    layout.HEADER.pack_into(header, 0, *members)
    with ring.open("r+b") as file:
        file.write(header)
    ring.rename(ring.with_name(f"{os.getpid()}-{ring.name.partition('-')[2]}"))
    recover(host)
    assert host.settle()["collector"] == 21


def test_b11_the_ring_of_an_owner_that_is_alive_is_its_own(host: Host, collector: Collector) -> None:
    collector.gate.clear()
    owner = host.start("record(20)\nsay(1)\nsys.stdin.readline()\nassert PROCESSOR.flush(20).pending == 0")
    assert said(owner) == [1]
    other = host.start("record(1)\nsay(1)\nsys.stdin.readline()\nPROCESSOR.flush(20)\nsay(stats().recovered)")
    assert said(other) == [1]
    collector.gate.set()
    assert host.finish(other) == [[0]]
    host.finish(owner)
    assert host.settle()["collector"] == 21


@pytest.mark.skipif(sys.platform == "win32", reason="no forks there")
def test_b11_a_child_that_outlives_its_parent_does_not_keep_its_ring(host: Host, collector: Collector) -> None:
    """A fork child inherits the parent's descriptors, and with them its lock, until it closes its copies."""
    collector.gate.clear()
    host.run(
        """
record(20)
reads, writes = os.pipe()
if os.fork() == 0:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2): os.dup2(null, fd)
    os.close(reads); os.write(writes, b"x")
    time.sleep(20)
    os._exit(0)
os.read(reads, 1)
os.kill(os.getpid(), 9)
""",
        exit_code=-9,
    )
    collector.gate.set()
    recover(host)
    assert host.settle()["collector"] == 21
