"""The environment of the processes that tests start: the machine's, without anybody's settings of fasttrace.

Rings lie in a directory of this test run's own. A process looks for the rings of dead ones where its own ring is, and
delivers what they held: tests must not find those of the user who runs them, and that user not those of tests.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

RING_DIR = "FASTTRACE_RING_DIR"


def _own_ring_directory() -> None:
    """One for this process and those that it starts; pytest's workers have one each, below that of who started them."""
    if RING_DIR in os.environ:
        os.environ[RING_DIR] = os.path.join(os.environ[RING_DIR], os.environ.get("PYTEST_XDIST_WORKER", ""))
        return
    shared_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    os.environ[RING_DIR] = tempfile.mkdtemp(prefix="fasttrace-tests-", dir=shared_memory)
    atexit.register(shutil.rmtree, os.environ[RING_DIR], ignore_errors=True)


_own_ring_directory()


def inherited(*kept: str) -> dict[str, str]:
    """This process's environment, of the settings of fasttrace only the ring directory and those named."""
    names = {RING_DIR, *kept}
    return {name: value for name, value in os.environ.items() if name in names or not name.startswith("FASTTRACE_")}


# For scripts that fork from C. None of CPython's hooks runs then: a thread that is just giving the interpreter back is
# still inside its lock, and leaves it locked in the child for good. So they wait until no other thread moves.
WAIT_UNTIL_STILL = """
def switches():
    found = {}
    tasks = "/proc/self/task"
    for tid in os.listdir(tasks) if os.path.isdir(tasks) else []:
        try:
            with open(f"{tasks}/{tid}/status") as status:
                found[tid] = [line for line in status if line.startswith(("State", "voluntary", "nonvoluntary"))]
        except OSError:
            found[tid] = ["gone meanwhile"]
    found.pop(str(threading.get_native_id()), None)
    return found

def wait_until_still():
    give_up = time.monotonic() + 30
    seen = None
    while (now := switches()) != seen or any("sleeping" not in lines[0] for lines in now.values()):
        assert time.monotonic() < give_up
        seen = now
        time.sleep(0.02)
"""
