"""`fasttrace doctor`, run as a user runs it: what it finds right and wrong with real directories, rings, collectors."""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from segments import SOURCES

import fasttrace
from collector import Collector, Raw, Reply, Silent
from fasttrace.cli import check_collector, check_process, check_rings, check_sdks
from fasttrace.cli.check import advice_for, guarded
from fasttrace.config import Config
from fasttrace.core._api import RingShape
from fasttrace.core._pure import layout
from fasttrace.exporters.http import judge
from fasttrace.trace.ring_files import ring_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fasttrace.exporters.spool import Spool

SELF_SIGNED = Path(__file__).resolve().parent.parent / "exporters" / "self_signed.pem"
RING_NAME = f"1-{'0a' * 16}.ring"
KEY = "ft-Secret-0123456789abcdef"


class Diagnosis:
    """What one run said: checks by name, in the order of their lines."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert done.stderr == ""
        self.code, self.text = done.returncode, done.stdout
        self.report = json.loads(done.stdout)
        self.checks: list[dict[str, str]] = self.report["checks"]
        assert all(check["advice"] for check in self.checks if check["status"] != "ok")

    def of(self, name: str) -> list[dict[str, str]]:
        return [check for check in self.checks if check["name"] == name]

    def one(self, name: str) -> dict[str, str]:
        (check,) = self.of(name)
        return check

    def worst(self, name: str) -> dict[str, str]:
        return max(self.of(name), key=lambda check: ("ok", "warn", "fail").index(check["status"]))


@pytest.fixture
def diagnose(command: Any) -> Any:
    return lambda **settings: Diagnosis(command("doctor", "--json", "--no-sdks", **settings))


def test_all_is_well_with_a_collector_that_takes_batches(diagnose: Any, collector: Collector, command: Any) -> None:
    found = diagnose(FASTTRACE_COLLECTOR_URL=collector.url, FASTTRACE_API_KEY=KEY)
    assert found.code == 0 and found.report["ok"]
    assert [check for check in found.checks if check["status"] == "fail"] == []
    assert found.one("core")["found"].startswith(("native", "pure"))
    assert fasttrace.__version__ in found.one("package")["found"]
    assert found.one("round trip")["status"] == found.one("skew")["status"] == "ok"
    (asked,) = collector.batches
    assert (asked.body, asked.headers["x-span-count"]) == (b"", "0")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in found.text and KEY[:6] not in found.text and KEY[-6:] not in found.text
    assert not command.state.exists() and not command.rings.exists()


def test_the_screen_is_narrow_plain_and_says_what_to_do(command: Any) -> None:
    done = command(
        "doctor",
        "--no-sdks",
        FASTTRACE_FLUSH_INTERVAL="soon",
        FASTTRACE_COLECTOR_URL="https://example.com/" + "x" * 200,
    )
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in done.stdout
    assert lines[-1].endswith("1 failure")
    starts = [line.split()[0] for line in lines if line[:1] != " "]
    assert set(starts[:-1]) == {"ok", "warn", "fail"}
    assert any(line.strip() == "-> correct or unset FASTTRACE_FLUSH_INTERVAL" for line in lines)


def test_every_bad_and_unknown_variable_is_named(diagnose: Any) -> None:
    found = diagnose(
        FASTTRACE_FLUSH_INTERVAL="soon", FASTTRACE_API_KEY="two words", FASTTRACE_COLECTOR_URL="https://example.com"
    )
    said = {check["advice"].split()[-1]: check["status"] for check in found.of("settings")}
    assert said == {
        "FASTTRACE_FLUSH_INTERVAL": "fail",
        "FASTTRACE_API_KEY": "fail",
        "FASTTRACE_COLECTOR_URL": "warn",
    }
    assert "did you mean FASTTRACE_COLLECTOR_URL?" in found.text
    assert "two words" not in found.text


def test_a_core_that_was_asked_for_is_fine_and_one_that_is_missing_is_told(diagnose: Any, monkeypatch: Any) -> None:
    assert diagnose(FASTTRACE_PURE="1").one("core") == {
        "name": "core",
        "status": "ok",
        "found": "pure Python, because FASTTRACE_PURE=1",
        "advice": "",
    }
    monkeypatch.setattr(check_process.core, "BACKEND", "pure", raising=False)
    monkeypatch.setattr(check_process, "find_spec", lambda name: None)
    (check,) = check_process.the_core({})
    assert check.status == "warn" and "was not built" in check.found


def test_recording_that_is_off_is_told(diagnose: Any) -> None:
    assert diagnose(FASTTRACE_ENABLED="false").worst("settings")["status"] == "warn"


# ---- rings


@pytest.mark.skipif(sys.platform == "win32", reason="no ring files there")
def test_a_ring_directory_that_is_open_to_others_is_not_used(diagnose: Any, command: Any) -> None:
    command.rings.mkdir()
    command.rings.chmod(0o755)
    ring = diagnose().one("ring")
    assert ring["status"] == "warn"
    assert "0755" in ring["found"] and "FASTTRACE_RING_DIR" in ring["advice"]
    assert command.rings.is_dir()


HOLDS = """
import fasttrace, sys, os
with fasttrace.span("spooled"): pass
fasttrace.flush(30)
with fasttrace.span("here"): pass
print("ready", flush=True)
sys.stdin.readline()
os._exit(0)
"""


@contextmanager
def recording(command: Any, script: str = HOLDS) -> Iterator[subprocess.Popen[str]]:
    """A process with a span in its ring that nobody has taken out."""
    settings = command.environment(FASTTRACE_FLUSH_INTERVAL="60", FASTTRACE_SERVICE_NAME="shop")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script],
        env=settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None or process.returncode == 0
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="no ring files there")
def test_rings_of_the_living_and_the_dead_are_told_apart(diagnose: Any, command: Any) -> None:
    with recording(command) as process:
        live = diagnose().one("rings")
        assert live["status"] == "ok"
        assert str(process.pid) in live["found"] and "(1 of 2 spans not sent yet)" in live["found"]
    before = os.listdir(command.rings)
    dead = diagnose().one("rings")
    assert dead["status"] == "warn"
    assert f"1 span not sent: {process.pid}" in dead["found"]
    assert "fasttrace spool drain" in dead["advice"]
    assert os.listdir(command.rings) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no ring files there")
def test_the_service_of_a_ring_is_read_from_its_header(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    resource = b'"service":"shop\\u001b[2J","sdk":"x"'
    page = bytearray(layout.offsets_of(RingShape()).total)
    numbers = (len(page), 0, 0, 0, 0, 0, 8192, 0, 0, 0)
    layout.HEADER.pack_into(page, 0, layout.MAGIC, layout.VERSION, 4096, *numbers, bytes(16), b"w" * 16, 1, 2, 3)
    for word, value in (
        (layout.READY, 1),
        (layout.HEAD, 7),
        (layout.ACKED, 2),
        (layout.RESOURCE_LENGTH, len(resource)),
    ):
        page[8 * word : 8 * word + 8] = value.to_bytes(8, sys.byteorder)
    page[layout.RESOURCE_AT : layout.RESOURCE_AT + len(resource)] = resource
    (tmp_path / RING_NAME).write_bytes(page)
    (found,) = ring_files(str(tmp_path))
    assert (found.state, found.pid, found.service, found.waiting) == ("dead", 1, "shop\x1b[2J", 5)
    (check,) = check_rings.other_rings(Config(ring_dir=str(tmp_path)))
    assert "1 shop (5 of 7 spans not sent yet)" in check.found
    for cut in (0, 100, 4096, len(page) - 1):
        (tmp_path / RING_NAME).write_bytes(page[:cut])
        assert ring_files(str(tmp_path))[0].state == "new"
        os.utime(tmp_path / RING_NAME, (1, 1))
        assert ring_files(str(tmp_path))[0].state == "unreadable"


@pytest.mark.skipif(sys.platform == "win32", reason="no ring files there")
def test_a_ring_that_somebody_else_keeps_locked_is_told(diagnose: Any, command: Any) -> None:
    import fcntl

    with recording(command) as process:
        (ring,) = command.rings.iterdir()
    with open(ring, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        held = diagnose().one("rings")
    assert held["status"] == "warn"
    assert "locked, though the owner is not to be seen" in held["found"] and str(process.pid) in held["found"]


@pytest.mark.skipif(sys.platform == "win32", reason="no ring files there")
def test_files_of_others_are_left_alone(diagnose: Any, command: Any) -> None:
    command.rings.mkdir(mode=0o700)
    names = ("notes.txt", RING_NAME, "1-00.pipe", "garbage")
    (command.rings / "notes.txt").write_text("x")
    (command.rings / RING_NAME).symlink_to("/etc/passwd")
    os.mkfifo(command.rings / "1-00.pipe")
    (command.rings / "garbage").write_bytes(b"FTTRING1" + os.urandom(8192))
    check = diagnose().one("rings")
    assert check["status"] == "ok" and "4 files of others" in check["found"]
    assert sorted(os.listdir(command.rings)) == sorted(names)


@pytest.mark.skipif(sys.platform == "win32", reason="no ring files there")
def test_only_what_nobody_can_read_any_more_is_for_removal(diagnose: Any, command: Any) -> None:
    import fcntl

    command.rings.mkdir(mode=0o700)
    ring = command.rings / RING_NAME
    ring.write_bytes(os.urandom(8192))
    assert diagnose().one("rings")["status"] == "ok"  # being made
    os.utime(ring, (1, time.time() - 3600))
    assert diagnose().one("rings")["status"] == "ok"  # of a dead process: recovery sets it aside
    os.utime(ring, (1, time.time() - 90_000))
    check = diagnose().one("rings")
    assert (check["status"], check["advice"]) == ("warn", "remove them")
    assert str(ring) in check["found"]
    with open(ring, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "remove" not in diagnose().one("rings")["advice"]
    newer = layout.MAGIC.to_bytes(8, sys.byteorder) + (layout.VERSION + 1).to_bytes(4, sys.byteorder)
    ring.write_bytes(newer + bytes(8192))
    os.utime(ring, (1, 1))
    check = diagnose().one("rings")
    assert "of a newer fasttrace" in check["found"] and "remove" not in check["advice"]


@pytest.mark.skipif(sys.platform == "win32", reason="no ring files there")
def test_rings_that_were_set_aside_have_a_line_of_their_own(diagnose: Any, command: Any) -> None:
    command.rings.mkdir(mode=0o700)
    (command.rings / f"{RING_NAME}.corrupt").write_bytes(bytes(100))
    check = diagnose().one("rings")
    assert check["status"] == "warn"
    assert check["found"].startswith("set aside") and f"{RING_NAME}.corrupt" in check["found"]
    assert "look at them" in check["advice"]


@pytest.mark.skipif(sys.platform == "win32", reason="no ring files there")
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_ring_directory_that_is_refused_is_not_scanned(diagnose: Any, command: Any, mode: int) -> None:
    command.rings.mkdir()
    command.rings.chmod(mode)
    (command.rings / RING_NAME).write_bytes(os.urandom(8192))
    os.utime(command.rings / RING_NAME, (1, 1))
    found = diagnose()
    assert found.one("rings")["found"] == "none of other processes"
    advice = found.one("ring")["advice"]
    expected = "set FASTTRACE_RING_DIR=" if mode == 0o1777 else f"chmod 700 {command.rings}"
    assert advice.startswith(expected) and "remove" not in advice


@pytest.mark.skipif(sys.platform == "win32", reason="no ring files there")
def test_a_file_where_the_ring_directory_should_be_is_told(diagnose: Any, command: Any) -> None:
    command.rings.write_text("mine")
    assert "a file is in the way" in diagnose().one("ring")["advice"]
    assert command.rings.read_text() == "mine"


# ---- counters

BUSY = """
import fasttrace, sys, os
with fasttrace.span("acknowledged"): pass
fasttrace.flush(30)
with fasttrace.span("in the ring"): pass
with fasttrace.span("outer"), fasttrace.span("inner"):
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no ring files there")
def test_the_counters_of_each_live_ring_and_of_the_spool_are_shown(diagnose: Any, command: Any) -> None:
    with recording(command, BUSY) as first, recording(command, HOLDS) as second:
        found = {check["counts"].get("pid"): check for check in diagnose().of("counters")}
        assert set(found) == {first.pid, second.pid, None}
        assert found[first.pid]["counts"] == {
            "pid": first.pid,
            "recorded": 2,
            "acknowledged": 1,
            "busy": 0,
            "content_too_large": 0,
            "inflight_full": 0,
            "in_flight": 2,
        }
        assert found[first.pid]["found"].startswith(f"{first.pid} shop: 2 recorded, 1 acknowledged, 2 in the air")
        assert found[second.pid]["counts"]["in_flight"] == 0
        assert found[None]["counts"] == {"segments": 2, "spans": 2, "rejected_files": 0, "corrupt_files": 0}


