"""Streams of the google-genai SDK over loopback HTTP, on both cores: what is read from the chunks, and every ending."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import gemini
import pytest
from gemini import MODEL, REQUEST, chunk, chunks, function_call, usage

from fasttrace.core._api import CURRENT, Price

# The SDK warns of its own old ways, and of methods that are to go.
pytestmark = pytest.mark.filterwarnings("ignore")
genai = pytest.importorskip("google.genai", reason="the google-genai SDK is not installed")

WHOLE = {"status": "success", "stream": True, "usage_source": "provider", "input_tokens": 100, "output_tokens": 20}
# The SDK leaves generators of its HTTP client behind, which the event loop may come to close twice.
SAID_WITHOUT_US = "RuntimeError('aclose(): asynchronous generator is already running')"
PARTIAL = {"status": "incomplete", "stream": True, "usage_source": "partial", "input_tokens": 100, "chunks": 1}


@pytest.fixture
def patched(recording: Any) -> Any:
    with gemini.instrumented(recording):
        recording.recorder.prices.put("gcp.gemini", f"{MODEL}-001", Price(input=3, output=15))
        yield recording


@pytest.fixture
def client(provider: Any, patched: Any) -> Any:
    with gemini.client_of(provider) as made:
        yield made


@pytest.fixture
def gate() -> Any:
    """The server waits at it, so that a stream that is left early has not been sent to its end."""
    made = threading.Event()
    yield made
    made.set()


def expect(span: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert {name: span.get(name) for name in wanted} == wanted


# ---- what is read ----


def test_a_stream_is_one_exact_span(provider: Any, patched: Any, mode: str) -> None:
    provider.stream(chunks("Hel", "lo", "!"))
    found = gemini.call(provider, mode, "generate_content_stream", **REQUEST, config={"temperature": 0.5})
    assert {type(piece) for piece in found} == {genai.types.GenerateContentResponse}
    assert "".join(piece.text for piece in found) == "Hello!"
    span = patched.span()
    expect(span, WHOLE | {"model_id": f"{MODEL}-001", "request_model": MODEL, "chunks": 3, "finish_reasons": ["STOP"]})
    assert (span["operation"], span["provider"]) == ("generate_content", "gcp.gemini")
    assert span["request_params"] == {"temperature": 0.5}
    assert 0 < span["first_chunk_ms"] <= span["first_token_ms"] <= span["first_text_ms"] <= span["duration_ms"]
    assert span["cost_usd"] == (100 * 3 + 20 * 15) / 10**12


def test_the_last_usage_of_a_stream_is_the_one(provider: Any, client: Any, patched: Any) -> None:
    """Each chunk has the counts up to there."""
    provider.stream(
        [
            chunk("a", counts={"trafficType": "ON_DEMAND"}),
            chunk("b", counts=usage(candidatesTokenCount=5, promptTokenCount=90)),
            chunk("c", finish="STOP", counts=usage(cachedContentTokenCount=60)),
        ]
    )
    list(client.models.generate_content_stream(**REQUEST))
    expect(patched.span(), WHOLE | {"cache_read_tokens": 60, "chunks": 3})


def test_a_thought_is_a_token_and_no_text(provider: Any, patched: Any, mode: str) -> None:
    if gemini.release() < (1, 10):
        pytest.skip(f"google-genai {genai.__version__} leaves thought tokens out of its replies")
    thought = {"text": "Hm", "thought": True}
    provider.stream([chunk(thought), chunk("Hi", finish="STOP", counts=usage(thoughtsTokenCount=9))])
    gemini.call(provider, mode, "generate_content_stream", **REQUEST)
    span = patched.span()
    expect(span, WHOLE | {"output_tokens": 29, "reasoning_tokens": 9})
    assert span["first_token_ms"] < span["first_text_ms"]


def test_functions_are_named_and_are_tokens(provider: Any, client: Any, patched: Any) -> None:
    calls = [function_call("get_weather"), function_call("get_time")]
    provider.stream([chunk(*calls), chunk(function_call("get_time"), finish="STOP", counts=usage())])
    list(client.models.generate_content_stream(**REQUEST))
    span = patched.span()
    assert span["tool_calls"] == ["get_weather", "get_time", "get_time"]
    assert "first_token_ms" in span
    assert "first_text_ms" not in span


def test_candidates_of_a_stream_are_told_apart_by_their_index(provider: Any, client: Any, patched: Any) -> None:
    pieces = []
    for index, end in ((1, "MAX_TOKENS"), (0, "STOP")):
        piece = chunk("x", finish=end, counts=usage())
        piece["candidates"][0]["index"] = index
        pieces.append(piece)
    provider.stream(pieces)
    list(client.models.generate_content_stream(**REQUEST, config={"candidate_count": 2}))
    assert patched.span()["finish_reasons"] == ["STOP", "MAX_TOKENS"]


def test_a_stream_without_usage_has_no_tokens(provider: Any, client: Any, patched: Any) -> None:
    provider.stream([chunk("Hi", finish="STOP", counts={})])
    list(client.models.generate_content_stream(**REQUEST))
    span = patched.span()
    assert (span["status"], span["finish_reasons"]) == ("success", ["STOP"])
    assert not {"input_tokens", "output_tokens", "usage_source", "cost_usd"} & span.keys()


def test_an_empty_stream_is_a_success(provider: Any, patched: Any, mode: str) -> None:
    provider.stream([])
    assert gemini.call(provider, mode, "generate_content_stream", **REQUEST) == []
    span = patched.span()
    assert span["status"] == "success"
    assert "first_chunk_ms" not in span


def test_vertex_streams_are_the_same(provider: Any, patched: Any, mode: str) -> None:
    provider.stream(chunks())
    gemini.call(provider, mode, "generate_content_stream", of=gemini.vertex_client_of, **REQUEST)
    expect(patched.span(), WHOLE | {"provider": "gcp.vertex_ai", "chunks": 3})


# ---- endings ----


class Consumer(Exception):
    """What the code that reads a stream may raise."""


def close_early(models: Any) -> None:
    stream = models.generate_content_stream(**REQUEST)
    next(stream)
    stream.close()


def break_and_drop(models: Any) -> None:
    for _ in models.generate_content_stream(**REQUEST):
        break


def raise_while_reading(models: Any) -> None:
    with pytest.raises(Consumer):
        for _ in models.generate_content_stream(**REQUEST):
            raise Consumer


def throw_into(models: Any) -> None:
    stream = models.generate_content_stream(**REQUEST)
    next(stream)
    with pytest.raises(Consumer):
        stream.throw(Consumer())


@pytest.mark.parametrize("left", [close_early, break_and_drop, raise_while_reading, throw_into])
def test_a_stream_left_early_is_one_incomplete_span(
    provider: Any, client: Any, patched: Any, gate: Any, left: Any
) -> None:
    first, *more = chunks()
    provider.stream([first, gate, *more])
    left(client.models)
    gc.collect()
    span = patched.span()
    expect(span, PARTIAL)
    assert "cost_usd" not in span
    assert CURRENT.get() is None


def test_a_stream_never_read_makes_no_request_and_no_span(provider: Any, client: Any, patched: Any) -> None:
    """The SDK's generator asks nobody before its first step."""
    client.models.generate_content_stream(**REQUEST)
    gc.collect()
    assert provider.requests == []
    assert patched.spans() == []


