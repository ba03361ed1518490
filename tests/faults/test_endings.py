"""Rows B1 to B4 and B12: every way in which a process ends, or stands still, under load."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from host import WATCHDOG_S, said
from ledger import ticket_of
from recovery import needs_recovery, recover

from collector import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from host import Host

    from collector import Collector

    Rounds = Callable[[int, int], int]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")

CSRC = Path(__file__).resolve().parent.parent.parent / "csrc"
ENDINGS = {
    "end": ("", 0),
    "exit": ("sys.exit(3)", 3),
    "exception": ("raise ValueError('mine')", 1),
    "SIGINT": ("os.kill(os.getpid(), 2)", -2),
}


# ---- B1 ----


@pytest.mark.parametrize("collector_is", ["alive", "gone", "silent"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_b01_an_orderly_end_loses_nothing(host: Host, collector: Collector, ending: str, collector_is: str) -> None:
    script, exit_code = ENDINGS[ending]
    settings = {"FASTTRACE_SHUTDOWN_TIMEOUT": "0.5"}
    if collector_is == "gone":
        settings["FASTTRACE_COLLECTOR_URL"] = "http://127.0.0.1:9/"
    if collector_is == "silent":
        collector.rule = lambda lines: Silent()
    process = host.start("record(1000)\nsay(1)\nsys.stdin.readline()\n" + script, **settings)
    assert said(process) == [1]
    began_s = time.monotonic()
    host.finish(process, exit_code, errors=script.startswith(("raise", "os")))
    print(f"exit with the collector {collector_is}: {time.monotonic() - began_s:.3f} s")
    found = host.settle()
    assert found["collector"] == (1000 if collector_is == "alive" else 0)
    assert host.ledger.ring_files() == []


# ---- B2 ----

HANDLERS = "{number: signal.getsignal(number) for number in range(1, signal.NSIG) if number not in (32, 33)}"


def test_b02_no_signal_handler_is_ours(host: Host) -> None:
    script = f"""
import signal
mine = lambda *_: sys.exit(5)
signal.signal(signal.SIGTERM, mine)
handlers = {HANDLERS}
record(1000)
call(chat_client())
fasttrace.flush(20)
assert {HANDLERS} == handlers
fasttrace.init()
fasttrace.shutdown()
assert {HANDLERS} == handlers and signal.getsignal(signal.SIGTERM) is mine
"""
    host.run(script)
    assert host.settle()["collector"] == 1001


def test_b02_a_handler_of_the_application_ends_it_as_it_likes(host: Host) -> None:
    host.run(
        """
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
record(1000)
os.kill(os.getpid(), signal.SIGTERM)
""",
        exit_code=5,
    )
    assert host.settle()["collector"] == 1000


def test_b02_a_handler_of_an_event_loop_ends_it_as_it_likes(host: Host) -> None:
    host.run("""
import asyncio, signal
async def main():
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    record(1000)
    os.kill(os.getpid(), signal.SIGTERM)
    await over.wait()
asyncio.run(main())
""")
    assert host.settle()["collector"] == 1000


@needs_recovery
def test_b02_without_a_handler_the_ring_keeps_what_was_not_sent(host: Host, collector: Collector) -> None:
    collector.gate.clear()
    host.run("record(1000)\nos.kill(os.getpid(), 15)", exit_code=-15)
    collector.gate.set()
    recover(host)
    assert host.settle()["collector"] == 1001


# ---- B3 ----

THREADS = 8
LOAD = f"""
import ctypes, signal
client = noting_client()
def endless():
    while True:
        call(client)
        record(3)
threads = [threading.Thread(target=endless, daemon=True) for _ in range({THREADS})]
for thread in threads: thread.start()
wait_until(lambda: stats().recorded > 16)
say(1)
sys.stdin.readline()
"""
DEATHS = {
    "SIGKILL": ("os.kill(os.getpid(), 9)", -9),
    "SIGSEGV": ("signal.raise_signal(signal.SIGSEGV)", -11),
    "abort": ("os.abort()", -6),
    "_exit": ("os._exit(7)", 7),
    "exec": ("os.execv('/bin/true', ['true'])", 0),
    "outside": ("time.sleep(60)", -9),
}


KILLS = ("SIGKILL", "outside")


@needs_recovery
def test_b03_sigkill_under_load_loses_no_call(host: Host, collector: Collector, rounds: Rounds) -> None:
    """None that returned, and none that was in the air: of those there is a span, which says that it was aborted unless
    it had just been recorded."""
    count = rounds(6, 100)
    die_often(host, KILLS, count)
    host.settle(aborted=THREADS * count)
    in_the_air = host.ledger.in_the_air
    statuses = Counter(
        span["status"] for batch in collector.accepted() for span in batch.spans if ticket_of(span) in in_the_air
    )
    print(f"{len(in_the_air)} calls in the air: {dict(statuses)}")
    assert statuses["aborted"] > 0
    assert statuses.total() == len(in_the_air)


@needs_recovery
@pytest.mark.parametrize("name", [name for name in DEATHS if name not in KILLS])
def test_b03_another_death_under_load_loses_no_call(host: Host, rounds: Rounds, name: str) -> None:
    count = rounds(2, 10)
    die_often(host, (name,), count)
    host.settle(aborted=THREADS * count)


def die_often(host: Host, names: tuple[str, ...], count: int) -> None:
    """As many processes, one after another, and then one that delivers what they left."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for number in range(count):
        die(host, names[number % len(names)], chance.uniform(0.0, 0.2))
    recovered, aborted, torn = recover(host)
    print(f"the last process: recovered {recovered}, aborted {aborted}, torn {torn}")


