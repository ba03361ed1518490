"""What `import fasttrace` adds to a bare interpreter: time, and which packages come with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate

PROCESSES = 12
HEAVY = {
    "anthropic",
    "google",
    "httpx",
    "openai",
    "opentelemetry",
    "orjson",
    "pydantic",
    "tiktoken",
    "wrapt",
    "zstandard",
}
SCRIPT = """
import sys, time
before, began = set(sys.modules), time.perf_counter_ns()
import fasttrace
took_ns = time.perf_counter_ns() - began
loaded = sorted(set(sys.modules) - before)
import json
print(json.dumps({"ms": took_ns / 1e6, "backend": fasttrace.backend(), "loaded": loaded}))
"""


def imported(core: str, bytecode: str) -> dict[str, Any]:
    """One interpreter that imports fasttrace and nothing else, compiled as an installed package is."""
    left_out = ("FASTTRACE_", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    environment |= {"FASTTRACE_PURE": "1" if core == "pure" else "0", "PYTHONPYCACHEPREFIX": bytecode}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    answer: dict[str, Any] = json.loads(run.stdout)
    assert answer["backend"] == core
    return answer


def test_import(benchmark: BenchmarkFixture, gate: Gate, core: str, tmp_path: Path) -> None:
    loaded = imported(core, str(tmp_path))["loaded"]  # compiles
    assert not HEAVY & {name.partition(".")[0] for name in loaded}

    def measure() -> dict[str, float]:
        return {
            "import: over a bare interpreter, ms": min(imported(core, str(tmp_path))["ms"] for _ in range(PROCESSES)),
            "import: modules loaded": len(loaded),
        }

    benchmark.pedantic(imported, args=(core, str(tmp_path)), rounds=3)
    gate(measure)
