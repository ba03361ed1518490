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
