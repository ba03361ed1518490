"""Faults that tracers of model calls have been reported to have, each of them a test: none of them is ours.

The official SDKs over loopback HTTP; what concerns a whole process runs in one of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai_calls import DONE, MESSAGES, ask, chat, chunk, completion, final_chunk, openai, text_chunks, whole_stream

from environment import inherited
from fasttrace.core import _text
from fasttrace.core._api import CURRENT, Price
from fasttrace.trace.span import Span

MODEL = "gpt-4o-mini-2024-07-18"


@pytest.fixture
def client(provider: Any, patched_openai: Any) -> Any:
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as made:
        yield made


def run(code: str, provider: Any, **settings: str) -> str:
    """What a process of its own prints; it fails where that one did, or said anything on standard error."""
    env = inherited("FASTTRACE_PURE") | {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": "k"}
    env |= {"FASTTRACE_EXPORTER": "none", **settings}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


# ---- the user's objects ----


def test_a_stream_is_an_instance_of_the_sdks_stream(provider: Any, client: Any, patched_openai: Any) -> None:
    provider.stream(whole_stream())
    stream = chat(client, stream=True)
    assert type(stream) is openai.Stream
    assert [item.object for item in stream] == ["chat.completion.chunk"] * 6
    patched_openai.span()


def test_an_asynchronous_stream_works_in_async_with(provider: Any, patched_openai: Any) -> None:
    provider.stream(whole_stream())

    async def main() -> int:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.url) as made:
            async with await chat(made, stream=True) as stream:
                assert type(stream) is openai.AsyncStream
                return len([item async for item in stream])

    assert asyncio.run(main()) == 6
    assert patched_openai.span()["input_tokens"] == 100


@pytest.mark.parametrize("streams", [False, True])
def test_a_raw_response_does_not_crash_after_the_billed_call(
    provider: Any, client: Any, patched_openai: Any, streams: bool
) -> None:
    """With and without `stream=True`: the headers are there, and what is parsed is what the SDK parses."""
    if streams:
        provider.stream(whole_stream(), x_request_id="req_1")
    else:
        provider.answer(completion(), x_request_id="req_1")
    raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, stream=streams)
    assert raw.headers["x-request-id"] == "req_1"
    parsed = raw.parse()
    assert raw.parse() is parsed
    if streams:
        assert type(parsed) is openai.Stream
        list(parsed)
    span = patched_openai.span()
    assert (span["input_tokens"], span["output_tokens"], span["status"]) == (100, 20, "success")


def test_an_injected_asynchronous_client_is_closed_by_nobody_but_its_owner(
    provider: Any, patched_openai: Any, unraisable: list[Any]
) -> None:
    closed: list[bool] = []
    http = openai.DefaultAsyncHttpxClient()
    close = http.aclose

    async def aclose() -> None:
        closed.append(True)
        await close()

    http.aclose = aclose
    provider.stream(whole_stream())

    async def main() -> None:
        made = openai.AsyncOpenAI(api_key="k", base_url=provider.url, http_client=http)
        async for _ in await chat(made, stream=True):
            break
        del made
        gc.collect()
        assert not closed
        await http.aclose()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
    gc.collect()
    assert not unraisable


# ---- the request ----


def test_nothing_is_put_into_a_request(provider: Any, client: Any, patched_openai: Any) -> None:
    """A provider that refuses options it does not know (`stream_options` among them) must not meet ours."""
    sent = []
    for _ in range(2):
        provider.stream(whole_stream())
        list(chat(client, stream=True, temperature=0.5))
        path, headers, body = provider.requests.pop()
        sent.append((path, {k: v for k, v in headers.items() if "stainless" not in k and k != "idempotency-key"}, body))
        patched_openai.recorder.active = False
    assert sent[0] == sent[1]
    assert b"stream_options" not in sent[0][2]


# ---- streams that end otherwise ----


def test_a_stream_that_is_left_early_is_a_span(provider: Any, client: Any, patched_openai: Any) -> None:
    provider.stream(whole_stream())
    with chat(client, stream=True) as stream:
        for _ in stream:
            break
    span = patched_openai.span()
    assert (span["status"], span["chunks"], span["usage_source"]) == ("incomplete", 1, "partial")


def test_a_cancelled_stream_claims_no_tokens(provider: Any, patched_openai: Any) -> None:
    patched_openai.recorder.prices.put("openai", MODEL, Price(input=150_000, output=600_000))
    provider.stream(text_chunks()[:2])
    provider.script[-1][2].append(_never())

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.url) as made:
            arrived = asyncio.Event()

            async def read() -> None:
                async for _ in await chat(made, stream=True):
                    arrived.set()

            task = asyncio.create_task(read())
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    gc.collect()
    span = patched_openai.span()
    assert (span["status"], span["usage_source"]) == ("cancelled", "partial")
    assert not {"input_tokens", "output_tokens", "cost_usd"} & span.keys()


def _never() -> Any:
    """What a scripted answer waits at until the test is over."""
    import threading

    return threading.Event()


def test_the_final_chunk_without_choices_has_the_usage(provider: Any, client: Any, patched_openai: Any) -> None:
    provider.stream([*text_chunks(), final_chunk(), DONE])
    chunks = list(chat(client, stream=True))
    assert chunks[-1].choices == []
    span = patched_openai.span()
    assert (span["input_tokens"], span["output_tokens"], span["usage_source"]) == (100, 20, "provider")


def test_the_first_token_is_not_the_first_chunk(provider: Any, client: Any, patched_openai: Any) -> None:
    """A frame with a role is no token, a thought is no text: three moments, in this order."""
    gates = [_never() for _ in range(2)]
    thought, text = chunk({"reasoning_content": "hm"}), chunk({"content": "Yes"})
    first = chunk({"role": "assistant", "content": ""})
    provider.stream([first, gates[0], thought, gates[1], text, chunk({}, "stop"), DONE])
    for number, _ in enumerate(chat(client, stream=True)):
        if number < len(gates):
            gates[number].set()
    span = patched_openai.span()
    assert 0 < span["first_chunk_ms"] < span["first_token_ms"] < span["first_text_ms"] < span["duration_ms"]


# ---- parents and children ----


def test_an_asynchronous_generator_that_holds_a_span_detaches_nothing(
    recording: Any, unraisable: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is entered in one task, and closed in another context by the event loop."""

    async def generate() -> Any:
        with Span(recording.core, recording.recorder, "generate", "chain", None):
            yield 1
            yield 2

    async def main() -> None:
        generator = generate()
        await asyncio.create_task(anext(generator))
        await asyncio.create_task(generator.aclose())
        abandoned = generate()
        await asyncio.create_task(anext(abandoned))
        del abandoned
        gc.collect()
        assert CURRENT.get() is None

    asyncio.run(main())
    assert [span["name"] for span in recording.spans()] == ["generate"] * 2
    assert (unraisable, caplog.records) == ([], [])


