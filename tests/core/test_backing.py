"""Where a ring's file goes, what it must be like, and what is done when it cannot be had."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fasttrace.core import _backing, _pure
from fasttrace.core._api import RingShape
from fasttrace.core._backing import Backing, new_owner, open_ring_file

fcntl = pytest.importorskip("fcntl")

SHAPE = RingShape(slots=1024, arena_bytes=1 << 16, strtab_bytes=4096, inflight=8)


@pytest.fixture(autouse=True)
def no_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test says where files may go."""
    monkeypatch.setattr(_backing, "SHARED_MEMORY", str(tmp_path / "no such directory"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


@pytest.fixture
def shared_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A directory in the machine's real shared memory, taken for all of it."""
    directory = Path(f"/dev/shm/fasttrace-test-{os.getpid()}")
    directory.mkdir(mode=0o777)
    monkeypatch.setattr(_backing, "SHARED_MEMORY", str(directory))
    yield directory
    subprocess.run(["rm", "-rf", str(directory)], check=True)


def open_in(directory: Path | str | None, shape: RingShape = SHAPE) -> Backing:
    return open_ring_file(None if directory is None else str(directory), shape, new_owner(), _pure.region_bytes)


def is_locked(path: str) -> bool:
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def blocks_bytes(path: str) -> int:
    return os.stat(path).st_blocks * 512


def test_the_directory_of_the_user_comes_first_and_the_file_is_private_and_whole(tmp_path: Path) -> None:
    backing = open_in(tmp_path / "rings")
    assert (backing.kind, backing.reason, backing.shape) == ("ring_dir", "", SHAPE)
    assert backing.path is not None
    status = os.stat(backing.path)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "rings").st_mode) == 0o700
    assert status.st_size == _pure.region_bytes(SHAPE) <= blocks_bytes(backing.path)
    assert not os.get_inheritable(backing.fd)
    assert not os.get_inheritable(backing.lock_fd)
    assert Path(backing.path).name.startswith(f"{os.getpid()}-")
    backing.close()


def test_shared_memory_comes_next_in_a_directory_of_this_user(shared_memory: Path) -> None:
    backing = open_in(None)
    assert backing.kind == "shm"
    assert Path(str(backing.path)).parent == shared_memory / f"fasttrace-{os.geteuid()}"
    backing.close()


