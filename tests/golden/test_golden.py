"""Both cores write the golden files, byte for byte: a change of the wire format shows as a difference in them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from spans import FILES, HERE, written

from fasttrace.wire.decode import decode


@pytest.mark.parametrize("name", FILES)
def test_a_golden_file_is_written_to_the_byte(core: Any, name: str) -> None:
    expected = (HERE / f"{name}.ndjson").read_bytes()
    assert written(core, FILES[name]).splitlines() == expected.splitlines()
    assert len(decode(expected)) == len(FILES[name])


def test_there_is_no_golden_file_that_nobody_writes() -> None:
    assert {path.stem for path in HERE.glob("*.ndjson")} == set(FILES)