def test_calls_in_a_pool_have_the_parent_of_their_context(provider: Any, client: Any, patched_openai: Any) -> None:
    """A context that was carried over has its span; a thread that got none starts a trace of its own."""
    for _ in range(2):
        provider.answer(completion())
    with ThreadPoolExecutor(1) as pool, Span(patched_openai.core, patched_openai.recorder, "outer", "chain", None):
        pool.submit(contextvars.copy_context().run, chat, client).result()
        pool.submit(chat, client).result()
    inside, alone, outer = patched_openai.spans()
    assert (inside["parent_span_id"], inside["trace_id"]) == (outer["span_id"], outer["trace_id"])
    assert "parent_span_id" not in alone
    assert alone["trace_id"] != outer["trace_id"]


def test_one_call_through_several_layers_is_one_span(provider: Any, patched_openai: Any) -> None:
    """`parse` calls `create`, helpers call both, raw wrappers wrap them: the cost is counted once."""

    def completions(client: Any) -> Any:  # of the older releases, those that have helpers
        own = client.chat.completions
        return own if hasattr(own, "parse") else client.beta.chat.completions

    provider.answer(completion())
    ask(provider, "sync", lambda made: completions(made).parse(model="m", messages=MESSAGES))
    provider.stream(whole_stream())
    ask(provider, "sync", lambda made: completions(made).stream(model="m", messages=MESSAGES), list)
    assert len(patched_openai.spans()) == 2


# ---- money ----


def test_cached_tokens_are_billed_once(provider: Any, client: Any, patched_openai: Any) -> None:
    patched_openai.recorder.prices.put("openai", MODEL, Price(input=150_000, cache_read=75_000, output=600_000))
    provider.answer(completion())
    chat(client)
    assert patched_openai.span()["cost_usd"] == (36 * 150_000 + 64 * 75_000 + 20 * 600_000) / 1e12


