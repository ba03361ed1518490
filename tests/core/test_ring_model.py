"""The ring against a list: whatever is pushed, read and acknowledged in whatever order, both cores' rings do what a
list of the last lap would, and every ticket is accounted for.

One thread drives: no slot is ever unfinished, so what a model without time can tell is everything but `busy` and
stepping over, which have tests of their own (test_pure_ring, csrc/tests). Content is lost by the arena's rule alone:
when more has been claimed since the block's own claim than the arena holds.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twins import CORES, START_UNIX_NS, Twin, examples

from fasttrace.core._api import RingShape

TAG_BYTES = 8
ARENA_BYTES = 4096
MANY = 1 << 30
FIRST_TICKETS = [0, 1, 5, (1 << 63) - 3, (1 << 63) - 1, 1 << 63, (1 << 64) - 20, (1 << 64) - 2, (1 << 64) - 1]
MASK64 = (1 << 64) - 1


class Pushed(NamedTuple):
    """What the model knows of a span: its number, its content, and where in the arena that lies."""

    number: int
    response_id: str
    text: str
    position: int
    length: int


class RingMachine(RuleBasedStateMachine):
    """Every rule does the same to the ring and to the model."""

    core: Any

    @initialize(slots=st.sampled_from([2, 4, 8, 16]), first=st.sampled_from(FIRST_TICKETS))
    def open(self, slots: int, first: int) -> None:
        self.first = first
        self.slots = slots
        self.twin = Twin(self.core, RingShape(slots, ARENA_BYTES, 4096, 1, first))
        self.ring = self.twin.recorder.ring
        self.unread: list[Pushed] = []
        self.pushed = self.delivered = self.lost = self.content_lost = self.too_large = 0
        self.claimed = 0
        self.acknowledged = 0
        self.next = 0
        self.kept: list[tuple[Any, list[tuple[Pushed, bool]]]] = []

    @rule(size=st.one_of(st.integers(0, 40), st.sampled_from([1000, 2000, 2022, 2023, 2024, 2025, 4000])))
    def push(self, size: int) -> None:
        number, text = self.pushed, "t" * size
        fields: dict[str, Any] = {"input_tokens": number, "name": "n", "response_id": f"r{number}"}
        if size:
            fields["input"] = json.dumps(text).encode()
        length = TAG_BYTES + len(fields["response_id"]) + (TAG_BYTES + size + 2 if size else 0)
        assert self.twin.recorder.record(self.core.new_context(None), START_UNIX_NS, number, fields)
        if length > ARENA_BYTES // 2:
            self.too_large += 1
            length = 0
        self.unread.append(Pushed(number, fields["response_id"], text, self.claimed, length))
        self.claimed += (length + 7) // 8 * 8
        self.pushed += 1

    @rule(count=st.integers(3, 40))
    def lap(self, count: int) -> None:
        for _ in range(count):
            self.push(0)

    @rule(max_spans=st.sampled_from([0, 1, 2, 3, 7, MANY]), max_bytes=st.sampled_from([0, 1, 30, 2100, MANY]))
    def read(self, max_spans: int, max_bytes: int) -> None:
        lapped = max(0, len(self.unread) - self.slots)
        self.lost += lapped
        self.next += lapped
        del self.unread[:lapped]
        expected, content_bytes = [], 0
        while self.unread and len(expected) < max_spans and (content_bytes < max_bytes or not expected):
            expected.append(self.unread.pop(0))
            content_bytes += expected[-1].length if self.has_content(expected[-1]) else 0
        batch = self.ring.read(max_spans, max_bytes)
        assert batch.count == len(expected)
        if expected:
            assert batch.first_ticket == self.ticket(self.next)
        self.next += len(expected)
        assert batch.next_ticket == self.ticket(self.next)
        self.delivered += len(expected)
        self.content_lost += sum(not self.has_content(pushed) for pushed in expected)
        self.kept.append((batch, [(pushed, self.has_content(pushed)) for pushed in expected]))

    @rule()
    def read_all(self) -> None:
        self.read(MANY, MANY)
        self.encode()

    @precondition(lambda self: self.kept)
    @rule()
    def encode(self) -> None:
        """Batches are copies: laps that came since they were read change nothing in them."""
        for batch, expected in self.kept:
            found = [json.loads(line) for line in batch.encode(self.twin.recorder.prices, "v", b"").splitlines()]
            for span, (pushed, has_content) in zip(found, expected, strict=True):
                self.check(span, pushed, has_content)
        self.kept.clear()

    @precondition(lambda self: self.next > self.acknowledged)
    @rule(part=st.integers(1, 4))
    def acknowledge(self, part: int) -> None:
        self.acknowledged += max(1, (self.next - self.acknowledged) // part)
        self.ring.acknowledge(self.ticket(self.acknowledged))

    def ticket(self, number: int) -> int:
        return (self.first + number) & MASK64

    def has_content(self, pushed: Pushed) -> bool:
        return not pushed.length or self.claimed - pushed.position <= ARENA_BYTES

    def check(self, span: dict[str, Any], pushed: Pushed, has_content: bool) -> None:
        """The record is whole in any case; its content is the very one, or is marked as lost, or was too large."""
        assert (span["input_tokens"], span["name"]) == (pushed.number, "n")
        assert round(span["duration_ms"] * 1_000_000) == pushed.number
        if not has_content:
            assert span["attributes"] == {"fasttrace.content_lost": True}
            assert {"response_id", "input"}.isdisjoint(span)
        elif not pushed.length:
            assert {"response_id", "input", "attributes"}.isdisjoint(span)
        else:
            assert (span["response_id"], span.get("input", "")) == (pushed.response_id, pushed.text)
            assert "attributes" not in span

    @invariant()
    def the_ledger_holds(self) -> None:
        if not hasattr(self, "ring"):
            return
        counters = self.ring.counters()
        assert (
            counters.recorded == self.pushed == counters.delivered + counters.lost + counters.pending + len(self.unread)
        )
        assert (counters.delivered, counters.lost, counters.pending) == (self.delivered, self.lost, 0)
        assert (counters.busy, counters.acknowledged) == (0, self.acknowledged)
        assert (counters.content_lost, counters.content_too_large) == (self.content_lost, self.too_large)


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.BACKEND)
def test_the_ring_is_a_list_of_the_last_lap(core: Any) -> None:
    machine = type("Machine", (RingMachine,), {"core": core})
    run = machine.TestCase  # type: ignore[attr-defined]
    run.settings = settings(examples(100), stateful_step_count=30)
    run("runTest").runTest()
