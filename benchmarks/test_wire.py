"""Bytes a span on the wire: a batch of 1,000 varied spans, as NDJSON, compressed the way the exporter compresses it.

The spans are those of agents at work: a trace is a run of an agent that retrieves (one embedding), thinks (several
chat calls, one now and then failing) and uses tools. Ids come from the core, starts have microseconds as the core's
clock has, durations nanoseconds, counts vary, response ids are random: as in life, most of it cannot be compressed.
"""

from __future__ import annotations

import random
import string
from typing import TYPE_CHECKING, Any

from fasttrace.exporters.compression import compress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

    from conftest import Gate
    from rig import Rig

    Span = tuple[Any, int, int, dict[str, Any]]

SPANS = 1000
RESOURCE = b'"service":"support-agent","environment":"production","tenant_id":"acme","sdk":"fasttrace/0.1.0"'
MODELS = (
    ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", 150_000, 600_000),
    ("gpt-4o", "gpt-4o-2024-08-06", 2_500_000, 10_000_000),
    ("gpt-4.1", "gpt-4.1-2025-04-14", 2_000_000, 8_000_000),
)
TOOLS = ("search_orders", "get_customer", "refund", "send_email")
STEP_NS = 700_000_000


class Agents:
    """An endless, repeatable supply of spans for one core: (context, start, duration, fields), children first."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.new_context = rig.core.new_context
        self.random = random.Random(seed)
        self.clock_ns = 1_767_225_600_000_000_000

    def spans(self) -> Iterator[Span]:
        while True:
            yield from self.run()

    def run(self) -> Iterator[Span]:
        root, began_ns = self.new_context(None), self.clock_ns
        yield self.step(root, self.embedding())
        for _ in range(self.random.randint(2, 6)):
            yield self.step(root, self.chat())
            if self.random.random() < 0.6:
                tool = self.random.choice(TOOLS)
                yield self.step(root, {"kind": "tool", "operation": tool, "name": tool, "status": "success"})
        agent = {"kind": "agent", "operation": "answer_ticket", "name": "answer_ticket", "status": "success"}
        yield root, began_ns, self.clock_ns - began_ns, agent

    def step(self, root: Any, fields: dict[str, Any]) -> Span:
        start_ns = (self.clock_ns + self.random.randrange(STEP_NS // 100)) // 1000 * 1000
        duration_ns = int(self.random.lognormvariate(0, 0.6) * STEP_NS)
        self.clock_ns = start_ns + duration_ns
        return self.new_context(root), start_ns, duration_ns, fields

    def call(self, kind: str, operation: str, model: str, answered_by: str) -> dict[str, Any]:
        return {
            "kind": kind,
            "operation": operation,
            "name": f"{operation} {model}",
            "provider": "openai",
            "model_id": answered_by,
            "server_address": "api.openai.com",
            "status": "success",
        } | ({} if model == answered_by else {"request_model": model})

    def embedding(self) -> dict[str, Any]:
        tokens = self.random.randint(8, 60)
        call = self.call("embedding", "embeddings", "text-embedding-3-small", "text-embedding-3-small")
        return call | self.priced(tokens * 20_000) | {"input_tokens": tokens, "usage_source": "provider"}

    def chat(self) -> dict[str, Any]:
        model, answered_by, input_price, output_price = self.random.choices(MODELS, (6, 3, 1))[0]
        call = self.call("llm", "chat", model, answered_by) | {"request_params": b'{"temperature":0.2}'}
        if self.random.random() < 0.02:
            return call | {
                "status": "error",
                "error_type": "openai.RateLimitError",
                "error_code": "rate_limit_exceeded",
                "http_status": 429,
            }
        input_tokens, output_tokens = self.random.randint(400, 4000), self.random.randint(20, 600)
        return (
            call
            | self.priced(input_tokens * input_price + output_tokens * output_price)
            | {
                "response_id": "chatcmpl-" + "".join(self.random.choices(string.ascii_letters + string.digits, k=28)),
                "finish_reasons": ("stop",),
                "input_tokens": input_tokens,
                "output_tokens": output_tokens,
                "usage_source": "provider",
                "service_tier": "default",
            }
        )

    def priced(self, pico_usd: int) -> dict[str, Any]:
        return {"cost_usd": pico_usd, "cost_source": "local", "price_version": "2026-01-01+benchmark"}


def batch_of(rig: Rig, seed: int) -> bytes:
    """NDJSON of 1,000 spans."""
    rig.drain()
    for _, (context, start_ns, duration_ns, fields) in zip(range(SPANS), Agents(rig, seed).spans(), strict=False):
        assert rig.recorder.record(context, start_ns, duration_ns, fields)
    batch = rig.ring.read(SPANS, 8 << 20)
    rig.ring.acknowledge(batch.next_ticket)
    assert batch.count == SPANS
    text: bytes = batch.encode(rig.prices, "", RESOURCE)
    return text


def test_bytes_on_the_wire(benchmark: BenchmarkFixture, gate: Gate, rig: Rig) -> None:
    text = batch_of(rig, 1)
    benchmark.pedantic(compress, args=(text, "zstd"), rounds=10)
    gate(lambda: {"wire: bytes a span, batch of 1,000": len(compress(text, "zstd")) / SPANS})
