"""Content of real calls over loopback HTTP, on both cores: off unless it is asked for, the same plain and streamed."""

from __future__ import annotations

import asyncio
import gc
import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
SECRET = "-".join(("sk", "proj", "abc123DEF456ghi789"))
ASKED = f"Hello, my key is {SECRET}!"


class Sdk(NamedTuple):
    """One kind of call: made plain and streamed, in both modes, and the content it has."""

    call: Callable[[str, bool], Any]
    answer: Callable[[], None]
    stream: Callable[[bool], None]
    input: Any
    output: Any
    cut_output: Any


def openai_chat(provider: Any) -> Any:
    import openai_calls as calls

    def call(mode: str, is_streamed: bool) -> Any:
        messages = [{"role": "user", "content": ASKED}]
        return calls.ask(provider, mode, lambda client: calls.chat(client, messages=messages, stream=is_streamed))

    def stream(is_cut: bool) -> None:
        pieces = [calls.chunk({"role": "assistant", "content": ""}), calls.chunk({"content": "Hel"})]
        rest = [calls.chunk({"content": "lo!"}), calls.chunk({}, "stop"), calls.final_chunk(), calls.DONE]
        provider.stream([*pieces, provider.CUT] if is_cut else pieces + rest)

    message = {"role": "assistant", "content": "Hello!"}
    return calls.instrumentation_of, Sdk(
        call,
        lambda: provider.answer(calls.completion()),
        stream,
        {"messages": [{"role": "user", "content": "Hello, my key is [redacted]!"}]},
        [{"index": 0, "message": message, "finish_reason": "stop"}],
        [{"index": 0, "message": {"role": "assistant", "content": "Hel"}}],
    )


def openai_responses(provider: Any) -> Any:
    import openai_calls as calls

    if find_spec("openai.resources.responses") is None:
        pytest.skip(f"openai {calls.openai.__version__} has no Responses API")
    item = calls.response()["output"][0]

    def call(mode: str, is_streamed: bool) -> Any:
        asked = {"model": "gpt-4o-mini", "instructions": "Be brief", "input": ASKED, "stream": is_streamed}
        return calls.ask(provider, mode, lambda client: client.responses.create(**asked))

    def stream(is_cut: bool) -> None:
        part = {"type": "output_text", "text": "", "annotations": []}
        places = {"output_index": 0, "item_id": "msg_1"}
        pieces = [
            {"type": "response.output_item.added", **places, "item": {**item, "content": []}},
            {"type": "response.content_part.added", **places, "content_index": 0, "part": part},
            {"type": "response.output_text.delta", **places, "content_index": 0, "delta": "Hel"},
        ]
        rest = [{"type": "response.completed", "response": calls.response()}]
        events = [(str(event["type"]), event) for event in (pieces if is_cut else pieces + rest)]
        provider.stream([*events, provider.CUT] if is_cut else events)

    part = {"type": "output_text", "text": "Hel", "annotations": []}
    return calls.instrumentation_of, Sdk(
        call,
        lambda: provider.answer(calls.response()),
        stream,
        {"instructions": "Be brief", "input": "Hello, my key is [redacted]!"},
        [item],
        [{**item, "content": [part]}],
    )


def anthropic_messages(provider: Any) -> Any:
    pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")
    import anthropic_calls as calls

    asked = {**calls.REQUEST, "messages": [{"role": "user", "content": ASKED}], "system": "Be brief"}

    async def read(client: Any) -> Any:
        return [event async for event in await client.messages.create(**asked, stream=True)]

    def call(mode: str, is_streamed: bool) -> Any:
        if mode == "async":
            return calls.call_async(provider, read if is_streamed else lambda client: client.messages.create(**asked))
        with calls.client_of(provider) as client:
            made = client.messages.create(**asked, stream=is_streamed)
            return list(made) if is_streamed else made

    def stream(is_cut: bool) -> None:
        provider.stream([*calls.text_events()[:4], provider.CUT] if is_cut else calls.text_events())

    return calls.instrumentation_of, Sdk(
        call,
        lambda: provider.answer(calls.message()),
        stream,
        {"system": "Be brief", "messages": [{"role": "user", "content": "Hello, my key is [redacted]!"}]},
        [{"type": "text", "text": "Hello!"}],
        [{"type": "text", "text": "Hel"}],
    )


def google_generate(provider: Any) -> Any:
    pytest.importorskip("google.genai", reason="the google-genai SDK is not installed")
    import gemini

    def call(mode: str, is_streamed: bool) -> Any:
        name = "generate_content_stream" if is_streamed else "generate_content"
        asked = {"model": gemini.MODEL, "contents": ASKED, "config": {"system_instruction": "Be brief"}}
        return gemini.call(provider, mode, name, **asked)

    def stream(is_cut: bool) -> None:
        provider.stream([gemini.chunk("Hel"), provider.CUT] if is_cut else gemini.chunks("Hel", "lo!"))

    def candidate(text: str, **more: Any) -> list[Any]:
        return [{"index": 0, "content": {"parts": [{"text": text}], "role": "model"}, **more}]

    return gemini.instrumentation_of, Sdk(
        call,
        lambda: provider.answer(gemini.reply()),
        stream,
        {"system_instruction": "Be brief", "contents": "Hello, my key is [redacted]!"},
        candidate("Hello!", finish_reason="STOP"),
        candidate("Hel"),
    )


