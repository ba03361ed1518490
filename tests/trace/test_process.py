"""Forks and endings of real processes: what the children and the next ones know of it, counted at a collector."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fasttrace
from collector import Collector, Silent
from environment import WAIT_UNTIL_STILL, inherited

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., list[Any]]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

PRELUDE = """
import ctypes, importlib, json, logging, os, sys, threading, time
from fasttrace.config import load
from fasttrace.trace.processor import Processor

core = importlib.import_module("fasttrace.core._" + os.environ["CORE"])
processor = Processor(core, load(os.environ, {})[0])
FIELDS = {"kind": "llm", "operation": "chat", "provider": "openai", "model_id": "gpt-4o-mini", "status": "success"}

def record(count, name):
    for _ in range(count):
        processor.recorder.record(core.new_context(None), 1, 1, {**FIELDS, "name": name})

def say(*values):
    sys.stdout.write(json.dumps(values) + "\\n")
    sys.stdout.flush()

def child(act):
    pid = os.fork()
    if pid == 0:
        act()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.fixture
def run(core: Any, collector: Collector, tmp_path: Path) -> Run:
    """Run a script in a process of its own; returns what it said. Anything on stderr is a failure."""

    def run_script(script: str, exit_code: int = 0, **settings: str) -> list[Any]:
        environ = {
            **inherited(),
            "CORE": core.BACKEND,
            "PYTHONPATH": str(Path(fasttrace.__file__).parent.parent),
            "FASTTRACE_AUTO_INSTRUMENT": "false",
            "FASTTRACE_COLLECTOR_URL": collector.url,
            "FASTTRACE_STATE_DIR": str(tmp_path / "state"),
            "FASTTRACE_RING_DIR": str(tmp_path / "ring"),
            "FASTTRACE_MAX_RETRIES": "0",
            **settings,
        }
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + script],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (exit_code, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run_script


def names(collector: Collector) -> dict[str, int]:
    """How often each name arrived; every span id once."""
    spans = [span for batch in collector.accepted() for span in batch.spans]
    assert len({span["span_id"] for span in spans}) == len(spans)
    found: dict[str, int] = {}
    for span in spans:
        found[span["name"]] = found.get(span["name"], 0) + 1
    return found


# ---- forks


def test_a_child_starts_clean_and_the_parent_goes_on(run: Run, collector: Collector) -> None:
    said = run("""
record(5, "parent")
def act():
    say("child", processor.flush(5), processor.stats().recorded, processor.recorder.ring is None)
    record(3, "child")
    say("child", processor.flush(5))
child(act)
record(2, "parent")
say("parent", processor.flush(5))
""")
    assert said == [
        ["child", [0, 0, 0, 0], 0, True],
        ["child", [3, 0, 0, 0]],
        ["parent", [7, 0, 0, 0]],
    ]
    assert names(collector) == {"parent": 7, "child": 3}
    assert len({batch.headers["x-batch-id"].split(":")[0] for batch in collector.batches}) == 2


def test_a_child_has_its_own_connection_and_ring(run: Run, collector: Collector) -> None:
    said = run("""
record(5, "parent"); processor.flush(5); say(processor.stats().backing)
child(lambda: (record(1, "child"), processor.flush(5), say(processor.stats().backing)))
""")
    assert len({backing for (backing,) in said}) == 2
    assert collector.connections == 2


def test_a_child_does_not_hold_the_lock_of_its_parents_ring(run: Run, collector: Collector) -> None:
    ((before, after),) = run("""
import fcntl
record(5, "parent"); processor.flush(5)
path = processor.stats().backing
def is_locked():
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
reads, writes = os.pipe()
if os.fork() == 0:
    before = is_locked()
    os.close(writes)
    give_up = time.monotonic() + 30
    while is_locked() and time.monotonic() < give_up:  # the kernel closes a dying process's files in its own time
        time.sleep(0.001)
    say(before, is_locked())
    os._exit(0)
os.close(writes)
os.read(reads, 1)
os._exit(0)
""")
    assert (before, after) == (True, False)


def test_a_child_lets_go_of_its_parents_connection(run: Run, collector: Collector) -> None:
    ((in_parent, in_child),) = run("""
import gc, stat
def sockets():
    gc.collect()
    found = 0
    for fd in range(3, 256):
        try:
            found += stat.S_ISSOCK(os.fstat(fd).st_mode)
        except OSError:
            pass
    return found
record(5, "parent"); processor.flush(5)
in_parent = sockets()
child(lambda: say(in_parent, sockets()))
record(1, "parent"); processor.flush(5)
""")
    assert (in_parent, in_child) == (1, 0)
    assert names(collector) == {"parent": 6}
    assert collector.connections == 1, "the child said no goodbye"


def test_descriptors_closed_by_the_application_disturb_nothing(run: Run, collector: Collector) -> None:
    ((is_reset, flushed),) = run(
        WAIT_UNTIL_STILL
        + """
record(5, "before"); processor.flush(5)
wait_until_still()  # what the exporter just has open, for a moment, nobody could tell from the application's
os.closerange(3, 256)
theirs = [os.memfd_create("theirs") if hasattr(os, "memfd_create") else os.pipe()[0] for _ in range(32)]
record(3, "after")
flushed = processor.flush(10)
give_up = time.monotonic() + 30
while processor.recorder.wake_fd != -1 and time.monotonic() < give_up:
    time.sleep(0.001)
say(processor.recorder.wake_fd == -1, flushed)
processor.shutdown()
for fd in theirs:
    assert os.fstat(fd).st_size == 0
"""
    )
    assert (is_reset, flushed) == (True, [8, 0, 0, 0])
    assert names(collector) == {"before": 5, "after": 3}


def test_a_fork_from_c_is_noticed(run: Run, collector: Collector) -> None:
    said = run(WAIT_UNTIL_STILL + """
libc = ctypes.PyDLL(None)
record(5, "parent"); processor.flush(5)
wait_until_still()
pid = libc.fork()
if pid == 0:
    record(3, "child")
    say("child", processor.flush(5), processor.stats().recorded)
    os._exit(0)
os.waitpid(pid, 0)
record(1, "parent")
say("parent", processor.flush(5))
""")
    assert said == [["child", [3, 0, 0, 0], 3], ["parent", [6, 0, 0, 0]]]
    assert names(collector) == {"parent": 6, "child": 3}


def test_children_of_children_while_another_thread_records(run: Run, collector: Collector) -> None:
    run("""
is_over = threading.Event()
def background():
    while not is_over.wait(0.001):
        record(1, "parent")
thread = threading.Thread(target=background); thread.start()
def grandchild():
    record(2, "grandchild"); processor.shutdown()
def act():
    record(1, "child"); child(grandchild); processor.shutdown()
for _ in range(10):
    child(act)
is_over.set(); thread.join()
assert processor.flush(10).pending == 0
""")
    found = names(collector)
    assert found.pop("parent") > 0
    assert found == {"child": 10, "grandchild": 20}


def test_a_fork_before_any_span_is_a_fresh_start(run: Run, collector: Collector) -> None:
    run("""
child(lambda: (record(1, "child"), processor.shutdown()))
record(1, "parent")
""")
    assert names(collector) == {"parent": 1, "child": 1}


def test_a_fork_in_the_middle_of_the_exporters_imports_does_not_hang(run: Run, collector: Collector) -> None:
    run("""
record(1, "parent")
for _ in range(30):
    child(lambda: (record(1, "child"), processor.shutdown(10)))
""")
    assert names(collector) == {"parent": 1, "child": 30}


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing_deliver(run: Run, collector: Collector, tmp_path: Path, method: str) -> None:
    script = tmp_path / "pool.py"
    script.write_text(
        PRELUDE
        + f"""
import multiprocessing
if __name__ == "__main__":
    record(1, "parent")
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=record, args=(5, "child")) for _ in range(2)]
    for process in children: process.start()
    for process in children: process.join()
    assert [process.exitcode for process in children] == [0, 0]
"""
    )
    run(f"import subprocess; subprocess.run([sys.executable, {str(script)!r}], check=True)")
    assert names(collector) == {"parent": 1, "child": 10}


# ---- endings


@pytest.mark.parametrize(
    "ending, exit_code", [("", 0), ("sys.exit(3)", 3), ("raise SystemExit(4)", 4)], ids=["end", "exit", "SystemExit"]
)
def test_a_process_that_ends_has_delivered(run: Run, collector: Collector, ending: str, exit_code: int) -> None:
    run('record(2000, "span")\n' + ending, exit_code)
    assert names(collector) == {"span": 2000}


def test_a_dead_collector_does_not_hold_the_exit_and_the_next_process_delivers(
    run: Run, collector: Collector, tmp_path: Path
) -> None:
    collector.rule = lambda lines: Silent()
    run('record(2000, "span")', FASTTRACE_SHUTDOWN_TIMEOUT="0.5", FASTTRACE_EXPORT_TIMEOUT="300")
    assert names(collector) == {}
    assert list((tmp_path / "ring").iterdir()) == []
    with Collector() as living:
        run(
            """
record(1, "next")
deadline_s = time.monotonic() + 20
while processor.stats().replayed < 2000 and time.monotonic() < deadline_s:
    time.sleep(0.01)
""",
            FASTTRACE_COLLECTOR_URL=living.url,
        )
        assert names(living) == {"span": 2000, "next": 1}
    assert list((tmp_path / "state" / "spool").glob("*.ndjson*")) == []


def test_spans_in_atexit_and_in_daemon_threads_at_exit_disturb_nothing(run: Run, collector: Collector) -> None:
    run("""
import atexit
atexit.register(record, 3, "atexit")
def endless():
    while True:
        record(1, "daemon"); time.sleep(0.0005)
threading.Thread(target=endless, daemon=True).start()
record(1, "main")
""")
    found = names(collector)
    assert (found["main"], found["atexit"]) == (1, 3)


def test_a_killed_process_leaves_its_ring_behind(run: Run, collector: Collector, tmp_path: Path) -> None:
    collector.gate.clear()
    run('record(10, "span"); os.kill(os.getpid(), 9)', exit_code=-9)
    (ring,) = (tmp_path / "ring").iterdir()
    assert ring.stat().st_mode & 0o777 == 0o600
    assert ring.stat().st_size >= 8192 * 512


# ---- killed while its collector hangs


def test_a_batch_that_waits_for_its_collector_outlives_the_process_and_a_lap_of_the_ring(
    run: Run, collector: Collector, tmp_path: Path
) -> None:
    """The ring goes round it: without a copy on disk it would be in no file."""
    collector.gate.clear()
    script = """
record(50, "on the wire")
while not processor.stats().batches and processor.stats().pending < 50: time.sleep(0.001)
flushed = threading.Thread(target=processor.flush, args=(60,), daemon=True); flushed.start()
give_up = time.monotonic() + 30
def wait_until(is_so):
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.002)
recorded = 50
for _ in range(40):
    record(100, "later"); recorded += 100
    wait_until(lambda: processor.stats().ring_used < 128)
stats = processor.stats()
say(stats.recorded, sum(stats.dropped.values()))
os.kill(os.getpid(), 9)
"""
    said = run(script, exit_code=-9, FASTTRACE_QUEUE_MAX_SIZE="256", FASTTRACE_BATCH_SIZE="50")
    assert said == [[4050, 0]]
    collector.gate.set()
    with Collector() as living:
        run(
            """
record(1, "next")
give_up = time.monotonic() + 30
spool = os.path.join(os.environ["FASTTRACE_STATE_DIR"], "spool")
def waiting(): return [name for name in os.listdir(spool) if ".ndjson" in name]
rings = os.environ["FASTTRACE_RING_DIR"]
while len(os.listdir(rings)) > 1 or waiting():
    assert time.monotonic() < give_up
    processor.flush(1)
    time.sleep(0.01)
""",
            FASTTRACE_COLLECTOR_URL=living.url,
        )
        spans = {span["span_id"]: span["name"] for batch in living.accepted() for span in batch.spans}
        on_the_wire = {span["span_id"] for batch in collector.batches for span in batch.spans}
        arrived = list(spans.values())
        assert (arrived.count("on the wire"), arrived.count("later"), arrived.count("next")) == (50, 4000, 1)
        assert on_the_wire <= set(spans)