@pytest.mark.skipif(sys.platform == "win32", reason="no ring files there")
def test_what_a_ring_dropped_is_told_by_reason(diagnose: Any, command: Any) -> None:
    with recording(command) as process:
        (ring,) = command.rings.iterdir()
        with open(ring, "r+b") as file:
            for word, dropped in ((layout.DROPPED_BUSY, 3), (layout.DROPPED_CONTENT_TOO_LARGE, 4)):
                file.seek(8 * word)
                file.write(dropped.to_bytes(8, sys.byteorder))
            file.seek(8 * layout.DROPPED_INFLIGHT_FULL)
            file.write((5).to_bytes(8, sys.byteorder))
        check = next(check for check in diagnose().of("counters") if check["counts"].get("pid") == process.pid)
    assert "dropped: 3 busy, 4 content too large, 5 in-flight full" in check["found"]
    assert check["status"] == "warn" and "FASTTRACE_QUEUE_MAX_SIZE" in check["advice"]


# ---- state directory and spool


@pytest.mark.skipif(sys.platform == "win32", reason="links and modes are a matter of POSIX")
def test_a_state_directory_that_cannot_be_written_is_a_failure(diagnose: Any, command: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = diagnose(FASTTRACE_STATE_DIR=str(tmp_path / "file"))
    assert found.code == 1
    assert found.one("state directory")["status"] == "fail"
    assert "FASTTRACE_STATE_DIR" in found.one("state directory")["advice"]
    command.state.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (command.state / "spool").symlink_to(tmp_path / "elsewhere")
    assert "is a link" in diagnose().one("state directory")["found"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EROFS, "mounted read-only"),
        (errno.EACCES, "run as the application's user"),
        (errno.ENOTDIR, "a file is in the way"),
        (errno.ELOOP, "a link is in the way"),
        (errno.EINVAL, "0700"),
    ],
)
def test_each_kind_of_refusal_has_its_advice(number: int, advice: str) -> None:
    said = advice_for(OSError(number, "?"), "FASTTRACE_STATE_DIR")
    assert advice in said and said.endswith("set FASTTRACE_STATE_DIR to another place")


