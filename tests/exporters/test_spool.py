"""The spool as files on disk: whole or absent, oldest first, claimed once, bounded, and not to be fooled."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fasttrace.core._backing import process_start
from fasttrace.exporters import spool as module
from fasttrace.exporters.owner import this_process
from fasttrace.exporters.spool import Evicted, Spool

if TYPE_CHECKING:
    from fasttrace.exporters.base import EncodedBatch

Make = "Callable[..., EncodedBatch]"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path), 1 << 20)


@pytest.fixture
def folder(spool: Spool) -> Path:
    return Path(spool.path)


def segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def drained(spool: Spool) -> list[EncodedBatch]:
    """Everything that can be claimed, released as if it had been sent."""
    spool.look()
    batches = []
    while (segment := spool.claim()) is not None:
        batches.append(segment.batch)
        spool.release(segment)
    return batches


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "none"])
def test_a_batch_comes_back_as_it_was(spool: Spool, folder: Path, make_batch: Any, encoding: str) -> None:
    whole = make_batch(4, first=2**64 - 4, encoding=encoding)
    batches = [whole, *whole.halves()]
    for batch in batches:
        spool.write(batch)
    assert drained(Spool(str(folder.parent), 1 << 20)) == batches
    assert segments(folder) == []


def test_the_oldest_is_first_whatever_the_clock_does(
    spool: Spool, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [make_batch(1, first=n) for n in range(4)]
    for batch, now_ns in zip(batches, [5_000, 4_000, 4_000, 6_000], strict=True):
        monkeypatch.setattr(module, "time", SimpleNamespace(time_ns=lambda now_ns=now_ns: now_ns))
        spool.write(batch)
    monkeypatch.undo()
    assert drained(spool) == batches


def test_a_clock_that_was_set_back_makes_nothing_older_than_what_is_there(
    spool: Spool, folder: Path, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = time.time_ns()
    for n, offset_ns in enumerate((10**15, 0, -(10**15))):
        moment_ns = now_ns + offset_ns
        monkeypatch.setattr(module, "time", SimpleNamespace(time_ns=lambda moment_ns=moment_ns: moment_ns))
        Spool(str(folder.parent), 1 << 20).write(make_batch(1, first=n))
    assert drained(spool) == [make_batch(1, first=n) for n in range(3)]


@pytest.mark.parametrize("years", [11, 2000])
def test_a_name_of_no_clock_is_not_followed(spool: Spool, folder: Path, make_batch: Any, years: int) -> None:
    spool.write(make_batch(1))
    (path,) = segments(folder)
    created_ns = min(time.time_ns() + years * 365 * 86_400 * 10**9, 10**20 - 1)
    path.rename(folder / f"{created_ns:020d}{path.name[20:]}")
    for n in (1, 2):
        Spool(str(folder.parent), 1 << 20).write(make_batch(1, first=n))
    ahead_ns = [int(path.name[:20]) - time.time_ns() for path in segments(folder)]
    assert [age_ns < 10**9 for age_ns in ahead_ns] == [True, True, False]
    assert drained(spool) == [make_batch(1, first=n) for n in (1, 2, 0)]


@pytest.mark.skipif(sys.platform == "win32", reason="modes are a matter of POSIX")
def test_files_and_directories_are_private(spool: Spool, folder: Path, make_batch: Any) -> None:
    spool.write(make_batch())
    spool.reject(make_batch(), [(1, "bad")])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in segments(folder)] == [0o600]
    assert (folder / "rejected").stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    spool.write(make_batch(1))
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="modes are a matter of POSIX")
def test_missing_parents_are_private_too(make_batch: Any, tmp_path: Path) -> None:
    Spool(str(tmp_path / "home" / "state" / "fasttrace"), 1 << 20).write(make_batch())
    made = [tmp_path / "home", tmp_path / "home" / "state", tmp_path / "home" / "state" / "fasttrace"]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * 3


@pytest.mark.skipif(sys.platform == "win32", reason="directories cannot be opened there")
def test_a_segments_name_is_on_disk_too(
    spool: Spool, folder: Path, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, int]] = []
    fsync = os.fsync

    def note(fd: int) -> None:
        synced.append(
            (stat.S_ISDIR(os.fstat(fd).st_mode), len([name for name in os.listdir(folder) if name[0] != "."]))
        )
        fsync(fd)

    monkeypatch.setattr(module.os, "fsync", note)
    spool.write(make_batch())
    assert synced == [(False, 0), (True, 1)]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_directory_that_is_a_link_is_refused(spool: Spool, folder: Path, make_batch: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="FASTTRACE_STATE_DIR"):
        spool.write(make_batch())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_removed_directory_is_made_again(spool: Spool, folder: Path, make_batch: Any) -> None:
    spool.write(make_batch(1))
    segments(folder)[0].unlink()
    folder.rmdir()
    assert drained(spool) == []
    spool.write(make_batch(2))
    assert drained(spool) == [make_batch(2)]


def test_a_failed_write_leaves_nothing(
    spool: Spool, folder: Path, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        spool.write(make_batch())
    assert list(folder.iterdir()) == []


# ---- several processes


def test_a_segment_is_claimed_once(spool: Spool, folder: Path, make_batch: Any) -> None:
    spool.write(make_batch())
    other = Spool(str(folder.parent), 1 << 20)
    assert spool.look() and other.look()
    assert spool.claim() is not None
    assert other.claim() is None
    assert not other.look()


def test_a_claim_can_be_given_back(spool: Spool, folder: Path, make_batch: Any) -> None:
    batches = [make_batch(1, first=n) for n in range(3)]
    for batch in batches:
        spool.write(batch)
    segment = spool.claim()
    assert segment is not None
    spool.restore(segment)
    assert drained(Spool(str(folder.parent), 1 << 20)) == batches


def dead_pid() -> int:
    """The id of a process that was, and is no more."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_the_claim_of_a_dead_process_is_undone(spool: Spool, folder: Path, make_batch: Any) -> None:
    spool.write(make_batch())
    (path,) = segments(folder)
    path.rename(f"{path}.sending-{dead_pid()}")
    assert drained(spool) == [make_batch()]


