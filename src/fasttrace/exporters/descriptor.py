"""Whether a descriptor number still stands for the file that it was opened for. Any thread.

An application that turns itself into a daemon closes every number it finds, ours among them, and gets the same numbers
again for files of its own. Reading, writing or closing such a number would do it to the application's file.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Identity(NamedTuple):
    """The open file behind a number, as far as the system tells them apart."""

    device: int
    inode: int
    mode: int


def identity(fd: int) -> Identity | None:
    """What a descriptor stands for now; None for one that is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return Identity(found.st_dev, found.st_ino, found.st_mode)
