"""The official openai SDK over loopback HTTP: what is in the air while a request is made, its stream is read, its raw
response is kept, and after each end of them."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from typing import Any

import openai_calls as calls
import pytest
from openai_calls import chat, completion, text_chunks, whole_stream

openai = calls.openai


def in_the_air(recording: Any) -> list[dict[str, Any]]:
    batch = recording.recorder.ring.aborted()
    return [json.loads(line) for line in batch.encode(recording.recorder.prices, "", b"").splitlines()]


def seeing(recording: Any, mode: str, seen: list[Any]) -> Any:
    """A client of httpx that looks while its request is on its way."""
    import httpx

    async def look_later(request: Any) -> None:
        seen.extend(in_the_air(recording))

    if mode == "async":
        return httpx.AsyncClient(event_hooks={"request": [look_later]})
    return httpx.Client(event_hooks={"request": [lambda request: seen.extend(in_the_air(recording))]})


def client_of(provider: Any, **options: Any) -> Any:
    return openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0, **options)


@pytest.mark.parametrize("status", [200, 429])
def test_a_call_on_its_way(provider: Any, patched_openai: Any, mode: str, status: int) -> None:
    provider.answer(completion(), status=status)
    seen: list[dict[str, Any]] = []
    try:
        calls.ask(provider, mode, chat, http_client=seeing(patched_openai, mode, seen))
    except openai.RateLimitError:
        assert status == 429
    (shown,), recorded = seen, patched_openai.span()
    assert (shown["status"], shown["name"], shown["model_id"]) == ("aborted", "chat gpt-4o-mini", "gpt-4o-mini")
    assert shown["span_id"] == recorded["span_id"]
    assert (shown["provider"], shown["server_address"], shown["server_port"]) == (
        *(recorded["provider"], recorded["server_address"]),
        provider.port,
    )
    assert in_the_air(patched_openai) == []


def test_a_call_that_is_retried_is_in_the_air_once(provider: Any, patched_openai: Any) -> None:
    provider.answer({}, status=500, retry_after_ms="1")
    provider.answer(completion())
    seen: list[dict[str, Any]] = []
    http_client = seeing(patched_openai, "sync", seen)
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=1, http_client=http_client) as client:
        chat(client)
    assert len(seen) == 2
    assert seen[0]["span_id"] == seen[1]["span_id"] == patched_openai.span()["span_id"]
    assert in_the_air(patched_openai) == []


def test_a_cancelled_call(provider: Any, patched_openai: Any) -> None:
    may_go_on = threading.Event()
    provider.stream([may_go_on])

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
            task = asyncio.ensure_future(chat(client))
            while not provider.requests:
                await asyncio.sleep(0.001)
            assert [span["name"] for span in in_the_air(patched_openai)] == ["chat gpt-4o-mini"]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(asyncio.wait_for(main(), 20))
    may_go_on.set()
    assert in_the_air(patched_openai) == []
    assert patched_openai.span()["status"] == "cancelled"


@pytest.mark.parametrize("ending", ["read to its end", "left by break", "closed", "dropped"])
def test_a_stream(provider: Any, patched_openai: Any, ending: str) -> None:
    provider.stream(whole_stream())
    with client_of(provider) as client:
        stream = chat(client, stream=True)
        for _ in stream:
            (shown,) = in_the_air(patched_openai)
            assert (shown["status"], shown["stream"]) == ("aborted", True)
            if ending != "read to its end":
                break
        if ending == "closed":
            stream.close()
        elif ending == "left by break":
            with stream:
                assert len(in_the_air(patched_openai)) == 1
        del stream
        gc.collect()
        assert in_the_air(patched_openai) == []
    assert patched_openai.span()["span_id"] == shown["span_id"]


def test_an_async_stream_that_is_closed(provider: Any, patched_openai: Any) -> None:
    may_go_on = threading.Event()
    provider.stream([*text_chunks(), may_go_on])

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
            stream = await chat(client, stream=True)
            await anext(stream)
            assert len(in_the_air(patched_openai)) == 1
            await stream.close()
            assert in_the_air(patched_openai) == []

    asyncio.run(main())
    may_go_on.set()
    assert patched_openai.span()["status"] == "incomplete"


@pytest.mark.parametrize("ending", ["parsed", "dropped"])
def test_a_raw_response_is_in_the_air_until_it_is_parsed(provider: Any, patched_openai: Any, ending: str) -> None:
    provider.answer(completion())
    with client_of(provider) as client:
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=calls.MESSAGES)
        (shown,) = in_the_air(patched_openai)
        if ending == "parsed":
            raw.parse()
        del raw
        gc.collect()
    assert in_the_air(patched_openai) == []
    assert patched_openai.span()["span_id"] == shown["span_id"]
