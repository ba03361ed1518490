"""`fasttrace spool drain` against collectors that take, refuse and are not there; what it says and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from segments import batch_of, span_line

from collector import Collector, Reply, named_errors
from fasttrace.config import load
from fasttrace.core import core
from fasttrace.trace.recovery import adopt

if TYPE_CHECKING:
    from fasttrace.exporters.spool import Spool


def waiting(spool: Spool) -> list[str]:
    return sorted(path.name for path in Path(spool.path).iterdir() if path.is_file())


def test_everything_is_sent_oldest_first_as_it_was(command: Any, collector: Collector, fill: Any, spool: Spool) -> None:
    lines = fill(5, 4)
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url, FASTTRACE_API_KEY="a-key-nobody-shows")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"sent 20 spans to {collector.url}")
    assert [line for batch in collector.batches for line in batch.lines] == lines
    assert collector.batches[0].headers["authorization"] == "Bearer a-key-nobody-shows"
    assert "a-key-nobody-shows" not in done.stdout + done.stderr
    assert waiting(spool) == []


def test_nothing_to_send_is_well(command: Any, collector: Collector) -> None:
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert collector.batches == []


def test_more_than_one_turn_of_the_directory_is_sent(
    command: Any, collector: Collector, fill: Any, spool: Spool
) -> None:
    fill(60, 1)
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url)
    assert done.returncode == 0, done.stderr
    assert len(collector.accepted_ids()) == len(set(collector.accepted_ids())) == 60


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "FASTTRACE_COLLECTOR_URL"),
        ({"FASTTRACE_COLLECTOR_URL": "ftp://example.com"}, "FASTTRACE_COLLECTOR_URL"),
        ({"FASTTRACE_COLLECTOR_URL": "http://collector.example.com"}, "FASTTRACE_ALLOW_HTTP"),
        ({"FASTTRACE_COLLECTOR_URL": "http://127.0.0.1:9/", "FASTTRACE_API_KEY": "two words"}, "FASTTRACE_API_KEY"),
    ],
)
def test_a_bad_configuration_is_named(command: Any, fill: Any, spool: Spool, settings: Any, named: str) -> None:
    fill(1, 1)
    done = command("spool", "drain", **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert "two words" not in done.stderr
    assert len(waiting(spool)) == 1


def test_a_refused_key_is_said_and_everything_stays(
    command: Any, collector: Collector, fill: Any, spool: Spool
) -> None:
    fill(2, 3)
    before = waiting(spool)
    collector.rule = lambda lines: Reply(401)
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url, FASTTRACE_API_KEY="a-key-nobody-shows")
    assert done.returncode == 1
    assert "6 spans in 2 segments still wait" in done.stderr
    assert "FASTTRACE_API_KEY" in done.stderr and "401" in done.stderr
    assert "a-key-nobody-shows" not in done.stdout + done.stderr
    assert waiting(spool) == before
    assert len(collector.batches) == 1


def test_a_collector_that_is_not_there_is_said(command: Any, fill: Any, spool: Spool) -> None:
    fill(2, 1)
    before = waiting(spool)
    with Collector() as gone:
        url = gone.url
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=url, FASTTRACE_MAX_RETRIES="1")
    assert done.returncode == 1
    assert "2 spans in 2 segments still wait" in done.stderr
    assert "ConnectError" in done.stderr
    assert waiting(spool) == before


def test_a_collector_that_stumbles_gets_all_of_it(command: Any, collector: Collector, fill: Any, spool: Spool) -> None:
    fill(3, 1)
    collector.script = [Reply(503, headers=(("Retry-After", "0"),)), Reply(200), Reply(500), Reply(200)]
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url)
    assert done.returncode == 0, done.stderr
    assert sorted(collector.accepted_ids()) == [f"{number:016x}" for number in range(3)]


def test_what_the_collector_rejects_is_counted_and_kept(
    command: Any, collector: Collector, fill: Any, spool: Spool
) -> None:
    fill(1, 3)
    collector.script = [named_errors([(2, "no such model")])]
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url)
    assert done.returncode == 0, done.stderr
    assert "sent 2 spans" in done.stdout and "1 span rejected" in done.stdout
    (kept,) = (Path(spool.path) / "rejected").iterdir()
    assert json.loads(kept.read_bytes())["error"] == "no such model"


def test_what_another_process_is_sending_is_left_to_it(
    command: Any, collector: Collector, fill: Any, spool: Spool
) -> None:
    fill(2, 2)
    claimed = spool.claim()
    assert claimed is not None
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url)
    assert done.returncode == 1
    assert f"2 spans being sent by {os.getpid()}" in done.stderr
    assert len(collector.accepted_ids()) == 2
    assert [name.startswith(claimed.name) for name in waiting(spool)] == [True]


def test_drains_beside_each_other_send_each_segment_once(command: Any, collector: Collector, fill: Any) -> None:
    fill(30, 2)
    running = [command.start("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url) for _ in range(4)]
    for process in running:
        process.communicate(timeout=60)
    assert len(collector.batches) == 30
    assert len(set(collector.accepted_ids())) == 60


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for another process there")
def test_an_interrupt_puts_everything_back(command: Any, collector: Collector, fill: Any, spool: Spool) -> None:
    fill(3, 1)
    before = waiting(spool)
    collector.gate.clear()
    process = command.start("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url, FASTTRACE_EXPORT_TIMEOUT="60")
    collector.wait_for_requests(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "3 spans in 3 segments still wait: interrupted" in err
    assert "Traceback" not in err
    assert waiting(spool) == before


def test_a_span_too_large_for_the_collector_goes_without_its_content(
    command: Any, collector: Collector, spool: Spool
) -> None:
    spool.write(batch_of([span_line(1, input="x" * 5000), span_line(2)]))
    collector.rule = lambda lines: Reply(413 if sum(map(len, lines)) > 2000 else 200)
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url)
    assert done.returncode == 0, done.stderr
    assert "sent 2 spans" in done.stdout
    assert sorted(collector.accepted_ids()) == [f"{number:016x}" for number in (1, 2)]


DIES = """
import os, fasttrace
with fasttrace.span("spooled"): pass
fasttrace.flush(30)
for number in range(3):
    with fasttrace.span(f"left {number}"): pass
