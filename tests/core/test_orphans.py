"""Ring files whose owners are gone: who may take one, and what is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fasttrace
from fasttrace.core import _orphans, _pure
from fasttrace.core._api import RingShape
from fasttrace.core._backing import Backing, new_owner, open_ring_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fasttrace.core._api import RingOwner

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


LIVES = """
import os, sys
from fasttrace.core import _pure
from fasttrace.core._api import RingShape
from fasttrace.core._backing import new_owner, open_ring_file
shape, owner = RingShape(256, 4096, 4096, 4), new_owner()
backing = open_ring_file(sys.argv[1], shape, owner, _pure.region_bytes)
ring = _pure.Ring(backing.fd, shape, owner)
if sys.argv[2] == "exec":
    wait = "import sys; print(sys.argv[1], flush=True); sys.stdin.readline()"
    os.execv(sys.executable, [sys.executable, "-c", wait, backing.path])
os.closerange(3, 1024)
print(backing.path, flush=True)
sys.stdin.readline()
"""
ENVIRON = os.environ | {"PYTHONPATH": str(Path(fasttrace.__file__).parent.parent)}
has_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="nothing tells when a process started")


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
    assert os.path.getsize(path) == _pure.region_bytes(SHAPE)
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


MAPPED: list[_pure.Ring] = []


def formatted_ring_in(directory: Path, owner: RingOwner) -> str:
    """A ring that was used and is mapped here, its lock free, whoever its owner is."""
    backing = open_ring_file(str(directory), SHAPE, owner, _pure.region_bytes)
    MAPPED.append(_pure.Ring(backing.fd, SHAPE, owner))
    backing.close()
    return str(backing.path)


@pytest.fixture(params=["close"])
def owner(rings: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A living process that closed all descriptors it does not know, its ring's lock among them; or became another."""
    command = [sys.executable, "-c", LIVES, str(rings), request.param]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRON
    )
    yield process
    process.kill()
    process.communicate(timeout=60)


@has_proc
def test_a_living_owner_that_closed_its_lock_keeps_its_file(owner: subprocess.Popen[str]) -> None:
    assert owner.stdout is not None
    path = owner.stdout.readline().strip()
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert _orphans.adopt(path) is None
    owner.kill()
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    orphan = _orphans.adopt(path)
    assert orphan is not None, "it is dead, though nobody has asked for its exit code"
    orphan.close()
    owner.wait(timeout=60)
    orphan = _orphans.adopt(path)
    assert orphan is not None
    orphan.close()


@has_proc
@pytest.mark.parametrize("owner", ["exec"], indirect=True)
def test_an_owner_that_became_another_program_left_its_file(owner: subprocess.Popen[str]) -> None:
    """Pid and start are the same, the memory is not."""
    assert owner.stdout is not None
    orphan = _orphans.adopt(owner.stdout.readline().strip())
    assert orphan is not None
    orphan.close()
    assert owner.poll() is None


@has_proc
def test_the_own_ring_is_left_alone_whoever_holds_its_lock(rings: Path) -> None:
    path = formatted_ring_in(rings, new_owner())
    assert _orphans.adopt(path) is None
    assert _orphans.adopt(path) is None, "the look did not keep the lock, nor change the file"
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    "other",
    [{"process_start": 0}, {"process_start": 1}, {"boot_id": b"x" * 16}, {"pid": 1 << 40}, {"pid": 0}],
    ids=str,
)
def test_an_owner_that_cannot_be_the_living_process_is_dead_by_its_lock(rings: Path, other: dict[str, Any]) -> None:
    """Its start is unknown or another's, or it lived before the machine's last start."""
    orphan = _orphans.adopt(formatted_ring_in(rings, new_owner()._replace(**other)))
    assert orphan is not None
    orphan.close()


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
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRON
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


def test_a_descriptor_that_the_application_took_is_its_own(rings: Path, tmp_path: Path) -> None:
    orphan = _orphans.adopt(dead_ring_in(rings))
    assert orphan is not None
    theirs = os.open(tmp_path / "theirs", os.O_RDWR | os.O_CREAT)
    os.dup2(theirs, orphan._fd)
    number = orphan._fd
    with pytest.raises(OSError, match="closed by the application"):
        orphan.read()
    orphan.close()
    assert os.fstat(number).st_ino == os.fstat(theirs).st_ino
    for fd in (theirs, number):
        os.close(fd)


def test_a_file_larger_than_any_ring_is_not_read(rings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_orphans, "FILE_MAX_BYTES", 100)
    orphan = _orphans.adopt(dead_ring_in(rings))
    assert orphan is not None
    with pytest.raises(OSError, match="more than any ring"):
        orphan.read()
    orphan.close()


BOUNDED = """
import resource, sys
from fasttrace.core import _orphans, core
from fasttrace.core._api import UnusedRing
orphan = _orphans.adopt(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
try:
    core.RecoveredRing(orphan.read())
except UnusedRing as error:
    sys.stdout.write(f"unused: {error}")
except ValueError as error:
    sys.stdout.write(f"no ring: {error}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory")
@pytest.mark.parametrize(
    ("start", "verdict"),
    [
        (b"", "unused: never used"),
        (b"not a ring", "no ring: not a ring: it does not begin with FTTRING1"),
        (b"FTTRING1\x02\0\0\0", "no ring: ring version 2, of a newer fasttrace"),
        (None, "no ring: not a whole ring: 4096 bytes of"),
    ],
    ids=["zeros", "other", "newer", "longer than it says"],
)
def test_of_a_file_whose_header_is_none_no_more_is_read(rings: Path, start: bytes | None, verdict: str) -> None:
    """600 MiB of nothing, for a process that may have 512."""
    path = formatted_ring_in(rings, new_owner()._replace(process_start=0))
    with open(path, "r+b") as file:
        if start is not None:
            file.truncate(0)
            file.write(start)
        file.truncate(600 << 20)
    command = [sys.executable, "-c", BOUNDED, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRON)
    assert done.stdout.startswith(verdict), done


def test_of_a_ring_everything_is_read(rings: Path) -> None:
    path = formatted_ring_in(rings, new_owner()._replace(process_start=0))
    orphan = _orphans.adopt(path)
    assert orphan is not None
    assert orphan.read() == Path(path).read_bytes()
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
