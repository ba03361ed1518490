"""Which process a file in the spool belongs to, by its name, and whether that process still lives. Any thread.

A pid alone does not tell: a container that is started again counts from 1 again, and so a process may find claims of
the dead under its own number. A process is its pid and the moment it started; where the system does not tell the
moment (0), the pid has to do. A claim that was not touched for a quarter of an hour is nobody's, whoever made it.
"""

from __future__ import annotations

import os
import time

from fasttrace.core._backing import is_alive, process_start

CLAIM_MAX_AGE_S = 900.0

_names: dict[int, str] = {}


def this_process() -> str:
    """`<pid>-<start>`, as it stands in the names of files."""
    pid = os.getpid()
    if pid not in _names:
        _names[pid] = f"{pid}-{process_start()}"
    return _names[pid]


def is_abandoned(path: str, pid: int, start: int | None) -> bool:
    """Whether the process that named this file is gone. `start` None: a name of a version that wrote the pid alone."""
    try:
        if time.time() - os.stat(path, follow_symlinks=False).st_mtime > CLAIM_MAX_AGE_S:
            return True
    except OSError:  # gone meanwhile
        return False
    if pid == os.getpid():
        return f"{pid}-{start}" != this_process()
    return not is_alive(pid, start)