@pytest.fixture(params=[openai_chat, openai_responses, anthropic_messages, google_generate], ids=lambda of: of.__name__)
def sdk(request: pytest.FixtureRequest, provider: Any, recording: Any) -> Any:
    instrumentation_of, made = request.param(provider)
    instrumentation = instrumentation_of(recording)
    instrumentation.apply()
    yield made
    instrumentation.undo()


def capture(recording: Any, *, is_input: bool = True, is_output: bool = True, limit: int = 65_536) -> None:
    recorder = recording.recorder
    recorder.capture_input, recorder.capture_output, recorder.content_max_bytes = is_input, is_output, limit


@pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "stream"])
def test_content_is_captured(sdk: Sdk, recording: Any, mode: str, is_streamed: bool) -> None:
    capture(recording)
    sdk.stream(False) if is_streamed else sdk.answer()
    sdk.call(mode, is_streamed)
    span = recording.span()
    assert (span["status"], span.get("stream", False)) == ("success", is_streamed)
    assert span["input"] == sdk.input
    assert span["output"] == sdk.output


@pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("is_input", "is_output"), [(False, False), (True, False), (False, True)], ids=["off", "input", "output"]
)
def test_only_what_was_asked_for_is_captured(
    sdk: Sdk, recording: Any, is_streamed: bool, is_input: bool, is_output: bool
) -> None:
    if is_input or is_output:
        capture(recording, is_input=is_input, is_output=is_output)
    sdk.stream(False) if is_streamed else sdk.answer()
    sdk.call("sync", is_streamed)
    span = recording.span()
    assert ("input" in span, "output" in span) == (is_input, is_output)


def test_a_stream_that_breaks_has_what_was_said_so_far(sdk: Sdk, recording: Any, mode: str) -> None:
    capture(recording)
    sdk.stream(True)
    with pytest.raises(Exception):  # noqa: B017 - every SDK's own, or its HTTP client's
        sdk.call(mode, True)
    span = recording.span()
    assert (span["status"], span["input"]) == ("error", sdk.input)
    assert span["output"] == sdk.cut_output


def test_a_call_that_fails_has_its_input(sdk: Sdk, recording: Any, mode: str, provider: Any) -> None:
    capture(recording)
    provider.answer({"error": {"message": "no", "code": 400, "type": "bad", "status": "INVALID"}}, 400)
    with pytest.raises(Exception):  # noqa: B017 - every SDK's own
        sdk.call(mode, False)
    span = recording.span()
    assert (span["status"], span["input"], "output" in span) == ("error", sdk.input, False)


def test_what_is_captured_is_limited(sdk: Sdk, recording: Any, mode: str) -> None:
    capture(recording, limit=64)
    for is_streamed in (False, True):
        sdk.stream(False) if is_streamed else sdk.answer()
        sdk.call(mode, is_streamed)
        span = recording.span()
        assert len(json.dumps(span["input"], separators=(",", ":"))) <= 64
        assert span["input"]["truncated"] > 20
        assert span["output"] == sdk.output or span["output"][-1]["truncated"] > 0


def test_what_is_sent_is_the_same_with_and_without(sdk: Sdk, recording: Any, provider: Any) -> None:
    for is_on in (False, True):
        capture(recording, is_input=is_on, is_output=is_on)
        sdk.answer()
        sdk.call("sync", False)
    (_, _, without), (_, _, captured) = provider.requests
    assert captured == without
    assert SECRET.encode() in captured


# ---- raw responses


@pytest.fixture
def raw_calls(provider: Any, patched_openai: Any) -> Any:
    import openai_calls

    capture(patched_openai)
    return openai_calls


OUTPUT = [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}]


@pytest.mark.parametrize("use", ["parse", "json"])
def test_a_raw_response_has_its_content(
    provider: Any, patched_openai: Any, raw_calls: Any, mode: str, use: str
) -> None:
    """Parsed by its user, or never."""
    provider.answer(raw_calls.completion())
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    read = {"parse": lambda reply: reply.parse(), "json": lambda reply: reply.http_response.json()}[use]
    raw_calls.ask(provider, mode, lambda client: client.chat.completions.with_raw_response.create(**asked), use=read)
    gc.collect()
    span = patched_openai.span()
    assert span["input"] == {"messages": asked["messages"]}
    assert span["output"] == OUTPUT


def test_an_async_stream_that_is_dropped_has_what_was_said(provider: Any, patched_openai: Any, raw_calls: Any) -> None:
    provider.stream([raw_calls.chunk({"role": "assistant", "content": "Hel"}), *raw_calls.whole_stream()])

    async def main() -> None:
        async with raw_calls.openai.AsyncOpenAI(api_key="k", base_url=provider.url) as client:
            stream = await raw_calls.chat(client, stream=True)
            async for _ in stream:
                break
            await stream.close()

    asyncio.run(main())
    span = patched_openai.span()
    assert (span["status"], span["usage_source"]) == ("incomplete", "partial")
    assert span["output"] == [{"index": 0, "message": {"role": "assistant", "content": "Hel"}}]


def test_a_long_prompt_is_cut(provider: Any, patched_openai: Any, raw_calls: Any) -> None:
    provider.answer(raw_calls.completion())
    messages = [{"role": "user", "content": "x" * 200_000}]
    raw_calls.ask(provider, "sync", lambda client: raw_calls.chat(client, messages=messages))
    span = patched_openai.span()
    assert (span["status"], span["input_tokens"]) == ("success", 100)
    assert len(json.dumps(span["input"], separators=(",", ":"))) <= 65_536
    assert len(span["input"]["messages"][0]["content"]) + span["input"]["truncated"] == 200_000