def test_a_stream_closed_behind_its_end_is_whole(provider: Any, client: Any, patched: Any, gate: Any) -> None:
    provider.stream([*chunks(), gate])
    stream = client.models.generate_content_stream(**REQUEST)
    for _ in range(3):
        next(stream)
    stream.close()
    gc.collect()
    expect(patched.span(), WHOLE)


def test_a_stream_left_at_exit_is_recorded_then(provider: Any, client: Any, patched: Any, gate: Any) -> None:
    first, *more = chunks()
    provider.stream([first, gate, *more])
    stream = client.models.generate_content_stream(**REQUEST)
    next(stream)
    assert patched.core.end_streams(patched.recorder) == 1
    expect(patched.span(), PARTIAL)
    gate.set()
    assert len(list(stream)) == 2
    assert patched.spans() == []


async def aclose_early(models: Any) -> None:
    stream = await models.generate_content_stream(**REQUEST)
    await stream.__anext__()
    await stream.aclose()


async def abreak_and_drop(models: Any) -> None:
    async for _ in await models.generate_content_stream(**REQUEST):
        break


async def araise_while_reading(models: Any) -> None:
    with pytest.raises(Consumer):
        async for _ in await models.generate_content_stream(**REQUEST):
            raise Consumer


async def leave(provider: Any, left: Any) -> list[str]:
    """What the event loop has to say about it."""
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(repr(context["exception"])))
    async with gemini.async_client_of(provider) as made:
        await left(made.models)
        gc.collect()
        for _ in range(50):  # generators that are left close one after the other
            await asyncio.sleep(0)
    return said


