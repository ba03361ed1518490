"""Rows C9 to C11: greenlets, subinterpreters, and an interpreter without a GIL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from host import HERE, SOURCES, WATCHDOG_S

if TYPE_CHECKING:
    from host import Host

# ---- C9 ----

PATCHES = {
    "gevent": "from gevent import monkey\nmonkey.patch_all()",
    "eventlet": "import warnings\nwarnings.simplefilter('ignore')\nimport eventlet\neventlet.monkey_patch()",
}
BUSY = """
import asyncio
record(100)
give_up = time.monotonic() + 60
while stats().sent < 100:  # computes all the time: a greenlet would never have its turn
    if time.monotonic() > give_up: raise TimeoutError(stats())
assert sum(thread.name == "fasttrace-exporter" for thread in threading.enumerate()) <= 1
record(50)
assert PROCESSOR.flush(20).pending == 0, stats()
client = chat_client()
call(client)
workers = [threading.Thread(target=call, args=(client,)) for _ in range(10)]
for worker in workers: worker.start()
for worker in workers: worker.join()
"""




@pytest.mark.skipif(sys.platform == "win32", reason="the libraries patch other things there")
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("library", PATCHES)
def test_c09_the_exporter_runs_while_greenlets_compute(host: Host, library: str, order: str) -> None:
    pytest.importorskip(library)
    first = [PATCHES[library], "from application import *"]
    script = "\n".join([*(first if order == "before" else reversed(first)), BUSY])
    host.finish(host.start("", sys.executable, "-W", "ignore", "-c", script))
    assert host.settle()["collector"] == 161


# ---- C10 ----

IN_SUBINTERPRETER = """
import sys
sys.path[:0] = {path!r}
from application import *
import logging
logging.basicConfig(stream=sys.stdout, format='["%(message)s"]')
say(fasttrace.backend())
record(10)
say(fasttrace.flush(20).pending)
fasttrace.shutdown(20)
"""
RUN_IT = """
import json, sys
sys.path[:0] = {path!r}
import fasttrace
script = {script!r}
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
inner = interpreters.create()
failed = interpreters.run_string(inner, script)
if failed is not None: sys.exit(str(failed.formatted))
interpreters.destroy(inner)
print(json.dumps(["outer", fasttrace.backend()]), flush=True)
"""


def interpreters() -> dict[str, str]:
    """This one, and others that are there; a name for each."""
    found = {"own": sys.executable}
    versions = Path("~/.pyenv/versions").expanduser()
    for minor in ("3.12", "3.13"):
        candidates = [*versions.glob(f"{minor}.*/bin/python"), shutil.which(f"python{minor}") or ""]
        usable = [str(path) for path in candidates if path and Path(path).exists()]
        found[minor] = usable[0] if usable else ""
    return found


@pytest.mark.parametrize("name, executable", interpreters().items())
def test_c10_a_subinterpreter_records_by_the_pure_core_or_says_why_not(host: Host, name: str, executable: str) -> None:
    if not executable:
        pytest.skip(f"no Python {name} here")
    path = [str(SOURCES), str(HERE), sysconfig.get_path("purelib")]
    script = RUN_IT.format(path=path, script=IN_SUBINTERPRETER.format(path=path))
    settings = {"FASTTRACE_PURE": "1"} if host.core.BACKEND == "pure" else {"FASTTRACE_PURE": ""}
    # What sends is not installed for the others: theirs go to the spool.
    settings |= {"FASTTRACE_COMPRESSION": "none", "FASTTRACE_EXPORTER": "spool"} if name != "own" else {}
    said = host.finish(host.start("", executable, "-c", script, **settings))
    backends = [line[0] for line in said if line[0] in ("native", "pure")]
    assert backends == ["pure"], said
    warnings = [line for line in said if "core does not load" in str(line[0])]
    assert len(warnings) <= 1
    assert host.settle()["collector" if name == "own" else "spool"] == 10


# ---- C11 ----


def free_threaded() -> str | None:
    candidates = [shutil.which(name) for name in ("python3.14t", "python3.13t")]
    candidates += [str(path) for path in Path("~/.pyenv/versions").expanduser().glob("3.1[3-9]*t*/bin/python")]
    own = [sys.executable] if sysconfig.get_config_var("Py_GIL_DISABLED") else []
    return next((path for path in [*own, *candidates] if path), None)


WITHOUT_GIL = """
import sys
from application import *
import fasttrace
assert not sys._is_gil_enabled(), "an import of ours turned the GIL on"
threads = [threading.Thread(target=record, args=(500,)) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert PROCESSOR.flush(20).pending == 0
assert not sys._is_gil_enabled()
"""


def test_c11_threads_without_a_gil_lose_nothing(host: Host) -> None:
    python = free_threaded()
    if python is None:
        pytest.skip("no free-threaded interpreter here")
    probe = subprocess.run(
        [python, "-c", f"import fasttrace; assert fasttrace.backend() == {host.core.BACKEND!r}"],
        env=host.environ,
        capture_output=True,
        text=True,
        timeout=WATCHDOG_S,
    )
    if probe.returncode:
        pytest.skip(f"fasttrace is not installed for {os.path.basename(python)}: {probe.stderr[-200:]}")
    host.finish(host.start("", python, "-c", WITHOUT_GIL, FASTTRACE_QUEUE_MAX_SIZE="65536"))
    assert host.settle()["collector"] == 4000
