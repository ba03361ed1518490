"""`fasttrace spool list` and `purge`, run as a user runs them, on directories with real segments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fasttrace.core._backing import process_start

if TYPE_CHECKING:
    from fasttrace.exporters.spool import Spool


def files(command: Any) -> list[str]:
    return sorted(path.name for path in (command.state / "spool").rglob("*") if path.is_file())


def test_nothing_there_is_said_and_no_error(command: Any) -> None:
    done = command("spool", "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "waiting    nothing" in done.stdout
    assert not command.state.exists()


def test_segments_are_listed_oldest_first_with_their_service(command: Any, fill: Any) -> None:
    fill(segments=3, spans=4)
    before = files(command)
    done = command("spool", "list")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "checkout" in line]
    assert [row[-1] for row in rows] == ["waiting"] * 3
    assert "12 spans in 3 segments" in done.stdout
    assert files(command) == before


def test_the_state_directory_can_be_named(command: Any, fill: Any) -> None:
    fill()
    done = command("spool", "list", "--state-dir", str(command.state), FASTTRACE_STATE_DIR="/nonexistent")
    assert "6 spans in 2 segments" in done.stdout


def test_what_is_being_sent_is_told_from_what_was_left(command: Any, fill: Any, spool: Spool) -> None:
    fill(segments=2, spans=1)
    folder = Path(spool.path)
    first, second = sorted(folder.iterdir())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    first.rename(folder / f"{first.name}.sending-{os.getpid()}-{process_start()}")
    second.rename(folder / f"{second.name}.sending-{dead.pid}-1")
    (folder / f".{first.name}.{os.getpid()}-{process_start()}.tmp").write_bytes(b"half")
    done = command("spool", "list")
    assert f"being sent by {os.getpid()}" in done.stdout
    assert f"left by {dead.pid}" in done.stdout
    assert "2 spans in 2 segments" in done.stdout


def test_what_was_set_aside_is_counted_with_the_newest_reason(command: Any, fill: Any, spool: Spool) -> None:
    fill(segments=1)
    segment = spool.claim()
    assert segment is not None
    spool.reject(segment.batch, [(1, "no such \x1b[31mtenant")])
    (Path(spool.path) / "corrupt").mkdir()
    (Path(spool.path) / "corrupt" / "x").write_bytes(b"?")
    done = command("spool", "list")
    assert "corrupt    1 file, 1 bytes" in done.stdout
    assert "rejected   1 file" in done.stdout
    assert "no such tenant" in done.stdout
    assert "\x1b" not in done.stdout


def test_no_line_is_wider_than_a_hundred_columns(command: Any, fill: Any) -> None:
    fill(service="a service with a name that does not want to come to an end " * 2)
    for arguments in (("list",), ("show",), ("show", "--limit", "1")):
        for is_without_rich in (False, True):
            done = command("spool", *arguments, is_without_rich=is_without_rich)
            assert done.returncode == 0, done.stderr
            assert max(map(len, done.stdout.splitlines()[1:])) <= 100
            assert "\x1b" not in done.stdout


# ---- purge


def test_purge_asks_first(command: Any, fill: Any) -> None:
    fill()
    before = files(command)
    done = command("spool", "purge")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--yes" in done.stderr
    assert files(command) == before


def test_purge_says_what_went_and_leaves_what_is_being_sent(command: Any, fill: Any, spool: Spool) -> None:
    fill(segments=3, spans=2)
    claimed = spool.claim()
    assert claimed is not None
    done = command("spool", "purge", "--yes")
    assert (done.returncode, done.stdout) == (0, "removed 4 spans in 2 segments\n")
    assert [name.startswith(claimed.name) for name in files(command)] == [True]


ACTIONS = (("list",), ("show",), ("purge", "--yes"), ("export", "--output", "-"))


@pytest.mark.skipif(sys.platform == "win32", reason="links are a matter of POSIX")
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action[0])
def test_a_spool_that_is_a_link_is_refused(command: Any, fill: Any, tmp_path: Path, action: tuple[str, ...]) -> None:
    fill()
    before = files(command)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "spool").symlink_to(command.state / "spool")
    done = command("spool", *action, "--state-dir", str(tmp_path / "linked"))
    assert done.returncode == 2
    assert "is a link, which is not followed" in done.stderr and "FASTTRACE_STATE_DIR" in done.stderr
    assert files(command) == before


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root makes files of others")
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action[0])
def test_the_spool_of_another_user_is_refused(command: Any, fill: Any, action: tuple[str, ...]) -> None:
    fill()
    before = files(command)
    os.chown(command.state / "spool", 12345, 12345)
    done = command("spool", *action)
    assert (done.returncode, "call" in done.stdout) == (2, False)
    assert "belongs to user 12345" in done.stderr and "run as that user" in done.stderr
    assert files(command) == before


@pytest.mark.skipif(sys.platform == "win32", reason="links are a matter of POSIX")
def test_purge_removes_nothing_through_a_link(command: Any, fill: Any, spool: Spool, tmp_path: Path) -> None:
    fill(segments=1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    (Path(spool.path) / "corrupt").symlink_to(tmp_path / "elsewhere")
    done = command("spool", "purge", "--yes")
    assert done.returncode == 2 and "is a link" in done.stderr
    assert (tmp_path / "elsewhere" / "mine").read_text() == "mine"
    assert len(files(command)) == 1


@pytest.mark.parametrize("kind", ["corrupt", "rejected"])
def test_purge_removes_only_what_is_named(command: Any, fill: Any, spool: Spool, kind: str) -> None:
    fill(segments=1)
    for folder in ("corrupt", "rejected"):
        (Path(spool.path) / folder).mkdir()
        (Path(spool.path) / folder / folder).write_bytes(b"{}\n")
    done = command("spool", "purge", "--yes", f"--{kind}")
    assert (done.returncode, done.stdout) == (0, f"removed 1 file of {kind}/\n")
    left = files(command)
    assert kind not in left and len(left) == 2
    assert command("spool", "purge", "--yes", f"--{kind}").stdout == "nothing to remove\n"


def test_a_word_typed_at_a_terminal_confirms(command: Any, fill: Any) -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    fill()
    for word, left in (("no", 2), ("purge", 0)):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "fasttrace", "spool", "purge"],
            env=command.environment(),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            os.write(ours, word.encode() + b"\n")
            out, _ = process.communicate(timeout=60)
        os.close(ours)
        os.close(theirs)
        assert b"6 spans in 2 segments will be gone for good" in out
        assert len(files(command)) == left
