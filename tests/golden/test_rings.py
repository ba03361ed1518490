"""Both cores read the ring files of every version of the format, as they lie here, to the byte."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rings import RINGS, file_of, found_in

from fasttrace.core._pure import layout

NAMES = sorted(path.name.removesuffix(".ring.gz") for path in RINGS.glob("*.ring.gz"))


@pytest.mark.parametrize("name", NAMES)
def test_a_ring_of_a_released_version_is_read_to_the_byte(core: Any, name: str) -> None:
    assert found_in(core, file_of(name)).splitlines() == (RINGS / f"{name}.txt").read_bytes().splitlines()


def test_there_is_a_file_of_each_core_for_every_version() -> None:
    assert set(NAMES) == {
        f"{core}-v{version}" for core in ("native", "pure") for version in range(1, layout.VERSION + 1)
    }