os._exit(9)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no ring files there")
@pytest.mark.skipif(not hasattr(core, "RecoveredRing"), reason="this core reads no ring of another process")
def test_what_dead_processes_left_is_adopted_and_sent(command: Any, collector: Collector, fill: Any) -> None:
    pytest.importorskip("fasttrace.trace.recovery", reason="nothing adopts rings here")
    fill(1, 1)
    settings = command.environment(FASTTRACE_FLUSH_INTERVAL="60")
    subprocess.run([sys.executable, "-c", DIES], env=settings, check=False, timeout=60)
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url)
    assert done.returncode == 0, done.stderr
    assert "adopted 1 ring of dead processes: 3 spans" in done.stdout
    names = {span["name"] for batch in collector.accepted() for span in batch.spans}
    assert names == {"call 0", "spooled", "left 0", "left 1", "left 2"}
    assert os.listdir(command.rings) == []


LEAVES_MUCH = """
import os, fasttrace
for number in range(2000):
    with fasttrace.span(os.urandom(60).hex()): pass
os._exit(9)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no ring files there")
def test_a_ring_larger_than_the_spool_is_adopted_as_room_is_made(
    command: Any, collector: Collector, spool: Spool
) -> None:
    """It gives way to nothing and nothing gives way to it: a part is adopted, sent, and so the next."""
    settings = {"FASTTRACE_FLUSH_INTERVAL": "60", "FASTTRACE_SPOOL_MAX_BYTES": str(1 << 16)}
    environment = command.environment(FASTTRACE_BATCH_SIZE="10000", FASTTRACE_QUEUE_MAX_SIZE="4096", **settings)
    subprocess.run([sys.executable, "-c", LEAVES_MUCH], env=environment, check=False, timeout=60)
    for number in range(400):
        spool.write(batch_of([span_line(number)], number))
    settings |= {"FASTTRACE_BATCH_SIZE": "100", "FASTTRACE_COLLECTOR_URL": collector.url}
    done = command("spool", "drain", **settings)
    assert done.returncode == 0, done.stderr
    assert "dropped" not in done.stdout
    assert "adopted 1 ring of dead processes" in done.stdout
    arrived = collector.accepted_ids()
    assert len(arrived) == len(set(arrived)) == 2400
    assert os.listdir(command.rings) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no ring files there")
def test_a_ring_for_which_there_is_no_room_is_said_and_stays(command: Any, spool: Spool) -> None:
    environment = command.environment(FASTTRACE_FLUSH_INTERVAL="60")
    subprocess.run([sys.executable, "-c", DIES], env=environment, check=False, timeout=60)
    for number in range(400):
        spool.write(batch_of([span_line(number)], number))
    before = waiting(spool)
    with Collector() as gone:
        url = gone.url
    settings = {"FASTTRACE_SPOOL_MAX_BYTES": str(1 << 16), "FASTTRACE_MAX_RETRIES": "0"}
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=url, **settings)
    assert done.returncode == 1
    assert "1 ring of dead processes still wait" in done.stderr and "FASTTRACE_SPOOL_MAX_BYTES" in done.stderr
    assert waiting(spool) == before
    assert len(os.listdir(command.rings)) == 1


def test_a_collector_that_refuses_everything_is_named_and_nothing_is_rejected(
    command: Any, collector: Collector, fill: Any, spool: Spool
) -> None:
    fill(40, 2)
    before = waiting(spool)
    collector.rule = lambda lines: Reply(400)
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url)
    assert done.returncode == 1
    assert "80 spans in 40 segments still wait: the collector refuses every span (http 400)" in done.stderr
    assert "FASTTRACE_TENANT_ID" in done.stderr
    assert waiting(spool) == before
    assert len(collector.batches) == 24, "so many of the oldest were asked for"


def test_bad_segments_in_front_of_good_ones_do_not_stop_it(
    command: Any, collector: Collector, fill: Any, spool: Spool
) -> None:
    fill(20, 1)
    collector.rule = lambda lines: Reply(400 if any(json.loads(line)["input_tokens"] < 3 for line in lines) else 200)
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url)
    assert done.returncode == 0, done.stderr
    assert "sent 17 spans" in done.stdout and "3 spans rejected" in done.stdout
    assert waiting(spool) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("is_filled", [False, True])
def test_a_spool_of_another_user_is_said_at_once(
    command: Any, collector: Collector, fill: Any, spool: Spool, is_filled: bool
) -> None:
    fill(2, 1)
    if not is_filled:
        for name in waiting(spool):
            (Path(spool.path) / name).unlink()
    os.chown(spool.path, 65534, 65534)
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert "belongs to another user" in done.stderr and "FASTTRACE_STATE_DIR" in done.stderr
    assert collector.batches == []


def test_what_it_waits_for_is_said(command: Any, collector: Collector, fill: Any) -> None:
    fill(1, 1)
    collector.script = [Reply(429, headers=(("Retry-After", "2"),))]
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url)
    assert done.returncode == 0, done.stderr
    assert "waiting 2 s for another attempt: http 429" in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no ring files there")
def test_an_adoption_that_is_broken_off_leaves_the_ring_for_the_next(
    command: Any, collector: Collector, fill: Any, spool: Spool
) -> None:
    fill(1, 1)
    environment = command.environment(FASTTRACE_FLUSH_INTERVAL="60", FASTTRACE_BATCH_SIZE="10000")
    subprocess.run([sys.executable, "-c", LEAVES_MUCH], env=environment, check=False, timeout=60)
    before = set(waiting(spool))
    config = load({}, {"state_dir": command.state, "ring_dir": command.rings, "batch_size": 50})[0]
    for written in (0, 3, 5):
        found = adopt(spool, config, lambda written=written: len(waiting(spool)) - len(before) >= written)
        assert (found.rings, len(waiting(spool)) - len(before)) == (0, written)
        assert len(os.listdir(command.rings)) == 1
        assert all(name.endswith(".ndjson.zst") for name in waiting(spool)), "nothing half done"
    done = command("spool", "drain", FASTTRACE_COLLECTOR_URL=collector.url, FASTTRACE_BATCH_SIZE="50")
    assert done.returncode == 0, done.stderr
    arrived = collector.accepted_ids()
    assert len(arrived) == len(set(arrived)) == 2001, "what was adopted twice has the same ids of batches"
    assert os.listdir(command.rings) == []
