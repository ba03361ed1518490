"""What becomes of a batch: the policy around single attempts, with a scripted exporter and a real spool."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fasttrace.exporters import delivery as module
from fasttrace.exporters.base import ACCEPTED, EncodedBatch, Outcome, OwnTime, RejectedLine
from fasttrace.exporters.delivery import Delivery, Replay
from fasttrace.exporters.http import HttpExporter
from fasttrace.exporters.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable

WRITER, OTHER = "ab" * 16, "cd" * 16
RETRY, PAUSE = Outcome("retry", "http 503"), Outcome("pause", "http 401", advice="set FASTTRACE_API_KEY")


class Scripted:
    """An exporter that answers by script, then by rule."""

    encoding = "zstd"
    takes_spool = True

    def __init__(self) -> None:
        self.script: list[Outcome] = []
        self.rule: Callable[[EncodedBatch], Outcome] = lambda batch: ACCEPTED
        self.asked: list[EncodedBatch] = []
        self.taken: list[bytes] = []

    def prepare(self) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None: ...

    def export(self, batch: EncodedBatch) -> Outcome:
        self.asked.append(batch)
        outcome = self.script.pop(0) if self.script else self.rule(batch)
        if outcome.action == "accepted":
            rejected = {line.line for line in outcome.rejected}
            self.taken += [line for number, line in enumerate(batch.lines(), 1) if number not in rejected]
        return outcome


class Clock:
    """Time that passes only when somebody waits for it: `time.monotonic`, and a Patience."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.ends_s = float("inf")
        self.awaited = True
        self.waited: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def is_over(self) -> bool:
        return self.now_s >= self.ends_s

    def is_awaited(self) -> bool:
        return self.awaited

    def until_ready(self, timeout_s: float, fd: int, writing: bool) -> bool:
        raise AssertionError("nothing here has a socket")

    def aside(self, act: Callable[[], Any], timeout_s: float) -> Any:
        raise AssertionError("nothing here takes its time")

    def back_off(self, delay_s: float) -> bool:
        if self.now_s + delay_s >= self.ends_s:
            return False
        self.waited.append(delay_s)
        self.now_s += delay_s
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    monkeypatch.setattr(module, "random", SimpleNamespace(uniform=lambda least, most: most))
    return clock


@pytest.fixture
def exporter() -> Scripted:
    return Scripted()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path), 1 << 24)


@pytest.fixture
def delivery(exporter: Scripted, spool: Spool, clock: Clock) -> Delivery:
    return Delivery(exporter, spool, clock, {WRITER}, 3)


def counts(delivery: Delivery) -> tuple[int, int, int, dict[str, int]]:
    tally = delivery.tally
    return tally.sent, tally.spooled, tally.rejected, tally.dropped


def rejected_spans(spool: Spool) -> list[int]:
    files = sorted(Path(spool.path, "rejected").glob("*"))
    return sorted(json.loads(line)["span"]["n"] for path in files for line in path.read_bytes().splitlines())


# ---- attempts


def test_an_accepted_batch_is_sent(delivery: Delivery, make_batch: Any) -> None:
    assert delivery.deliver(make_batch(5)) == []
    assert counts(delivery) == (5, 0, 0, {})
    assert (delivery.batches, delivery.bytes_sent) == (1, len(make_batch(5).body))


def test_a_failure_is_tried_again_with_the_same_bytes(
    delivery: Delivery, exporter: Scripted, clock: Clock, make_batch: Any
) -> None:
    exporter.script = [RETRY, RETRY]
    delivery.deliver(make_batch(5))
    assert exporter.asked == [make_batch(5)] * 3
    assert clock.waited == [0.5, 1.0]
    assert counts(delivery) == (5, 0, 0, {})
    assert (delivery.retries, delivery.last_error) == (2, "http 503")


def test_an_exporter_that_raises_is_tried_again(delivery: Delivery, exporter: Scripted, make_batch: Any) -> None:
    exporter.script = [None]  # type: ignore[list-item]
    delivery.deliver(make_batch(5))
    assert counts(delivery) == (5, 0, 0, {})
    assert delivery.last_error == "AttributeError"


