"""The spans of the golden files: what was recorded, by file. The files say what must come out, to the byte.

`python tests/golden/spans.py` (with src on the path) writes them anew from the pure core: only for a change of the wire
format, and then the difference is what is reviewed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from fasttrace.core._api import Price, RingOwner, RingShape

HERE = Path(__file__).resolve().parent
VERSION = "2026-11-01"
RESOURCE = '"service":"café","environment":"test","tenant_id":"t-1","sdk":"fasttrace/0"'.encode()
PRICES = {("openai", "gpt-4o-mini"): Price(input=150_000, cache_read=75_000, output=600_000), ("openai", "free"): None}
LATE_PRICES = {("openai", "gpt-late"): Price(input=1, output=2, request=3)}
IDS = b'"trace_id":"%s","span_id":"%s"' % (b"0" * 32, b"0" * 16)


class Span(NamedTuple):
    """One span as recorded: start and duration in ns, fields by wire name."""

    start_unix_ns: int
    duration_ns: int
    fields: dict[str, Any]


PLAIN = {
    "kind": "llm",
    "operation": "chat",
    "name": "chat gpt-4o-mini",
    "provider": "openai",
    "model_id": "gpt-4o-mini",
    "status": "success",
}
EVERYTHING = {
    **PLAIN,
    "model_id": "gpt-4o-mini-2024-07-18",
    "request_model": "gpt-4o-mini",
    "server_address": "gateway.example.com",
    "server_port": 8443,
    "stream": True,
    "first_chunk_ms": 120_000_000,
    "first_token_ms": 121_500_000,
    "first_text_ms": 121_500_001,
    "chunks": 52,
    "status": "incomplete",
    "error_type": "httpx.ReadError",
    "error_code": "reset",
    "error_message": 'said "no"\n\tand hung up \\ \x7f',
    "error_stack": "  File a.py, line 1\n",
    "http_status": 200,
    "retries": 2,
    "response_id": "chatcmpl-1",
    "finish_reasons": ["stop", "", "length"],
    "tool_calls": ["weather", "wetter-é"],
    "input_tokens": 1000,
    "output_tokens": 500,
    "cache_read_tokens": 200,
    "cache_write_tokens": 10,
    "cache_write_1h_tokens": 20,
    "reasoning_tokens": 30,
    "input_audio_tokens": 40,
    "output_audio_tokens": 50,
    "input_image_tokens": 60,
    "web_search_requests": 3,
    "usage_source": "partial",
    "cost_usd": 1_234_567_890_123,
    "cost_source": "provider",
    "price_version": "2026-01-01",
    "service_tier": "default",
    "request_params": b'{"temperature":0.7,"seed":7}',
    "session_id": "s-1",
    "user_id": "u-1",
    "tags": ["a", "b"],
    "goal": "answer",
    "capsule_id": "c-1",
    "attributes": '{"k":[1,2.5,"é"],"nan":"NaN"}'.encode(),
    "events": b'[{"name":"e","timestamp":"2026-01-01T00:00:00Z","attributes":{}}]',
    "input": b'[{"role":"user","content":"hi"}]',
    "output": b'"hello"',
}


def numbers() -> list[Span]:
    """Fixed-point numbers and counts around every limit."""
    spans = [Span(start, 0, {}) for start in (0, 1, 999_999_999, 10**9, 951_782_400 * 10**9, (1 << 63) - 1, -1)]
    spans += [
        Span(10**18, d, {}) for d in (1, 999, 1000, 10**6 - 1, 10**6, 10**6 + 1, 1_500_000, 1 << 63, (1 << 64) - 1)
    ]
    spans += [Span(10**18, 0, {"cost_usd": 10**n}) for n in range(20)]
    spans += [Span(10**18, 0, {"cost_usd": cost}) for cost in (0, 10**12 - 1, 10**12 + 1, (1 << 64) - 1, 0.1 + 0.2)]
    for count in (0, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 53, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        spans.append(Span(10**18, 0, {"input_tokens": count, "output_tokens": count, "reasoning_tokens": count}))
    spans += [Span(10**18, 0, {"server_port": n, "http_status": n, "retries": n}) for n in (0, 1, 65_535, 65_536)]
    return spans


def texts() -> list[Span]:
    """Characters of every width at the cut, lone surrogates, escapes, nothing at all."""
    spans = []
    for character in "xé€😀":
        for limit in (127, 128, 129, 130):
            text = "y" * (limit - len(character.encode())) + character
            spans.append(Span(10**18, 0, {"model_id": text, "response_id": text, "tags": [text, text[:1]]}))
    for text in ("", "\ud83d\ude00", "\ud800", "x\udfff", "".join(map(chr, range(0x20))), '"\\/\x7f\x80\u2028\ufeff%s'):
        spans.append(Span(10**18, 0, {"name": text, "error_message": text, "finish_reasons": [text]}))
    return spans


def money() -> list[Span]:
    """Prices known, known to be none, learnt late, contradicted by the counts, and not for another tier."""
    usage = {"input_tokens": 1000, "output_tokens": 10}
    models = ("gpt-4o-mini", "free", "gpt-late", "nobody")
    spans = [Span(10**18, 0, {**PLAIN, "model_id": model, **usage}) for model in models]
    spans += [Span(10**18, 0, {**PLAIN, "model_id": "free", "request_model": "gpt-4o-mini", **usage})]
    for change in (
        {"cache_read_tokens": 400},
        {"cache_read_tokens": 1001},
        {"service_tier": "flex"},
        {"cost_usd": 1.0},
    ):
        spans.append(Span(10**18, 0, {**PLAIN, **usage, **change}))
    spans.append(Span(10**18, 0, {**PLAIN, "input_tokens": 1 << 63, "output_tokens": 1 << 63}))
    return spans


FILES = {
    "everything": [Span(1_700_000_000_123_456_000, 1_234_567, fields) for fields in (EVERYTHING, PLAIN, {})],
    "numbers": numbers(),
    "texts": texts(),
    "money": money(),
}


def written(core: Any, spans: list[Span]) -> bytes:
    """The lines of one core for these spans, with ids that are the same in every run."""
    recorder = core.Recorder(lambda: None)
    recorder.ring = core.Ring(-1, RingShape(128, 1 << 18, 16 << 10, 1), RingOwner(bytes(16), bytes(16), 1, 1, 1))
    recorder.price_version = VERSION
    for (provider, model), price in PRICES.items():
        recorder.prices.put(provider, model, price)
    ids = []
    for start_unix_ns, duration_ns, fields in spans:
        context = core.new_context(None)
        ids.append(f'"trace_id":"{context.trace_id}","span_id":"{context.span_id}"'.encode())
        assert recorder.record(context, start_unix_ns, duration_ns, fields)
    batch = recorder.ring.read(1000, 1 << 20)
    for (provider, model), price in LATE_PRICES.items():
        recorder.prices.put(provider, model, price)
    lines = batch.encode(recorder.prices, VERSION, RESOURCE).splitlines(keepends=True)
    return b"".join(line.replace(own, IDS) for line, own in zip(lines, ids, strict=True))


def main() -> None:
    from fasttrace.core import _pure

    for name, spans in FILES.items():
        (HERE / f"{name}.ndjson").write_bytes(written(_pure, spans))


if __name__ == "__main__":
    main()
