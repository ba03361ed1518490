"""From the recorder to a collector, over loopback HTTP and real files, with both cores."""

from __future__ import annotations

import email.utils
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from collector import Collector, Drip, Raw, Reply, Reset, Silent, limited, named_errors, rejecting
from fasttrace.core._api import Price
from fasttrace.core._backing import Backing
from fasttrace.exporters.memory import MemoryExporter
from fasttrace.trace import processor as processor_module
from fasttrace.trace.stats import FlushResult, Stats

if TYPE_CHECKING:
    from collections.abc import Callable

    Open = Callable[..., Any]

FLUSH_S = 10.0
WAIT_S = 60.0


def spooled_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state" / "spool").glob("*.ndjson*"))


def wait_until(is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


# ---- delivered


def test_recorded_spans_arrive(open_processor: Open, collector: Collector) -> None:
    processor = open_processor(collector_url=collector.url, service_name="shop", api_key="k3y", tenant_id="acme")
    ids = processor.record(3)
    assert processor.flush(FLUSH_S) == FlushResult(sent=3)
    assert collector.accepted_ids() == ids
    (batch,) = collector.batches
    assert batch.headers["authorization"] == "Bearer k3y"
    assert batch.headers["x-tenant-id"] == "acme"
    assert batch.headers["x-span-count"] == "3"
    assert batch.headers["x-batch-id"].endswith(":0:3")
    assert all(span["service"] == "shop" and span["tenant_id"] == "acme" for span in batch.spans)


def test_spans_arrive_without_being_asked_for(open_processor: Open, collector: Collector) -> None:
    processor = open_processor(collector_url=collector.url, flush_interval=0.02)
    ids = processor.record(1)
    collector.wait_for_requests(1)
    ids += processor.record(1)
    collector.wait_for_requests(2)
    assert collector.accepted_ids() == ids


def test_batches_have_at_most_the_set_size(open_processor: Open, collector: Collector) -> None:
    collector.gate.clear()
    processor = open_processor(collector_url=collector.url, batch_size=100)
    processor.record(1)
    collector.wait_for_requests(1)
    processor.record(950)
    collector.gate.set()
    assert processor.flush(FLUSH_S) == FlushResult(sent=951)
    assert [int(batch.headers["x-span-count"]) for batch in collector.batches] == [1] + [100] * 9 + [50]
    tickets = [int(batch.headers["x-batch-id"].split(":")[1]) for batch in collector.batches]
    assert tickets == [0, *range(1, 951, 100)]


def test_nothing_exists_before_the_first_span(open_processor: Open, collector: Collector, tmp_path: Path) -> None:
    threads = threading.active_count()
    processor = open_processor(collector_url=collector.url)
    assert processor.flush() == FlushResult()
    assert processor.stats() == Stats(backend=processor.stats().backend)
    assert threading.active_count() == threads
    assert list(tmp_path.iterdir()) == []


def test_disabled_records_nothing(open_processor: Open, collector: Collector, tmp_path: Path) -> None:
    processor = open_processor(collector_url=collector.url, enabled=False)
    assert not processor.recorder.active
    assert processor.flush() == FlushResult()
    assert list(tmp_path.iterdir()) == []


def test_stats_tell_everything(open_processor: Open, collector: Collector, tmp_path: Path, core: Any) -> None:
    processor = open_processor(collector_url=collector.url, queue_max_size=300)
    processor.record(5)
    processor.flush(FLUSH_S)
    stats = processor.stats()
    assert (stats.recorded, stats.sent, stats.pending, stats.batches) == (5, 5, 0, 1)
    assert stats.bytes_sent == len(collector.batches[0].body)
    assert (stats.ring_used, stats.ring_slots, stats.backend) == (0, 512, core.BACKEND)
    assert stats.backing.startswith(str(tmp_path / "ring"))
    assert (stats.last_error, stats.dropped, stats.retries) == (None, {}, 0)


# ---- prices


def test_prices_are_looked_up_once_per_model_and_spans_are_priced(open_processor: Open) -> None:
    asked = []

    def resolve(provider: str, model: str) -> Price | None:
        asked.append((provider, model))
        return Price(input=150_000, output=600_000) if model == "gpt-4o-mini" else None

    memory = MemoryExporter()
    processor = open_processor(exporter=memory, resolve_price=resolve)
    processor.recorder.price_version = "2026-01-01"
    processor.record(2)
    processor.record(1, model_id="unheard-of")
    processor.flush(FLUSH_S)
    processor.record(1)
    processor.record(1, model_id="unheard-of")
    processor.flush(FLUSH_S)
    costs = [str(span.get("cost_usd")) for span in memory.spans]
    assert costs == ["3.6e-06", "3.6e-06", "None", "3.6e-06", "None"]
    assert sorted(asked) == [("openai", "gpt-4o-mini"), ("openai", "unheard-of")]
    assert processor.stats().unpriced == 1


def test_a_price_list_that_fails_costs_prices_not_spans(open_processor: Open) -> None:
    def resolve(provider: str, model: str) -> Price | None:
        raise OSError("no price list")

    memory = MemoryExporter()
    processor = open_processor(exporter=memory, resolve_price=resolve)
    processor.record(2)
    assert processor.flush(FLUSH_S) == FlushResult(sent=2)
    assert [span.get("cost_usd") for span in memory.spans] == [None, None]


# ---- what a collector may answer


@pytest.mark.parametrize(
    "failures",
    [
        [Reply(500), Reply(503)],
        [Reply(429, b"", (("Retry-After", "0"),))],
        [Reply(429, b"", (("Retry-After", email.utils.formatdate(0, usegmt=True)),))],
        [Raw(b"\x00\xff garbage\r\n\r\n")],
        [Reply(200, b"<html>a portal</html>")],
        [Reset()],
    ],
    ids=["500", "429 in seconds", "429 as a date", "garbage", "not a collector", "reset"],
)
def test_a_failure_that_passes_loses_nothing(open_processor: Open, collector: Collector, failures: list[Any]) -> None:
    collector.script = list(failures)
    processor = open_processor(collector_url=collector.url, max_retries=3)
    ids = processor.record(10)
    assert processor.flush(FLUSH_S) == FlushResult(sent=10)
    assert collector.accepted_ids() == ids
    assert processor.stats().retries == len(failures)
    assert len({batch.body for batch in collector.batches}) == 1, "the very same bytes each time"
    assert len({batch.headers["x-batch-id"] for batch in collector.batches}) == 1


def test_a_long_retry_after_is_kept_and_spans_wait_in_the_spool(open_processor: Open, collector: Collector) -> None:
    collector.rule = lambda lines: Reply(429, b"", (("Retry-After", "300"),))
    processor = open_processor(collector_url=collector.url, max_retries=3)
    processor.record(10)
    assert processor.flush(FLUSH_S) == FlushResult(spooled=10)
    processor.record(5)
    assert processor.flush(FLUSH_S) == FlushResult(spooled=15)
    assert len(collector.batches) == 1


def test_a_dripping_collector_is_given_up_at_the_deadline(open_processor: Open, collector: Collector) -> None:
    collector.script = [Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b" " * 900, 0.05)]
    processor = open_processor(collector_url=collector.url, export_timeout=0.3, max_retries=1)
    ids = processor.record(10)
    assert processor.flush(FLUSH_S) == FlushResult(sent=10)
    assert collector.accepted_ids() == ids


