"""Rows E7 and E8: a ring file that is shorter than it says, and one of another version or another machine.

Files are real ones, of rings that both cores wrote; what is refused says why, and nothing is mapped, so that no page of
a file can vanish under its reader.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))

from dead_rings import SMALL, everything, recover

from fasttrace.core._api import OtherVersion, UnusedRing
from fasttrace.core._pure import layout

VERSION_AT = 8
READY_AT = 8 * layout.READY


@pytest.fixture
def ring_file(core: Any, tmp_path: Path) -> Path:
    """What a process of this core left when it died."""
    path = tmp_path / "1-00.ring"
    path.write_bytes(everything(core))
    return path


# ---- E7: shorter than its header, or than it says ----


def test_e07_a_file_cut_anywhere_is_refused_by_its_length(core: Any, ring_file: Path) -> None:
    size = ring_file.stat().st_size
    for length in (size - 1, size - 4096, size // 2, 8192, 4097, 4096):
        os.truncate(ring_file, length)
        with pytest.raises(ValueError, match=f"^not a whole ring: {length} bytes of {size}$"):
            core.RecoveredRing(ring_file.read_bytes())
    for length in (4095, 1288, 160, 100, 9):
        os.truncate(ring_file, length)
        with pytest.raises(ValueError, match=f"^not a whole ring: {length} bytes, and its header alone has 4096$"):
            core.RecoveredRing(ring_file.read_bytes())


def test_e07_a_file_with_more_behind_its_end_is_refused(core: Any, ring_file: Path) -> None:
    size = ring_file.stat().st_size
    os.truncate(ring_file, 2 * size)
    with pytest.raises(ValueError, match=f"^not a whole ring: {2 * size} bytes of {size}$"):
        core.RecoveredRing(ring_file.read_bytes())


@pytest.mark.parametrize("length", [0, 1, 159, 4096, 20480])
def test_e07_a_file_that_was_made_and_never_written_is_told_from_a_broken_one(
    core: Any, tmp_path: Path, length: int
) -> None:
    """Its process died between creating and formatting it: nothing is lost with it. The file has holes, no blocks."""
    path = tmp_path / "1-00.ring"
    path.touch()
    os.truncate(path, length)
    with pytest.raises(UnusedRing, match=r"^never used"):
        core.RecoveredRing(path.read_bytes())


def test_e07_a_process_that_died_while_it_formatted_its_file_left_nothing(core: Any, ring_file: Path) -> None:
    data = bytearray(ring_file.read_bytes())
    data[READY_AT : READY_AT + 8] = bytes(8)
    with pytest.raises(UnusedRing, match=r"^never used"):
        core.RecoveredRing(data)


def test_e07_a_file_cut_or_changed_while_it_is_recovered_changes_nothing(core: Any, ring_file: Path) -> None:
    data = bytearray(ring_file.read_bytes())
    ring = core.RecoveredRing(data)
    expected = recover(core, data)
    data[:] = bytes(len(data))
    os.truncate(ring_file, 0)
    batch = ring.read(1000, 1 << 20)
    del ring  # the batch keeps what it needs
    assert batch.count == expected.counters[0] + expected.counters[1]
    assert batch.encode(core.PriceTable(), "v", b"").count(b'"schema_version":"1.0"') == batch.count


@pytest.mark.parametrize("size", [1 << 16, 1 << 30], ids=["64 KiB", "1 GiB"])
def test_e07_a_header_that_claims_more_than_there_is_takes_no_memory(core: Any, ring_file: Path, size: int) -> None:
    data = bytearray(ring_file.read_bytes())
    shape = SMALL._replace(arena_bytes=size)
    data[80:88] = size.to_bytes(8, sys.byteorder)
    data[16:24] = layout.region_bytes(shape).to_bytes(8, sys.byteorder)
    with pytest.raises(ValueError, match=f"^not a whole ring: {len(data)} bytes of {layout.region_bytes(shape)}$"):
        core.RecoveredRing(data)


# ---- E8: another version, another machine, another thing ----


@pytest.mark.parametrize("version", [layout.VERSION + 1, 2**32 - 1])
def test_e08_a_ring_of_a_newer_version_is_refused_and_says_so(core: Any, ring_file: Path, version: int) -> None:
    data = bytearray(ring_file.read_bytes())
    data[VERSION_AT : VERSION_AT + 4] = version.to_bytes(4, sys.byteorder)
    with pytest.raises(OtherVersion, match=f"^ring version {version}, of a newer fasttrace: this one reads version 1$"):
        core.RecoveredRing(data)
    with pytest.raises(OtherVersion, match="newer"):  # whatever else that version has changed
        core.RecoveredRing(data[:200])


def test_e08_a_ring_of_a_machine_with_the_other_byte_order_is_refused_and_says_so(core: Any, ring_file: Path) -> None:
    data = ring_file.read_bytes()
    swapped = bytearray().join(data[at : at + 8][::-1] for at in range(0, len(data), 8))
    for at in (8, 12):  # two of 32 bits
        swapped[at : at + 4] = data[at : at + 4][::-1]
    with pytest.raises(OtherVersion, match=r"^not a ring of this machine: it is in the other byte order$"):
        core.RecoveredRing(swapped)


def test_e08_a_version_that_never_was_is_refused(core: Any, ring_file: Path) -> None:
    data = bytearray(ring_file.read_bytes())
    data[VERSION_AT : VERSION_AT + 4] = bytes(4)
    with pytest.raises(ValueError, match=r"^not a ring: version 0 with a header of 4096 bytes$") as refused:
        core.RecoveredRing(data)
    assert not isinstance(refused.value, OtherVersion), "nobody will ever read it"


@pytest.mark.parametrize("content", [b"x", b"\x7fELF" * 2000, b'{"schema_version":"1.0"}\n' * 900, b"\xff" * 20480])
def test_e08_a_file_that_is_no_ring_is_refused_and_says_so(core: Any, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not a ring: it does not begin with FTTRING1$") as refused:
        core.RecoveredRing(content)
    assert not isinstance(refused.value, UnusedRing | OtherVersion)


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (12, 8192, "version 1 with a header of"),
        (24, 4097, "its sizes and offsets disagree"),
        (32, 4097, "strtab_bytes must be"),
        (48, 1 << 40, "inflight must be"),
        (64, 7, "slots must be a power of two"),
        (64, 32, "its sizes and offsets disagree"),
        (80, 0, "arena_bytes must be"),
        (16, 1, "its sizes and offsets disagree"),
    ],
)
def test_e08_sizes_that_contradict_each_other_are_named(
    core: Any, ring_file: Path, at: int, value: int, reason: str
) -> None:
    data = bytearray(ring_file.read_bytes())
    width = 4 if at == 12 else 8
    data[at : at + width] = value.to_bytes(width, sys.byteorder)
    with pytest.raises(ValueError, match=f"^not a ring: {reason}"):
        core.RecoveredRing(data)
