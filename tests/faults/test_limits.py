"""Rows C15 and C16: a clock that jumps, and a process that may have no more threads, files or memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from host import Host

    from collector import Collector

    Rounds = Callable[[int, int], int]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and the loader as Linux has them")

# ---- C15 ----

SHIFTED_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
static long shift_s;
void shift_clock(long seconds) { shift_s = seconds; }
int clock_gettime(clockid_t id, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *);
    *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += shift_s;
    return answer;
}
"""
JUMPS = """
import ctypes
shift = ctypes.CDLL(None).shift_clock
client = chat_client()
call(client)
for jump in (3600, -3600, 0, -7200, 3600):
    before, wall = time.monotonic_ns(), time.time_ns()
    with fasttrace.span("jump"):
        inner = time.monotonic_ns()
        shift(jump)
        call(client)
        inner = time.monotonic_ns() - inner
    outer = time.monotonic_ns() - before
    say(inner / 1e6, outer / 1e6, wall // 10**9)
    assert PROCESSOR.flush(20).pending == 0
"""


@pytest.fixture
def shifted_clock(tmp_path: Path) -> Path:
    """A library that moves the wall clock, and no other, by as much as it is told."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(SHIFTED_CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", str(source), "-o", str(library), "-ldl"], check=True)
    return library


def test_c15_durations_are_true_while_the_clock_jumps(host: Host, collector: Collector, shifted_clock: Path) -> None:
    if "LD_PRELOAD" in os.environ:
        pytest.skip("another library is loaded before all others")
    said = host.run(JUMPS, LD_PRELOAD=str(shifted_clock))
    host.settle(beside=("jump",))
    spans = [span for batch in collector.accepted() for span in batch.spans if span["name"] == "jump"]
    assert len(spans) == len(said)
    for span, (inner_ms, outer_ms, wall_s) in zip(spans, said, strict=True):
        assert inner_ms - 0.01 <= span["duration_ms"] <= outer_ms + 0.01
        assert abs(start_s(span) - wall_s) <= 2, "of the moment it began, by the clock of then"


def start_s(span: dict[str, Any]) -> float:
    return datetime.fromisoformat(span["timestamp"][:19] + "+00:00").timestamp()


# ---- C16 ----


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory that an unprivileged user reaches."""
    folder = Path(tempfile.mkdtemp(prefix="fault-suite-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_c16_without_a_thread_to_be_had_spans_are_delivered_at_the_end(host: Host, open_folder: Path) -> None:
    """The limit does not hold for root: a child of a process that is root becomes nobody first, with all that it needs
    imported, as it may read nothing then."""
    host.ledger.state_dir, host.ledger.ring_dir = open_folder / "state", open_folder / "ring"
    settings = {"FASTTRACE_STATE_DIR": str(host.ledger.state_dir), "FASTTRACE_RING_DIR": str(host.ledger.ring_dir)}
    ((threads,),) = host.run(
        """
import resource
record(1)
PROCESSOR.flush(20)
def act():
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    if os.getuid() == 0:
        for name in ("STATE", "RING"):
            os.makedirs(os.environ[f"FASTTRACE_{name}_DIR"], 0o700, exist_ok=True)
            os.chown(os.environ[f"FASTTRACE_{name}_DIR"], 65534, 65534)
        os.setgid(65534); os.setuid(65534)
    try: threading.Thread(target=int).start()
    except RuntimeError: threads = 0
    else: threads = 1
    record(100)
    fasttrace.flush(1)
    record(100)
    PROCESSOR.shutdown()
    say(threads)
child(act)
""",
        **settings,
    )
    assert threads == 0, "the limit holds"
    assert host.settle()["collector"] == 201


@pytest.mark.parametrize("room", [0, 1, 2, 3, 4, 5])
def test_c16_without_a_descriptor_to_be_had_nothing_is_harmed_or_left_behind(host: Host, room: int) -> None:
    """`room` descriptors are left when the first span is recorded; later there are more."""
    ((dropped, kept, backing),) = host.run(f"""
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
fillers = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
limit = max(map(int, os.listdir("/proc/self/fd"))) + 1
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
held = []
try:
    while True: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError: pass
for fd in (held + fillers)[:{room}]: os.close(fd)
record(10)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
before = len(os.listdir("/proc/self/fd"))
fasttrace.init()
record(10)
result = PROCESSOR.flush(20)
assert result.pending == 0, result
say(stats().dropped.get("unstarted", 0), len(os.listdir(os.environ["FASTTRACE_RING_DIR"])), stats().backing)
""")
    assert dropped in (0, 10)
    assert kept == (backing != "anonymous"), "a ring's file for each ring, and no other"
    assert host.settle(dropped=dropped)["collector"] == 20 - dropped


@pytest.mark.parametrize("room_mib", [0, 4, 8, 64])
def test_c16_without_memory_to_be_had_the_application_goes_on(host: Host, room_mib: int) -> None:
    ((dropped,),) = host.run(f"""
import resource
with open("/proc/self/statm") as statm: used = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + ({room_mib} << 20), resource.RLIM_INFINITY))
record(100)
fasttrace.flush(1)
record(100)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
fasttrace.flush(20)
say(sum(stats().dropped.values()))
""")
    assert dropped in (0, 200)
    host.settle(dropped=dropped)


NOWHERE = """
import _testcapi
from openai._base_client import SyncAPIClient
fasttrace.uninstrument("openai")
reply, asked = object(), []
def answered(self, *args, **kwargs):
    asked.append(1)
    return reply
SyncAPIClient.request = answered
fasttrace.instrument("openai")
client = chat_client()
arguments = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]}
create = client.chat.completions.create
for _ in range(50): create(**arguments)
harmed = []
for number in range(COUNT):
    asked.clear()
    got = None
    _testcapi.set_nomemory(number, number + 1)
    try: got = create(**arguments)
    except MemoryError: pass
    finally: _testcapi.remove_mem_hooks()
    if asked and got is not reply: harmed.append(number)
    assert create(**arguments) is reply
say(harmed)
assert PROCESSOR.flush(20).pending == 0
"""


def test_c16_no_allocation_that_fails_costs_the_caller_its_reply(host: Host, rounds: Rounds) -> None:
    """The n-th allocation of a call fails, for every n. What fails before the SDK was asked is the SDK's own, or ours
    that gave way to it; once it answered, its reply arrives."""
    if not hasattr(pytest.importorskip("_testcapi"), "set_nomemory"):
        pytest.skip("this interpreter cannot have an allocation fail")
    ((harmed,),) = host.run(f"COUNT = {rounds(150, 600)}\n{NOWHERE}")
    assert harmed == []
