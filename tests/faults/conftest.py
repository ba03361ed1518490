"""What the fault suite shares: how many rounds, the application under test in a process of its own, and the ledger.

Each test is named for its row of the fault matrix (`test_b03_...`) and ends by the ledger: the tickets that the
application wrote down itself, before and after every call, against where the spans are. FASTTRACE_FAULT_ROUNDS=full
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

from host import Host  # noqa: E402

from collector import Collector  # noqa: E402
from fasttrace.cli.loopback import Provider  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


@pytest.fixture(scope="session")
def rounds() -> Callable[[int, int], int]:
    """`rounds(short, full)`: how often to do something."""
    is_full = os.environ.get("FASTTRACE_FAULT_ROUNDS") == "full"
    return lambda short, full: full if is_full else short


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="session")
def model_provider() -> Iterator[Provider]:
    """OpenAI's, Anthropic's and Google's APIs on the loopback interface."""
    with Provider() as running:
        yield running


@pytest.fixture
def host(core: Any, collector: Collector, model_provider: Provider, tmp_path: Path) -> Iterator[Host]:
    """The application under test, on each of the cores."""
    if sys.platform == "win32":
        pytest.skip("its processes are ended by signals and counted by files as POSIX has them")
    application = Host(core, collector, model_provider, tmp_path)
    yield application
    application.close()
