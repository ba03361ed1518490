"""What `import fasttrace` does to a process: next to nothing, and it says nothing; and which core it chooses.

Each case is a process of its own, as it would be in an application.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fasttrace
from environment import inherited
from fasttrace.cli.loopback import KEY, Provider

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = Path(fasttrace.__file__).parent
HEAVY = {
    "anthropic", "asyncio", "concurrent.futures", "dataclasses", "google", "h11", "httpcore", "httpx", "httpx2",
    "inspect", "json", "logging", "openai", "opentelemetry", "orjson", "pydantic", "rich", "tiktoken", "wrapt",
    "zstandard",
}  # fmt: skip
CALL = """
import fasttrace, openai
client = openai.OpenAI()
client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
try:
    client.chat.completions.create(model="gpt-4-turbo", messages=[])
except openai.RateLimitError:
    pass
fasttrace.flush(5)
assert fasttrace.stats().recorded == 2
"""


def run(code: str, env: Mapping[str, str] | None = None, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`python -c code` with no FASTTRACE_* but those given; `path` goes before the installed package."""
    environ = inherited()
    if path is not None:
        environ["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-c", code], env={**environ, **(env or {})}, capture_output=True, text=True, timeout=60
    )


def printed(code: str, **more: Any) -> str:
    done = run(code, **more)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def pure_settings() -> dict[str, str]:
    """The core that this run of the tests is about."""
    return {"FASTTRACE_PURE": os.environ["FASTTRACE_PURE"]} if "FASTTRACE_PURE" in os.environ else {}


def test_import_loads_nothing_heavy() -> None:
    code = "import sys; before = set(sys.modules); import fasttrace; print(*sorted(set(sys.modules) - before))"
    loaded = printed(code, env=pure_settings()).split()
    assert "fasttrace" in loaded
    roots = {name.split(".")[0] for name in loaded} | set(loaded)
    assert roots & HEAVY == set()


def test_import_starts_no_thread_and_opens_no_file(tmp_path: Path) -> None:
    code = (
        "import os, threading; listed = lambda: os.listdir('/proc/self/fd') if os.path.isdir('/proc/self/fd') else [];"
        "before = listed(); import fasttrace; print(threading.active_count(), len(listed()) - len(before))"
    )
    settings = {**pure_settings(), "FASTTRACE_STATE_DIR": str(tmp_path / "state")}
    assert printed(code, env=settings) == "1 0"
    assert not (tmp_path / "state").exists()


def test_import_sets_no_tracer_provider() -> None:
    code = (
        "import fasttrace; from opentelemetry import trace;"
        "print(type(trace.get_tracer_provider()).__name__)"
    )  # fmt: skip
    assert printed(code, env=pure_settings()) == "ProxyTracerProvider"


@pytest.mark.parametrize("collector", ["http://127.0.0.1:9/api/ingest", None], ids=["refused", "none"])
def test_use_prints_nothing(tmp_path: Path, collector: str | None) -> None:
    with Provider(limited={"gpt-4-turbo"}) as provider:
        settings = {
            **pure_settings(),
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": provider.base_url,
            "FASTTRACE_STATE_DIR": str(tmp_path),
            **({"FASTTRACE_COLLECTOR_URL": collector, "FASTTRACE_MAX_RETRIES": "0"} if collector else {}),
        }
        assert printed(CALL, env=settings) == ""
        assert len(provider.requests) >= 2


# ---- which core

BACKEND = "import fasttrace; print(fasttrace.backend())"
BACKEND_LOGGED = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s")
import fasttrace
print(fasttrace.backend())
"""


@pytest.fixture
def without_native(tmp_path: Path) -> Path:
    """A copy of the package that has no extension module."""
    shutil.copytree(
        PACKAGE, tmp_path / "fasttrace", ignore=shutil.ignore_patterns("_native*.so", "_native*.pyd", "*.pyc")
    )
    return tmp_path


@pytest.fixture
def with_broken_native(without_native: Path) -> Path:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    (without_native / "fasttrace" / "core" / f"_native{suffix}").write_bytes(b"not an extension module")
    return without_native


def test_pure_is_chosen_by_1() -> None:
    assert printed(BACKEND, env={"FASTTRACE_PURE": "1"}) == "pure"


def test_unset_and_0_choose_native_where_it_is_built() -> None:
    if os.environ.get("FASTTRACE_PURE") == "1":
        pytest.skip("this run is about the pure core; the other run has this test")
    assert printed(BACKEND, env={"FASTTRACE_PURE": "0"}) == "native"
    assert printed(BACKEND) == "native"


@pytest.mark.parametrize("case", ["without_native", "with_broken_native"])
def test_unset_falls_back_to_pure_with_one_log_line(case: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(case)
    assert printed(BACKEND, path=path) == "pure"
    assert printed(BACKEND_LOGGED, path=path).splitlines() == ["fasttrace WARNING", "pure"]


@pytest.mark.parametrize("case", ["without_native", "with_broken_native"])
def test_0_requires_native(case: str, request: pytest.FixtureRequest) -> None:
    done = run(BACKEND, env={"FASTTRACE_PURE": "0"}, path=request.getfixturevalue(case))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError")


@pytest.mark.parametrize("case", ["without_native", "with_broken_native"])
def test_1_does_not_look_for_native(case: str, request: pytest.FixtureRequest) -> None:
    assert printed(BACKEND_LOGGED, env={"FASTTRACE_PURE": "1"}, path=request.getfixturevalue(case)) == "pure"