def test_a_tier_by_input_reprices_or_is_left_alone(recording: Any) -> None:
    """Above the limit of the prices known, the lower price must not be taken for the higher."""
    recording.recorder.prices.put("openai", "long", Price(input=1_000_000, output=2_000_000, input_limit=200_000))
    cost = recording.recorder.prices.cost
    assert cost("openai", "long", {"input_tokens": 200_000, "output_tokens": 1}) == 200_000 * 1_000_000 + 2_000_000
    assert cost("openai", "long", {"input_tokens": 200_001, "output_tokens": 1}) is None


@pytest.mark.parametrize(
    ("url", "provider_name"),
    [
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.x.ai/v1", "x_ai"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://contoso.openai.azure.com/openai", "azure.ai.openai"),
        ("https://llm.internal.example/v1", "openai"),
    ],
)
def test_the_provider_is_who_answers(url: str, provider_name: str) -> None:
    from fasttrace.instrumentation.openai import ROUTES

    with openai.OpenAI(api_key="k", base_url=url) as made:
        endpoint = ROUTES["post /chat/completions"].resolve(made.base_url, made)
    assert endpoint.provider == provider_name
    assert endpoint.address in url


# ---- content ----


def test_content_is_masked_within_its_bound(
    provider: Any, client: Any, patched_openai: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more is read for secrets than what is kept: a huge prompt does not stop an event loop."""
    read: list[int] = []
    redact = _text._redact

    def counting(text: str) -> Any:
        read.append(len(text))
        return redact(text)

    monkeypatch.setattr(_text, "_redact", counting)
    patched_openai.recorder.capture_input = True
    patched_openai.recorder.content_max_bytes = 4096
    provider.answer(completion())
    chat(client, messages=[{"role": "user", "content": "sk-" + "9" * 40 + "x" * 5_000_000}])
    assert 0 < sum(read) < 4 * 4096
    span = patched_openai.span()
    assert "9999" not in str(span["input"])


def test_a_span_with_a_prompt_of_megabytes_arrives(provider: Any, client: Any, patched_openai: Any) -> None:
    patched_openai.recorder.capture_input = patched_openai.recorder.capture_output = True
    message = {"role": "assistant", "content": "y" * 3_000_000}
    provider.answer(completion(choices=[{"index": 0, "finish_reason": "stop", "message": message}]))
    chat(client, messages=[{"role": "user", "content": "x" * 3_000_000}])
    (line,) = patched_openai.lines()
    assert len(line) < 150_000
    assert b'"truncated"' in line
    assert b'"input_tokens":100' in line


# ---- the process ----


def test_importing_it_imports_no_sdk_and_no_http_client(provider: Any) -> None:
    heavy = ("openai", "anthropic", "google", "httpx", "httpx2", "asyncio", "pydantic")
    code = f"import sys, fasttrace; print([name for name in {heavy} if name in sys.modules])"
    assert run(code, provider) == "[]"


def test_no_http_client_is_imported_beside_the_one_of_the_sdk(provider: Any) -> None:
    """An SDK on one client library must not find another one loaded, nor meet its classes."""
    code = """
import sys
{first}
import openai
openai.OpenAI().chat.completions.create(model="m", messages=[])
print(sorted(n for n in ("httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "requests") if n in sys.modules))
"""
    provider.answer(completion())
    without = run(code.format(first=""), provider)
    provider.answer(completion())
    assert run(code.format(first="import fasttrace"), provider) == without


def test_nobody_is_called_but_the_provider(provider: Any) -> None:
    """Without a collector nothing is sent anywhere, and there is no telemetry of our own."""
    code = """
import sys
called = []
sys.addaudithook(lambda event, args: called.append(args[1]) if event == "socket.connect" else None)
import fasttrace, openai
openai.OpenAI().chat.completions.create(model="m", messages=[])
fasttrace.flush(5)
fasttrace.shutdown(5)
assert fasttrace.stats().recorded == 1
print(sorted({address[1] for address in called}))
"""
    provider.answer(completion())
    assert run(code, provider, FASTTRACE_EXPORTER="none") == f"[{provider.port}]"