def test_a_refused_line_is_found_and_the_rest_arrives(
    open_processor: Open, collector: Collector, tmp_path: Path
) -> None:
    collector.rule = rejecting(lambda span: span["output_tokens"] == 666)
    processor = open_processor(collector_url=collector.url)
    good = processor.record(30)
    (bad,) = processor.record(1, output_tokens=666)
    good += processor.record(30)
    assert processor.flush(FLUSH_S) == FlushResult(sent=60, dropped=1)
    assert processor.stats().rejected == 1
    assert sorted(collector.accepted_ids()) == sorted(good)
    (path,) = (tmp_path / "state" / "spool" / "rejected").iterdir()
    entry = json.loads(path.read_bytes())
    assert (entry["error"], entry["span"]["span_id"]) == ("http 400", bad)


def test_lines_that_a_collector_rejects_by_number_are_kept_aside(
    open_processor: Open, collector: Collector, tmp_path: Path
) -> None:
    collector.script = [named_errors([(2, "no such model")])]
    processor = open_processor(collector_url=collector.url)
    ids = processor.record(3)
    assert processor.flush(FLUSH_S) == FlushResult(sent=2, dropped=1)
    (path,) = (tmp_path / "state" / "spool" / "rejected").iterdir()
    entry = json.loads(path.read_bytes())
    assert (entry["error"], entry["span"]["span_id"]) == ("no such model", ids[1])


