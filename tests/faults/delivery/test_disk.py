"""Disks and directories that fail in every way, rows E1 to E6 and E9: nothing torn is ever visible, nothing is lost."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from shipment import WRITER, batch_of, wait_until

import fasttrace
from collector import Collector, Reply, Reset
from fasttrace.exporters.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Open = Callable[..., Any]

FLUSH_S = 20.0
HERE = Path(__file__).resolve().parent
SOURCES = str(Path(fasttrace.__file__).parent.parent)
ENVIRONMENT = {"PYTHONPATH": SOURCES, "PYTHONDONTWRITEBYTECODE": "1"}
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems refuse such names")
posix_only = pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX")


def answers(command: list[str]) -> bool:
    """Whether this machine can do it."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 0


needs_strace = pytest.mark.skipif(
    not answers(["strace", "-f", "-e", "inject=fsync:error=EIO", "true"]),
    reason="no strace that may inject faults here",
)
needs_mounts = pytest.mark.skipif(
    not answers(["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=64k none /mnt"]),
    reason="no right to mount a tmpfs in a namespace of its own",
)
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not answers(["setpriv", "--reuid=65534", "true"]),
    reason="only root can become another user",
)


def run(script: str, *arguments: object, before: tuple[str, ...] = (), exit_code: int = 0) -> str:
    done = subprocess.run(
        [*before, sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (exit_code, "")
    return done.stdout


def bodies_in(folder: Path) -> list[bytes]:
    """What another process finds in the spool, oldest first."""
    spool = Spool(str(folder), 1 << 26)
    spool.look()
    found = []
    while (segment := spool.claim()) is not None:
        found.append(segment.batch.body)
        spool.release(segment)
    assert spool.damaged() == [], "nothing torn is visible"
    return found


def left_over(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "spool"))


# ---- E1, E5: system calls that fail

WRITING = """
import os, sys
sys.path.insert(0, sys.argv[1])
from fasttrace.exporters.spool import Spool
from shipment import batch_of

spool, failures = Spool(sys.argv[2], 1 << 26), []
for n in range(3):
    while True:
        try:
            spool.write(batch_of(5, first=5 * n))
            break
        except OSError as error:
            failures.append(error.errno)
print(failures)
"""


def traced(tmp_path: Path, *options: str) -> tuple[str, ...]:
    return ("strace", "-f", "-y", "-qq", "-o", str(tmp_path / "trace"), *options)


@needs_strace
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("call", ["create", "write", "fsync", "rename"])
def test_e01_a_full_disk_at_any_step_is_an_error_and_leaves_nothing(tmp_path: Path, call: str, nth: int) -> None:
    """Of three batches one cannot be written; the next attempt writes it anew."""
    state = tmp_path / "state"
    (state / "spool").mkdir(parents=True, mode=0o700)
    if call == "create":  # after a scan, which opens the directory twice, each batch opens it, then its file in it
        when = (4, 6, 8)[nth - 1]
        options = ("-P", str(state / "spool"), "-e", f"inject=openat:error=ENOSPC:when={when}")
    else:
        when = 2 * nth - 1 if call == "fsync" else nth  # each batch syncs its file, then its directory
        options = ("-e", f"inject=/^{call}:error=ENOSPC:when={when}")
    said = run(WRITING, HERE, state, before=traced(tmp_path, *options))
    assert said.strip() == "[28]"
    assert bodies_in(state) == [batch_of(5, first=5 * n).body for n in range(3)]
    assert left_over(state) == []


@needs_strace
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_e05_a_failed_fsync_is_not_asked_again(tmp_path: Path, nth: int) -> None:
    """What the kernel could not write may be gone from memory: the second attempt is another file."""
    state = tmp_path / "state"
    said = run(WRITING, HERE, state, before=traced(tmp_path, "-e", f"inject=fsync:error=EIO:when={2 * nth - 1}"))
    assert said.strip() == "[5]"
    calls = re.findall(r"fsync\(\d+<([^>]*)>\) += (-?\d+)", (tmp_path / "trace").read_text())
    files = [name for name, _ in calls if name.endswith(".tmp")]
    assert len(files) == 4
    assert len(set(files)) == 4, "each file was synced once"
    assert bodies_in(state) == [batch_of(5, first=5 * n).body for n in range(3)]


@needs_strace
def test_e05_a_directory_that_cannot_be_synced_keeps_its_files(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert run(WRITING, HERE, state, before=traced(tmp_path, "-e", "inject=fsync:error=EIO:when=2")).strip() == "[]"
    assert bodies_in(state) == [batch_of(5, first=5 * n).body for n in range(3)]


FILLING = """
import importlib, json, os, sys
from fasttrace.config import load
from fasttrace.trace.processor import Processor

core = importlib.import_module("fasttrace.core._" + sys.argv[1])
disk, ballast = sys.argv[2], os.path.join(sys.argv[2], "ballast")
with open(ballast, "wb") as file:
    file.write(bytes(96 << 10))
settings = {"exporter": "spool", "state_dir": disk + "/state", "ring_dir": sys.argv[3], "compression": "none"}
processor = Processor(core, load({}, settings)[0])
fields = {"kind": "llm", "operation": "chat", "provider": "openai", "model_id": "gpt-4o-mini", "status": "success"}

def record(count):
    for _ in range(count):
        processor.recorder.record(core.new_context(None), 1, 1, fields)

def settle():
    result = processor.flush(20)
    stats = processor.stats()
    assert stats.recorded == stats.spooled + stats.pending + sum(stats.dropped.values()), stats
    return result

while not settle().pending:
    record(100)
full = processor.stats()
os.unlink(ballast)
record(10)
after = settle()
names = os.listdir(disk + "/state/spool")
lines = sum(len(open(f"{disk}/state/spool/{name}", "rb").read().splitlines()) for name in names)
print(json.dumps([full.pending, full.last_error, after, lines, processor.stats().recorded]))
"""


@needs_mounts
def test_e01_spans_stay_in_the_ring_while_the_disk_is_full(core: Any, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=256k none {disk} && exec "$@"'
    said = run(FILLING, core.BACKEND, disk, tmp_path / "ring", before=("unshare", "-m", "sh", "-c", mount, "sh"))
    pending, error, (sent, spooled, dropped, left), lines, recorded = json.loads(said)
    assert pending > 0
    assert "No space left" in error
    assert (sent, dropped, left) == (0, 0, 0)
    assert spooled == lines == recorded


# ---- E2: directories


@needs_mounts
def test_e02_a_read_only_spool_sends_nothing_and_loses_nothing(tmp_path: Path, collector: Collector) -> None:
    """What is spooled cannot be claimed, what is new is sent or stays in hand."""
    script = """
import json, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from shipment import Shipment, batch_of

def mount(how):
    subprocess.run(["mount", "-o", how + ",bind", folder, folder], check=True)

folder = sys.argv[3]
subprocess.run(["mount", "--bind", folder, folder], check=True)
shipment = Shipment(sys.argv[2], Path(folder))
exporter = shipment.exporter
shipment.delivery.redirect(None, shipment.spool, 0)
shipment.ship(batch_of(10))
mount("remount,ro")
shipment.ship(batch_of(10, first=10))
shipment.check_ledger()
pending = len(shipment.pending)
shipment.delivery.redirect(exporter, shipment.spool, 0)
shipment.replay()
shipment.check_ledger()
sent = shipment.delivery.tally.sent
mount("remount,rw")
shipment.replay()
shipment.check_ledger()
print(json.dumps([pending, sent, shipment.delivery.tally.sent]))
"""
    said = run(script, HERE, collector.url, tmp_path, before=("unshare", "-m"))
    assert json.loads(said) == [1, 10, 20]
    assert sorted(collector.accepted_ids()) == [f"{n:016x}" for n in range(20)]


def test_e02_a_directory_removed_while_running_is_made_again(
    open_processor: Open, collector: Collector, tmp_path: Path
) -> None:
    collector.rule = lambda lines: Reply(503)
    processor = open_processor(collector_url=collector.url)
    gone = processor.record(5)
    processor.flush(FLUSH_S)
    shutil.rmtree(tmp_path / "state")
    ids = processor.record(5)
    assert processor.flush(FLUSH_S).pending == 0
    collector.rule = lambda lines: Reply()
    wait_until(lambda: processor.flush(FLUSH_S).sent == 5)
    assert sorted(collector.accepted_ids()) == sorted(ids)
    assert not set(collector.accepted_ids()) & set(gone)
    processor.check_ledger()


@posix_only
@pytest.mark.parametrize("linked", ["spool", "state"])
def test_e02_a_link_is_not_followed(
    open_shipment: Open, collector: Collector, tmp_path: Path, linked: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither to write nor to read: segments behind a link to the spool are not ours. A link above it is the user's."""
    elsewhere = tmp_path / "elsewhere"
    Spool(str(elsewhere), 1 << 20).write(batch_of(3, first=100))
    before = left_over(elsewhere)
    shipment = open_shipment(collector.url)
    shipment.spool = shipment.delivery._spool = Spool(str(tmp_path / "state"), 1 << 20)
    if linked == "spool":
        (tmp_path / "state").mkdir(mode=0o700)
        (tmp_path / "state" / "spool").symlink_to(elsewhere / "spool")
    else:
        (tmp_path / "state").symlink_to(elsewhere)
    collector.script = [Reply(503)]
    shipment.ship(batch_of(5))
    shipment.replay()
    shipment.check_ledger()
    if linked == "spool":
        assert left_over(elsewhere) == before
        assert len(shipment.pending) == 0, "it was sent from memory"
        assert "FASTTRACE_STATE_DIR" in caplog.text
        assert sorted(collector.accepted_ids()) == [f"{n:016x}" for n in range(5)]
    else:
        assert len(collector.accepted_ids()) == 8


@needs_root
def test_e02_a_directory_of_another_user_is_not_used(
    open_shipment: Open, collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = Spool(str(tmp_path), 1 << 20)
    theirs.write(batch_of(3, first=100))
    os.chown(theirs.path, 65534, 65534)
    before = left_over(tmp_path)
    collector.script = [Reply(503)]
    shipment = open_shipment(collector.url)
    shipment.ship(batch_of(5))
    assert len(shipment.pending) == 1
    assert "belongs to another user" in caplog.text and "FASTTRACE_STATE_DIR" in caplog.text
    shipment.replay()
    assert left_over(tmp_path) == before
    assert sorted(collector.accepted_ids()) == [f"{n:016x}" for n in range(5)]
    shipment.check_ledger()


@needs_root
def test_e02_without_the_permission_spans_stay_in_the_ring(core: Any, tmp_path: Path) -> None:
    script = """
import importlib, json, sys
from fasttrace.config import load
from fasttrace.trace.processor import Processor

core = importlib.import_module("fasttrace.core._" + sys.argv[1])
settings = {"exporter": "spool", "state_dir": sys.argv[2], "ring_dir": sys.argv[3]}
processor = Processor(core, load({}, settings)[0])
for _ in range(10):
    processor.recorder.record(core.new_context(None), 1, 1, {"kind": "llm", "operation": "chat"})
print(json.dumps([processor.flush(10), processor.stats().last_error]))
"""
    home = Path("/tmp") / f"fasttrace-e02-{os.getpid()}-{core.BACKEND}"
    home.mkdir()
    try:
        (home / "root").mkdir(mode=0o700)
        (home / "ring").mkdir(mode=0o700)
        os.chown(home / "ring", 65534, 65534)
        user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        if not answers([*user, sys.executable, "-c", f"import sys; sys.path.insert(0, {SOURCES!r}); import fasttrace"]):
            pytest.skip("the interpreter or the sources are not readable by another user")
        said = run(script, core.BACKEND, home / "root" / "state", home / "ring", before=user)
        result, error = json.loads(said)
        assert result == [0, 0, 0, 10]
        assert "Permission denied" in error
        assert len(list((home / "ring").iterdir())) == 1, "whoever recovers it finds them"
    finally:
        shutil.rmtree(home)


@needs_root
def test_e02_what_others_put_into_an_open_directory_is_not_sent(
    open_shipment: Open, collector: Collector, tmp_path: Path
) -> None:
    shipment = open_shipment(collector.url)
    collector.script = [Reply(503)]
    shipment.ship(batch_of(5))
    Path(shipment.spool.path).chmod(0o777)
    forger = Spool(str(tmp_path / "forge"), 1 << 20)
    forger.write(batch_of(3, first=100))
    (forged,) = Path(forger.path).iterdir()
    planted = Path(shipment.spool.path) / forged.name
    forged.rename(planted)
    os.chown(planted, 65534, 65534)
    shipment.replay()
    assert sorted(collector.accepted_ids()) == [f"{n:016x}" for n in range(5)]
    assert planted.exists()
    assert stat.S_IMODE(os.stat(shipment.spool.path).st_mode) == 0o700
    planted.unlink()
    shipment.check_all_arrived(collector)


# ---- E3: damage


@pytest.fixture
def damaged_spool(tmp_path: Path) -> Iterator[Callable[[bytes], None]]:
    """A spool of three segments of which the middle one can be given another content. What is intact comes back, and
    nothing else."""
    spool = Spool(str(tmp_path), 1 << 20)
    good = [batch_of(1, first=n) for n in (0, 2)]

    def check(body: bytes) -> None:
        spool.write(good[0])
        spool.write(batch_of(1, first=1))
        spool.write(good[1])
        middle = sorted(Path(spool.path).glob("*.ndjson*"))[1]
        middle.write_bytes(body)
        found = []
        spool.look()
        while (segment := spool.claim()) is not None:
            found.append(segment.batch)
            spool.release(segment)
        assert found == good
        assert spool.damaged() == [(WRITER, 1)]

    yield check
    assert not list(Path(spool.path).glob("*.ndjson*"))


@pytest.fixture
def without_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of segments: it is not the disk that is tested."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def test_e03_every_flipped_bit_is_found_and_the_rest_is_sent(
    damaged_spool: Callable[[bytes], None], without_sync: None
) -> None:
    body = batch_of(1, first=1).body
    for at in range(8 * len(body)):
        flipped = bytearray(body)
        flipped[at // 8] ^= 1 << at % 8
        damaged_spool(bytes(flipped))


def test_e03_every_cut_and_what_else_a_disk_does(damaged_spool: Callable[[bytes], None], without_sync: None) -> None:
    body = batch_of(1, first=1).body
    for length in range(len(body)):
        damaged_spool(body[:length])
        damaged_spool(body[:length] + bytes(len(body) - length))
    for garbage in (body + body, body + b"\0", bytes(4096), body[1:] + body[:1]):
        damaged_spool(garbage)


def test_e03_random_garbage_is_never_taken_for_spans(
    damaged_spool: Callable[[bytes], None], without_sync: None, rounds: Any
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(rounds(200, 4000)):
        damaged_spool(chance.randbytes(chance.randrange(200)))


def test_e03_segments_with_each_others_names_are_both_set_aside(
    open_shipment: Open, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.script = [Reply(503)] * 4
    shipment = open_shipment(collector.url)
    for n in range(4):
        shipment.ship(batch_of(5, first=5 * n))
        shipment.delivery.hurry()
    first, second = shipment.waiting[1:3]
    first.rename(first.with_suffix(".swap"))
    second.rename(first)
    first.with_suffix(".swap").rename(second)
    shipment.replay()
    shipment.check_ledger()
    tally = shipment.delivery.tally
    assert (tally.sent, tally.spooled, tally.dropped) == (10, 0, {"corrupt": 10})
    assert sorted(collector.accepted_ids()) == [f"{n:016x}" for n in (*range(5), *range(15, 20))]
    assert len(list(Path(shipment.spool.path, "corrupt").iterdir())) == 2
    assert "moved to corrupt/" in caplog.text


@linux_only
def test_e03_foreign_things_in_the_directory_disturb_nothing(open_shipment: Open, collector: Collector) -> None:
    """Names of all kinds; and pipes, sockets, directories, links and huge files under the name of a segment."""
    collector.script = [Reply(503)] * 2
    shipment = open_shipment(collector.url, max_bytes=1 << 20)
    for n in range(2):
        shipment.ship(batch_of(5, first=5 * n))
        shipment.delivery.hurry()
    folder = Path(shipment.spool.path)
    names = [f"{age:020d}-{WRITER}-{age}-5-00000000.ndjson" for age in range(1, 7)]
    os.mkfifo(folder / names[0])
    (folder / names[1]).mkdir()
    (folder / names[2]).symlink_to("/dev/zero")
    listener = socket.socket(socket.AF_UNIX)
    home = os.getcwd()
    os.chdir(folder)
    try:
        listener.bind(names[3])
    finally:
        os.chdir(home)
    with open(folder / names[4], "wb") as huge:
        huge.truncate(1 << 40)
    claimed_pipe = folder / f"{names[5]}.sending-1-1"
    os.mkfifo(claimed_pipe)
    garbage = ["x", ".tmp", ".a.99999999999999.tmp", "\udcff\udcfe", "..sending-1", f"{names[0]}.sending-", "a" * 255]
    for name in [*garbage, f"{10**21}-{WRITER}-1-1-00000000.ndjson", f"{names[0]}.sending-{10**40}"]:
        (folder / name).write_bytes(b"not ours")
    foreign = len(os.listdir(folder)) - 2 - 1
    shipment.replay()
    shipment.check_ledger()
    assert sorted(collector.accepted_ids()) == [f"{n:016x}" for n in range(10)]
    assert shipment.delivery.tally.sent == 10
    left = [path for path in folder.iterdir() if path.name != "corrupt"]
    assert len(left) == foreign, "nothing of it was touched but the huge file"
    listener.close()


# ---- E4: killed while writing


@needs_strace
@pytest.mark.parametrize("call", ["openat", "write", "fsync", "rename"])
def test_e04_killed_at_any_system_call_nothing_is_torn_and_nothing_kept_is_lost(
    tmp_path: Path, call: str, rounds: Any
) -> None:
    """What `write` returned for is there, whole; of the batch in hand there is all or nothing."""
    script = WRITING.replace("            break\n", "            os.mkdir(f'{sys.argv[3]}/{n}')\n            break\n")
    calls = {"openat": 8, "write": 3, "fsync": 6, "rename": 3}[call]
    for nth in range(1, calls + 1, rounds(2, 1) if calls > 3 else 1):
        state, kept = tmp_path / f"state-{nth}", tmp_path / f"kept-{nth}"
        kept.mkdir()
        (state / "spool").mkdir(parents=True, mode=0o700)
        at = ("-P", str(state / "spool")) if call == "openat" else ()
        killing = traced(tmp_path, *at, "-e", f"inject=/^{call}:signal=KILL:when={nth}")
        run(script, HERE, state, kept, before=killing, exit_code=-signal.SIGKILL)
        whole = bodies_in(state)
        expected = [batch_of(5, first=5 * n).body for n in range(3)]
        returned = len(list(kept.iterdir()))
        assert returned <= len(whole) <= returned + 1
        assert whole == expected[: len(whole)]
        assert left_over(state) == [], "the next process cleans up"


# ---- E6: several processes on one spool

# Forks a child for each line that it reads; a child drains the spool until it is empty. The collector sees in the user
# agent which child is asking.
DRAINING = """
import os, signal, sys, time, traceback
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from shipment import Shipment

def drain(url, folder):
    shipment = Shipment(url, Path(folder), version=str(os.getpid()), max_retries=1)
    while Path(shipment.spool.path).exists() and any(".ndjson" in name for name in os.listdir(shipment.spool.path)):
        shipment.replay()
        time.sleep(0.01)

warm = Shipment("http://127.0.0.1:9/", Path("/nowhere"))
warm.exporter.prepare()
warm.close()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        try:
            drain(*line.split())
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    print(pid, flush=True)
"""


class Killer(Collector):
    """Kills whoever asks, so many times, by chance: sometimes after it has kept the spans, sometimes before. Then it
    has another one started."""

    def __init__(self, kills: int, chance: random.Random, start_one: Callable[[], None]) -> None:
        super().__init__()
        self.kills_left = kills
        self._chance = chance
        self._start_one = start_one

    def next_action(self, lines: list[bytes], headers: dict[str, str]) -> Any:
        with self.changed:
            if not self.kills_left or self._chance.random() < 0.5:
                return Reply()
            self.kills_left -= 1
            os.kill(int(headers["user-agent"].partition("/")[2]), signal.SIGKILL)
            self._start_one()
            return self._chance.choice([Reply(), Reset()])


@pytest.fixture
def zygote() -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-c", DRAINING, str(HERE)],
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield started
    started.kill()
    assert started.communicate()[1] == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_e06_eight_processes_killed_in_the_middle_of_delivery_store_everything_once(
    open_shipment: Open, tmp_path: Path, zygote: subprocess.Popen[str], rounds: Any
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    shipment = open_shipment("http://127.0.0.1:9/")
    shipment.delivery.redirect(None, shipment.spool, 0)
    count, kills = rounds(120, 1000), rounds(40, 400)
    for n in range(count):
        shipment.ship(batch_of(10, first=10 * n))

    def start_one() -> None:
        assert zygote.stdin is not None and zygote.stdout is not None
        zygote.stdin.write(f"{killer.url} {tmp_path}\n")
        zygote.stdin.flush()
        zygote.stdout.readline()

    with Killer(kills, random.Random(seed), start_one) as killer:
        for _ in range(8):
            with killer.changed:
                start_one()
        wait_until(lambda: not shipment.waiting)
        killer.wait(lambda seen: not seen.in_flight)
        ids = [span["span_id"] for batch in killer.batches if batch.status == 200 for span in batch.spans]
        assert killer.kills_left == 0
        assert sorted(set(ids)) == [f"{n:016x}" for n in range(10 * count)], "lost 0"
        assert sorted(killer.accepted_ids()) == sorted(set(ids)), "each once after the dedupe by batch id"
    assert left_over(tmp_path) == []
    print(f"{kills} kills, {len(ids)} spans received of {10 * count}")


# ---- E9: the bound


def test_e09_a_full_spool_loses_its_oldest_counts_them_and_stays_bounded(open_processor: Open, tmp_path: Path) -> None:
    cap = 1 << 16
    processor = open_processor(exporter="spool", spool_max_bytes=cap, batch_size=100, compression="none")
    folder = tmp_path / "state" / "spool"
    ids: list[str] = []
    largest = 0
    for _ in range(40):
        ids += processor.record(100)
        processor.flush(FLUSH_S)
        sizes = [path.stat().st_size for path in folder.iterdir()]
        largest = max([largest, *sizes])
        assert sum(sizes) <= cap + largest
        processor.check_ledger()
    stats = processor.stats()
    assert stats.dropped == {"spool_full": stats.evicted}
    assert stats.spooled + stats.evicted == len(ids)
    kept = [json.loads(line)["span_id"] for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]
    assert kept == ids[-stats.spooled :], "the newest, in their order"
