"""Rows C12 to C14: an SDK that is patched twice, by others too, or whose replies are none."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from host import Host

    from collector import Collector

    Rounds = Callable[[int, int], int]


# ---- C12 ----


def test_c12_instrumenting_again_reloading_and_subclassing_change_nothing(host: Host) -> None:
    host.run("""
import importlib
fasttrace.uninstrument("openai")
import openai
from openai._base_client import SyncAPIClient
plain = SyncAPIClient.__dict__["request"]
for _ in range(3): fasttrace.instrument("openai")
assert SyncAPIClient.__dict__["request"] is not plain
client = chat_client()
call(client)
class Own(openai.OpenAI):
    def request(self, *args, **kwargs): return super().request(*args, **kwargs)
own = Own(max_retries=0)
call(own)
importlib.reload(openai.resources.chat.completions.completions)
importlib.reload(openai)
call(client); call(openai.OpenAI(max_retries=0))
kept = client.chat.completions.create
for _ in range(2): fasttrace.uninstrument("openai")
assert SyncAPIClient.__dict__["request"] is plain
kept(model="gpt-4o-mini", messages=[{"role": "user", "content": "x"}])
own.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "x"}])
assert stats().recorded == 4, stats()
fasttrace.instrument("openai")
call(own)
""")
    assert host.settle()["collector"] == 5


# ---- C13 ----

OTHER = "opentelemetry.instrumentation.openai_v2"
BOTH = {
    "theirs first": "theirs()\nfasttrace.instrument('openai')",
    "ours first": "fasttrace.instrument('openai')\ntheirs()",
}


@pytest.mark.parametrize("order", BOTH)
def test_c13_another_instrumentation_of_the_same_sdk(host: Host, order: str) -> None:
    if importlib.util.find_spec("opentelemetry.instrumentation") is None or importlib.util.find_spec(OTHER) is None:
        pytest.skip("opentelemetry-instrumentation-openai-v2 is not installed; nothing else stands in for it")
    host.run(f"""
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from {OTHER} import OpenAIInstrumentor
import openai
fasttrace.uninstrument("openai")
memory = InMemorySpanExporter()
provider = TracerProvider(); provider.add_span_processor(SimpleSpanProcessor(memory))
def theirs(): OpenAIInstrumentor().instrument(tracer_provider=provider)
{BOTH[order]}
client = chat_client()
for _ in range(3): call(client)
fasttrace.flush(20)
assert len(memory.get_finished_spans()) == 3
""")
    assert host.settle()["collector"] == 3


# ---- C14 ----

REPLIES = """
import random
from types import SimpleNamespace
from unittest.mock import AsyncMock, MagicMock, NonCallableMock
fasttrace.uninstrument("openai")
import openai
from openai._base_client import SyncAPIClient
from openai.types.chat import ChatCompletion
chance = random.Random({seed})
def junk(depth=0):
    "Something like a reply, or a part of one."
    kinds = [
        lambda: None, lambda: -1, lambda: 2**70, lambda: float("nan"), lambda: "text", lambda: b"bytes", object,
        lambda: MagicMock(), lambda: NonCallableMock(), lambda: True, lambda: [junk(depth + 1) for _ in range(2)],
        lambda: dict(like(depth + 1)), lambda: SimpleNamespace(**dict(like(depth + 1))),
        lambda: ChatCompletion.model_construct(**dict(like(depth + 1))),
    ]
    return chance.choice(kinds[:10] if depth > 2 else kinds)()
def like(depth):
    for name in ("id", "model", "usage", "choices", "service_tier", "prompt_tokens", "completion_tokens",
                 "finish_reason", "message", "prompt_tokens_details", "cached_tokens", "total_tokens", "error",
                 "output", "new_field"):
        if chance.random() < 0.7: yield name, junk(depth)
answers = []
SyncAPIClient.request = lambda self, *args, **kwargs: answers[-1]
fasttrace.instrument("openai")
client = chat_client()
for number in range({count}):
    reply = MagicMock() if number % 10 == 0 else dict(like(0)) if number % 10 == 1 else junk()
    answers[:] = [reply]
    assert call(client) is reply
    if number % 500 == 0: assert PROCESSOR.flush(20).pending == 0
assert PROCESSOR.flush(20).pending == 0 and not stats().dropped, stats()
"""


def test_c14_replies_that_are_mocks_mappings_or_nonsense(host: Host, collector: Collector, rounds: Rounds) -> None:
    count = rounds(2000, 100_000)
    for seed in (1, 2):
        print(f"seed {seed}")
        host.run(REPLIES.format(seed=seed, count=count // 2))
    assert host.settle()["collector"] == 2 * (count // 2)
    spans = [span for batch in collector.accepted() for span in batch.spans]
    counts = [span[name] for span in spans for name in ("input_tokens", "output_tokens") if name in span]
    assert all(type(value) is int and value >= 0 for value in counts)