def test_a_batch_too_large_is_halved_until_it_fits(open_processor: Open, collector: Collector) -> None:
    collector.rule = limited(4000)
    processor = open_processor(collector_url=collector.url)
    ids = processor.record(50)
    ids += processor.record(1, attributes=json.dumps({"text": "x" * 6000}).encode())
    assert processor.flush(FLUSH_S) == FlushResult(sent=51)
    assert sorted(collector.accepted_ids()) == sorted(ids)
    (cut,) = [span for batch in collector.accepted() for span in batch.spans if "attributes" in span]
    assert cut["attributes"] == {"truncated": 6012}


@pytest.mark.parametrize("status, variable", [(401, "FASTTRACE_API_KEY"), (404, "FASTTRACE_COLLECTOR_URL")])
def test_a_wrong_configuration_is_said_once_and_not_hammered(
    open_processor: Open, collector: Collector, caplog: pytest.LogCaptureFixture, status: int, variable: str
) -> None:
    collector.rule = lambda lines: Reply(status)
    processor = open_processor(collector_url=collector.url, api_key="s3cret")
    for _ in range(5):
        processor.record(2)
        processor.flush(FLUSH_S)
    assert processor.stats().spooled == 10
    assert len(collector.batches) == 1
    (line,) = [record.getMessage() for record in caplog.records if record.name == "fasttrace"]
    assert variable in line and f"http {status}" in line
    assert "s3cret" not in caplog.text


# ---- the spool


def test_without_a_collector_spans_go_to_the_spool_and_the_next_process_sends_them(
    open_processor: Open, collector: Collector, tmp_path: Path
) -> None:
    first = open_processor()
    ids = first.record(20)
    assert first.flush(FLUSH_S) == FlushResult(spooled=20)
    assert first.shutdown() == FlushResult(spooled=20)
    assert len(spooled_files(tmp_path)) == 1
    second = open_processor(collector_url=collector.url)
    ids += second.record(1)
    collector.wait(lambda seen: len(seen.accepted_ids()) == 21)
    assert sorted(collector.accepted_ids()) == sorted(ids)
    assert second.flush(FLUSH_S) == FlushResult(sent=1)
    assert second.stats().replayed == 20
    assert spooled_files(tmp_path) == []


def test_what_an_absent_collector_missed_is_replayed_when_it_returns(
    open_processor: Open, collector: Collector, tmp_path: Path
) -> None:
    port = collector.port
    collector.close()
    processor = open_processor(collector_url=f"http://127.0.0.1:{port}/api/ingest")
    ids = []
    for n in range(3):
        ids += processor.record(10)
        assert processor.flush(FLUSH_S) == FlushResult(spooled=10 * (n + 1))
    assert processor.stats().last_error.startswith("ConnectError")
    files = spooled_files(tmp_path)
    assert len(files) == 3
    bodies = [path.read_bytes() for path in files]
    with Collector(port) as returned:
        ids += processor.record(1)
        assert processor.flush(FLUSH_S) == FlushResult(sent=31)
        assert sorted(returned.accepted_ids()) == sorted(ids)
        assert [batch.body for batch in returned.batches[-3:]] == bodies, "oldest first, the very same bytes"
    assert processor.stats().replayed == 30
    assert spooled_files(tmp_path) == []


