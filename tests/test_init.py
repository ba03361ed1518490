"""`fasttrace.init()`: what it says about instrumentation happens, to all but what was decided by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

import fasttrace
from environment import inherited
from fasttrace import instrumentation
from fasttrace.cli.loopback import KEY, Provider
from fasttrace.instrumentation.registry import Patch
from fasttrace.trace.tracer import PROCESSOR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Resource:
    def create(self) -> str:
        return "original"


@pytest.fixture
def create(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Call the method of an SDK that is the only one there is; the configuration is put back afterwards."""
    sdk: Any = ModuleType("an_sdk")
    sdk.Resource = type("Resource", (Resource,), {})
    monkeypatch.setitem(sys.modules, "an_sdk", sdk)
    patch = Patch("an_sdk", "Resource.create", lambda original: lambda self: f"recorded {original(self)}")
    monkeypatch.setattr(instrumentation, "SDKS", {"an_sdk": lambda: [patch]})
    monkeypatch.setattr(instrumentation, "_instrumentations", {})
    monkeypatch.setattr(instrumentation, "_by_hand", set())
    before = PROCESSOR.config
    yield lambda: sdk.Resource().create()
    PROCESSOR.reconfigure(before)


def test_init_instruments_and_undoes_it_as_it_says(create: Any) -> None:
    for _ in range(2):
        fasttrace.init(auto_instrument=True)
        assert create() == "recorded original"
        fasttrace.init(auto_instrument=True, service_name="again")
        assert create() == "recorded original"
        fasttrace.init(auto_instrument=False)
        assert create() == "original"
        fasttrace.init(auto_instrument=True, enabled=False)
        assert create() == "original"


def test_what_was_instrumented_by_hand_stays(create: Any) -> None:
    fasttrace.init(auto_instrument=True)
    fasttrace.instrument("an_sdk")
    fasttrace.init(auto_instrument=False)
    assert create() == "recorded original"
    fasttrace.uninstrument("an_sdk")
    assert create() == "original"


def test_what_was_uninstrumented_by_hand_stays(create: Any) -> None:
    fasttrace.init(auto_instrument=True)
    fasttrace.uninstrument("an_sdk")
    fasttrace.init(auto_instrument=True)
    assert create() == "original"
    fasttrace.instrument("an_sdk")
    assert create() == "recorded original"


def test_an_unknown_sdk_is_named_and_changes_nothing(create: Any) -> None:
    for change in (fasttrace.instrument, fasttrace.uninstrument):
        with pytest.raises(ValueError, match="'no_sdk'; there is one for: an_sdk"):
            change("no_sdk")
    assert instrumentation._by_hand == set()


def test_a_setting_that_cannot_be_used_changes_nothing(create: Any) -> None:
    fasttrace.init(auto_instrument=False)
    config = PROCESSOR.config
    with pytest.raises(fasttrace.ConfigError, match="batch_size"):
        fasttrace.init(auto_instrument=True, batch_size=-1)
    assert PROCESSOR.config is config
    assert create() == "original"


CALL = """
import sys, fasttrace, openai
fasttrace.init(**eval(sys.argv[1]))
openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
print(fasttrace.stats().recorded)
"""


@pytest.mark.parametrize(
    ("variables", "settings", "recorded"),
    [
        ({"FASTTRACE_ENABLED": "false"}, {"enabled": True}, 1),
        ({"FASTTRACE_AUTO_INSTRUMENT": "false"}, {"auto_instrument": True}, 1),
        ({}, {"auto_instrument": False}, 0),
        ({}, {"enabled": False}, 0),
        ({}, {}, 1),
    ],
    ids=str,
)
def test_init_goes_before_the_environment(
    tmp_path: Path, variables: dict[str, str], settings: dict[str, bool], recorded: int
) -> None:
    pytest.importorskip("openai", reason="the openai SDK is not installed")
    core = {"FASTTRACE_PURE": os.environ["FASTTRACE_PURE"]} if "FASTTRACE_PURE" in os.environ else {}
    ours = {"FASTTRACE_EXPORTER": "none", "FASTTRACE_STATE_DIR": str(tmp_path), **core, **variables}
    with Provider() as provider:
        theirs = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.base_url}
        done = subprocess.run(
            [sys.executable, "-c", CALL, repr(settings)],
            env={**inherited(), **ours, **theirs},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.stdout.strip(), done.stderr) == (str(recorded), "")