@pytest.mark.skipif(sys.platform == "win32", reason="links and modes are a matter of POSIX")
def test_a_spool_that_cannot_be_read_is_told_with_what_to_do(diagnose: Any, command: Any) -> None:
    command.state.mkdir()
    (command.state / "spool").write_text("mine")
    found = diagnose()
    for name in ("state directory", "spool"):
        check = found.worst(name)
        assert check["status"] == "fail" and "a file is in the way" in check["advice"]
    assert "maintainers" not in found.text
    assert (command.state / "spool").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root makes files of others")
def test_a_spool_of_another_user_is_told(diagnose: Any, command: Any) -> None:
    (command.state / "spool").mkdir(parents=True)
    os.chown(command.state / "spool", 12345, 12345)
    found = diagnose()
    assert "belongs to user 12345" in found.one("state directory")["found"]
    assert "run as the application's user" in found.worst("spool")["advice"]
    assert "maintainers" not in found.text


# ---- FASTTRACE_FILE


def test_a_file_that_can_be_written_is_well_and_stays_as_it_was(diagnose: Any, tmp_path: Path) -> None:
    target = tmp_path / "made" / "spans.jsonl"
    settings = {"FASTTRACE_EXPORTER": "file", "FASTTRACE_FILE": str(target)}
    assert diagnose(**settings).one("file")["status"] == "ok"
    assert not target.parent.exists()
    target.parent.mkdir()
    target.write_text("{}\n")
    assert diagnose(**settings).one("file")["status"] == "ok"
    assert (target.read_text(), os.listdir(target.parent)) == ("{}\n", [target.name])
    assert diagnose().of("file") == []