def test_exporter_spool_keeps_spans_here(open_processor: Open, collector: Collector, tmp_path: Path) -> None:
    processor = open_processor(collector_url=collector.url, compression="none", way="spool")
    ids = processor.record(5)
    assert processor.flush(FLUSH_S) == FlushResult(spooled=5)
    assert collector.batches == []
    (path,) = spooled_files(tmp_path)
    assert [json.loads(line)["span_id"] for line in path.read_bytes().splitlines()] == ids


def test_exporter_file_writes_lines(open_processor: Open, tmp_path: Path) -> None:
    processor = open_processor(file=tmp_path / "out.jsonl", way="file")
    ids = processor.record(5)
    assert processor.flush(FLUSH_S) == FlushResult(sent=5)
    assert [json.loads(line)["span_id"] for line in (tmp_path / "out.jsonl").read_bytes().splitlines()] == ids


def test_exporter_none_counts_what_it_throws_away(open_processor: Open, tmp_path: Path) -> None:
    processor = open_processor(way="none")
    processor.record(5)
    assert processor.flush(FLUSH_S) == FlushResult(dropped=5)
    assert processor.stats().dropped == {"discarded": 5}
    assert spooled_files(tmp_path) == []


def test_spans_stay_pending_while_neither_collector_nor_disk_takes_them(
    open_processor: Open, collector: Collector, tmp_path: Path
) -> None:
    collector.rule = lambda lines: Reply(500)
    (tmp_path / "state").write_text("in the way of the spool")
    processor = open_processor(collector_url=collector.url)
    ids = processor.record(10)
    assert processor.flush(FLUSH_S) == FlushResult(pending=10)
    assert processor.stats().pending == 10 == processor.ledger()
    assert "spool" in processor.stats().last_error
    (tmp_path / "state").unlink()
    collector.rule = lambda lines: Reply()
    ids += processor.record(5)
    assert processor.flush(FLUSH_S) == FlushResult(sent=15)
    assert sorted(collector.accepted_ids()) == sorted(ids)


# ---- under load


