"""Runs the application under test: a script in an interpreter of its own, with its own rings, spool and side file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger import Ledger

import fasttrace
from fasttrace.cli.loopback import KEY

if TYPE_CHECKING:
    from collections import Counter

    from collector import Collector
    from fasttrace.cli.loopback import Provider

HERE = Path(__file__).resolve().parent
SOURCES = Path(fasttrace.__file__).resolve().parent.parent
PRELUDE = "from application import *\n"
WATCHDOG_S = 120


class Host:
    """One application: its settings, its processes, and the ledger over all of them."""

    def __init__(self, core: Any, collector: Collector, provider: Provider, folder: Path) -> None:
        self.core = core
        self.collector = collector
        self.ledger = Ledger(core, folder)
        self.folder = folder
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FASTTRACE_")},
            "PYTHONPATH": os.pathsep.join([str(SOURCES), str(HERE)]),
            "PYTHONWARNINGS": "ignore::DeprecationWarning",  # of a fork in a process of several threads
            "OPENAI_BASE_URL": provider.base_url,
            "OPENAI_API_KEY": KEY,
            "PROVIDER_URL": provider.root_url,
            "TICKETS": str(self.ledger.side_file),
            "FASTTRACE_PURE": "1" if core.BACKEND == "pure" else "0",
            "FASTTRACE_COLLECTOR_URL": collector.url,
            "FASTTRACE_STATE_DIR": str(self.ledger.state_dir),
            "FASTTRACE_RING_DIR": str(self.ledger.ring_dir),
            "FASTTRACE_MAX_RETRIES": "0",
        }
        self._started: list[subprocess.Popen[str]] = []

    def start(self, script: str, *command: str, **settings: str) -> subprocess.Popen[str]:
        """A process of the application; `command` in place of this interpreter and the script."""
        process = subprocess.Popen(
            command or [sys.executable, "-c", PRELUDE + script],
            env=self.environ | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def finish(self, process: subprocess.Popen[str], exit_code: int = 0, errors: bool = False) -> list[Any]:
        """What the process said until its end, line by line. Anything on standard error is a failure, unless the
        application has `errors` of its own: then nothing there may be ours."""
        try:
            out, err = process.communicate(timeout=WATCHDOG_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"the application hangs; it said {out!r}, and {err!r}") from None
        assert process.returncode == exit_code, (process.returncode, out, err)
        assert "fasttrace" not in err if errors else err == "", err
        return [json.loads(line) for line in out.splitlines()]

    def run(self, script: str, exit_code: int = 0, errors: bool = False, **settings: str) -> list[Any]:
        return self.finish(self.start(script, **settings), exit_code, errors)

    def settle(self, *others: Collector, **balance: Any) -> Counter[str]:
        """See Ledger.settle."""
        return self.ledger.settle(self.collector, *others, **balance)

    def close(self) -> None:
        """End what a failed test left running, by its own process group."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def said(process: subprocess.Popen[str]) -> Any:
    """The next thing that a running process says; an error where it ended instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the application ended without a word"
    return json.loads(line)
