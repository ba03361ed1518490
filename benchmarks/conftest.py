"""Which cores are measured, and the gate: every figure is held against budgets.toml.

Each subject is measured for both cores in one run, side by side. A figure over its budget is measured again, three
times at most, before the run fails: noise only ever adds. The figures are printed after pytest-benchmark's own table.

Times are stated for a machine on which an empty call takes UNIT_NS; shared ones change their speed by half within a
minute. What a call costs is also measured in empty calls of the same round, and where the machine is slower than
stated, stated at that speed. For what is timed from outside, a machine that is slower at that moment gets that much
more; a faster one gets no less. Ratios get nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # timing.py and rig.py, whatever pytest's import mode

from rig import CORES, Rig  # noqa: E402
from timing import UNIT_NS, empty_call_ns  # noqa: E402

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest itself brings the package
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUDGETS = tomllib.loads((HERE / "budgets.toml").read_text(encoding="utf-8"))
ATTEMPTS = 3
SLOWNESS_MAX = 2.0
TIMES = (" ns", " ms")
FIGURES: dict[str, dict[str, float]] = {}
PURE_ONLY = os.environ.get("FASTTRACE_PURE") == "1"


def pytest_configure() -> None:
    """A core that is missing must not look like a core that is fast."""
    if not PURE_ONLY:
        importlib.import_module("fasttrace.core._native")


@pytest.fixture(scope="session", params=CORES)
def core(request: pytest.FixtureRequest) -> str:
    """The name of a core; FASTTRACE_PURE=1 leaves the native one out."""
    if PURE_ONLY and request.param == "native":
        pytest.skip("FASTTRACE_PURE=1: the native core is not measured")
    return str(request.param)


@pytest.fixture(scope="session")
def rig(core: str) -> Rig:
    return Rig(core)


SLOWNESS = [1.0]


def bound_of(figure: str, core: str) -> dict[str, float]:
    """The figure's bound for a core on this machine, now; empty for one that is only reported."""
    bound: dict[str, float] = BUDGETS.get(figure, {}).get(core, {})
    if figure.endswith(TIMES) and "at_most" in bound:
        return bound | {"at_most": bound["at_most"] * SLOWNESS[0]}
    return bound


def slowness() -> float:
    """How much slower than the stated machine this one is now, 1 at least: by the empty call, least of many rounds."""
    return min(max(1.0, min(empty_call_ns(500) for _ in range(40)) / UNIT_NS), SLOWNESS_MAX)


def is_within(value: float, bound: dict[str, float]) -> bool:
    return bound.get("at_least", value) <= value <= bound.get("at_most", value)


def better(value: float, before: float, bound: dict[str, float]) -> float:
    return max(value, before) if "at_least" in bound else min(value, before)


def verdict(figure: str, core: str) -> str | None:
    """What to say of a figure that is out of bounds."""
    value, bound = FIGURES[figure][core], bound_of(figure, core)
    if is_within(value, bound):
        return None
    limit = f"at most {bound['at_most']:g}" if "at_most" in bound else f"at least {bound['at_least']:g}"
    return f"{figure} [{core}] is {value:.3f}, its budget is {limit}"


class Gate:
    """Holds what a test measures against its budgets, and fails it with figure, budget and how to repeat it."""

    def __init__(self, core: str, repeat: str) -> None:
        self.core = core
        self.repeat = repeat

    def __call__(self, measure: Callable[[], dict[str, float]], first: dict[str, float] | None = None) -> None:
        """`measure` gives values by figure; it is called again, three times in all, while one is out of bounds.

        `first`: what it gave already, where a measurement takes seconds.
        """
        for attempt in range(ATTEMPTS):
            measured = first if first and not attempt else measure()
            SLOWNESS[0] = slowness()
            broken = self._attempt(measured)
            if not broken:
                return
        pytest.fail(f"{'; '.join(broken)} (benchmarks/budgets.toml). To repeat: {self.repeat}", pytrace=False)

    def _attempt(self, measured: dict[str, float]) -> list[str]:
        for figure, value in measured.items():
            known = FIGURES.setdefault(figure, {})
            known[self.core] = better(value, known.get(self.core, value), bound_of(figure, self.core))
        return [line for line in (verdict(figure, self.core) for figure in measured) if line]


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Gate:
    core = request.getfixturevalue("core") if "core" in request.fixturenames else "native"
    return Gate(core, f"python -m pytest '{request.node.nodeid}' --benchmark-only")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("figures and budgets")
        terminalreporter.write_line(f"times may be {SLOWNESS[0]:.2f} of the stated: the machine was that slow")
        for line in summary():
            terminalreporter.write_line(line)


def summary() -> Iterator[str]:
    for figure in sorted(FIGURES):
        for core, value in FIGURES[figure].items():
            bound = bound_of(figure, core)
            limits = ", ".join(f"{name.replace('_', ' ')} {limit:g}" for name, limit in bound.items())
            mark = "OVER" if verdict(figure, core) else "ok" if bound else ""
            yield f"{figure:<70} {core:<7}{value:>10.3f}  {mark:<5}{limits}"
