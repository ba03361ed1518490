"""Collectors and networks that fail in every way, rows A1 to A8: nothing is lost, nothing is doubled."""

from __future__ import annotations

import email.utils
import gzip
import json
import os
import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from shipment import Brisk, batch_of, wait_until

import fasttrace
from collector import Collector, Drip, Late, Raw, Reply, Reset, Silent, limited, rejecting
from fasttrace.config import load
from fasttrace.exporters import delivery as delivery_module
from fasttrace.exporters.http import judge, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable

    Open = Callable[..., Any]

FLUSH_S = 20.0


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "fasttrace"]


# ---- A1


def test_a01_a_collector_that_comes_late_gets_everything(
    open_processor: Open, collector: Collector, caplog: pytest.LogCaptureFixture, rounds: Any
) -> None:
    """From the ring to the spool, by flushes and by a ring that fills; then back again."""
    port = collector.port
    collector.close()
    processor = open_processor(collector_url=f"http://127.0.0.1:{port}", queue_max_size=512, flush_interval=0.02)
    ids: list[str] = []
    for _ in range(rounds(20, 400)):
        ids += processor.record(100)
        wait_until(lambda: processor.stats().pending < 256)
    processor.flush(FLUSH_S)
    assert processor.stats().spooled == len(ids)
    processor.check_ledger()
    with Collector(port) as returned:
        ids += processor.record(5)
        wait_until(lambda: processor.flush(FLUSH_S).sent == len(ids))
        assert sorted(returned.accepted_ids()) == sorted(ids)
    processor.check_ledger()
    said = lines_of(caplog)
    assert len(said) == 1, said
    assert "FASTTRACE_COLLECTOR_URL" in said[0]


