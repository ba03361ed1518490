"""What the exporter thread has in its hands while things go wrong around it: settled, on disk, or tried again."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from collector import Collector, Reply
from fasttrace.exporters.memory import MemoryExporter
from fasttrace.exporters.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 20.0


def wait_for(is_so: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


def segments(tmp_path: Path) -> list[str]:
    spool = tmp_path / "state" / "spool"
    return [name for name in os.listdir(spool) if ".ndjson" in name] if spool.is_dir() else []


def fill_half(processor: Any, collector: Collector) -> None:
    """A batch on the wire that its collector does not answer, and half a ring behind it."""
    processor.record(50)
    collector.wait_for_requests(1)
    processor.record(150)


def test_a_batch_on_the_wire_is_on_disk_too_once_the_ring_is_half_full(
    open_processor: Any, collector: Collector, tmp_path: Path
) -> None:
    collector.gate.clear()
    processor = open_processor(collector_url=collector.url, queue_max_size=256, batch_size=50, flush_interval=0.05)
    fill_half(processor, collector)
    first = collector.batches[0].headers["x-batch-id"].replace(":", "-")
    wait_for(lambda: any(first in name and ".sending-" in name for name in segments(tmp_path)))
    wait_for(lambda: processor.stats().spooled == 50)
    assert (processor.stats().pending, processor.ledger()) == (150, 200)
    collector.gate.set()
    wait_for(lambda: processor.flush(10) == (200, 0, 0, 0))
    assert segments(tmp_path) == []
    assert sorted(set(collector.accepted_ids())) == sorted(collector.accepted_ids()), "it was sent once"


def test_one_that_is_not_taken_in_the_end_is_spooled_as_it_lies_there(
    open_processor: Any, collector: Collector, tmp_path: Path
) -> None:
    collector.gate.clear()
    collector.rule = lambda lines: Reply(503)
    processor = open_processor(collector_url=collector.url, queue_max_size=256, batch_size=50, flush_interval=0.05)
    fill_half(processor, collector)
    wait_for(lambda: any(".sending-" in name for name in segments(tmp_path)))
    collector.gate.set()
    wait_for(lambda: processor.stats().spooled == 200)
    assert (len(segments(tmp_path)), processor.ledger()) == (4, 200)
    assert not any(".sending-" in name for name in segments(tmp_path))


def test_an_error_that_nobody_expected_costs_no_span(
    open_processor: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not an OSError: no memory, or a fault of ours."""
    write, failures = Spool.write, [MemoryError(), RuntimeError()]

    def failing(self: Spool, *arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return write(self, *arguments)

    monkeypatch.setattr(Spool, "write", failing)
    processor = open_processor(way="spool", flush_interval=0.02)
    processor.record(100)
    wait_for(lambda: processor.stats().spooled == 100)
    assert (failures, processor.stats().pending, processor.ledger()) == ([], 0, 100)


def test_a_log_handler_that_raises_does_not_end_the_exporter(open_processor: Any) -> None:
    class Raising(logging.Handler):
        lines = 0

        def emit(self, record: logging.LogRecord) -> None:
            self.lines += 1
            raise RuntimeError("the application's own handler")

    handler = Raising()
    logging.getLogger().addHandler(handler)
    try:
        processor = open_processor(collector_url="http://127.0.0.1:9", flush_interval=0.02)
        processor.record(10)
        wait_for(lambda: processor.stats().spooled == 10)
        processor.record(10)
        wait_for(lambda: processor.stats().spooled == 20)
    finally:
        logging.getLogger().removeHandler(handler)
    assert handler.lines


def test_a_new_redaction_is_in_force_when_init_returns(open_processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the exporter is stuck, and what was recorded before is still to be encoded."""
    stuck, going_on = threading.Event(), threading.Event()

    class Slow(MemoryExporter):
        def export(self, batch: Any) -> Any:
            stuck.set()
            going_on.wait(WAIT_S)
            return super().export(batch)

    exporter = Slow()
    processor = open_processor(exporter=exporter, flush_interval=0.02, shutdown_timeout=0.1)
    processor.record(1)
    assert stuck.wait(WAIT_S)
    processor.record(1, error_message="Ann, before")
    processor.reconfigure(processor.config, exporter, lambda field, value: "[hidden]")
    processor.record(1, error_message="Ann, after")
    going_on.set()
    processor.flush(WAIT_S)
    messages = [span["error_message"] for span in exporter.spans if "error_message" in span]
    assert messages == ["[hidden]", "[hidden]"]