@pytest.mark.skipif(sys.platform == "win32", reason="links are a matter of POSIX")
def test_a_file_that_cannot_be_written_is_a_failure(diagnose: Any, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "plain")
    (tmp_path / "folder").mkdir()
    for path, advice in (
        ("plain/spans.jsonl", "a file is in the way"),
        ("link", "a link is in the way"),
        ("folder", "a directory is in the way"),
    ):
        found = diagnose(FASTTRACE_EXPORTER="file", FASTTRACE_FILE=str(tmp_path / path))
        check = found.one("file")
        assert (found.code, check["status"]) == (1, "fail")
        assert advice in check["advice"] and "FASTTRACE_FILE" in check["advice"]
        assert str(tmp_path / path) in check["found"]


@pytest.mark.skipif(sys.platform == "win32", reason="links and modes are a matter of POSIX")
def test_a_spool_that_is_open_to_others_is_told(diagnose: Any, command: Any) -> None:
    (command.state / "spool").mkdir(parents=True)
    (command.state / "spool").chmod(0o755)
    check = diagnose().one("state directory")
    assert check["status"] == "warn" and "0755" in check["found"] and check["advice"].startswith("chmod 700")


def test_what_is_in_the_spool_is_counted(diagnose: Any, fill: Any, spool: Spool) -> None:
    fill(3, 4)
    segment = spool.claim()
    assert segment is not None
    spool.reject(segment.batch, [(1, "the tenant is \x1b[31munknown")])
    spool.restore(segment)
    (Path(spool.path) / "corrupt").mkdir()
    (Path(spool.path) / "corrupt" / "x").write_bytes(b"?")
    found = diagnose().of("spool")
    assert [check["status"] for check in found] == ["ok", "warn", "warn"]
    assert "3 segments, 12 spans" in found[0]["found"]
    assert "the tenant is unknown" in found[2]["found"]
    full = diagnose(FASTTRACE_SPOOL_MAX_BYTES=str(1 << 16))
    assert full.of("spool")[0]["status"] == "ok"