def die(host: Host, name: str, delay_s: float) -> None:
    """One process under load that dies at a moment of its own."""
    script, exit_code = DEATHS[name]
    process = host.start(f"{LOAD}time.sleep({delay_s})\n{script}", FASTTRACE_FLUSH_INTERVAL="0.05")
    assert said(process) == [1]
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    if name == "outside":
        time.sleep(delay_s)
        process.kill()
    host.finish(process, exit_code)


@contextmanager
def memory_limit(limit_bytes: int) -> Iterator[Path]:
    """A control group of so much memory; skips the test where none can be made."""
    root = Path("/sys/fs/cgroup/memory")
    group, limit = root / f"fault-suite-{os.getpid()}", "memory.limit_in_bytes"
    if not (root / limit).exists():
        pytest.skip("no memory controller (control groups, version 1) to have a process killed for its memory")
    try:
        group.mkdir()
        (group / limit).write_text(str(limit_bytes))
    except OSError as error:
        pytest.skip(f"this user may not make a control group: {error}")
    try:
        yield group
    finally:
        give_up_s = time.monotonic() + WATCHDOG_S
        while (group / "cgroup.procs").read_text() and time.monotonic() < give_up_s:
            time.sleep(0.01)
        group.rmdir()


@needs_recovery
def test_b03_a_process_killed_for_its_memory_loses_nothing(host: Host, collector: Collector) -> None:
    collector.gate.clear()
    with memory_limit(192 << 20) as group:
        host.run(
            f"""
open({str(group / "cgroup.procs")!r}, "w").write(str(os.getpid()))
record(1000)
hoard = []
while True: hoard.append(b"x" * (1 << 20))
""",
            exit_code=-9,
        )
    collector.gate.set()
    recover(host)
    assert host.settle()["collector"] == 1001


# ---- B4 ----


@pytest.mark.skipif(not CSRC.exists(), reason="the core's sources are not here")
def test_b04_a_crash_at_every_instruction_of_a_push_leaves_whole_records_only(tmp_path: Path) -> None:
    if not (shutil.which("cc") and shutil.which("make")) or sys.platform != "linux":
        pytest.skip("needs Linux, make and a C compiler")
    copied = tmp_path / "csrc"
    shutil.copytree(CSRC, copied, ignore=shutil.ignore_patterns("build"))
    done = subprocess.run(["make", "-s", "-C", str(copied), "crash"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


# ---- B12 ----


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc whether a process stands still")
def test_b12_a_process_that_stood_still_goes_on(host: Host, collector: Collector, rounds: Rounds) -> None:
    process = host.start("""
over = threading.Event()
def steady():
    while not over.wait(0.001): record(1)
threads = [threading.Thread(target=steady) for _ in range(4)]
for thread in threads: thread.start()
wait_until(lambda: stats().sent)
say(1)
sys.stdin.readline()
over.set()
for thread in threads: thread.join()
say(stats().recorded, stats().dropped)
""")
    assert said(process) == [1]
    for _ in range(rounds(5, 100)):
        before = len(collector.batches)
        pause(process)
        collector.wait_for_requests(before + 1)
    assert process.stdin is not None
    process.stdin.write("\n")
    ((recorded, dropped),) = host.finish(process)
    assert dropped == {}
    assert host.settle()["collector"] == recorded


def pause(process: subprocess.Popen[Any]) -> None:
    """Stop every thread of the process, then have them go on."""
    os.kill(process.pid, signal.SIGSTOP)
    give_up_s = time.monotonic() + WATCHDOG_S
    while state_of(process.pid) != "T":
        assert time.monotonic() < give_up_s
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGCONT)


@needs_recovery
def test_b12_a_ring_whose_owner_stands_still_is_not_adopted(host: Host, collector: Collector) -> None:
    collector.gate.clear()
    process = host.start('record(100)\nsay(1)\nsys.stdin.readline()\nwait_until(lambda: stats().sent)')
    assert said(process) == [1]
    os.kill(process.pid, signal.SIGSTOP)
    collector.gate.set()
    host.run("record(1, 'other')\nPROCESSOR.shutdown(20)\nassert stats().recovered == 0, stats()")
    os.kill(process.pid, signal.SIGCONT)
    host.finish(process)
    assert host.settle()["collector"] == 101
