"""Rows D1 to D6: what is asked and answered, of every size and sort, from the SDK to the collector."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from collector import rejecting

if TYPE_CHECKING:
    from collections.abc import Callable

    from host import Host

    from collector import Collector

    Rounds = Callable[[int, int], int]

TRANSPORT = """
import httpx, json, openai
class Answers(httpx.BaseTransport):
    "Stands for the network: a body of our own to every request."
    body = b""
    def handle_request(self, request):
        request.read()
        return httpx.Response(200, headers={"content-type": "application/json"}, content=self.body)
answers = Answers()
client = chat_client(http_client=httpx.Client(transport=answers))
def completion(text="ok", usage=None, **more):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = usage or {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
            "choices": [choice], "usage": usage, **more}
def answer(**what): answers.body = json.dumps(completion(**what)).encode()
"""


def strict(line: bytes) -> dict[str, Any]:
    """As a strict parser reads it: UTF-8, no NaN, no Infinity, no name twice."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    found: dict[str, Any] = json.loads(line.decode("utf-8"), parse_constant=refuse, object_pairs_hook=once)
    return found


def lines_of(collector: Collector) -> list[dict[str, Any]]:
    return [strict(line) for batch in collector.accepted() for line in batch.lines]


# ---- D1 ----

LARGE = """
import resource
fasttrace.{state}("openai")
prompt = "a parcel \\u00e4 " * ({prompt_mib} << 20 >> 4)
answer()
call(client, text=prompt)
del prompt
answer(text="b" * ({reply_mib} << 20))
call(client)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range({replies}):
    call(client)
    fasttrace.flush(20)
say(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("capture", ["false", "true"])
def test_d01_what_is_huge_is_cut_and_takes_no_memory(
    host: Host, collector: Collector, rounds: Rounds, capture: str
) -> None:
    """Against the same application without us: peak memory, and its growth over many large replies."""
    settings = {"FASTTRACE_CAPTURE_CONTENT": capture}
    sizes = {"prompt_mib": rounds(10, 100), "reply_mib": rounds(2, 10), "replies": rounds(20, 1000)}
    ((plain_kib, _),) = host.run(TRANSPORT + LARGE.format(state="uninstrument", **sizes), **settings)
    host.ledger.side_file.unlink()
    ((traced_kib, grown_kib),) = host.run(TRANSPORT + LARGE.format(state="instrument", **sizes), **settings)
    print(f"peak {traced_kib} KiB, without us {plain_kib} KiB, grown by {grown_kib} KiB over the replies")
    assert traced_kib < plain_kib + (48 << 10)
    assert grown_kib < 8 << 10
    host.settle()
    spans = lines_of(collector)
    assert all(span["input_tokens"] == 12 for span in spans)
    contents = [json.dumps(span[name]) for span in spans for name in ("input", "output") if name in span]
    assert bool(contents) == (capture == "true")
    assert all(len(content) <= 2 * 65536 for content in contents)


# ---- D2 ----

TEXTS = """
EVIL = ["\\ud800", "a\\udfffb", "\\0nul", "\\ufeffbom", "\\u202ertl", "\\U0001f600" * 3, "e\\u0301", "\\x7f\\x1b[31m",
        "line\\u2028sep\\u2029", '"quoted\\\\"', "",
        " ", "x" * 300, "\\U0001f600" * 200, "\\ufffe\\uffff", "\\ud83d\\ude00"]
for number, text in enumerate(EVIL):
    with fasttrace.span(text or "empty", attributes={text: text, "list": [text, text]}): pass
    answers.body = json.dumps(completion(text=text, system_fingerprint=text, service_tier=text)).encode()
    try: call(client, model=text or "m", text=text, user=text)
    except UnicodeEncodeError as error: say("unsendable", number)
    try:
        with fasttrace.span("error"): raise ValueError(text)
    except ValueError: pass
"""
OF_ONE_RUN = ("trace_id", "span_id", "parent_span_id", "timestamp", "duration_ms", "ttft_ms", "error_stack")


def test_d02_text_of_every_sort_is_the_same_bytes_from_both_cores(host: Host, collector: Collector) -> None:
    if host.core.BACKEND == "pure":
        pytest.skip("compared with the native core, in its run")
    runs = []
    for pure in ("0", "1"):
        before = len(lines_of(collector))
        settings = {"FASTTRACE_CAPTURE_CONTENT": "true", "FASTTRACE_PURE": pure}
        host.run(TRANSPORT + TEXTS, **settings)
        runs.append([comparable(span) for span in lines_of(collector)[before:]])
    host.settle(beside={span["name"] for span in lines_of(collector) if span["kind"] != "llm"})
    assert len(runs[0]) == 3 * 16
    assert runs[0] == runs[1]


def comparable(span: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in span.items() if name not in OF_ONE_RUN}


# ---- D3 ----

NUMBERS = """
from decimal import Decimal
VALUES = [float("nan"), float("inf"), float("-inf"), 2**64, 2**70, -2**63 - 1, Decimal("1.5"), Decimal("NaN"), b"bytes",
          {1, 2}, {1: 2, None: 3, 1.5: 4, (1,): 5}, 1e308, -0.0, 5e-324, True, complex(1, 2)]