def test_retry_after_is_kept_and_never_makes_a_hot_loop(
    delivery: Delivery, exporter: Scripted, clock: Clock, make_batch: Any
) -> None:
    exporter.script = [RETRY._replace(retry_after_s=delay_s) for delay_s in (17.0, 0.0, 0.1)]
    delivery.deliver(make_batch(5))
    assert clock.waited == [17.0, 1.0, 2.0]


def test_the_back_off_doubles_up_to_its_bound(exporter: Scripted, spool: Spool, clock: Clock, make_batch: Any) -> None:
    exporter.rule = lambda batch: RETRY
    Delivery(exporter, spool, clock, {WRITER}, 9).deliver(make_batch())
    assert clock.waited == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_after_the_last_attempt_batches_go_to_the_spool_until_the_back_off_is_over(
    delivery: Delivery, exporter: Scripted, clock: Clock, spool: Spool, make_batch: Any
) -> None:
    exporter.rule = lambda batch: RETRY
    delivery.deliver(make_batch(5))
    delivery.deliver(make_batch(3, first=5))
    assert len(exporter.asked) == 4
    assert counts(delivery) == (0, 8, 0, {})
    clock.now_s += 4
    delivery.deliver(make_batch(2, first=8))
    assert len(exporter.asked) == 5, "one attempt shows whether the collector is back"
    delivery.deliver(make_batch(2, first=10))
    assert len(exporter.asked) == 5
    assert counts(delivery) == (0, 12, 0, {})


def test_no_time_for_the_back_off_means_the_spool(
    delivery: Delivery, exporter: Scripted, clock: Clock, make_batch: Any
) -> None:
    exporter.rule = lambda batch: RETRY
    clock.ends_s = clock.now_s + 0.6
    delivery.deliver(make_batch(5))
    assert (len(exporter.asked), clock.waited) == (2, [0.5])
    clock.now_s = clock.ends_s
    delivery.hurry()
    delivery.deliver(make_batch(5))
    assert len(exporter.asked) == 2
    assert counts(delivery) == (0, 10, 0, {})


