"""What the tests of the commands share: a run of the command as a user runs it, and a spool with real segments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from segments import SOURCES, batch_of, span_line

from collector import Collector
from fasttrace.exporters.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHOUT_RICH = """
import sys
class NoRich:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "rich":
            raise ImportError("no rich here")
sys.meta_path.insert(0, NoRich())
from fasttrace.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Command:
    """`fasttrace ...` with a state and a ring directory of its own and no setting but those given."""

    def __init__(self, folder: Path) -> None:
        self.state, self.rings = folder / "state", folder / "rings"

    def environment(self, **settings: str) -> dict[str, str]:
        names = {"FASTTRACE_PURE"}
        inherited = {n: v for n, v in os.environ.items() if n in names or not n.startswith("FASTTRACE_")}
        places = {"FASTTRACE_STATE_DIR": str(self.state), "FASTTRACE_RING_DIR": str(self.rings)}
        return {**inherited, "PYTHONPATH": SOURCES, "PYTHONIOENCODING": "utf-8", **places, **settings}

    def start(self, *arguments: str, is_without_rich: bool = False, **settings: str) -> subprocess.Popen[str]:
        program = ["-c", WITHOUT_RICH] if is_without_rich else ["-m", "fasttrace"]
        streams: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, *program, *arguments], env=self.environment(**settings), encoding="utf-8", **streams
        )

    def __call__(
        self, *arguments: str, is_without_rich: bool = False, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, is_without_rich=is_without_rich, **settings)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def spool(command: Command) -> Spool:
    return Spool(str(command.state), 1 << 26)


@pytest.fixture
def fill(spool: Spool) -> Any:
    """Write segments of `spans` spans each, numbered through."""

    def write(segments: int = 2, spans: int = 3, encoding: str = "zstd", **fields: Any) -> list[bytes]:
        written = []
        for segment in range(segments):
            first = segment * spans
            lines = [span_line(first + number, **fields) for number in range(spans)]
            spool.write(batch_of(lines, first, encoding))
            written += lines
        return written

    return write


@pytest.fixture(autouse=True)
def no_line_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fasttrace.errors._last_lines", {})
