"""A FastAPI gateway on one core: requests a second with fasttrace, against the same gateway without.

Eight connections saturate the gateway, so that its requests a second are one over the processor time of one. That is
what is held: a neighbour on a shared machine takes from the clock and not from the processor time.

Recording is turned on and off from one burst of eight requests to the next, so that a machine that changes its speed
does so for both: each pair of bursts gives one quotient. What the gateway's own process takes to deliver the spans,
about once for a second of requests, is added.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from process import HERE, collector
from traffic import Load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate

CONNECTIONS, PAIRS, PAIRS_A_DELIVERY = 8, 100, 25
KINDS = {"plain": "/chat", "streamed": "/stream"}


def cores() -> tuple[set[int], set[int]]:
    """One for the gateway, one for the others; empty where there are no two, or nothing can be pinned."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return ({usable[0]}, {usable[1]}) if len(usable) > 1 else (set(), set())


@contextmanager
def pinned(to: set[int]) -> Iterator[None]:
    """This thread, and the processes it starts."""
    if not to:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def serving(script: str, core: set[int], **environment: str) -> Iterator[int]:
    """The port of a process of one of the scripts here."""
    with pinned(core):
        process = subprocess.Popen(
            [sys.executable, HERE / script],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    assert process.stdin and process.stdout
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


@contextmanager
def gateway(core: str) -> Iterator[Load]:
    """A load on a gateway that is up, its core and the others' chosen."""
    of_gateway, of_others = cores()
    with ExitStack() as stack:
        state = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(pinned(of_others))
        settings = {
            "FASTTRACE_PURE": "1" if core == "pure" else "0",
            "FASTTRACE_COLLECTOR_URL": stack.enter_context(collector()),
            "FASTTRACE_STATE_DIR": state,
            "FASTTRACE_FLUSH_INTERVAL": "60",
            "PROVIDER_URL": f"http://127.0.0.1:{stack.enter_context(serving('traffic.py', of_others))}/v1",
        }
        load = Load(stack.enter_context(serving("gateway.py", of_gateway, **settings)), CONNECTIONS)
        stack.callback(load.close)
        yield load


def told(load: Load, path: str) -> dict[str, float]:
    """Ask the gateway for something; what it has used and recorded until then."""
    used: dict[str, float] = json.loads(load.ask(path))
    return used


class Burst(NamedTuple):
    """What one answer on each connection took: of the gateway's processor, and by the clock."""

    cpu_s: float
    clock_s: float


def burst(load: Load, path: str, state: str) -> Burst:
    before = told(load, f"/recording/{state}")["cpu_s"]
    began = time.perf_counter()
    load.burst(path)
    clock_s = time.perf_counter() - began
    return Burst(told(load, f"/recording/{state}")["cpu_s"] - before, clock_s)


def delivery_s(load: Load) -> float:
    """What it takes the gateway's processor to deliver what was recorded since the last time."""
    before = told(load, "/recording/off")["cpu_s"]
    return told(load, "/delivery")["cpu_s"] - before


def middle(quotients: list[float]) -> float:
    """The geometric mean of the middle half: of few values it is steadier than their median."""
    ordered = sorted(quotients)
    return statistics.geometric_mean(ordered[len(ordered) // 4 : -len(ordered) // 4])


def compared(load: Load, path: str) -> tuple[float, float]:
    """Requests a second against those without: by the gateway's processor time, and by the clock."""
    pairs, delivered_s = [], 0.0
    for number in range(PAIRS):
        order = ("on", "off") if number % 2 else ("off", "on")
        bursts = {state: burst(load, path, state) for state in order}
        pairs.append((bursts["on"], bursts["off"]))
        if (number + 1) % PAIRS_A_DELIVERY == 0:
            delivered_s += delivery_s(load)
    delivery = delivered_s / sum(off.cpu_s for _, off in pairs)
    by_clock = middle([off.clock_s / on.clock_s for on, off in pairs])
    return 1 / (middle([on.cpu_s / off.cpu_s for on, off in pairs]) + delivery), by_clock


def assert_switches(load: Load, path: str) -> None:
    """On, a request is one span; off, it is none."""
    counts = []
    for state in ("on", "off"):
        before = told(load, f"/recording/{state}")["recorded"]
        load.ask(path)
        counts.append(told(load, "/delivery")["recorded"] - before)
    assert counts == [1, 0]


def ratios(core: str) -> dict[str, float]:
    found = {}
    with gateway(core) as load:
        for kind, path in KINDS.items():
            assert_switches(load, path)
            load.burst(path, 5)  # warms caches
            of_core, by_clock = compared(load, path)
            found[f"gateway: {kind} requests a second of its core, against the uninstrumented"] = of_core
            found[f"gateway: {kind} requests a second by the clock, likewise"] = by_clock
    return found


def test_gateway(benchmark: BenchmarkFixture, gate: Gate, core: str) -> None:
    def measure() -> dict[str, Any]:
        return ratios(core)

    gate(measure, benchmark.pedantic(measure, rounds=1))