def test_the_claim_of_a_living_process_holds_until_it_is_old(spool: Spool, folder: Path, make_batch: Any) -> None:
    spool.write(make_batch())
    (path,) = segments(folder)
    claimed = Path(f"{path}.sending-{os.getppid()}")
    path.rename(claimed)
    assert drained(spool) == []
    os.utime(claimed, (0, 0))
    assert drained(spool) == [make_batch()]


def test_the_claim_of_this_process_in_an_earlier_life_is_undone(spool: Spool, folder: Path, make_batch: Any) -> None:
    for n in range(3):
        spool.write(make_batch(1, first=n))
    owners = [f"{os.getpid()}-{process_start() - 1}", f"{os.getpid()}", this_process()]
    for path, owner in zip(segments(folder), owners, strict=True):
        path.rename(f"{path}.sending-{owner}")
    assert drained(spool) == [make_batch(1, first=0), make_batch(1, first=1)]
    assert len(segments(folder)) == 1, "what this process claimed is being sent"


@pytest.mark.skipif(not process_start(), reason="this system does not tell when a process started")
def test_a_number_that_came_again_is_another_process(spool: Spool, folder: Path, make_batch: Any) -> None:
    parent = os.getppid()
    for n, start in enumerate((process_start(parent), process_start(parent) - 1)):
        spool.write(make_batch(1, first=n))
        path = segments(folder)[-1]
        path.rename(f"{path}.sending-{parent}-{start}")
    torn = folder / f".x.{parent}-{process_start(parent) - 1}.tmp"
    torn.write_bytes(b"half of it")
    assert drained(spool) == [make_batch(1, first=1)]
    assert not torn.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not tell")
