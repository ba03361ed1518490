"""`fasttrace spool show` and `export`: spans read beside processes that send them, printed for whatever reads them."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from segments import batch_of

from fasttrace.cli import spool_export, terminal
from fasttrace.config import load
from fasttrace.core import core
from fasttrace.trace.recovery import Recovery
from fasttrace.trace.tracer import PROCESSOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fasttrace.exporters.base import EncodedBatch
    from fasttrace.exporters.spool import Spool

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31mred\x00\r\n\u202eevil"


def test_the_newest_come_last_in_table_and_lines(command: Any, fill: Any) -> None:
    fill(segments=2, spans=3)
    done = command("spool", "show", "--limit", "2", is_without_rich=True)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "call" in line]
    assert ["call 4" in rows[0], "call 5" in rows[1], len(rows)] == [True, True, 2]
    assert "the newest 2 spans of 6" in done.stdout


def test_rich_shows_the_table_of_the_demo(command: Any, fill: Any) -> None:
    fill(segments=1, spans=3)
    done = command("spool", "show")
    assert "3 spans, 3 calls" in done.stdout
    assert "spans that are waiting" in done.stdout


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "none"])
def test_json_lines_are_as_they_were_recorded(command: Any, fill: Any, encoding: str) -> None:
    lines = fill(segments=2, encoding=encoding, cost_usd=0.000000000001)
    done = command("spool", "show", "--json")
    assert done.stdout.encode().splitlines() == lines
    assert command("spool", "show", "--json", "--limit", "0").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--model", "claude*"), ["b"]),
        (("--status", "error"), ["b", "c"]),
        (("--status", "error", "--service", "billing"), ["c"]),
        (("--model", "nothing"), []),
    ],
)
def test_filters_narrow_what_is_shown(command: Any, fill: Any, arguments: tuple[str, ...], names: list[str]) -> None:
    fill(1, 1, name="a")
    fill(1, 1, name="b", model_id="claude-haiku-4-5", status="error")
    fill(1, 1, name="c", status="error", service="billing")
    done = command("spool", "show", "--json", *arguments)
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == names


@pytest.mark.parametrize("is_without_rich", [False, True], ids=["rich", "plain"])
def test_no_text_of_a_span_reaches_the_terminal_as_a_command(command: Any, fill: Any, is_without_rich: bool) -> None:
    fill(1, 2, name=HOSTILE, operation=HOSTILE, model_id=HOSTILE, status=HOSTILE, service=HOSTILE)
    for arguments in (("show",), ("list",)):
        done = command("spool", *arguments, is_without_rich=is_without_rich)
        assert done.returncode == 0, done.stderr
        assert "red" in done.stdout
        assert [letter for letter in done.stdout if letter != "\n" and not letter.isprintable()] == []


MARKUP = "gpt[/b]x [link=https://example.com]here[/link] [red]4[/]"


@pytest.mark.parametrize("is_without_rich", [False, True], ids=["rich", "plain"])
def test_text_that_looks_like_markup_is_text(command: Any, fill: Any, is_without_rich: bool) -> None:
    fill(1, 1, name=MARKUP, operation=MARKUP, model_id=MARKUP, status=MARKUP, service=MARKUP)
    for arguments in (("show",), ("list",)):
        done = command("spool", *arguments, is_without_rich=is_without_rich, FORCE_COLOR="1", COLUMNS="250")
        assert (done.returncode, done.stderr) == (0, "")
        assert "gpt[/b]x" in done.stdout
        assert "\x1b]8" not in done.stdout


def test_json_on_a_terminal_keeps_its_value_and_loses_its_power() -> None:
    line = json.dumps({"name": HOSTILE + "\ud800"[:0]}, ensure_ascii=False).encode()
    shown = terminal.json_for_terminal(line)
    assert shown.isprintable()
    assert json.loads(shown) == json.loads(line)


def test_lines_that_are_no_spans_do_not_stop_the_table(command: Any, fill: Any, spool: Spool) -> None:
    fill(1, 1)
    deep = b"[" * 100_000
    spool.write(batch_of([b"null", b"[1]", b"{}", b'{"kind":1}', b"\xff", deep, b'{"span_id":"x","status":true}'], 10))
    for is_without_rich in (False, True):
        done = command("spool", "show", is_without_rich=is_without_rich)
        assert done.returncode == 0, done.stderr
        assert "7 lines more that no span is in" in done.stdout


def test_a_damaged_segment_is_named_and_the_rest_shown(command: Any, fill: Any, spool: Spool) -> None:
    fill(2, 1)
    first = sorted(Path(spool.path).iterdir())[0]
    first.write_bytes(b"\0" * 40)
    done = command("spool", "show", "--json")
    assert len(done.stdout.splitlines()) == 1
    assert first.name in done.stderr


def test_a_segment_that_is_claimed_meanwhile_is_still_read(fill: Any, command: Any, spool: Spool) -> None:
    from fasttrace.exporters.spool_view import SpoolView

    lines = fill(1, 2)
    view = SpoolView(str(command.state))
    (segment,) = view.segments()
    claimed = spool.claim()
    assert claimed is not None
    assert view.lines(segment) == lines
    (sending,) = view.segments()
    spool.restore(claimed)
    assert view.lines(sending) == lines
    again = spool.claim()
    assert again is not None
    spool.release(again)
    assert view.lines(segment) is None
    assert view.segments() == []


def test_a_reader_that_goes_ends_it_quietly(command: Any, fill: Any) -> None:
    fill(40, 50)
    process = command.start("spool", "show", "--json")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


# ---- follow


def read_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    """So many lines, or an error after a while."""
    found: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: found.extend(process.stdout.readline() for _ in range(count)), daemon=True)
    reader.start()
    reader.join(30)
    assert len(found) == count, found
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for another process there")
def test_following_prints_what_other_processes_spool_until_interrupted(command: Any, fill: Any, spool: Spool) -> None:
    fill(1, 1)
    process = command.start("spool", "show", "--follow", "--json")
    assert len(read_lines(process, 1)) == 1
    while (segment := spool.claim()) is not None:
        spool.release(segment)
    fill(1, 2, name="new")
    assert [json.loads(line)["name"] for line in read_lines(process, 2)] == ["new", "new"]
    recording = "import fasttrace\nwith fasttrace.span('elsewhere'): pass\nfasttrace.flush(5)"
    subprocess.run([sys.executable, "-c", recording], env=command.environment(), check=True, timeout=60)
    assert json.loads(read_lines(process, 1)[0])["name"] == "elsewhere"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


# ---- export


def test_export_copies_everything_and_takes_nothing(command: Any, fill: Any, spool: Spool, tmp_path: Path) -> None:
    lines = fill(3, 2)
    before = sorted(os.listdir(spool.path))
    target = tmp_path / "spans.jsonl"
    done = command("spool", "export", "--output", str(target))
    assert (done.returncode, done.stdout) == (0, "")
    assert target.read_bytes().splitlines() == lines
    assert sorted(os.listdir(spool.path)) == before
    if sys.platform != "win32":
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert command("spool", "export", "--output", "-").stdout.encode().splitlines() == lines


def test_export_replaces_a_file_only_when_forced(command: Any, fill: Any, tmp_path: Path) -> None:
    lines = fill(1, 1)
    target = tmp_path / "spans.jsonl"
    target.write_text("mine")
    done = command("spool", "export", "--output", str(target))
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert target.read_text() == "mine"
    assert command("spool", "export", "--output", str(target), "--force").returncode == 0
    assert target.read_bytes().splitlines() == lines
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes and links in directories there")
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
def test_export_replaces_nothing_but_files(command: Any, fill: Any, tmp_path: Path, force: tuple[str, ...]) -> None:
    fill(1, 1)
    mine = tmp_path / "mine"
    mine.write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(mine)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    before = sorted(os.listdir(tmp_path))
    for target in ("pipe", "link", "dangling", "folder"):
        done = command("spool", "export", "--output", str(tmp_path / target), *force)
        assert done.returncode == 2
        assert "is no regular file" in done.stderr
    assert sorted(os.listdir(tmp_path)) == before
    assert (mine.read_text(), (tmp_path / "link").is_symlink()) == ("mine", True)
    assert "is no regular file" in command("spool", "export", "--output", os.devnull, *force).stderr
    assert not stat.S_ISREG(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("is_forced", [False, True], ids=["new", "force"])
def test_export_has_its_name_only_when_it_is_whole(tmp_path: Path, is_forced: bool) -> None:
    target = tmp_path / "spans.jsonl"
    before = [target] if is_forced else []
    if is_forced:
        target.write_text("mine")

    def lines(error: BaseException | None) -> Iterator[bytes]:
        yield b"one"
        assert [path for path in tmp_path.iterdir() if path.name == target.name] == before
        if error is not None:
            raise error
        yield b"two"

    for error in (KeyboardInterrupt(), OSError("no luck")):
        with pytest.raises(type(error)):
            spool_export._write_file(str(target), is_forced, lines(error))
        assert list(tmp_path.iterdir()) == before
    assert spool_export._write_file(str(target), is_forced, lines(None)) == ""
    assert (list(tmp_path.iterdir()), target.read_bytes()) == ([target], b"one\ntwo\n")


def test_export_takes_no_name_that_was_taken_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "spans.jsonl"

    def lines() -> Iterator[bytes]:
        target.write_text("another's")
        yield b"one"

    assert "is there already" in spool_export._write_file(str(target), False, lines())
    assert (list(tmp_path.iterdir()), target.read_text()) == ([target], "another's")


def test_export_into_a_directory_that_is_not_there_names_the_file(command: Any, tmp_path: Path) -> None:
    done = command("spool", "export", "--output", str(tmp_path / "none" / "spans.jsonl"))
    assert (done.returncode, done.stdout) == (2, "")
    assert str(tmp_path / "none" / "spans.jsonl") in done.stderr


def test_export_says_what_it_could_not_read(command: Any, fill: Any, spool: Spool) -> None:
    fill(2, 1)
    first = sorted(Path(spool.path).iterdir())[0]
    first.write_bytes(b"\0" * 40)
    done = command("spool", "export", "--output", "-")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert first.name in done.stderr


DIES = """
import os, fasttrace
with fasttrace.span("spooled"): pass
fasttrace.flush(30)
with fasttrace.span("in the ring"): pass
os._exit(9)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no ring files there")
def test_export_reads_the_rings_of_the_dead_and_leaves_them(command: Any, fill: Any) -> None:
    fill(1, 1)
    settings = command.environment(FASTTRACE_FLUSH_INTERVAL="60")
    subprocess.run([sys.executable, "-c", DIES], env=settings, check=False, timeout=60)
    before = sorted(os.listdir(command.rings))
    done = command("spool", "export", "--output", "-", "--from-rings")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == ["call 0", "spooled", "in the ring"]
    assert "1 ring of dead processes among them" in done.stderr
    assert sorted(os.listdir(command.rings)) == before