@pytest.mark.parametrize("left", [aclose_early, abreak_and_drop, araise_while_reading])
def test_an_asynchronous_stream_left_early_is_one_incomplete_span(
    provider: Any, patched: Any, gate: Any, left: Any
) -> None:
    first, *more = chunks()
    provider.stream([first, gate, *more])
    said = asyncio.run(leave(provider, left))
    gc.collect()
    gate.set()
    expect(patched.span(), PARTIAL)
    assert set(said) <= {SAID_WITHOUT_US}


def test_a_cancelled_stream_is_cancelled(provider: Any, patched: Any, gate: Any) -> None:
    if gemini.release() < (1, 10):
        pytest.skip(f"google-genai {genai.__version__} waits in a thread")
    first, *more = chunks()
    provider.stream([first, gate, *more])

    async def main() -> None:
        async with gemini.async_client_of(provider) as made:
            began = asyncio.Event()

            async def read() -> None:
                async for _ in await made.models.generate_content_stream(**REQUEST):
                    began.set()

            task = asyncio.ensure_future(read())
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    expect(patched.span(), PARTIAL | {"status": "cancelled"})


def test_streams_side_by_side_are_one_span_each(provider: Any, client: Any, patched: Any) -> None:
    for n in range(3):
        provider.stream(chunks("a", "b", f"{n}"))
    streams = [client.models.generate_content_stream(**REQUEST) for _ in range(3)]
    texts = ["".join(piece.text for piece in pieces) for pieces in zip(*streams, strict=True)]
    assert texts == ["aaa", "bbb", "012"]
    for stream in streams:
        assert list(stream) == []
    spans = patched.spans()
    assert len({span["trace_id"] for span in spans}) == len({span["span_id"] for span in spans}) == 3
    for span in spans:
        expect(span, WHOLE | {"chunks": 3})


# ---- content, where its capture is on ----


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_content_is_captured_where_that_is_wanted(provider: Any, patched: Any, mode: str, streams: bool) -> None:
    patched.recorder.capture_input = patched.recorder.capture_output = True
    if streams:
        provider.stream(chunks("Hel", "lo", "!"))
    else:
        provider.answer(gemini.reply("Hello!"))
    name = "generate_content_stream" if streams else "generate_content"
    gemini.call(provider, mode, name, **REQUEST, config={"system_instruction": "Be brief"})
    span = patched.span()
    assert (span["input"]["contents"], span["input"]["system_instruction"]) == ("Hello", "Be brief")
    (answer,) = span["output"]
    assert (answer["content"]["parts"], answer["finish_reason"]) == ([{"text": "Hello!"}], "STOP")
    assert answer["content"]["role"] == "model"


def test_a_picture_in_a_prompt_is_told_and_not_shown(provider: Any, client: Any, patched: Any) -> None:
    patched.recorder.capture_input = True
    provider.answer(gemini.reply())
    picture = genai.types.Part.from_bytes(data=b"\x89PNG" + b"x" * 200, mime_type="image/png")
    client.models.generate_content(model=MODEL, contents=["What is this?", picture])
    told = str(patched.span()["input"])
    assert "'type': 'image/png', 'bytes': 204" in told
    assert "xxxx" not in told