def test_a_spool_that_is_nearly_full_is_told(diagnose: Any, fill: Any) -> None:
    fill(8, 40, encoding="none")
    check = diagnose(FASTTRACE_SPOOL_MAX_BYTES=str(1 << 16)).of("spool")[0]
    assert check["status"] == "warn" and "spool drain" in check["advice"]


# ---- collector


@pytest.mark.parametrize(
    ("status", "settings", "expected", "named"),
    [
        (401, {}, "fail", "FASTTRACE_API_KEY"),
        (403, {"FASTTRACE_API_KEY": KEY}, "fail", "FASTTRACE_API_KEY"),
        (404, {}, "fail", "FASTTRACE_COLLECTOR_URL"),
        (405, {}, "fail", "FASTTRACE_COLLECTOR_URL"),
        (307, {}, "fail", "FASTTRACE_COLLECTOR_URL"),
        (407, {}, "fail", "HTTPS_PROXY"),
        (410, {}, "fail", "FASTTRACE_COLLECTOR_URL"),
        (500, {}, "fail", "log"),
        (503, {}, "warn", "wait"),
        (400, {}, "warn", "empty"),
        (204, {}, "ok", ""),
    ],
)
def test_an_answer_is_told_for_what_it_means(
    diagnose: Any, collector: Collector, status: int, settings: Any, expected: str, named: str
) -> None:
    collector.rule = lambda lines: Reply(status, b"")
    found = diagnose(FASTTRACE_COLLECTOR_URL=collector.url, **settings)
    check = found.one("collector")
    assert (check["status"], str(status) in check["found"]) == (expected, True)
    assert named in check["advice"]
    assert found.code == (expected == "fail")
    assert KEY not in found.text and KEY[:6] not in found.text


LOGIN = b"<!DOCTYPE html><html><head><title>Sign in \x1b[2Jto Example</title></head></html>"


