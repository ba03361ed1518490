"""What the fault suite shares: how many rounds, and a collector that misbehaves on command.

Each test is named for its row of the fault matrix (`test_a03_...`) and ends by the ledger. FASTTRACE_FAULT_ROUNDS=full
runs every row as often as it is promised; without it a run takes minutes and finds what is simply broken.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from collector import Collector  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def rounds() -> Callable[[int, int], int]:
    """`rounds(short, full)`: how often to do something."""
    is_full = os.environ.get("FASTTRACE_FAULT_ROUNDS") == "full"
    return lambda short, full: full if is_full else short


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running
