"""Many threads record while one reads: on both cores the ledger is exact, nothing comes twice, and each thread's spans
come in the order in which it recorded them."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fasttrace.core._api import CURRENT, CallSpec, Endpoint, Node, RingOwner, RingShape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = 8
EACH = 1500
OWNER = RingOwner(bytes(16), bytes(16), 1, 2, 3)
TEXTS = [
    f'"{letter * length}"'.encode() for letter, length in zip("abcdefgh", (1, 7, 8, 9, 60, 200, 500, 900), strict=True)
]


@pytest.fixture(autouse=True)
def threads_change_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


class Subject:
    """One core's recorder, threads that use it, and a reader that drains meanwhile."""

    def __init__(self, core: Any, shape: RingShape) -> None:
        self.core = core
        self.recorder = core.Recorder(lambda: None)
        self.recorder.ring = core.Ring(-1, shape, OWNER)
        self.lines: list[bytes] = []
        self.lock = threading.Lock()

    def run(self, work: Callable[[int], None]) -> list[dict[str, Any]]:
        """Work on every thread, reading until the last is done and the ring is empty."""
        start = threading.Barrier(THREADS + 1)

        def begin(number: int) -> None:
            start.wait()
            work(number)

        workers = [threading.Thread(target=begin, args=(number,)) for number in range(THREADS)]
        for worker in workers:
            worker.start()
        start.wait()
        while any(worker.is_alive() for worker in workers):
            self.drain()
        for worker in workers:
            worker.join()
        while self.drain():
            pass
        return [json.loads(line) for line in self.lines]

    def drain(self) -> int:
        batch = self.recorder.ring.read(200, 1 << 20)
        self.lines += batch.encode(self.recorder.prices, "v", b"").splitlines()
        self.recorder.ring.acknowledge(batch.next_ticket)
        return int(batch.count)

    def record(self, number: int, i: int) -> None:
        fields = {
            "name": f"thread-{number}",
            "input_tokens": i,
            "model_id": f"m{i % 50}",
            "input": TEXTS[(number + i) % 8],
        }
        self.recorder.record(self.core.new_context(None), 1_700_000_000_000_000_000, number, fields)


def check_order(spans: list[dict[str, Any]]) -> None:
    for number in range(THREADS):
        own = [span["input_tokens"] for span in spans if span["name"] == f"thread-{number}"]
        assert own == sorted(own)


def check_whole(spans: list[dict[str, Any]]) -> int:
    """No span is made of two; returns how many lost their content."""
    lost = 0
    for span in spans:
        number, i = int(span["name"].removeprefix("thread-")), span["input_tokens"]
        assert span["model_id"] == f"m{i % 50}"
        assert span["duration_ms"] == number / 1_000_000
        if "attributes" in span:
            lost += 1
        else:
            assert span["input"] == json.loads(TEXTS[(number + i) % 8])
    return lost


SHAPES = {
    "room for all": RingShape(1 << 14, 1 << 24, 16 << 10, 1),
    "lapped": RingShape(64, 1 << 14, 16 << 10, 1),
    "lapped, wrapping": RingShape(64, 1 << 14, 16 << 10, 1, (1 << 64) - 6000),
    "two slots": RingShape(2, 4096, 16 << 10, 1),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_span_of_many_threads_is_delivered_once_or_counted(core: Any, shape: RingShape) -> None:
    subject = Subject(core, shape)

    def work(number: int) -> None:
        for i in range(EACH):
            subject.record(number, i)

    spans = subject.run(work)
    counters = subject.recorder.ring.counters()
    assert counters.recorded == THREADS * EACH == counters.delivered + counters.lost + counters.pending
    assert counters.delivered == counters.acknowledged - counters.lost - counters.pending == len(spans)
    assert len({(span["name"], span["input_tokens"]) for span in spans}) == len(spans)
    assert len({span["span_id"] for span in spans}) == len(spans)
    assert len({span["trace_id"] for span in spans}) == len(spans)
    check_order(spans)
    assert check_whole(spans) == counters.content_lost
    if shape is SHAPES["room for all"]:
        assert (counters.lost, counters.pending, counters.busy, counters.content_lost) == (0, 0, 0, 0)
        assert len(spans) == THREADS * EACH


def test_calls_of_many_threads_do_not_mix(core: Any) -> None:
    """The driver's caches (endpoints, names, positions, templates) are shared by all threads."""
    subject = Subject(core, SHAPES["room for all"])
    reply = (Node("model", "model_id"), Node("usage", children=(Node("prompt_tokens", "input_tokens"),)))

    def resolve(url: Any, client: object) -> Endpoint:
        return Endpoint(f"provider-{url}", f"host-{url}", 1 + int(url))

    spec = CallSpec(
        "llm", "chat", "sdk", False, {"model": "model", "seed": "param"}, reply, ("url",), resolve, lambda e: {}
    )

    def original(self: Any, *, model: str, seed: int) -> Any:
        usage = SimpleNamespace(prompt_tokens=seed) if seed % 2 else {"prompt_tokens": seed}
        return {"usage": usage, "model": f"answered-{model}"}

    create = core.method(original, spec, subject.recorder)

    def work(number: int) -> None:
        urls = [f"{number * 40 + i}" for i in range(40)]
        for i in range(EACH // 3):
            create(SimpleNamespace(url=urls[i % 40]), model=f"model-{number}-{i % 30}", seed=number << 20 | i)
            assert CURRENT.get() is None

    spans = subject.run(work)
    assert len(spans) == THREADS * (EACH // 3)
    for span in spans:
        seed = span["request_params"]["seed"]
        number, i = seed >> 20, seed & 0xFFFFF
        model, url = f"model-{number}-{i % 30}", number * 40 + i % 40
        assert span["name"] == f"chat {model}"
        assert (span["model_id"], span["request_model"]) == (f"answered-{model}", model)
        assert (span["provider"], span["server_address"], span["server_port"]) == (
            f"provider-{url}",
            f"host-{url}",
            1 + url,
        )
        assert span["input_tokens"] == seed
    assert Counter(span["request_params"]["seed"] >> 20 for span in spans) == dict.fromkeys(range(THREADS), EACH // 3)