@pytest.mark.parametrize(
    ("body", "kind", "like"),
    [
        (LOGIN, "text/html; charset=utf-8", "looks like a web page, 'Sign in to Example'"),
        (b"OK", "text/plain", "it says 'OK' (text/plain)"),
        (b"[1]", "application/json", "it says '[1]' (application/json)"),
    ],
    ids=["html", "text", "json"],
)
def test_a_server_that_says_yes_to_everything_is_no_collector(
    diagnose: Any, collector: Collector, body: bytes, kind: str, like: str
) -> None:
    collector.rule = lambda lines: Reply(200, body, (("Content-Type", kind),))
    found = diagnose(FASTTRACE_COLLECTOR_URL=collector.url)
    check = found.one("collector")
    assert (found.code, check["status"]) == (1, "fail")
    assert like in check["found"]
    assert "FASTTRACE_COLLECTOR_URL" in check["advice"]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"accepted":0}', b'{"accepted":1}', b'{"ok":true}', b"null", b"\xff"])
def test_a_reply_is_judged_as_the_exporter_judges_it(diagnose: Any, collector: Collector, body: bytes) -> None:
    collector.rule = lambda lines: Reply(200, body)
    is_taken = judge(200, [], body, 0).action == "accepted"
    assert diagnose(FASTTRACE_COLLECTOR_URL=collector.url).one("collector")["status"] == ("ok" if is_taken else "fail")


def test_a_proxy_that_wants_a_password_is_told(diagnose: Any, collector: Collector) -> None:
    collector.rule = lambda lines: Reply(407, b"")
    settings = {"FASTTRACE_TRUST_ENV": "true", "HTTP_PROXY": f"http://127.0.0.1:{collector.port}", "NO_PROXY": ""}
    found = diagnose(FASTTRACE_COLLECTOR_URL="http://127.0.0.1:9/api/ingest", **settings).one("collector")
    assert found["status"] == "fail"
    assert "user and password in HTTP_PROXY" in found["advice"]


def test_no_address_and_one_that_is_refused_are_told_apart(diagnose: Any) -> None:
    assert diagnose().one("collector")["status"] == "warn"
    refused = diagnose(FASTTRACE_COLLECTOR_URL="http://collector.example.com")
    assert refused.one("collector")["status"] == refused.worst("settings")["status"] == "fail"
    assert "FASTTRACE_ALLOW_HTTP" in refused.worst("settings")["found"]
    unused = diagnose(FASTTRACE_EXPORTER="file").one("collector")
    assert unused["status"] == "ok" and "FASTTRACE_EXPORTER=file" in unused["found"]


def test_a_collector_that_is_not_there_is_a_failure(diagnose: Any) -> None:
    with Collector() as gone:
        url = gone.url
    check = diagnose(FASTTRACE_COLLECTOR_URL=url).one("collector")
    assert check["status"] == "fail" and "does not take connections" in check["found"]
    unknown = diagnose(FASTTRACE_COLLECTOR_URL="https://no-such-host.invalid").one("collector")
    assert unknown["status"] == "fail" and "has no address" in unknown["found"]


def test_a_collector_that_never_answers_does_not_hold_it(diagnose: Any, collector: Collector) -> None:
    collector.rule = lambda lines: Silent()
    check = diagnose(FASTTRACE_COLLECTOR_URL=collector.url).one("collector")
    assert check["status"] == "fail" and "no whole reply within 3 s" in check["found"]


@pytest.mark.parametrize(
    ("ahead_s", "expected", "direction"),
    [(0, "ok", "agrees"), (60, "warn", "behind"), (-60, "warn", "ahead"), (4000, "fail", "behind")],
)
def test_the_clock_is_held_against_the_collectors(
    diagnose: Any, collector: Collector, ahead_s: int, expected: str, direction: str
) -> None:
    def reply(lines: list[bytes]) -> Raw:
        date = formatdate(time.time() + ahead_s, usegmt=True)
        return Raw(f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode())

    collector.rule = reply
    check = diagnose(FASTTRACE_COLLECTOR_URL=collector.url).one("skew")
    assert (check["status"], direction in check["found"]) == (expected, True)


@pytest.mark.parametrize(
    ("date", "skew_s"), [("", None), ("yesterday", None), (formatdate(1000.0), 0.0), (formatdate(1100.0), 99.0)]
)
def test_only_what_the_way_does_not_explain_is_skew(date: str, skew_s: float | None) -> None:
    assert check_collector.skew_of(date, 1000.5, 1001.0) == skew_s


