"""Lets these tests share `calls` and its kind: pytest's importlib mode puts no test folder on the path."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture
def patched_openai(recording: Any) -> Any:
    """The official openai SDK, recorded by this core for the length of a test."""
    from openai_calls import instrumentation_of

    instrumentation = instrumentation_of(recording)
    instrumentation.apply()
    yield recording
    instrumentation.undo()


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    """Which of an SDK's two clients makes the calls."""
    return str(request.param)
