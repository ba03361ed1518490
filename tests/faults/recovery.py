"""Marks what needs a process to find the spans that a dead one left in its ring, and how a test has that done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fasttrace.trace.stats import Stats

if TYPE_CHECKING:
    from host import Host

HAS_RECOVERY = "recovered" in Stats._fields
needs_recovery = pytest.mark.skipif(not HAS_RECOVERY, reason="no process adopts the rings of dead ones yet")

NEXT = """
ring_dir, spool = os.environ["FASTTRACE_RING_DIR"], os.path.join(os.environ["FASTTRACE_STATE_DIR"], "spool")
def segments(): return [name for name in os.listdir(spool) if ".ndjson" in name] if os.path.isdir(spool) else []
record(1, "next")
own = os.path.basename(stats().backing)
wait_until(lambda: os.listdir(ring_dir) == [own] and not segments())
PROCESSOR.shutdown(20)
end = stats()
say(end.recovered, end.aborted, end.torn)
"""


def recover(host: Host, **settings: str) -> list[int]:
    """Have the next process deliver what dead ones left; its counts of recovered, aborted and torn spans."""
    (counts,) = host.run(NEXT, **settings)
    assert host.ledger.ring_files() == []
    return list(counts)