for value in VALUES:
    with fasttrace.span("number", attributes={"value": value, "list": [value]}): pass
for text in ("NaN", "Infinity", "-Infinity", str(2**70), "-1", "1e400", "1.5", '"7"', "null", "true", "[]"):
    counts = '{"prompt_tokens": %s, "completion_tokens": %s, "total_tokens": %s}' % (text, text, text)
    answers.body = json.dumps(completion(usage="COUNTS")).replace('"COUNTS"', counts).encode()
    call(client, temperature=0.5, seed=2**70, max_tokens=-1)
"""


def test_d03_numbers_that_json_has_no_word_for(host: Host, collector: Collector) -> None:
    host.run(TRANSPORT + NUMBERS)
    host.settle(beside=("number",))
    spans = lines_of(collector)
    assert len(spans) == 16 + 11
    counts = [span[name] for span in spans for name in ("input_tokens", "output_tokens") if name in span]
    assert all(type(value) is int and 0 <= value < 2**63 for value in counts)


# ---- D4 ----

DEEP = """
def nested(depth, make, value="leaf"):
    for _ in range(depth): value = make(value)
    return value
cycle = []; cycle.append(cycle)
knot = {}; knot["knot"] = knot
VALUES = [nested(100_000, lambda inner: [inner]), nested(10_000, lambda inner: {"in": inner}), cycle, knot,
          {str(number): number for number in range(1_000_000)}, list(range(1_000_000)), "x" * 10_000_000]
def work():
    for value in VALUES:
        with fasttrace.span("deep", attributes={"ours": "kept", "value": value}): pass
work()
threading.stack_size(256 << 10)
thread = threading.Thread(target=work); thread.start(); thread.join()
"""


def test_d04_depth_and_size_without_end(host: Host, collector: Collector) -> None:
    host.run(DEEP)
    spans = lines_of(collector)
    assert len(spans) == 14
    assert all(span["attributes"]["ours"] == "kept" for span in spans)
    assert all(len(line) < 1 << 20 for batch in collector.accepted() for line in batch.lines)


# ---- D5 ----


def test_d05_a_bad_span_among_a_thousand_costs_no_other(host: Host, collector: Collector) -> None:
    collector.rule = rejecting(lambda span: span["name"] == "bad")
    host.run('record(500)\nrecord(1, "bad")\nrecord(499)\nPROCESSOR.flush(20)\nassert stats().rejected == 1, stats()')
    assert host.settle() == {"collector": 999, "spool": 0, "rejected": 1, "ring": 0}


def test_d05_a_span_that_cannot_be_read_among_a_thousand_costs_no_other(host: Host, collector: Collector) -> None:
    """Of one span the content in the ring is not what was written: it arrives without."""
    host.run(
        """
import mmap
from fasttrace.core._pure import layout
held = None
record(1); PROCESSOR.flush(20)
held = PROCESSOR.worker.hold_still()
path = stats().backing
record(499, output=b'"a reply that is kept"')
with open(path, "r+b") as file:
    memory = mmap.mmap(file.fileno(), 0)
    at = memory.find(b"a reply that is kept", layout.offsets_of(PROCESSOR.recorder.ring.shape).arena)
    assert at > 0
    memory[at : at + 7] = b"another"
held.release()
assert PROCESSOR.flush(20).pending == 0
assert stats().content_lost == 1, stats()
"""
    )
    assert host.settle()["collector"] == 500
    assert sum("output" in span for span in lines_of(collector)) == 498


# ---- D6 ----

TOKENS = """
USAGES = [
    {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010},
    {"prompt_tokens": -5, "completion_tokens": 10, "total_tokens": 5},
    {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
    {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": -1}},
    {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 99}},
]
for model in ("gpt-4o-mini", "no-such-model", "modell-\\u00fc\\U0001f600"):
    for number, usage in enumerate(USAGES):
        answer(usage=usage, model=model)
        call(client, model=model, user=str(number))
PROCESSOR.flush(20)
say(stats().unpriced)
"""


def test_d06_tokens_and_models_that_nobody_knows_cost_nothing_rather_than_zero(
    host: Host, collector: Collector
) -> None:
    ((unpriced,),) = host.run(TRANSPORT + TOKENS)
    host.settle()
    spans = lines_of(collector)
    assert len(spans) == 15
    assert unpriced == 2
    known, unknown = spans[:5], spans[5:]
    assert all("cost_usd" not in span for span in unknown)
    assert known[0]["cost_usd"] > 0
    assert all(span.get(name, 0) >= 0 for span in spans for name in ("input_tokens", "output_tokens"))
    assert "cost_usd" not in known[1] and "cost_usd" not in known[2]
    assert {span["model_id"] for span in unknown} == {"no-such-model", "modell-ü😀"}