def test_a_process_that_nobody_buried_is_dead(spool: Spool, folder: Path, make_batch: Any) -> None:
    spool.write(make_batch())
    child = subprocess.Popen([sys.executable, "-c", ""])
    start = process_start(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    (path,) = segments(folder)
    path.rename(f"{path}.sending-{child.pid}-{start}")
    assert drained(spool) == [make_batch()]
    child.wait()


# ---- what a recovered batch needs


def test_a_batch_of_the_past_is_sent_in_its_turn(spool: Spool, folder: Path, make_batch: Any) -> None:
    now_ns = time.time_ns()
    spool.write(make_batch(1, first=5))
    ages = {3: now_ns - 10**9, 1: -7, 2: now_ns - 10**12, 4: now_ns - 10**9}
    for first, created_ns in ages.items():
        spool.write(make_batch(1, first=first), created_ns)
    spool.write(make_batch(1, first=6), now_ns + 10**15)
    order = [int(path.name.split("-")[2]) for path in segments(folder)]
    assert order == [1, 2, 3, 4, 5, 6]
    claimed = []
    while (segment := spool.claim()) is not None:
        claimed.append(int(segment.batch.batch_id.split(":")[1]))
    assert claimed == order, "also before the directory is read anew"


def test_the_same_batch_and_age_twice_is_two_segments(spool: Spool, folder: Path, make_batch: Any) -> None:
    for _ in range(3):
        spool.write(make_batch(2), 1_000)
    assert drained(Spool(str(folder.parent), 1 << 20)) == [make_batch(2)] * 3


def test_what_the_spool_holds(spool: Spool, folder: Path, make_batch: Any) -> None:
    whole = make_batch(4, first=7)
    first, second = whole.halves()
    assert not spool.holds(whole.batch_id)
    spool.write(whole)
    spool.write(first)
    other = Spool(str(folder.parent), 1 << 20)
    for _ in range(2):
        held = [other.holds(batch.batch_id) for batch in (whole, first, second, make_batch(3, first=7))]
        assert held == [True, True, False, False]
        segment = spool.claim()
        assert segment is not None
    spool.release(segment)
    assert [other.holds(batch.batch_id) for batch in (whole, first)] == [True, False]


def test_what_a_dead_process_was_writing_is_removed(spool: Spool, folder: Path, make_batch: Any) -> None:
    spool.write(make_batch())
    torn = folder / f".{segments(folder)[0].name}.{dead_pid()}.tmp"
    torn.write_bytes(b"half of it")
    being_written = folder / f".x.{this_process()}.tmp"
    being_written.write_bytes(b"half of it")
    assert drained(spool) == [make_batch()]
    assert not torn.exists()
    assert being_written.exists()


# ---- damage


def test_any_flipped_bit_and_any_cut_is_found(spool: Spool, folder: Path, make_batch: Any) -> None:
    batch = make_batch(1)
    spool.write(batch)
    (path,) = segments(folder)
    damaged = [batch.body[:n] for n in range(len(batch.body))]
    damaged += [
        bytes([*batch.body[:n], batch.body[n] ^ 1 << bit, *batch.body[n + 1 :]])
        for n in range(len(batch.body))
        for bit in range(8)
    ]
    for body in [*damaged, b"", batch.body + b"\0", bytes(len(batch.body))]:
        path.write_bytes(body)
        assert drained(spool) == []
        assert segments(folder) == []


def test_damage_is_set_aside_and_the_rest_goes_on(spool: Spool, folder: Path, make_batch: Any) -> None:
    for n in range(3):
        spool.write(make_batch(1, first=n))
    damaged = segments(folder)[1]
    damaged.write_bytes(b"garbage")
    (folder / "notes.txt").write_text("not ours")
    assert drained(spool) == [make_batch(1, first=0), make_batch(1, first=2)]
    assert (folder / "corrupt" / damaged.name).read_bytes() == b"garbage"
    assert (folder / "notes.txt").read_text() == "not ours"


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_segment_that_is_a_link_is_not_read(spool: Spool, folder: Path, make_batch: Any, tmp_path: Path) -> None:
    spool.write(make_batch())
    (path,) = segments(folder)
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    assert drained(spool) == []
    assert (tmp_path / "outside").exists()


# ---- the bound


def test_a_full_spool_loses_its_oldest(folder: Path, make_batch: Any) -> None:
    batches = [make_batch(10, writer=f"{n:032x}") for n in range(5)]
    size = len(batches[0].body)
    spool = Spool(str(folder.parent), 3 * size + size // 2)
    evicted = [spool.write(batch) for batch in batches]
    assert evicted == [[], [], [], [Evicted(f"{0:032x}", 10)], [Evicted(f"{1:032x}", 10)]]
    assert drained(spool) == batches[2:]


def test_what_others_wrote_counts_too(folder: Path, make_batch: Any) -> None:
    size = len(make_batch(10).body)
    other = Spool(str(folder.parent), 1 << 20)
    for n in range(5):
        other.write(make_batch(10, writer=f"{n:032x}"))
    evicted = Spool(str(folder.parent), 3 * size).write(make_batch(10))
    assert [segment.writer for segment in evicted] == [f"{n:032x}" for n in range(3)]


@pytest.mark.parametrize("batches", [100, 300])
def test_many_writers_keep_to_the_bound_together(folder: Path, make_batch: Any, batches: int) -> None:
    """Each may write a 128th of it before it counts what the others wrote."""
    size, writers = len(make_batch(10, encoding="none").body), 16
    bound = batches * size
    spools = [Spool(str(folder.parent), bound) for _ in range(writers)]
    most = 0
    for n in range(25):
        for number, spool in enumerate(spools):
            spool.write(make_batch(10, first=n, writer=f"{number:032x}", encoding="none"))
        most = max(most, sum(path.stat().st_size for path in segments(folder)))
    assert 0.9 * bound < most <= (1 + writers / 128) * bound + size


def test_what_is_being_sent_is_not_evicted(folder: Path, make_batch: Any) -> None:
    spool = Spool(str(folder.parent), len(make_batch(10).body))
    spool.write(make_batch(10))
    segment = spool.claim()
    assert segment is not None
    assert spool.write(make_batch(10, first=1000)) == []
    spool.restore(segment)
    assert drained(spool) == [make_batch(10), make_batch(10, first=1000)]


def test_one_batch_larger_than_the_spool_is_kept(folder: Path, make_batch: Any) -> None:
    spool = Spool(str(folder.parent), 10)
    assert spool.write(make_batch()) == []
    assert drained(spool) == [make_batch()]


def test_room_is_what_no_other_has_to_leave(folder: Path, make_batch: Any) -> None:
    size = len(make_batch(10, first=1000, encoding="none").body)
    spool, other = (Spool(str(folder.parent), 3 * size) for _ in range(2))
    assert spool.has_room(9 * size), "an empty spool takes one of any size"
    for n in range(2):
        other.write(make_batch(10, first=1000 + 10 * n, encoding="none"))
    assert spool.has_room(size) and not spool.has_room(size + 1)
    other.write(make_batch(10, first=2000, encoding="none"))
    assert not spool.has_room(1), "what others wrote is counted afresh"
    spool.look()
    segment = spool.claim()
    assert segment is not None
    spool.release(segment)
    assert spool.has_room(size)


def test_what_was_written_with_an_age_is_held_though_it_was_sent(folder: Path, make_batch: Any) -> None:
    spool = Spool(str(folder.parent), 1 << 20)
    spool.write(make_batch(3), 1_000)
    assert drained(spool) == [make_batch(3)]
    assert spool.holds(make_batch(3).batch_id)
    assert not Spool(str(folder.parent), 1 << 20).holds(make_batch(3).batch_id)


# ---- rejected lines


def test_rejected_lines_are_kept_with_the_reason(spool: Spool, folder: Path, make_batch: Any) -> None:
    spool.reject(make_batch(3), [(1, 'no "model"'), (3, "bad")])
    (path,) = (folder / "rejected").iterdir()
    entries = [json.loads(line) for line in path.read_bytes().splitlines()]
    spans = [json.loads(line) for line in make_batch(3).lines()]
    assert entries == [{"error": 'no "model"', "span": spans[0]}, {"error": "bad", "span": spans[2]}]
    assert drained(spool) == []


def test_rejected_lines_are_bounded(folder: Path, make_batch: Any) -> None:
    spool = Spool(str(folder.parent), 1 << 14)
    for n in range(100):
        spool.reject(make_batch(1, first=n), [(1, "x" * 100)])
    kept = sorted((folder / "rejected").iterdir())
    assert sum(path.stat().st_size for path in kept) <= 1 << 10
    assert json.loads(kept[-1].read_bytes())["span"]["n"] == 99