def test_a_pause_spools_at_once_and_lasts_up_to_five_minutes(
    delivery: Delivery, exporter: Scripted, clock: Clock, make_batch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    exporter.rule = lambda batch: PAUSE
    attempts = []
    for second in range(0, 1200, 10):
        asked = len(exporter.asked)
        delivery.deliver(make_batch(1, first=second))
        attempts += [second] * (len(exporter.asked) - asked)
        clock.now_s += 10
    assert attempts == [0, 60, 180, 420, 720, 1020]
    assert counts(delivery) == (0, 120, 0, {})
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == ["set FASTTRACE_API_KEY"]
    exporter.rule = lambda batch: ACCEPTED
    clock.now_s += 300
    delivery.deliver(make_batch(1, first=5000))
    delivery.deliver(make_batch(1, first=5001))
    assert delivery.tally.sent == 2


def test_somebody_waiting_cuts_a_back_off_short_but_not_a_pause(
    delivery: Delivery, exporter: Scripted, make_batch: Any
) -> None:
    exporter.script = [RETRY] * 4 + [RETRY._replace(retry_after_s=60.0), PAUSE]
    for asked in (4, 5, 5):
        delivery.deliver(make_batch(1))
        delivery.hurry()
        assert len(exporter.asked) == asked


def test_somebody_waiting_is_not_held_back_longer_than_the_collector_asked(
    delivery: Delivery, exporter: Scripted, clock: Clock, make_batch: Any
) -> None:
    exporter.script = [RETRY] * 3 + [RETRY._replace(retry_after_s=1.0)]
    delivery.deliver(make_batch(1))
    for now_s, asked in ((0.9, 4), (0.2, 5)):
        clock.now_s += now_s
        delivery.hurry()
        delivery.deliver(make_batch(1))
        assert len(exporter.asked) == asked


def test_no_exporter_means_the_spool(spool: Spool, clock: Clock, make_batch: Any) -> None:
    delivery = Delivery(None, spool, clock, {WRITER})
    assert delivery.deliver(make_batch(5)) == []
    assert counts(delivery) == (0, 5, 0, {})
    assert delivery.replay() == Replay()


# ---- bad lines


def test_lines_that_the_collector_names_are_rejected(
    delivery: Delivery, exporter: Scripted, spool: Spool, make_batch: Any
) -> None:
    exporter.script = [Outcome("accepted", rejected=(RejectedLine(2, "bad"), RejectedLine(5, "worse")))]
    delivery.deliver(make_batch(5))
    assert counts(delivery) == (3, 0, 2, {})
    assert rejected_spans(spool) == [1, 4]


def test_of_lines_rejected_without_a_name_the_whole_batch_is_kept_aside(
    delivery: Delivery, exporter: Scripted, spool: Spool, make_batch: Any
) -> None:
    exporter.script = [Outcome("accepted", rejected=(RejectedLine(2, "bad"),), unnamed=1)]
    assert delivery.deliver(make_batch(5)) == []
    assert counts(delivery) == (3, 0, 2, {})
    assert rejected_spans(spool) == [0, 1, 2, 3, 4]


REFUSED = Outcome("bisect", "http 400")


def refusing(is_bad: Callable[[int], bool]) -> Callable[[EncodedBatch], Outcome]:
    return lambda batch: REFUSED if any(is_bad(json.loads(line)["n"]) for line in batch.lines()) else ACCEPTED


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("modulus", [2, 7, 8, 10, 97, 500])
def test_a_refused_batch_is_halved_until_each_bad_line_stands_alone(
    delivery: Delivery, exporter: Scripted, spool: Spool, make_batch: Any, modulus: int, is_known: bool
) -> None:
    if is_known:
        delivery._has_accepted = True
    exporter.rule = refusing(lambda n: n % modulus == 0)
    bad = list(range(0, 1000, modulus))
    delivery.deliver(make_batch(1000))
    assert counts(delivery) == (1000 - len(bad), 0, len(bad), {})
    assert rejected_spans(spool) == bad
    assert sorted(json.loads(line)["n"] for line in exporter.taken) == [n for n in range(1000) if n % modulus]


@pytest.mark.parametrize("count", [1, 2, 5, 1000])
def test_a_collector_that_refuses_everything_gets_a_pause_and_destroys_nothing(
    delivery: Delivery, exporter: Scripted, spool: Spool, clock: Clock, make_batch: Any, count: int, caplog: Any
) -> None:
    """Probed as where a key is refused; once it is mended all of it arrives, as the batch that it was."""
    exporter.rule = lambda batch: REFUSED
    delivery.deliver(make_batch(count))
    assert counts(delivery) == (0, count, 0, {})
    assert len(exporter.asked) == min(2 * count - 1, 32)
    assert all(name in caplog.text for name in ("http 400", "COLLECTOR_URL", "TENANT_ID"))
    asked, attempts = len(exporter.asked), []
    for second in range(0, 1200, 10):
        delivery.hurry()
        assert delivery.replay() == Replay()
        attempts += [second] * (len(exporter.asked) > asked)
        asked = len(exporter.asked)
        clock.now_s += 10
    assert attempts == [60, 180, 420, 720, 1020]
    assert counts(delivery) == (0, count, 0, {})
    assert not Path(spool.path, "rejected").exists()
    exporter.rule = lambda batch: ACCEPTED
    clock.now_s += 300
    while delivery.replay().again_s:
        pass
    assert counts(delivery) == (count, 0, 0, {})
    assert exporter.asked[-1] == make_batch(count)


def test_once_something_was_accepted_a_batch_is_bisected_however_many_are_bad(
    delivery: Delivery, exporter: Scripted, spool: Spool, make_batch: Any
) -> None:
    delivery.deliver(make_batch(1, first=5000))
    exporter.rule = lambda batch: REFUSED
    delivery.deliver(make_batch(200))
    assert counts(delivery) == (1, 0, 200, {})
    assert rejected_spans(spool) == list(range(200))
    delivery.deliver(make_batch(200, first=200))
    assert counts(delivery) == (1, 200, 200, {}), "a collector that changed its mind costs one batch"
    assert len(exporter.asked) == 1 + 399 + 32


def test_small_batches_that_are_all_bad_do_not_take_the_acceptance_off_the_record(
    delivery: Delivery, exporter: Scripted, spool: Spool, make_batch: Any
) -> None:
    delivery.deliver(make_batch(1, first=5000))
    exporter.rule = lambda batch: REFUSED
    for n in range(5):
        delivery.deliver(make_batch(2, first=2 * n))
    assert counts(delivery) == (1, 0, 10, {})


def test_a_reply_that_rejects_every_line_by_name_is_no_acceptance(
    delivery: Delivery, exporter: Scripted, make_batch: Any
) -> None:
    exporter.script = [Outcome("accepted", rejected=(RejectedLine(1, "bad"),))]
    delivery.deliver(make_batch(1))
    exporter.rule = lambda batch: REFUSED
    delivery.deliver(make_batch(1, first=1))
    assert counts(delivery) == (0, 1, 1, {})


def test_what_was_refused_before_the_collector_went_away_is_not_rejected(
    delivery: Delivery, exporter: Scripted, spool: Spool, make_batch: Any
) -> None:
    exporter.script = [REFUSED, REFUSED, REFUSED, *[RETRY] * 4]
    delivery.deliver(make_batch(4))
    assert counts(delivery) == (0, 4, 0, {})
    assert spool.look()
    segment = spool.claim()
    assert segment is not None and segment.batch == make_batch(4)


def test_a_segment_that_is_bad_from_end_to_end_does_not_stand_in_the_way(
    delivery: Delivery, exporter: Scripted, spool: Spool, clock: Clock, make_batch: Any
) -> None:
    exporter.rule = refusing(lambda n: n < 3)
    for n in range(4):
        delivery.spool_only(make_batch(3, first=3 * n))
    assert delivery.replay() == Replay()
    clock.now_s += 60
    while delivery.replay().again_s:
        pass
    assert counts(delivery) == (9, 0, 3, {})
    assert rejected_spans(spool) == [0, 1, 2]


def test_pieces_of_a_batch_have_ids_of_their_own(delivery: Delivery, exporter: Scripted, make_batch: Any) -> None:
    exporter.rule = lambda batch: ACCEPTED if batch.span_count == 1 else Outcome("halve", "http 413")
    delivery.deliver(make_batch(5, first=70))
    ids = [batch.batch_id for batch in exporter.asked]
    assert len(set(ids)) == len(ids)
    singles = [batch.batch_id for batch in exporter.asked if batch.span_count == 1]
    assert sorted(singles) == [f"{WRITER}:70+{n}:1" for n in range(5)]


# ---- large ones


def test_a_span_too_large_goes_without_its_content(delivery: Delivery, exporter: Scripted, make_batch: Any) -> None:
    large = b'{"n":0,"duration_ms":0.00001,"input":"%s","output":{"a":"%s"}}' % (b"x" * 500, b"y" * 500)
    exporter.rule = lambda batch: Outcome("halve", "http 413") if len(b"".join(batch.lines())) > 200 else ACCEPTED
    delivery.deliver(make_batch(lines=[b'{"n":1}', large, b'{"n":2}']))
    assert counts(delivery) == (3, 0, 0, {})
    small = b'{"n":0,"duration_ms":0.00001,"input":{"truncated":502},"output":{"truncated":508}}'
    assert sorted(exporter.taken) == sorted([b'{"n":1}', small, b'{"n":2}'])


def test_a_span_that_stays_too_large_is_dropped(delivery: Delivery, exporter: Scripted, make_batch: Any) -> None:
    exporter.rule = lambda batch: Outcome("halve", "http 413")
    delivery.deliver(make_batch(lines=[b'{"n":1,"input":"%s"}' % (b"x" * 100), b'{"n":2}']))
    assert counts(delivery) == (0, 0, 0, {"too_large": 2})


# ---- the spool


def test_what_was_spooled_is_replayed_as_it_was(
    delivery: Delivery, exporter: Scripted, clock: Clock, make_batch: Any
) -> None:
    exporter.rule = lambda batch: RETRY
    batches = [make_batch(2, first=2 * n) for n in range(3)]
    for batch in batches:
        delivery.deliver(batch)
    assert delivery.replay() == Replay(), "not before the back-off is over"
    exporter.rule = lambda batch: ACCEPTED
    exporter.asked.clear()
    clock.now_s += 30
    replays = [delivery.replay() for _ in range(4)]
    assert [replay.again_s is not None for replay in replays] == [True, True, True, False]
    assert not any(replay.left for replay in replays)
    assert exporter.asked == batches
    assert counts(delivery) == (6, 0, 0, {})
    assert delivery.replayed == 6


def test_a_segment_that_cannot_be_sent_stays(
    delivery: Delivery, exporter: Scripted, spool: Spool, clock: Clock, make_batch: Any
) -> None:
    spool.write(make_batch(2))
    delivery.tally.spooled = 2
    exporter.rule = lambda batch: RETRY
    assert delivery.replay() == Replay()
    assert counts(delivery) == (0, 2, 0, {})
    assert spool.look()


def test_a_segment_is_bisected_like_any_batch(
    delivery: Delivery, exporter: Scripted, spool: Spool, make_batch: Any
) -> None:
    spool.write(make_batch(4))
    delivery.tally.spooled = 4
    exporter.script = [Outcome("bisect", "http 400"), ACCEPTED, RETRY, RETRY, RETRY, RETRY]
    assert delivery.replay().again_s
    assert counts(delivery) == (2, 2, 0, {})
    delivery.hurry()
    assert delivery.replay().again_s
    assert counts(delivery) == (4, 0, 0, {})
    assert len(set(exporter.taken)) == 4


def test_segments_of_other_processes_are_sent_but_not_counted_as_ours(
    delivery: Delivery, spool: Spool, exporter: Scripted, make_batch: Any
) -> None:
    spool.write(make_batch(4, writer=OTHER))
    assert delivery.replay().again_s
    assert counts(delivery) == (0, 0, 0, {})
    assert delivery.replayed == 4
    assert exporter.asked == [make_batch(4, writer=OTHER)]


def test_replay_keeps_its_pace_unless_somebody_waits(
    delivery: Delivery, exporter: Scripted, spool: Spool, clock: Clock, make_batch: Any
) -> None:
    for n in range(6):
        spool.write(make_batch(1, first=n, writer=OTHER))
    clock.awaited = False
    start_s = delivery.replay().again_s
    assert start_s and not exporter.asked, "processes that start together do not send together"
    clock.now_s += start_s / 2
    assert delivery.replay().again_s == pytest.approx(start_s / 2)
    assert not exporter.asked
    clock.now_s += start_s
    for sent in range(1, 4):
        gap_s = delivery.replay().again_s
        assert gap_s and len(exporter.asked) == sent
        assert delivery.replay().again_s == pytest.approx(gap_s)
        assert len(exporter.asked) == sent
        clock.now_s += gap_s + 0.001
    clock.awaited = True
    while delivery.replay().again_s:
        pass
    assert len(exporter.asked) == 6


def test_a_gap_is_about_as_long_as_the_request_and_longer_at_first(
    delivery: Delivery, exporter: Scripted, spool: Spool, clock: Clock, make_batch: Any
) -> None:
    def slow(batch: EncodedBatch) -> Outcome:
        clock.now_s += 0.4
        return ACCEPTED

    exporter.rule = slow
    for n in range(8):
        spool.write(make_batch(1, first=n, writer=OTHER))
    gaps = [delivery.replay().again_s for _ in range(8)]
    for gap_s, slowness in zip(gaps, [8, 4, 2, 1, 1, 1, 1, 1], strict=True):
        assert 0.2 * slowness <= (gap_s or 0) <= 0.6 * slowness
    assert len(set(gaps[3:])) == 5, "no two gaps are alike"


def test_a_failure_makes_the_replay_start_slowly_again(
    delivery: Delivery, exporter: Scripted, spool: Spool, clock: Clock, make_batch: Any
) -> None:
    for n in range(9):
        spool.write(make_batch(1, first=n, writer=OTHER))
    for _ in range(5):
        delivery.replay()
    exporter.script = [RETRY] * 4
    assert delivery.replay() == Replay()
    clock.awaited = False
    clock.now_s += 60
    asked = len(exporter.asked)
    assert delivery.replay().again_s
    assert len(exporter.asked) == asked, "the first comes at a random moment"


def test_pieces_in_memory_alone_keep_their_segment_on_disk(
    delivery: Delivery, exporter: Scripted, spool: Spool, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    spool.write(make_batch(4))
    delivery.tally.spooled = 4
    exporter.script = [Outcome("bisect", "http 400"), ACCEPTED, RETRY, RETRY, RETRY, RETRY]
    monkeypatch.setattr(spool, "write", no_space)
    (piece,) = delivery.replay().left
    assert counts(delivery) == (2, 0, 0, {})
    assert [path.name for path in Path(spool.path).iterdir() if ".sending-" in path.name]
    delivery.hurry()
    assert delivery.deliver(piece) == []
    assert counts(delivery) == (4, 0, 0, {})
    assert list(Path(spool.path).iterdir()) == []


@pytest.mark.parametrize("place", ["halves", "reject", "_settle"])
def test_a_failure_of_our_own_puts_the_segment_back_and_keeps_the_ledger_true(
    delivery: Delivery, exporter: Scripted, spool: Spool, clock: Clock, make_batch: Any, place: str
) -> None:
    """After a part of it was sent; with the failure gone all of it is delivered, and counted once."""
    exporter.rule = refusing(lambda n: n == 3)
    for batch in (make_batch(4), make_batch(2, first=10)):
        delivery.spool_only(batch)

    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError

    owners = {"halves": EncodedBatch, "reject": spool, "_settle": delivery}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owners[place], place, fail)
        assert delivery.replay() == Replay()
        assert counts(delivery) == (0, 6, 0, {})
        assert len(list(Path(spool.path).glob("*.zst"))) == 2, "none is claimed"
    while delivery.replay().again_s:
        pass
    assert counts(delivery) == (5, 0, 1, {})
    assert list(Path(spool.path).glob("*.zst*")) == []


def test_a_batch_that_fails_in_our_hands_is_spooled_whole_and_counted_once(
    delivery: Delivery, exporter: Scripted, spool: Spool, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rule(batch: EncodedBatch) -> Outcome:
        if batch.span_count == 4:
            delivery.spool_only(make_batch(5, first=100))  # as where the ring fills while a request is under way
        return refusing(lambda n: n == 3)(batch)

    def fail(*_: Any) -> None:
        raise MemoryError

    exporter.rule = rule
    monkeypatch.setattr(spool, "reject", fail)
    assert delivery.deliver(make_batch(4)) == []
    assert counts(delivery) == (0, 9, 0, {})
    assert spool.holds(make_batch(4).batch_id)


def test_memory_that_is_not_to_be_had_for_a_segment_leaves_it_unclaimed(
    delivery: Delivery, spool: Spool, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    delivery.spool_only(make_batch(4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "_load", fail)
        assert delivery.replay() == Replay()
    assert len(list(Path(spool.path).glob("*.zst"))) == 1
    delivery.hurry()
    assert delivery.replay().again_s
    assert counts(delivery) == (4, 0, 0, {})


def test_a_damaged_segment_is_dropped_from_the_ledger(
    delivery: Delivery, exporter: Scripted, spool: Spool, clock: Clock, make_batch: Any
) -> None:
    exporter.script = [RETRY] * 4
    for n in range(2):
        delivery.deliver(make_batch(3, first=3 * n))
    first = min(Path(spool.path).iterdir())
    first.write_bytes(b"garbage")
    clock.now_s += 60
    while delivery.replay().again_s:
        pass
    assert counts(delivery) == (3, 0, 0, {"corrupt": 3})


def test_a_body_that_nobody_can_read_is_set_aside_and_counted(
    delivery: Delivery, exporter: Scripted, spool: Spool, make_batch: Any
) -> None:
    exporter.rule = lambda batch: Outcome("bisect", "http 400") if batch.body == b"no zstd" else ACCEPTED
    spool.write(make_batch(3)._replace(body=b"no zstd"))
    spool.write(make_batch(2, first=3))
    delivery.tally.spooled = 5
    while delivery.replay().again_s:
        pass
    assert counts(delivery) == (2, 0, 0, {"undecodable": 3})
    assert [path.read_bytes() for path in Path(spool.path, "corrupt").iterdir()] == [b"no zstd"]


def test_a_span_too_deep_to_be_cut_is_set_aside_and_counted(
    delivery: Delivery, exporter: Scripted, spool: Spool, make_batch: Any
) -> None:
    deep = b'{"n":1,"input":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    exporter.rule = lambda batch: Outcome("halve", "http 413") if len(b"".join(batch.lines())) > 200 else ACCEPTED
    assert delivery.deliver(make_batch(lines=[b'{"n":0}', deep])) == []
    assert counts(delivery) == (1, 0, 0, {"undecodable": 1})
    assert len(list(Path(spool.path, "corrupt").iterdir())) == 1


def test_another_encoding_is_tried_at_once_and_counts_as_a_retry(
    delivery: Delivery, exporter: Scripted, make_batch: Any
) -> None:
    exporter.script = [Outcome("recode", "http 415"), Outcome("recode", "http 415")]
    delivery.deliver(make_batch(5))
    assert counts(delivery) == (5, 0, 0, {})
    assert (delivery.retries, len(exporter.asked)) == (2, 3)


def test_an_exporter_that_never_ends_recoding_is_not_followed(
    delivery: Delivery, exporter: Scripted, make_batch: Any
) -> None:
    exporter.rule = lambda batch: Outcome("recode", "http 415")
    delivery.deliver(make_batch(1))
    assert counts(delivery) == (0, 1, 0, {})
    assert len(exporter.asked) == 3


def test_evicted_spans_are_dropped_ones(exporter: Scripted, tmp_path: Path, clock: Clock, make_batch: Any) -> None:
    spool = Spool(str(tmp_path), 2 * len(make_batch(10, first=1000).body) + 20)
    delivery = Delivery(None, spool, clock, {WRITER})
    spool.write(make_batch(10, writer=OTHER))
    for n in range(3):
        delivery.deliver(make_batch(10, first=1000 + n))
    assert counts(delivery) == (0, 20, 0, {"spool_full": 10})
    assert delivery.evicted == 20


def test_a_batch_of_a_dead_process_waits_for_room_and_evicts_nothing(
    tmp_path: Path, clock: Clock, make_batch: Any
) -> None:
    fresh = [make_batch(10, first=10 * n) for n in range(3)]
    spool = Spool(str(tmp_path), sum(len(batch.body) for batch in fresh) + 20)
    delivery = Delivery(None, spool, clock, {WRITER})
    for batch in fresh:
        delivery.deliver(batch)
    orphan = make_batch(10, writer=OTHER)
    assert not delivery.keep(orphan, 1)
    assert counts(delivery) == (0, 30, 0, {})
    assert delivery.evicted == 0
    oldest = spool.claim()
    assert oldest is not None and oldest.batch == fresh[0]
    spool.release(oldest)
    assert delivery.keep(orphan, 1)
    assert delivery.keep(orphan, 1), "it is there already"
    assert [OTHER in path.name for path in sorted(Path(spool.path).iterdir())] == [True, False, False]


def test_the_collector_is_told_of_spans_of_others_that_gave_way(
    tmp_path: Path, clock: Clock, make_batch: Any, collector: Any
) -> None:
    exporter = HttpExporter(collector.url, patience=OwnTime(), version="1", dropped=lambda: 5)
    spool = Spool(str(tmp_path), 2 * len(make_batch(10, first=1000).body) + 20)
    delivery = Delivery(exporter, spool, clock, {WRITER})
    spool.write(make_batch(10, writer=OTHER))
    for n in range(2):
        delivery.spool_only(make_batch(10, first=1000 + 10 * n))
    assert (delivery.evicted, delivery.tally.dropped) == (10, {})
    delivery.deliver(make_batch(1))
    assert collector.batches[-1].headers["x-dropped-spans"] == "15"
    exporter.close()


def test_a_batch_on_disk_is_spooled_even_where_nothing_can_be_evicted(
    tmp_path: Path, clock: Clock, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(spool: Spool) -> None:
        raise OSError("a directory that cannot be listed")

    monkeypatch.setattr(Spool, "_scan", fail)
    delivery = Delivery(None, Spool(str(tmp_path), 1), clock, {WRITER})
    assert delivery.deliver(make_batch(5)) == []
    assert counts(delivery) == (0, 5, 0, {})
    assert len(list((tmp_path / "spool").iterdir())) == 1


def test_a_batch_that_cannot_be_spooled_is_handed_back(
    delivery: Delivery, exporter: Scripted, spool: Spool, tmp_path: Path, make_batch: Any
) -> None:
    (tmp_path / "spool").write_text("in the way")
    exporter.rule = lambda batch: RETRY
    assert delivery.deliver(make_batch(5)) == [make_batch(5)]
    assert counts(delivery) == (0, 0, 0, {})
    assert delivery.replay() == Replay()
    (tmp_path / "spool").unlink()
    assert delivery.deliver(make_batch(5)) == []
    assert counts(delivery) == (0, 5, 0, {})
