"""What `fasttrace doctor` asks of the process it runs in: package, core, settings, packages, clock, thread, a span."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fasttrace import config
from fasttrace.cli.check import Check, fail, ok, warn
from fasttrace.core import core
from fasttrace.exporters.compression import compress, decompress, usable_encoding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fasttrace.core._api import Recorder, Ring

NEEDED = ("httpcore", "httpx", "wrapt")
OPTIONAL = {
    "orjson": ("faster JSON for attributes and content", "fast"),
    "rich": ("colours and trees in `fasttrace spool show`, and `fasttrace demo`", "cli"),
}
EARLIEST_YEAR = 2024
THREAD_S = 3.0


def package() -> Iterator[Check]:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield ok("package", f"fasttrace {config.VERSION}, {python}, {platform.system()} {platform.machine()}")


def the_core(environ: Mapping[str, str] = os.environ) -> Iterator[Check]:
    wish = environ.get("FASTTRACE_PURE", "")
    if core.BACKEND == "native":
        yield ok("core", "native")
    elif wish.strip():
        yield ok("core", f"pure Python, because FASTTRACE_PURE={wish}")
    else:
        advice = "install a wheel, or a C compiler and then fasttrace anew"
        yield warn("core", f"pure Python, slower: {_why_not_native()}", advice)


def _why_not_native() -> str:
    if find_spec("fasttrace.core._native") is None:
        return "the native core was not built"
    try:
        from fasttrace.core import _native  # noqa: F401
    except ImportError as error:
        return f"the native core does not load ({error})"
    return "the native core loads now, but did not when fasttrace was imported"


def settings(
    loaded: config.Config, problems: Sequence[str], environ: Mapping[str, str] = os.environ
) -> Iterator[Check]:
    for problem in problems:
        variable, equals, _ = problem.partition(":")[0].partition("=")
        yield (fail if equals else warn)("settings", problem, f"correct or unset {variable}")
    if not loaded.enabled:
        yield warn("settings", "nothing is recorded: FASTTRACE_ENABLED=false", "unset FASTTRACE_ENABLED to record")
    known = [setting.variable for setting in config.SETTINGS if environ.get(setting.variable)]
    if not problems:
        yield ok("settings", f"from the environment: {', '.join(known)}" if known else "all of them by default")


def packages(wanted_encoding: str) -> Iterator[Check]:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        yield fail("packages", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    lacking = [name for name in OPTIONAL if find_spec(name) is None]
    for name in lacking:
        what, extra = OPTIONAL[name]
        yield ok("packages", f"{name} is not installed; with it: {what} (pip install 'fasttrace[{extra}]')")
    if not missing and not lacking:
        yield ok("packages", "nothing is missing")
    yield _compression(wanted_encoding)


def _compression(wanted: str) -> Check:
    encoding = usable_encoding(wanted)
    text = b"a batch of spans " * 64
    if decompress(compress(text, encoding), encoding) != text:
        return fail("compression", f"{encoding} gives other bytes back", "set FASTTRACE_COMPRESSION=none")
    if encoding != wanted:
        return warn("compression", f"{encoding}, because {wanted} is not to be had", "pip install zstandard")
    return ok("compression", encoding)


def clock() -> Iterator[Check]:
    before_ns, wall_ns, after_ns = core.clock_monotonic_ns(), core.clock_unix_ns(), core.clock_monotonic_ns()
    wall = time.gmtime(wall_ns // 1_000_000_000)
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", wall)
    if wall.tm_year < EARLIEST_YEAR or abs(wall_ns - time.time_ns()) > 1_000_000_000:
        yield fail("clock", f"{found} cannot be", "set the clock of this machine")
    elif after_ns < before_ns:
        yield fail("clock", "the monotonic clock goes back", "tell whoever runs this machine")
    else:
        yield ok("clock", found)


def thread() -> Iterator[Check]:
    from fasttrace.trace.worker import start_thread

    ran = threading.Event()
    try:
        start_thread(ran.set)
    except (RuntimeError, MemoryError) as error:
        yield fail("thread", f"no thread can be started: {error}", "raise the limit of processes (ulimit -u, pids.max)")
        return
    if ran.wait(THREAD_S):
        yield ok("thread", "the exporter thread can start")
    else:
        yield fail("thread", f"a thread did not run within {THREAD_S:g} s", "look at what keeps this machine busy")


def round_trip(ring: Ring, wanted_encoding: str) -> Iterator[Check]:
    """A span through this ring, and back out of the bytes that would be sent. Nothing else touches the ring."""
    recorder: Recorder = core.Recorder(_no_start)
    recorder.ring, recorder.active = ring, True
    began_ns = time.perf_counter_ns()
    core_fields: dict[str, int | str] = {
        "kind": "llm",
        "operation": "chat",
        "name": "doctor",
        "status": "success",
        "input_tokens": 12,
    }
    recorder.record(core.new_context(None), core.clock_unix_ns(), 1_000_000, core_fields)
    batch = ring.read(10, 1 << 20)
    encoding = usable_encoding(wanted_encoding)
    body = compress(batch.encode(recorder.prices, "", b'"service":"fasttrace-doctor"'), encoding)
    ring.acknowledge(batch.next_ticket)
    spans = [json.loads(line) for line in decompress(body, encoding).splitlines()]
    took_ms = (time.perf_counter_ns() - began_ns) / 1e6
    wanted = {**core_fields, "service": "fasttrace-doctor"}
    if [{name: span.get(name) for name in wanted} for span in spans] == [wanted]:
        yield ok("round trip", f"a span came back as it was recorded, in {took_ms:.1f} ms, {len(body)} bytes")
    else:
        yield fail("round trip", f"one span was recorded, this came back: {spans}", f"FASTTRACE_PURE={_other_core()}")


def _other_core() -> str:
    return "1 uses the other core" if core.BACKEND == "native" else "0 uses the other core"


def _no_start() -> None:
    """The ring is there already."""
