"""Rows B9 and B10: what records while an interpreter is being taken down. Also run under AddressSanitizer (.ci/run)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from host import Host

    Rounds = Callable[[int, int], int]

LATE = {
    "finalizers": """
class Late:
    def __del__(self): PROCESSOR.recorder.record(core.new_context(None), 1, 1, {"kind": "llm", "name": "late"})
class Spanned:
    def __del__(self, span=fasttrace.span):
        with span("late"): pass
kept = [Late(), Spanned()]
cycle = [Late(), Spanned()]; cycle.append(cycle)
sys.modules["holder"] = Late()
""",
    "atexit": """
import atexit
atexit.register(record, 3, "atexit")
def last():
    with fasttrace.span("late"): pass
atexit.register(last)
""",
    "daemon threads": """
def endless():
    while True:
        with fasttrace.span("daemon"): pass
        PROCESSOR.recorder.record(core.new_context(None), 1, 1, {"kind": "llm", "name": "daemon"})
for _ in range(4): threading.Thread(target=endless, daemon=True).start()
""",
    "logging closed": """
import atexit, logging
atexit.register(logging.shutdown)
logging.shutdown()
""",
    "modules gone": """
class Late:
    def __del__(self, modules=sys.modules, record=PROCESSOR.recorder.record, new=core.new_context):
        for name in [name for name in modules if name.startswith("fasttrace")]: modules[name] = None
        record(new(None), 1, 1, {"kind": "llm", "name": "late"})
kept = Late()
""",
    "module globals gone": """
import atexit
def empty():
    for name, module in list(sys.modules.items()):
        if name.startswith("fasttrace."): vars(module).clear()
class Late:
    def __del__(self, empty=empty): empty()
kept = Late()
""",
    "shut down twice": """
import atexit
atexit.register(fasttrace.shutdown)
fasttrace.shutdown(); fasttrace.shutdown(0)
with fasttrace.span("late"): pass
fasttrace.flush(); fasttrace.stats()
""",
    "a stream left open": """
client = chat_client()
stream = ticketed(lambda: client.chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "x"}], stream=True))
next(iter(stream))
""",
}


@pytest.mark.parametrize("late", LATE)
def test_b09_what_records_late_disturbs_no_exit(host: Host, rounds: Rounds, late: str) -> None:
    """Standard error is where an exception that nobody can be told of would show."""
    for _ in range(rounds(1, 60)):
        host.run(f"record(20)\nPROCESSOR.flush(20)\n{LATE[late]}\nsys.exit(7)", exit_code=7)
    returned = host.ledger.returned
    arrived = {span["span_id"] for batch in host.collector.accepted() for span in batch.spans}
    arrived |= {span.get("parent_span_id") for batch in host.collector.accepted() for span in batch.spans}
    assert len(returned) >= 20
    assert set(returned) <= arrived


def test_b10_memory_that_a_thread_may_still_touch_is_never_given_back(host: Host) -> None:
    """Threads go on pushing into a ring that is shut down, whose processor is dropped, until the process is gone."""
    host.run("""
import gc
def endless(recorder=PROCESSOR.recorder, new=core.new_context):
    while True:
        recorder.record(new(None), 1, 1, {"kind": "llm", "name": "daemon"})
record(20)
PROCESSOR.flush(20)
for _ in range(4): threading.Thread(target=endless, daemon=True).start()
for _ in range(20):
    fasttrace.shutdown(5)
    gc.collect()
    fasttrace.init()
""")
    arrived = {span["span_id"] for batch in host.collector.accepted() for span in batch.spans}
    assert set(host.ledger.returned) <= arrived