HIDES = """
import os, fasttrace
fasttrace.init(redact=lambda field, value: "hidden" if field == "error_message" else None)
for name in ("kept", "told"):
    try:
        with fasttrace.span(name, attributes={"who": "a customer"}): raise ValueError("a secret of the user")
    except ValueError: pass
os._exit(9)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no ring files there")
def test_export_leaves_out_the_texts_of_a_process_that_had_a_redaction(command: Any) -> None:
    settings = command.environment(FASTTRACE_FLUSH_INTERVAL="60")
    subprocess.run([sys.executable, "-c", HIDES], env=settings, check=False, timeout=60)
    (ring,) = command.rings.iterdir()
    assert b"a secret of the user" in ring.read_bytes()
    done = command("spool", "export", "--output", "-", "--from-rings")
    assert done.returncode == 0, done.stderr
    spans = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(span["name"], span["status"]) for span in spans] == [("kept", "error"), ("told", "error")]
    assert not {"error_message", "error_stack", "attributes", "input", "output"} & set().union(*spans)
    assert "secret" not in done.stdout and "customer" not in done.stdout
    assert "a redaction of its own" in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no ring files there")
def test_export_takes_what_is_in_the_spool_and_in_the_ring_once(command: Any, spool: Spool) -> None:
    settings = command.environment(FASTTRACE_FLUSH_INTERVAL="60")
    subprocess.run([sys.executable, "-c", DIES], env=settings, check=False, timeout=60)
    (ring,) = command.rings.iterdir()
    left = ring.read_bytes()
    adopted: list[EncodedBatch] = []
    config = load({}, {"ring_dir": str(command.rings)})[0]
    recovery = Recovery(core, PROCESSOR.encoder(), config, lambda batch, *_: not adopted.append(batch))
    while recovery.step():
        continue
    spool.write(adopted[0])
    ring.write_bytes(left)
    done = command("spool", "export", "--output", "-", "--from-rings")
    names = [json.loads(line)["name"] for line in done.stdout.splitlines()]
    assert sorted(names) == ["in the ring", "spooled"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no ring files there")
def test_rings_of_the_dead_are_listed(command: Any) -> None:
    settings = command.environment(FASTTRACE_FLUSH_INTERVAL="60", FASTTRACE_SERVICE_NAME="shop")
    subprocess.run([sys.executable, "-c", DIES], env=settings, check=False, timeout=60)
    done = command("spool", "list")
    assert "1 span of process " in done.stdout
    assert "fasttrace spool drain" in done.stdout
