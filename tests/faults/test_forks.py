"""Rows B5, B6 and B8: forks of every kind, and what Python starts by them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from recovery import needs_recovery, recover

from environment import WAIT_UNTIL_STILL

if TYPE_CHECKING:
    from collections.abc import Callable

    from host import Host

    Rounds = Callable[[int, int], int]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

LEAVE = "lambda: (record(2, 'child'), PROCESSOR.shutdown(20))"


# ---- B5 ----


def test_b05_a_fork_before_the_first_span_and_one_after(host: Host) -> None:
    host.run(f"""
child({LEAVE})
record(3, "parent")
child({LEAVE})
record(3, "parent")
""")
    assert host.settle()["collector"] == 10


def test_b05_forks_while_other_threads_record(host: Host, rounds: Rounds) -> None:
    count = rounds(100, 1000)
    host.run(f"""
over = threading.Event()
def background():
    while not over.wait(0.0005): record(1, "parent")
threads = [threading.Thread(target=background, daemon=True) for _ in range(2)]
for thread in threads: thread.start()
for _ in range({count}): child({LEAVE})
over.set()
for thread in threads: thread.join()
assert PROCESSOR.flush(20).pending == 0
assert stats().dropped == {{}}
""")
    host.settle()
    assert len(host.ledger.returned) > 2 * count


@needs_recovery
def test_b05_children_that_end_without_a_word_lose_nothing(host: Host, rounds: Rounds) -> None:
    count = rounds(30, 1000)
    host.run(f"for _ in range({count}): child(lambda: record(2))")
    recovered, _, _ = recover(host)
    assert host.settle()["collector"] == 2 * count + 1
    assert recovered <= 2 * count


# ---- B6 ----

FROM_C = {
    "fork": "libc.fork()",
    "clone": "libc.syscall(56, 17, 0, 0, 0, 0)",
}


@pytest.mark.parametrize("way", FROM_C)
def test_b06_a_fork_that_python_does_not_see(host: Host, way: str) -> None:
    if way == "clone" and not (sys.platform == "linux" and os.uname().machine == "x86_64"):
        pytest.skip("the number of clone is known for Linux on x86-64")
    host.run(f"""
import ctypes
{WAIT_UNTIL_STILL}
libc = ctypes.PyDLL(None)
record(3, "parent"); PROCESSOR.flush(20)
for _ in range(10):
    wait_until_still()
    pid = {FROM_C[way]}
    if pid == 0:
        record(2, "child")
        PROCESSOR.shutdown(20)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
record(1, "parent")
""")
    assert host.settle()["collector"] == 24


def test_b06_programs_started_beside_leave_the_spans_alone(host: Host) -> None:
    host.run("""
import subprocess
over = threading.Event()
def background():
    while not over.wait(0.0005): record()
thread = threading.Thread(target=background, daemon=True); thread.start()
for _ in range(10):
    os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)
    subprocess.run(["/bin/true"], check=True, close_fds=False)
    subprocess.run(["/bin/true"], check=True, preexec_fn=lambda: None)
over.set(); thread.join()
""")
    assert host.settle()["collector"] > 0


# ---- B8 ----


def module(host: Host, text: str) -> str:
    """A script in a file, for children that import it."""
    path = host.folder / "work.py"
    path.write_text("from application import *\n" + text)
    return str(path)


def run_module(host: Host, text: str) -> None:
    host.finish(host.start("", sys.executable, module(host, text)))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_b08_children_of_multiprocessing_deliver(host: Host, method: str) -> None:
    run_module(
        host,
        f"""
import multiprocessing
if __name__ == "__main__":
    record(3)
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=record, args=(5,)) for _ in range(3)]
    for process in children: process.start()
    for process in children: process.join()
    assert [process.exitcode for process in children] == [0, 0, 0]
""",
    )
    assert host.settle()["collector"] == 18


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_b08_pools_deliver_with_one_task_a_child_too(host: Host, method: str) -> None:
    run_module(
        host,
        f"""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
if __name__ == "__main__":
    record(1)
    context = multiprocessing.get_context({method!r})
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(record, [2] * 5)) == [None] * 5
    with context.Pool(2, maxtasksperchild=1) as pool:
        assert pool.map(record, [2] * 5, chunksize=1) == [None] * 5
        pool.close()
        pool.join()
""",
    )
    assert host.settle()["collector"] == 21


@needs_recovery
def test_b08_workers_that_are_terminated_lose_nothing(host: Host) -> None:
    run_module(
        host,
        """
import multiprocessing
def work():
    record(5)
    os._exit(0)
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        process = context.Process(target=work)
        process.start()
        process.join()
""",
    )
    recover(host)
    assert host.settle()["collector"] == 26