@contextmanager
def tls_server(certificate: Path) -> Iterator[int]:
    """Shakes hands with whoever trusts it; the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                    with context.wrap_socket(connection, server_side=True):
                        pass
                except ssl.SSLError:
                    continue
                except OSError:
                    if listening.fileno() < 0:
                        return

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def test_a_certificate_of_an_unknown_authority_is_told(diagnose: Any) -> None:
    with tls_server(SELF_SIGNED) as port:
        check = diagnose(FASTTRACE_COLLECTOR_URL=f"https://127.0.0.1:{port}").one("collector")
    assert check["status"] == "fail"
    assert "certificate is not trusted" in check["found"] and "SSL_CERT_FILE" in check["advice"]


def test_a_plain_server_behind_https_is_told(diagnose: Any, collector: Collector) -> None:
    check = diagnose(FASTTRACE_COLLECTOR_URL=collector.url.replace("http:", "https:")).one("collector")
    assert check["status"] == "fail" and "FASTTRACE_COLLECTOR_URL" in check["advice"]


def test_a_proxy_of_the_environment_is_told(diagnose: Any, collector: Collector) -> None:
    settings = {"FASTTRACE_COLLECTOR_URL": collector.url, "HTTP_PROXY": "http://user:hush@127.0.0.1:9"}
    ignored = diagnose(**settings)
    assert "HTTP_PROXY: not followed" in ignored.one("proxy")["found"]
    assert ignored.one("collector")["status"] == "ok"
    followed = diagnose(**settings, FASTTRACE_TRUST_ENV="true", NO_PROXY="")
    assert "http://127.0.0.1:9" in followed.one("proxy")["found"]
    assert followed.one("collector")["status"] == "fail" and "HTTP_PROXY" in followed.one("collector")["advice"]
    assert "hush" not in ignored.text + followed.text


# ---- SDKs


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is imported here is imported on machines that are busy with tests."""
    monkeypatch.setattr(check_sdks, "LIMIT_S", 120.0)


def answers(config: Config) -> dict[str, Any]:
    with check_sdks.Questions() as questions:
        return {check.found.split()[0]: check for check in questions.checks(config) if check.name == "sdk"}


@pytest.mark.usefixtures("unhurried")
def test_installed_sdks_are_recorded() -> None:
    found = answers(Config())
    installed = {sdk.distribution for sdk in check_sdks.SDKS if check_sdks.version_of(sdk.distribution)}
    assert set(found) == installed
    assert [check for check in found.values() if check.status != "ok" or "recorded" not in check.found] == []
    assert not any("auto_instrument" in check.found.lower() for check in found.values())


@pytest.mark.usefixtures("unhurried")
def test_an_sdk_that_does_not_import_and_one_that_waits_for_its_call_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openai").mkdir()
    (tmp_path / "openai" / "__init__.py").write_text("raise RuntimeError('broken \\x1b[2Jbuild')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), SOURCES)))
    found = answers(Config(auto_instrument=False))
    broken = found.pop("openai")
    assert broken.status == "warn" and "broken build" in broken.found
    assert all("FASTTRACE_AUTO_INSTRUMENT=false" in check.found for check in found.values())


def test_an_sdk_that_takes_too_long_does_not_hold_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "openai").mkdir()
    (tmp_path / "openai" / "__init__.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), SOURCES)))
    monkeypatch.setattr(check_sdks, "LIMIT_S", 0.2)
    assert "took more than 0.2 s" in answers(Config())["openai"].found


@pytest.mark.parametrize(
    ("version", "expected"), [("0.28.1", False), ("1.0.0", True), ("3.57.0", True), ("4.0.0rc1", False), ("x", False)]
)
def test_releases_outside_the_tested_ones_are_known(version: str, expected: bool) -> None:
    assert check_sdks.is_tested(check_sdks.SDKS[0], version) is expected


def test_a_check_that_fails_by_itself_is_a_finding() -> None:
    def broken() -> Any:
        raise RuntimeError("no luck")

    (check,) = guarded("ring", broken)
    assert check.status == "fail" and "no luck" in check.found