def test_a01_a_returning_collector_is_not_flooded_and_fresh_spans_go_first(
    open_processor: Open, open_shipment: Open, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others' segments are replayed a whole batch is recorded: it is the next request, and there is one at a
    time."""
    monkeypatch.setattr("fasttrace.exporters.pace.START_MAX_S", 0.01)
    shipment = open_shipment("http://127.0.0.1:9/")
    shipment.delivery.redirect(None, shipment.spool, 0)
    for n in range(12):
        shipment.ship(batch_of(10, first=10 * n))
    state_dir = Path(shipment.spool.path).parent
    fresh: list[str] = []
    processor = open_processor(collector_url=collector.url, state_dir=state_dir, batch_size=50)

    def rule(lines: list[bytes]) -> Reply:
        replayed = [batch for batch in collector.batches if len(batch.lines) == 10]
        if len(lines) == 10 and len(replayed) in (2, 6):
            fresh.extend(processor.record(50))
        return Reply()

    collector.rule = rule
    first = processor.record(1)
    collector.wait(lambda seen: len(seen.accepted()) == 15)
    counts = [len(batch.lines) for batch in collector.batches if len(batch.lines) > 1]
    assert counts == [10] * 3 + [50] + [10] * 4 + [50] + [10] * 5
    assert collector.most_in_flight == 1
    replayed = [f"{n:016x}" for n in range(120)]
    assert sorted(collector.accepted_ids()) == sorted(first + fresh + replayed)
    wait_until(lambda: processor.stats().replayed == 120)
    processor.check_ledger()


def test_a01_segments_are_sent_with_a_gap_between_them(
    open_shipment: Open, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of its own: between two segments there is time in which nothing of the spool is sent."""
    now_s = [1000.0]
    shipment = open_shipment(collector.url)
    monkeypatch.setattr(delivery_module, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    monkeypatch.setattr(Brisk, "is_awaited", lambda self: False)

    def rule(lines: list[bytes]) -> Reply:
        now_s[0] += 0.2
        return Reply()

    collector.rule = rule
    for n in range(10):
        shipment.recorded += 10
        shipment.spool.write(batch_of(10, first=10 * n))
        shipment.delivery.tally.spooled += 10
    sent_at_s: list[float] = []
    while shipment.waiting:
        before = len(collector.batches)
        again_s = shipment.delivery.replay().again_s
        if len(collector.batches) > before:
            sent_at_s.append(now_s[0])
        now_s[0] += min(again_s or 0.05, 0.05)
    gaps = [after - before - 0.2 for before, after in pairwise(sent_at_s)]
    assert len(gaps) == 9
    assert all(gap_s >= 0.1 - 1e-6 for gap_s in gaps), "at least half of what the request took"
    assert gaps[0] > max(gaps[4:]), "slow at the start"
    shipment.check_all_arrived(collector)


# ---- A2


def test_a02_a_slow_collector_has_one_request_at_a_time(open_processor: Open, collector: Collector) -> None:
    dripping = Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b" " * 900, 0.05)
    collector.script = [Late(0.2), dripping, Silent(), Late(0.2)]
    processor = open_processor(collector_url=collector.url, export_timeout=0.4, flush_interval=0.02, batch_size=50)
    ids: list[str] = []
    while collector.script:
        ids += processor.record(10)
        time.sleep(0.01)
    wait_until(lambda: processor.flush(FLUSH_S).sent == len(ids))
    assert sorted(collector.accepted_ids()) == sorted(ids)
    assert collector.most_in_flight == 1
    processor.check_ledger()


# ---- A3

DELAYS = ["0", "-3", "nan", "abc", "", "1e-9", email.utils.formatdate(0, usegmt=True), "\xff\xfe", "Mon, 99 Foo"]
LONG_DELAYS = ["1e20", "9" * 400, "inf", email.utils.formatdate(4e9, usegmt=True)]


def test_a03_any_retry_after_keeps_the_thread_alive(open_processor: Open, collector: Collector) -> None:
    processor = open_processor(collector_url=collector.url, max_retries=0)
    collector.script = [Reply(429, b"", (("Retry-After", text),)) for text in DELAYS]
    ids: list[str] = []
    for _ in DELAYS:
        ids += processor.record(2)
        processor.flush(FLUSH_S)
    wait_until(lambda: processor.flush(FLUSH_S).sent == len(ids))
    assert sorted(collector.accepted_ids()) == sorted(ids)
    processor.check_ledger()


@pytest.mark.parametrize("text", LONG_DELAYS)
def test_a03_a_long_retry_after_is_bounded_and_spans_wait(
    open_shipment: Open, collector: Collector, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    now_s = [1000.0]
    shipment = open_shipment(collector.url)
    monkeypatch.setattr(delivery_module, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    collector.script = [Reply(429, b"", (("Retry-After", text),))]
    shipment.ship(batch_of(5))
    now_s[0] += 299
    shipment.replay()
    assert len(collector.batches) == 1
    now_s[0] += 2
    shipment.replay()
    shipment.check_all_arrived(collector)


def test_a03_ten_thousand_values_of_retry_after_are_delays_or_nothing() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)

    def any_value() -> str:
        kind = chance.randrange(6)
        if kind == 0:
            return str(chance.randint(-(10 ** chance.randrange(1, 400)), 10 ** chance.randrange(1, 400)))
        if kind == 1:
            return repr(chance.choice([-1, 1]) * 10.0 ** chance.uniform(-320, 308))
        if kind == 2:
            return email.utils.formatdate(chance.uniform(-6e10, 2e11), usegmt=chance.random() < 0.5)
        if kind == 3:
            return bytes(chance.randrange(256) for _ in range(chance.randrange(40))).decode("latin-1")
        if kind == 4:
            date = list(email.utils.formatdate(chance.uniform(0, 4e9)))
            date[chance.randrange(len(date))] = chr(chance.randrange(32, 256))
            return "".join(date)
        return chance.choice(["nan", "inf", "-inf", "1e20", "abc", "0x10", "1_000", "", " 5 ", "\u0665", "5, 6"])

    for _ in range(10_000):
        text = any_value()
        delay_s = parse_retry_after(text, 1.8e9)
        assert delay_s is None or 0.0 <= delay_s <= 300.0, text
        header = text.encode("latin-1", "replace")
        outcome = judge(429, [(b"Retry-After", header)], b"", 1)
        assert outcome.retry_after_s is None or 0.0 <= outcome.retry_after_s <= 300.0, text


# ---- A4


def test_a04_one_huge_span_among_999_is_cut_and_the_others_arrive(open_shipment: Open, collector: Collector) -> None:
    """Halved down to the one that is too large; that goes without its content."""
    collector.rule = limited(65_536)
    lines = [b'{"span_id":"%016x","n":%d}' % (n, n) for n in range(1000)]
    lines[500] = lines[500][:-1] + b',"input":["%s"]}' % (b"x" * (1 << 20))
    shipment = open_shipment(collector.url)
    shipment.ship(batch_of(1000, lines=lines))
    (cut,) = [span for batch in collector.accepted() for span in batch.spans if "input" in span]
    assert (cut["n"], cut["input"]) == (500, {"truncated": (1 << 20) + 4})
    shipment.check_all_arrived(collector)


def test_a04_a_span_that_cannot_be_cut_is_dropped_and_counted(open_shipment: Open, collector: Collector) -> None:
    collector.rule = limited(65_536)
    lines = [b'{"span_id":"%016x","n":%d}' % (n, n) for n in range(1000)]
    lines[500] = lines[500][:-1] + b',"name":"%s"}' % (b"x" * 70_000)
    shipment = open_shipment(collector.url)
    shipment.ship(batch_of(1000, lines=lines))
    assert shipment.delivery.tally.dropped == {"too_large": 1}
    assert sorted(collector.accepted_ids()) == [f"{n:016x}" for n in range(1000) if n != 500]
    shipment.check_ledger()


# ---- A5


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_a05_a_failure_is_answered_with_the_same_bytes_again(
    open_shipment: Open, collector: Collector, status: int
) -> None:
    """Retried at once, and from the spool: body and batch id stay what they were."""
    collector.script = [Reply(status)] * 5
    shipment = open_shipment(collector.url, max_retries=2)
    for n in range(3):
        shipment.ship(batch_of(10, first=10 * n))
    for _ in range(6):
        shipment.replay()
    shipment.check_all_arrived(collector)
    assert len(collector.batches) == 3 + 5
    sent = {(batch.headers["x-batch-id"], batch.body) for batch in collector.batches}
    assert len(sent) == 3
    assert shipment.delivery.retries >= 2


# ---- A6


def rejected_in(shipment: Any) -> list[int]:
    files = Path(shipment.spool.path, "rejected").glob("*")
    return sorted(json.loads(line)["span"]["n"] for path in files for line in path.read_bytes().splitlines())


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("modulus", [97, 7, 2])
def test_a06_exactly_the_poison_is_quarantined(
    open_shipment: Open, collector: Collector, status: int, modulus: int
) -> None:
    accept = rejecting(lambda span: span["n"] % modulus == 0)
    collector.rule = lambda lines: Reply(200 if accept(lines).status == 200 else status)
    shipment = open_shipment(collector.url)
    shipment.ship(batch_of(1000))
    poison = [n for n in range(1000) if n % modulus == 0]
    assert rejected_in(shipment) == poison
    assert sorted(collector.accepted_ids()) == [f"{n:016x}" for n in range(1000) if n % modulus]
    assert (shipment.delivery.tally.sent, shipment.delivery.tally.rejected) == (1000 - len(poison), len(poison))
    shipment.check_ledger()


def test_a06_a_collector_that_refuses_everything_is_let_be_and_gets_everything_once_mended(
    open_shipment: Open, collector: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr(delivery_module, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    collector.rule = lambda lines: Reply(400)
    shipment = open_shipment(collector.url)
    for n in range(5):
        shipment.ship(batch_of(1000, first=1000 * n))
        shipment.replay()
    assert len(collector.batches) == 32
    assert shipment.delivery.tally.spooled == 5000
    assert rejected_in(shipment) == []
    (line,) = lines_of(caplog)
    assert "http 400" in line and "FASTTRACE_COLLECTOR_URL" in line and "FASTTRACE_TENANT_ID" in line
    shipment.check_ledger()
    collector.rule = lambda lines: Reply()
    now_s[0] += 61
    shipment.replay()
    shipment.check_all_arrived(collector)


# ---- A7


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a07_a_refusal_is_probed_at_most_twice_a_minute(
    open_shipment: Open, collector: Collector, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    now_s = [1000.0]
    shipment = open_shipment(collector.url)
    monkeypatch.setattr(delivery_module, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    collector.rule = lambda lines: Reply(status)
    asked_s: list[float] = []
    for second in range(0, 3600, 3):
        now_s[0] = 1000.0 + second
        before = len(collector.batches)
        if second < 90:
            shipment.ship(batch_of(1, first=second // 3))
        shipment.replay()
        asked_s += [second] * (len(collector.batches) - before)
    assert 10 <= len(asked_s) <= 60
    assert all(third - first >= 60 for first, third in zip(asked_s, asked_s[2:], strict=False)), asked_s
    collector.rule = lambda lines: Reply()
    now_s[0] += 301
    shipment.replay()
    shipment.check_all_arrived(collector)


def test_a07_a_fixed_key_delivers_everything_and_no_key_is_ever_shown(
    open_processor: Open, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.key = "sk-right-0123456789"
    caplog.set_level("DEBUG", "fasttrace")
    processor = open_processor(collector_url=collector.url, api_key="sk-wrong-0123456789")
    ids: list[str] = []
    for _ in range(5):
        ids += processor.record(2)
        processor.flush(FLUSH_S)
    assert len(collector.batches) == 1
    (line,) = lines_of(caplog)
    assert "FASTTRACE_API_KEY" in line
    shown = [repr(processor.config), repr(processor.stats()), repr(processor._worker._exporter), str(vars(processor))]
    settings = {**processor.config._asdict(), "api_key": collector.key}
    processor.reconfigure(load({}, settings)[0])
    ids += processor.record(2)
    wait_until(lambda: processor.flush(FLUSH_S).sent == len(ids))
    shown += [repr(processor.config), caplog.text]
    assert not [text for text in shown if "0123456789" in text]
    assert sorted(collector.accepted_ids()) == sorted(ids)
    processor.check_ledger()


def test_a07_an_exception_that_quotes_the_key_is_told_without_it(
    open_shipment: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipment = open_shipment("http://127.0.0.1:9/", api_key="sk-0123456789")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("Illegal header value b'Bearer sk-0123456789'")

    shipment.exporter.prepare()
    monkeypatch.setattr(shipment.exporter._pool, "stream", fail)
    shipment.ship(batch_of(1))
    assert "Illegal header value" in str(shipment.delivery.last_error)
    assert "0123456789" not in f"{shipment.delivery.last_error} {caplog.text}"
    shipment.check_ledger()


# ---- A8

BOMB = gzip.compress(bytes(1 << 30), 1)
REPLIES = {
    "bomb": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB,
    "truncated": b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"accepted":',
    "not http": b"\x00\xff\xfe not http at all\r\n\r\n",
    "nothing": b"",
    "huge header": b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * (4 << 20) + b"\r\n\r\n",
    "endless informational": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50_000,
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffffff\r\nxx",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
    "deep json": b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60_000,
    "a page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>log in here</html>",
    "bad status": b"HTTP/1.1 999999 WHAT\r\n\r\n",
}
GROWTH_MAX_KIB = 8192
CHILD = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from shipment import Shipment, batch_of

def peak_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

url, count = sys.argv[1], int(sys.argv[2])
shipment = Shipment(url, Path(sys.argv[4]), timeout_s=5.0)
shipment.ship(batch_of(10))
before = peak_kib()
actions = []
for n in range(1, count + 1):
    shipment.ship(batch_of(10, first=10 * n))
    shipment.delivery.hurry()
growth = peak_kib() - before
spooled = shipment.delivery.tally.spooled
shipment.replay()
shipment.check_ledger()
print(json.dumps([growth, spooled, shipment.delivery.tally.sent]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell the peak of memory")
def test_a08_no_shape_of_reply_costs_memory_or_spans(collector: Collector, tmp_path: Path) -> None:
    collector.script = [Reply(), *(Raw(data) for data in REPLIES.values())]
    environ = {**os.environ, "PYTHONPATH": str(Path(fasttrace.__file__).parent.parent)}
    arguments = [collector.url, str(len(REPLIES)), str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], env=environ, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    growth_kib, spooled, sent = json.loads(done.stdout)
    print("peak of memory:", growth_kib, "KiB more")
    assert growth_kib < GROWTH_MAX_KIB
    assert spooled == 10 * len(REPLIES)
    assert sent == 10 * (len(REPLIES) + 1)
    assert sorted(collector.accepted_ids()) == [f"{n:016x}" for n in range(sent)]


def test_a08_a_reply_without_a_length_is_a_reply(open_shipment: Open, collector: Collector) -> None:
    collector.script = [Raw(b'HTTP/1.1 200 OK\r\n\r\n{"accepted":10,"rejected":0}', 200), Reset(), Raw(b"", 0)]
    shipment = open_shipment(collector.url)
    for n in range(3):
        shipment.ship(batch_of(10, first=10 * n))
        shipment.delivery.hurry()
    assert shipment.delivery.tally.sent == 10
    shipment.replay()
    shipment.check_all_arrived(collector)
