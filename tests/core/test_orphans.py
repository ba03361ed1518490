"""Ring files whose owners are gone: who may take one, and what is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fasttrace
from fasttrace.core import _orphans, _pure
from fasttrace.core._api import RingShape
from fasttrace.core._backing import Backing, new_owner, open_ring_file

fcntl = pytest.importorskip("fcntl")

SHAPE = RingShape(slots=256, arena_bytes=4096, strtab_bytes=4096, inflight=4)
RACERS = 8
RACE = """
import sys
from fasttrace.core import _orphans
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.readline()
orphan = _orphans.adopt(sys.argv[1])
if orphan is not None:
    orphan.remove()
    orphan.close()
sys.stdout.write("took it\\n" if orphan else "did not\\n")
"""


@pytest.fixture
def rings(tmp_path: Path) -> Path:
    return tmp_path / "rings"


def ring_in(directory: Path) -> Backing:
    backing = open_ring_file(str(directory), SHAPE, new_owner(), _pure.region_bytes)
    assert backing.path is not None
    return backing


def dead_ring_in(directory: Path) -> str:
    """The file of an owner that is gone: its lock with it."""
    backing = ring_in(directory)
    backing.close()
    return str(backing.path)


def test_a_dead_owners_file_is_found_and_locked(rings: Path) -> None:
    path = dead_ring_in(rings)
    assert list(_orphans.find(str(rings))) == [path]
    orphan = _orphans.adopt(path)
    assert orphan is not None
    assert _orphans.adopt(path) is None, "it is adopted already"
    assert len(orphan.read()) == _pure.region_bytes(SHAPE)
    orphan.close()
    again = _orphans.adopt(path)
    assert again is not None, "who gives up leaves it to the next"
    again.remove()
    again.close()
    assert list(rings.iterdir()) == []


def test_a_living_owners_file_is_left_alone(rings: Path) -> None:
    backing = ring_in(rings)
    assert list(_orphans.find(str(rings))) == [backing.path]
    assert _orphans.adopt(str(backing.path)) is None
    backing.close()


def test_a_file_that_lost_its_name_is_nobodys(rings: Path) -> None:
    """It was taken away after it was opened, and before it was locked."""
    path = dead_ring_in(rings)
    orphan = _orphans.adopt(path)
    assert orphan is not None
    os.rename(path, path + ".old")
    Path(path).write_bytes(b"another")
    assert not _orphans._is_ours(orphan._fd, path)
    orphan.close()


def test_of_many_processes_exactly_one_adopts(rings: Path) -> None:
    path = dead_ring_in(rings)
    environ = os.environ | {"PYTHONPATH": str(Path(fasttrace.__file__).parent.parent)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
        )
        for _ in range(RACERS)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=60)[0] for racer in racers]
    assert sorted(said) == ["did not\n"] * (RACERS - 1) + ["took it\n"]
    assert list(rings.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "gone"])
def test_what_is_no_file_is_not_opened(rings: Path, tmp_path: Path, kind: str) -> None:
    path = dead_ring_in(rings)
    os.rename(path, tmp_path / "elsewhere")
    if kind == "link":
        os.symlink(tmp_path / "elsewhere", path)
    if kind == "fifo":
        os.mkfifo(path)
    if kind == "directory":
        os.mkdir(path)
    assert _orphans.adopt(path) is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_another_users_file_and_directory_are_left_alone(rings: Path) -> None:
    path = dead_ring_in(rings)
    os.chown(path, 65534, 65534)
    assert _orphans.adopt(path) is None
    os.chown(rings, 65534, 65534)
    assert list(_orphans.find(str(rings))) == []


def test_a_directory_open_to_others_is_not_looked_into(rings: Path) -> None:
    dead_ring_in(rings)
    rings.chmod(0o755)
    assert list(_orphans.find(str(rings))) == []


def test_a_directory_of_the_users_choice_is_looked_into_alone(
    rings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without one, every usual place; and in any case where the own ring lies."""
    monkeypatch.setattr("fasttrace.core._backing.SHARED_MEMORY", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "xdg"))
    (tmp_path / "xdg").mkdir()
    usual = dead_ring_in(tmp_path / f"fasttrace-{os.geteuid()}")
    third = dead_ring_in(tmp_path / "xdg" / "fasttrace")
    chosen, own = dead_ring_in(rings), dead_ring_in(tmp_path / "own")
    assert list(_orphans.find(str(rings))) == [chosen]
    assert list(_orphans.find(None)) == [usual, third]
    assert list(_orphans.find(str(rings), own)) == [chosen, own]


def test_other_names_are_left_alone(rings: Path) -> None:
    path = dead_ring_in(rings)
    os.rename(path, rings / "notes.txt")
    (rings / "12-zz.ring").write_bytes(b"")
    assert list(_orphans.find(str(rings))) == []
    assert sorted(found.name for found in rings.iterdir()) == ["12-zz.ring", "notes.txt"]


def test_what_is_no_ring_is_set_aside_and_the_newest_of_it_kept(rings: Path) -> None:
    for number in range(_orphans.ASIDE_KEPT + 2):
        path = dead_ring_in(rings)
        os.utime(path, ns=(number, number))
        orphan = _orphans.adopt(path)
        assert orphan is not None
        orphan.set_aside()
        orphan.close()
    assert list(_orphans.find(str(rings))) == []
    kept = list(rings.iterdir())
    assert {found.stat().st_mtime_ns for found in kept} == set(range(2, _orphans.ASIDE_KEPT + 2))


def test_a_file_that_is_being_made_is_left_alone_and_one_that_never_was_goes(rings: Path) -> None:
    fresh, left, held = (Path(dead_ring_in(rings) + ".making") for _ in range(3))
    long_ago_ns = time.time_ns() - 2 * _orphans.UNFINISHED_AGE_NS
    for path in (fresh, left, held):
        os.rename(str(path).removesuffix(".making"), path)
    for path in (left, held):
        os.utime(path, ns=(long_ago_ns, long_ago_ns))
    with held.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert list(_orphans.find(str(rings))) == []
    assert sorted(rings.iterdir()) == sorted([fresh, held])


def test_a_file_larger_than_any_ring_is_not_read(rings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_orphans, "FILE_MAX_BYTES", 100)
    orphan = _orphans.adopt(dead_ring_in(rings))
    assert orphan is not None
    with pytest.raises(OSError, match="more than any ring"):
        orphan.read()
    orphan.close()


def test_no_ring_has_its_name_before_it_is_locked(rings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks for the rings of the dead cannot take one that is being made."""
    seen: list[list[str]] = []

    def region_bytes(shape: RingShape) -> int:
        seen.append(list(_orphans.find(str(rings))))
        return _pure.region_bytes(shape)

    backing = open_ring_file(str(rings), SHAPE, new_owner(), region_bytes)
    assert seen
    assert seen == [[]] * len(seen)
    backing.close()
