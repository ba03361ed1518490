"""The committed escape table of the C writer is what its generator writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GENERATOR = Path(__file__).resolve().parents[2] / "csrc" / "tools" / "generate_escape.py"


def check(generator: Path) -> int:
    return subprocess.run([sys.executable, str(generator), "--check"], check=False).returncode


def test_committed_table_is_current() -> None:
    assert check(GENERATOR) == 0


def test_check_notices_a_changed_table(tmp_path: Path) -> None:
    copy = tmp_path / "csrc" / "tools" / GENERATOR.name
    table = tmp_path / "csrc" / "src" / "json_escape.inc"
    copy.parent.mkdir(parents=True)
    table.parent.mkdir()
    copy.write_text(GENERATOR.read_text(encoding="utf-8"), encoding="utf-8")
    table.write_text((GENERATOR.parents[1] / "src" / table.name).read_text().replace("{'n'}", "{'m'}"))
    assert check(copy) == 1