def test_a_burst_from_eight_threads_at_a_slow_collector_adds_up(
    open_processor: Open, collector: Collector, tmp_path: Path
) -> None:
    collector.gate.clear()
    processor = open_processor(collector_url=collector.url, shutdown_timeout=60)
    barrier = threading.Barrier(8)
    recorded: list[list[str]] = []

    def burst() -> None:
        barrier.wait()
        recorded.append(processor.record(12_500))

    threads = [threading.Thread(target=burst) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    collector.gate.set()
    result = processor.flush(60)
    stats = processor.stats()
    assert stats.recorded == 100_000 == result.sent + result.spooled + result.dropped
    assert stats.recorded == processor.ledger()
    assert result.pending == stats.pending == 0
    arrived = collector.accepted_ids()
    assert len(arrived) == len(set(arrived)) == result.sent
    assert set(arrived) <= {span_id for ids in recorded for span_id in ids}
    assert stats.dropped.keys() <= {"overwritten", "busy"}
    dropped = [int(batch.headers.get("x-dropped-spans", 0)) for batch in collector.batches]
    assert dropped == sorted(dropped)


def test_a_half_full_ring_goes_to_the_spool_while_the_collector_is_silent(
    open_processor: Open, collector: Collector
) -> None:
    collector.script = [Silent()]
    processor = open_processor(collector_url=collector.url, queue_max_size=1024, export_timeout=60, batch_size=100)
    ids = processor.record(1)
    collector.wait_for_requests(1)
    for _ in range(40):
        ids += processor.record(256)
        deadline_s = time.monotonic() + 10
        while 2 * processor.stats().ring_used >= 1024 and time.monotonic() < deadline_s:
            time.sleep(0.001)
    deadline_s = time.monotonic() + 10
    while processor.ledger() != 10_241 and time.monotonic() < deadline_s:
        time.sleep(0.001)
    stats = processor.stats()
    assert stats.dropped == {}
    assert stats.recorded == 10_241 == processor.ledger()
    assert stats.spooled > 9_000
    assert len(collector.batches) == 1, "the first request is still waiting"


def test_a_ring_smaller_than_the_burst_keeps_the_newest(open_processor: Open) -> None:
    memory = MemoryExporter()
    processor = open_processor(exporter=memory, queue_max_size=256)
    gate = threading.Event()
    export, memory.export = memory.export, lambda batch: gate.wait(20) and export(batch)  # type: ignore[method-assign]
    processor.record(1)
    wait_until(lambda: processor.stats().pending == 1 and not processor.stats().ring_used)
    ids = processor.record(1000)
    gate.set()
    assert processor.flush(FLUSH_S) == FlushResult(sent=257, dropped=744)
    assert [span["span_id"] for span in memory.spans[1:]] == ids[-256:]
    assert processor.stats().dropped == {"overwritten": 744}


# ---- flush


def test_flush_gives_up_at_its_timeout_and_what_is_pending_arrives_later(
    open_processor: Open, collector: Collector
) -> None:
    collector.gate.clear()
    processor = open_processor(collector_url=collector.url)
    ids = processor.record(10)
    assert processor.flush(0.05) == FlushResult(pending=10)
    collector.gate.set()
    assert processor.flush(FLUSH_S) == FlushResult(sent=10)
    assert collector.accepted_ids() == ids


def test_flush_does_not_sit_out_a_back_off(open_processor: Open, collector: Collector) -> None:
    collector.rule = lambda lines: Reply(503, b"", (("Retry-After", "200"),))
    processor = open_processor(collector_url=collector.url, max_retries=3)
    processor.record(10)
    collector.wait_for_requests(1)
    assert processor.flush(5.0) == FlushResult(spooled=10)


def test_many_threads_may_flush_at_once(open_processor: Open, collector: Collector) -> None:
    processor = open_processor(collector_url=collector.url)
    results: list[FlushResult] = []

    def work() -> None:
        processor.record(50)
        results.append(processor.flush(FLUSH_S))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result.sent >= 50 and result.dropped == 0 for result in results)
    assert processor.flush(FLUSH_S) == FlushResult(sent=400)


def test_flush_from_the_exporter_thread_returns(open_processor: Open) -> None:
    results: list[FlushResult] = []

    def resolve(provider: str, model: str) -> None:
        results.append(processor.flush(FLUSH_S))

    processor = open_processor(exporter=MemoryExporter(), resolve_price=resolve)
    processor.record(3)
    assert processor.flush(FLUSH_S) == FlushResult(sent=3)
    assert results == [FlushResult(pending=3)]


# ---- shutdown


def test_shutdown_delivers_and_removes_the_ring(open_processor: Open, collector: Collector, tmp_path: Path) -> None:
    processor = open_processor(collector_url=collector.url)
    ids = processor.record(10)
    assert len(list((tmp_path / "ring").iterdir())) == 1
    assert processor.shutdown(FLUSH_S) == FlushResult(sent=10)
    assert collector.accepted_ids() == ids
    assert list((tmp_path / "ring").iterdir()) == []
    assert not processor.recorder.active
    assert processor.shutdown() == FlushResult(sent=10)
    assert processor.flush() == FlushResult(sent=10)


def test_shutdown_with_a_silent_collector_spools_in_time(
    open_processor: Open, collector: Collector, tmp_path: Path
) -> None:
    collector.rule = lambda lines: Silent()
    processor = open_processor(collector_url=collector.url, export_timeout=60)
    processor.record(2500)
    assert processor.shutdown(0.5) == FlushResult(spooled=2500)
    assert len(spooled_files(tmp_path)) >= 3
    assert list((tmp_path / "ring").iterdir()) == []