def test_the_runtime_directory_comes_third(
    shared_memory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_backing, "SHARED_MEMORY", str(tmp_path / "no such directory"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(shared_memory))
    backing = open_in(None)
    assert (backing.kind, str(backing.path).startswith(f"{shared_memory}/fasttrace/")) == ("xdg", True)
    backing.close()


def test_without_a_place_there_is_anonymous_memory() -> None:
    backing = open_in(None)
    assert (backing.fd, backing.lock_fd, backing.path, backing.kind) == (-1, -1, None, "anonymous")
    assert backing.shape == SHAPE
    backing.close()
    backing.remove()


def test_a_disk_is_used_only_when_it_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if _backing.file_system_of(os.stat(tmp_path).st_dev) in _backing.MEMORY_FILE_SYSTEMS:
        monkeypatch.setattr(_backing, "MEMORY_FILE_SYSTEMS", frozenset())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    backing = open_in(None)
    assert backing.kind == "anonymous"
    assert "is not in memory" in backing.reason
    asked = open_in(tmp_path / "asked")
    assert asked.kind == "ring_dir"
    asked.close()


def test_a_directory_open_to_others_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    backing = open_in(tmp_path / "open")
    assert backing.kind == "anonymous"
    assert backing.reason == f"{tmp_path}/open: is open to others (mode 0755); it needs 0700"
    assert not list((tmp_path / "open").iterdir())


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    backing = open_in(tmp_path / "link")
    assert backing.kind == "anonymous"
    assert str(tmp_path / "link") in backing.reason
    assert not list((tmp_path / "real").iterdir())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    os.chown(tmp_path / "other", 65534, 65534)
    assert open_in(tmp_path / "other").reason == f"{tmp_path}/other: belongs to user 65534"


def test_a_place_that_is_no_directory_is_passed_over_with_its_reason(tmp_path: Path, shared_memory: Path) -> None:
    (tmp_path / "file").write_text("")
    backing = open_in(tmp_path / "file")
    assert backing.kind == "shm"
    assert backing.reason.startswith(f"{tmp_path}/file: ")
    backing.close()


def room_for(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system with `size` bytes left."""

    def allocate(fd: int, offset: int, length: int) -> None:
        os.ftruncate(fd, length)
        if length > size:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", allocate)


def test_a_ring_that_does_not_fit_is_halved_until_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitting = SHAPE._replace(slots=256, arena_bytes=1 << 14, inflight=2)
    room_for(_pure.region_bytes(fitting), monkeypatch)
    backing = open_in(tmp_path / "rings")
    assert backing.shape == fitting
    assert os.fstat(backing.fd).st_size == _pure.region_bytes(fitting)
    assert backing.reason == f"{tmp_path}/rings: room for 256 slots of 1024"
    _pure.Ring(backing.fd, backing.shape, new_owner())
    backing.close()


def test_without_room_for_the_smallest_ring_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(1000, monkeypatch)
    backing = open_in(tmp_path / "rings")
    assert (backing.kind, backing.shape) == ("anonymous", SHAPE)
    assert "No space left" in backing.reason
    assert not list((tmp_path / "rings").iterdir())


def test_descriptors_do_not_leak_from_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room_for(1000, monkeypatch)
    before = sorted(os.listdir("/proc/self/fd"))
    for number in range(20):
        open_in(tmp_path / f"rings{number}")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_the_file_is_locked_until_it_is_closed_and_removed_on_request(tmp_path: Path) -> None:
    backing = open_in(tmp_path / "rings")
    path = str(backing.path)
    assert is_locked(path)
    os.close(backing.fd)
    backing.fd = -1
    assert is_locked(path)
    backing.close()
    assert not is_locked(path)
    backing.close()
    backing.remove()
    backing.remove()
    assert not os.path.exists(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_child_that_closed_its_copies_does_not_keep_a_dead_parents_lock(tmp_path: Path) -> None:
    """The child still has the ring mapped, and outlives its parent."""
    program = f"""
import os, sys
from fasttrace.core import _backing, _pure
from fasttrace.core._api import RingShape
owner = _backing.new_owner()
backing = _backing.open_ring_file({str(tmp_path / "rings")!r}, RingShape(*{tuple(SHAPE)!r}), owner, _pure.region_bytes)
ring = _pure.Ring(backing.fd, backing.shape, owner)
if os.fork() == 0:
    backing.close()
    print(backing.path, flush=True)
    sys.stdin.read()
os._exit(0)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        path = parent.stdout.readline().strip()
        parent.wait()
        assert not is_locked(path)
        parent.stdin.close()


def test_the_owner_is_told_from_another_process_with_its_pid() -> None:
    owner = new_owner()
    assert owner.pid == os.getpid()
    assert len(owner.writer_id) == len(owner.boot_id) == 16
    assert owner.writer_id != new_owner().writer_id
    assert owner.process_start == _backing.process_start(os.getpid())
    assert owner.boot_id == _backing.boot_id()
    if sys.platform == "linux":
        assert owner.process_start > 0
        assert any(owner.boot_id)


def test_what_the_system_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(_backing, "_read_text", refuse)
    assert (_backing.boot_id(), _backing.process_start(), _backing.file_system_of(1)) == (bytes(16), 0, "")
    monkeypatch.setattr(_backing, "_read_text", lambda path: "not what was expected")
    assert (_backing.boot_id(), _backing.process_start(), _backing.file_system_of(1)) == (bytes(16), 0, "")


# ---- which processes live


@pytest.mark.skipif(sys.platform == "win32", reason="the system is not asked there")
def test_a_process_lives_from_its_start_to_its_end_and_not_under_another_start() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        start = _backing.process_start(process.pid)
        assert _backing.is_alive(process.pid) and _backing.is_alive(process.pid, start)
        if start:
            assert not _backing.is_alive(process.pid, start + 1)
        process.communicate(b"\n")
    assert not _backing.is_alive(process.pid, start)
    assert not _backing.is_alive(1 << 40)
    assert _backing.is_alive(os.getpid(), _backing.process_start())


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="nothing tells of the state of a process there")
def test_a_process_that_nobody_has_asked_for_its_exit_code_is_dead() -> None:
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", ""])
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        assert not _backing.is_alive(pid)
    finally:
        os.waitpid(pid, 0)
