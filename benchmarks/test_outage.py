"""A collector that is killed under 20,000 calls a second, is gone for a while, and comes back.

Asked of it: that the calls do not notice, that memory stays bounded, and that every span arrives. A call's time is
compared with that of the bare method next to it in the same hundredth of a second, so that a machine that changes its
speed between the phases is no verdict. The outage lasts 10 seconds; with FASTTRACE_FAULT_ROUNDS=full it lasts 60.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import process
import sdks
from test_memory import resident_kib

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate

HERE = Path(__file__).parent
CALLS_A_SECOND, TICK_S = 20_000, 0.01
BARE_CALLS = 50
BEFORE_S = 6.0
OUTAGE_S = 60.0 if os.environ.get("FASTTRACE_FAULT_ROUNDS") == "full" else 10.0
ARRIVAL_S = 240.0


class KilledCollector:
    """One port, on which a collector is or is not."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(HERE / "outage_collector.py"), str(self.port), self.log]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def spans(self) -> int:
        """Of every batch, once."""
        with open(self.log, encoding="ascii") as log:
            return sum({batch: int(count) for batch, count in map(str.split, log)}.values())


def paced(duration_s: float, traced: Callable[[], object], bare: Callable[[], object]) -> tuple[int, float, float]:
    """Calls for so long; how many, what one takes in bare ones (median of the ticks), and the most memory, in KiB."""
    calls, quotients, most_kib = 0, [], 0.0
    ends_s = time.perf_counter() + duration_s
    while (began_s := time.perf_counter()) < ends_s:
        count = int(CALLS_A_SECOND * TICK_S)
        traced_ns, bare_ns = _wall_ns(traced, count), _wall_ns(bare, BARE_CALLS)
        quotients.append(traced_ns / bare_ns)
        calls += count
        most_kib = max(most_kib, resident_kib()) if calls % CALLS_A_SECOND == 0 else most_kib
        time.sleep(max(TICK_S - (time.perf_counter() - began_s), 0.0))
    return calls, statistics.median(quotients), most_kib


def _wall_ns(call: Callable[[], object], times: int) -> float:
    began = time.perf_counter_ns()
    for _ in range(times):
        call()
    return (time.perf_counter_ns() - began) / times


def outage() -> dict[str, float]:
    """Runs in a process of its own."""
    import openai
    from openai._base_client import SyncAPIClient
    from openai.types.chat import ChatCompletion

    import fasttrace

    fasttrace.uninstrument("openai")
    original = sdks.returning(sdks.openai_reply())
    SyncAPIClient.request = original  # type: ignore[method-assign, assignment]
    fasttrace.instrument("openai")
    client: Any = openai.OpenAI(api_key="sk-none")
    options = sdks.openai_options()

    def traced() -> object:
        return client.request(ChatCompletion, options, stream=False, stream_cls=None)

    def bare() -> object:
        return original(client, ChatCompletion, options, stream=False, stream_cls=None)

    with tempfile.TemporaryDirectory() as directory:
        collector = KilledCollector(os.path.join(directory, "log"))
        fasttrace.init(collector_url=f"http://127.0.0.1:{collector.port}")
        paced(1.0, traced, bare)
        _, before, before_kib = paced(BEFORE_S, traced, bare)
        collector.kill()
        _, meanwhile, most_kib = paced(OUTAGE_S, traced, bare)
        collector.start()
        _, _, after_kib = paced(BEFORE_S, traced, bare)
        recorded = fasttrace.stats().recorded
        give_up_s = time.monotonic() + ARRIVAL_S
        while collector.spans() < recorded and time.monotonic() < give_up_s:
            fasttrace.flush(5)
        lost = recorded - collector.spans()
        collector.kill()
    return {"ratio": meanwhile / before, "grown_mib": (max(most_kib, after_kib) - before_kib) / 1024, "lost": lost}


def test_outage(benchmark: BenchmarkFixture, gate: Gate, core: str) -> None:
    def measure() -> dict[str, float]:
        figures = process.run(core, "test_outage.outage")
        return {
            "outage: a call while the collector is gone, against before": figures["ratio"],
            "outage: growth of memory at 20,000 calls a second, MiB": figures["grown_mib"],
            "outage: spans lost": figures["lost"],
        }

    gate(measure, benchmark.pedantic(measure, rounds=1))