def test_spans_after_shutdown_are_counted(open_processor: Open, collector: Collector) -> None:
    processor = open_processor(collector_url=collector.url)
    processor.record(1)
    processor.shutdown(FLUSH_S)
    processor.record(2)
    stats = processor.stats()
    assert (stats.recorded, stats.sent, stats.dropped) == (3, 1, {"unstarted": 2})
    assert processor.ledger() == 3


def test_an_unsettled_ring_keeps_its_file(open_processor: Open, collector: Collector, tmp_path: Path) -> None:
    collector.rule = lambda lines: Reply(500)
    (tmp_path / "state").write_text("in the way of the spool")
    processor = open_processor(collector_url=collector.url)
    processor.record(10)
    assert processor.shutdown(1.0) == FlushResult(pending=10)
    assert len(list((tmp_path / "ring").iterdir())) == 1


def test_without_a_thread_shutdown_delivers_by_itself(
    open_processor: Open, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("fasttrace.trace.worker.start_thread", no_thread)
    processor = open_processor(collector_url=collector.url)
    ids = processor.record(10)
    assert processor.flush(FLUSH_S) == FlushResult(pending=10)
    assert processor.shutdown(FLUSH_S) == FlushResult(sent=10)
    assert collector.accepted_ids() == ids


# ---- configuration while running


def test_another_configuration_takes_over_and_counters_go_on(open_processor: Open, collector: Collector) -> None:
    processor = open_processor(collector_url=collector.url, service_name="before")
    processor.record(2)
    with Collector() as second:
        processor.reconfigure(processor.config._replace(collector_url=second.url, service_name="after"))
        processor.record(3)
        assert processor.flush(FLUSH_S) == FlushResult(sent=5)
        assert [span["service"] for batch in collector.batches for span in batch.spans] == ["before"] * 2
        assert [span["service"] for batch in second.batches for span in batch.spans] == ["after"] * 3
    assert processor.stats().recorded == 5 == processor.ledger()


def test_another_configuration_keeps_the_ring(open_processor: Open, collector: Collector, tmp_path: Path) -> None:
    processor = open_processor(collector_url=collector.url)
    processor.record(1)
    kept = (processor.recorder.ring, processor.recorder.wake_fd, processor.stats().backing)
    for batch_size in range(1, 6):
        processor.reconfigure(processor.config._replace(batch_size=batch_size))
        processor.record(5)
        assert processor.flush(FLUSH_S).sent == 1 + 5 * batch_size
        assert (processor.recorder.ring, processor.recorder.wake_fd, processor.stats().backing) == kept
    assert [int(batch.headers["x-span-count"]) for batch in collector.batches[:6]] == [1] * 6
    assert len({batch.headers["x-batch-id"].split(":")[0] for batch in collector.batches}) == 1
    assert processor.ledger() == 26


def test_another_ring_takes_the_place_of_the_first_and_leaves_nothing_open(
    open_processor: Open, collector: Collector, tmp_path: Path
) -> None:
    processor = open_processor(collector_url=collector.url)
    processor.record(1)
    processor.flush(FLUSH_S)
    wakeup = processor._worker.wakeup
    processor.reconfigure(processor.config._replace(queue_max_size=256))
    assert (processor.recorder.ring, processor.recorder.wake_fd, list((tmp_path / "ring").iterdir())) == (None, -1, [])
    wait_until(lambda: wakeup.is_lost)
    processor.record(1)
    assert processor.flush(FLUSH_S) == FlushResult(sent=2)
    assert processor.stats().ring_slots == 256


@pytest.mark.parametrize("queue_max_size", [8192, 256], ids=["same ring", "another ring"])
def test_what_an_earlier_configuration_spooled_is_sent_by_the_next(
    open_processor: Open, collector: Collector, queue_max_size: int
) -> None:
    processor = open_processor(way="spool")
    ids = processor.record(5)
    assert processor.flush(FLUSH_S) == FlushResult(spooled=5)
    processor.reconfigure(
        processor.config._replace(exporter="http", collector_url=collector.url, queue_max_size=queue_max_size)
    )
    ids += processor.record(1)
    collector.wait(lambda seen: len(seen.accepted_ids()) == 6)
    assert processor.flush(FLUSH_S) == FlushResult(sent=6)
    assert sorted(collector.accepted_ids()) == sorted(ids)
    assert (processor.stats().spooled, processor.ledger()) == (0, 6)


def test_another_configuration_is_not_held_up_by_a_silent_collector(
    open_processor: Open, collector: Collector, tmp_path: Path
) -> None:
    collector.rule = lambda lines: Silent()
    processor = open_processor(collector_url=collector.url, export_timeout=60, shutdown_timeout=0.2)
    processor.record(3)
    processor.reconfigure(processor.config._replace(exporter="file", file=str(tmp_path / "out.jsonl")))
    (later,) = processor.record(1)
    assert processor.flush(FLUSH_S) == FlushResult(sent=1, spooled=3)
    assert json.loads((tmp_path / "out.jsonl").read_bytes())["span_id"] == later


def test_init_turns_on_what_was_off_and_what_was_shut_down(open_processor: Open) -> None:
    memory = MemoryExporter()
    processor = open_processor(enabled=False)
    for turn_off in (lambda: None, processor.shutdown):
        turn_off()
        processor.reconfigure(processor.config._replace(enabled=True), memory)
        assert processor.recorder.active
        processor.record(1)
    assert processor.flush(FLUSH_S) == FlushResult(sent=2)
    processor.reconfigure(processor.config._replace(enabled=False), memory)
    assert not processor.recorder.active


# ---- what an application may do to us


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e20, float("nan"), -1.0, -float("inf")])
def test_any_timeout_will_do(open_processor: Open, timeout_s: float) -> None:
    processor = open_processor(exporter=MemoryExporter())
    processor.record(3)
    processor.flush(timeout_s)
    assert sum(processor.shutdown(timeout_s)) == 3


