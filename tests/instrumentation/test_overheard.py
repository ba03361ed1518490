"""A raw response of a stream that nobody parses: a gateway passes its bytes on, and its usage is known all the same."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import pickle
import weakref
from typing import Any

import pytest
from openai_calls import DONE, MESSAGES, MODEL, ask, chunk, completion, final_chunk, openai, text_chunks, whole_stream
from tests.conftest import server_sent_event

BODY = b"".join(server_sent_event(piece) for piece in whole_stream())


def raw(client: Any, **changes: Any) -> Any:
    return client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, stream=True, **changes)


def streaming(client: Any) -> Any:
    return client.chat.completions.with_streaming_response.create(model="m", messages=MESSAGES, stream=True)


def assert_whole(span: Any) -> None:
    assert (span["status"], span["stream"], span["usage_source"]) == ("success", True, "provider")
    assert (span["model_id"], span["response_id"], span["finish_reasons"]) == (MODEL, "chatcmpl-1", ["stop"])
    assert (span["input_tokens"], span["output_tokens"], span["chunks"]) == (100, 20, 6)
    assert 0 < span["first_chunk_ms"] <= span["first_token_ms"] == span["first_text_ms"] <= span["duration_ms"]


@pytest.mark.parametrize("reading", ["iter_bytes", "iter_lines", "iter_text"])
def test_a_streaming_response_that_is_passed_on(provider: Any, patched_openai: Any, mode: str, reading: str) -> None:
    provider.stream(whole_stream())

    async def pass_on(response: Any) -> list[Any]:
        return [piece async for piece in getattr(response, reading)()]

    use = pass_on if mode == "async" else lambda response: list(getattr(response, reading)())
    pieces = ask(provider, mode, streaming, use)
    if reading == "iter_lines":
        assert [line for line in pieces if line] == [line for line in BODY.decode().splitlines() if line]
    else:
        assert (b"" if reading == "iter_bytes" else "").join(pieces) == (
            BODY if reading == "iter_bytes" else BODY.decode()
        )
    assert_whole(patched_openai.span())


def test_a_raw_response_that_is_passed_on(provider: Any, patched_openai: Any) -> None:
    """Its span ends with its bytes, while the response is still there."""
    provider.stream(whole_stream())
    with openai.OpenAI(api_key="k", base_url=provider.url) as client:
        response = raw(client)
        assert b"".join(response.http_response.iter_bytes()) == BODY
        assert_whole(patched_openai.span())
    del response
    assert patched_openai.spans() == []


def test_a_body_that_is_read_at_once(provider: Any, patched_openai: Any) -> None:
    provider.stream(whole_stream())
    assert ask(provider, "sync", streaming, lambda response: response.read()) == BODY
    span = patched_openai.span()
    assert (span["input_tokens"], span["output_tokens"], span["chunks"]) == (100, 20, 6)


def test_events_that_come_in_pieces_are_put_together(provider: Any, patched_openai: Any) -> None:
    cuts = range(0, len(BODY), 7)
    provider.stream([BODY[at : at + 7] for at in cuts])
    assert b"".join(ask(provider, "sync", streaming, lambda response: list(response.iter_bytes(5)))) == BODY
    assert_whole(patched_openai.span())


def test_a_body_that_is_left_early_is_partial(provider: Any, patched_openai: Any) -> None:
    provider.stream(whole_stream())
    with openai.OpenAI(api_key="k", base_url=provider.url) as client:
        with streaming(client) as response:
            next(response.iter_lines())
        del response
    gc.collect()
    span = patched_openai.span()
    assert (span["status"], span["usage_source"], span["model_id"]) == ("incomplete", "partial", MODEL)
    assert "input_tokens" not in span


def test_what_is_parsed_is_not_overheard(provider: Any, patched_openai: Any) -> None:
    provider.stream(whole_stream())
    with openai.OpenAI(api_key="k", base_url=provider.url) as client:
        response = raw(client)
        stream = response.parse()
        assert not [name for name in vars(response.http_response.stream) if "fasttrace" in name]
        assert len(list(stream)) == 6
    assert_whole(patched_openai.span())


@pytest.mark.parametrize(
    "line", [b"data: {", b'data: {"model": 3, "choices": 7}', b"data: []", b"\xff\xfe", b"x" * 3_000_000]
)
def test_lines_that_tell_nothing_pass(provider: Any, patched_openai: Any, line: bytes) -> None:
    provider.stream([line + b"\n\n", *text_chunks(), final_chunk(), DONE])
    read = ask(provider, "sync", streaming, lambda response: sum(map(len, response.iter_bytes())))
    assert read == len(BODY) + len(line) + 2
    span = patched_openai.span()
    assert (span["input_tokens"], span["output_tokens"]) == (100, 20)


def test_the_bytes_go_on_when_the_response_is_gone(provider: Any, patched_openai: Any, mode: str) -> None:
    """What a gateway returns: the iterator alone, of a response that nobody holds any more."""
    provider.stream(whole_stream())

    async def passed_on() -> bytes:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.url) as client:
            pieces = (await raw(client)).http_response.aiter_bytes()
            gc.collect()
            return b"".join([piece async for piece in pieces])

    if mode == "async":
        assert asyncio.run(passed_on()) == BODY
    else:
        with openai.OpenAI(api_key="k", base_url=provider.url) as client:
            pieces = raw(client).http_response.iter_bytes()
            gc.collect()
            assert b"".join(pieces) == BODY
    assert_whole(patched_openai.span())


def test_raw_bytes_are_overheard(provider: Any, patched_openai: Any) -> None:
    provider.stream([gzip.compress(BODY)], content_encoding="gzip")
    with openai.OpenAI(api_key="k", base_url=provider.url) as client:
        response = raw(client).http_response
        assert gzip.decompress(b"".join(response.iter_raw())) == BODY
    assert_whole(patched_openai.span())


def test_a_connection_that_breaks_is_an_error(provider: Any, patched_openai: Any) -> None:
    provider.stream([*text_chunks()[:2], provider.CUT])
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as client:
        response = raw(client).http_response
        with pytest.raises(Exception, match="peer closed connection"):
            list(response.iter_bytes())
    span = patched_openai.span()
    assert (span["status"], span["usage_source"], span["chunks"]) == ("error", "partial", 2)
    assert span["error_type"].endswith("RemoteProtocolError")


@pytest.mark.parametrize("reading", ["iter_bytes", "iter_lines", "iter_text", "read", "json"])
def test_a_reply_that_is_passed_on_in_pieces(provider: Any, patched_openai: Any, reading: str) -> None:
    provider.answer(completion())
    with openai.OpenAI(api_key="k", base_url=provider.url) as client:
        made = client.chat.completions.with_streaming_response.create(model="m", messages=MESSAGES)
        with made as response:
            read = getattr(response, reading)()
            assert list(read)
        del response, made
    gc.collect()
    span = patched_openai.span()
    assert (span["status"], span["model_id"], span["input_tokens"], span["output_tokens"]) == (
        "success",
        MODEL,
        100,
        20,
    )


def test_a_response_can_be_pickled_as_without_us(provider: Any, patched_openai: Any) -> None:
    provider.stream(whole_stream())
    with openai.OpenAI(api_key="k", base_url=provider.url) as client:
        response = raw(client).http_response
        response.read()
        assert pickle.loads(pickle.dumps(response)).content == BODY
    patched_openai.span()


def test_an_overheard_response_is_not_kept_alive(provider: Any, patched_openai: Any, unraisable: list[Any]) -> None:
    """It goes when it would go without us: older clients have a response in a cycle with its stream."""
    went_at_once = []
    gc.collect()
    gc.disable()
    try:
        with openai.OpenAI(api_key="k", base_url=provider.url) as client:
            for is_on in (True, False):
                patched_openai.recorder.active = is_on
                provider.stream(whole_stream())
                response = raw(client).http_response
                for _ in response.iter_bytes():
                    break
                gone = weakref.ref(response)
                response.close()
                del response
                went_at_once.append(gone() is None)
    finally:
        gc.enable()
    assert went_at_once[0] == went_at_once[1]
    gc.collect()
    assert patched_openai.span()["status"] == "incomplete"
    assert unraisable == []


def test_an_abandoned_asynchronous_body_is_closed_by_the_loop(
    provider: Any, patched_openai: Any, unraisable: list[Any]
) -> None:
    provider.stream(whole_stream())

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.url) as client:
            response = await raw(client)
            async for _ in response.http_response.aiter_lines():
                break
            del response
            gc.collect()
            await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    assert patched_openai.span()["status"] == "incomplete"
    assert unraisable == []


def test_the_content_of_what_passes_is_put_together(provider: Any, patched_openai: Any) -> None:
    patched_openai.recorder.capture_output = True
    provider.stream([chunk({"role": "assistant", "content": "Hel"}), chunk({"content": "lo"}, "stop"), DONE])
    ask(provider, "sync", streaming, lambda response: list(response.iter_lines()))
    (choice,) = patched_openai.span()["output"]
    assert json.dumps(choice["message"]["content"]) == '"Hello"'