def test_a_name_that_takes_its_time_holds_up_neither_fork_nor_shutdown(
    open_processor: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_asked, may_go_on = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> None:
        is_asked.set()
        may_go_on.wait(WAIT_S)
        raise OSError("no such name")

    monkeypatch.setattr("socket.getaddrinfo", slow)
    processor = open_processor(collector_url="https://collector.example.com", flush_interval=0.01)
    processor.record(3)
    assert is_asked.wait(WAIT_S)
    assert processor.worker is not None
    lock = processor.worker.hold_still()
    assert lock is not None, "the exporter thread rests"
    lock.release()
    assert processor.shutdown(0.5) == FlushResult(spooled=3)
    may_go_on.set()


# ---- where no file can be had


def test_a_ring_without_a_file_works_all_the_same(
    open_processor: Open, collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anonymous = Backing(-1, None, open_processor().config.ring_shape, "anonymous", "none to be had")
    monkeypatch.setattr(processor_module, "open_ring_file", lambda *_: anonymous)
    processor = open_processor(collector_url=collector.url)
    processor.record(3)
    assert processor.flush(FLUSH_S) == FlushResult(sent=3)
    assert processor.stats().backing == "anonymous"


def test_no_ring_at_all_is_counted_and_said_once(
    open_processor: Open,
    collector: Collector,
    core: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise OSError("nothing works")

    monkeypatch.setattr(processor_module, "new_owner", fail)
    processor = open_processor(collector_url=collector.url)
    processor.record(5)
    assert processor.flush(FLUSH_S) == FlushResult(dropped=5)
    assert processor.stats().dropped == {"unstarted": 5}
    assert len(caplog.records) == 1
