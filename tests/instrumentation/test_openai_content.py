"""What content capture records of calls of the openai SDK: whole, streamed and raw; nothing unless it is on."""

from __future__ import annotations

from typing import Any

import openai_calls as calls
import pytest
from openai_calls import ask, chat, completion, response, whole_stream

openai = calls.openai

ANSWER = "Hello!"
STREAMED = "word0 word1 word2 "


@pytest.fixture
def captured(patched_openai: Any) -> Any:
    patched_openai.recorder.capture_input = patched_openai.recorder.capture_output = True
    return patched_openai


def text_of(value: Any) -> str:
    """All texts in a JSON value."""
    if isinstance(value, str):
        return value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return "".join(text_of(part) for part in parts)


def test_a_chat_completion(provider: Any, captured: Any, mode: str) -> None:
    provider.answer(completion())
    ask(provider, mode, chat)
    span = captured.span()
    assert span["input"]["messages"] == calls.MESSAGES
    assert ANSWER in text_of(span["output"])


def test_a_stream_is_put_together(provider: Any, captured: Any, mode: str) -> None:
    provider.stream(whole_stream())
    ask(provider, mode, lambda client: chat(client, stream=True))
    span = captured.span()
    assert span["input"]["messages"] == calls.MESSAGES
    assert STREAMED in text_of(span["output"])


def test_a_stream_left_early_has_what_there_was(provider: Any, captured: Any) -> None:
    provider.stream(whole_stream())

    def use(stream: Any) -> None:
        next(stream)
        next(stream)
        stream.close()

    ask(provider, "sync", lambda client: chat(client, stream=True), use=use)
    span = captured.span()
    assert span["status"] == "incomplete"
    assert "word0" in text_of(span["output"])
    assert "word1" not in text_of(span["output"])


def test_a_raw_response(provider: Any, captured: Any, mode: str) -> None:
    provider.answer(completion())

    def call(client: Any) -> Any:
        return client.chat.completions.with_raw_response.create(model="m", messages=calls.MESSAGES)

    ask(provider, mode, call, use=lambda reply: reply.parse())
    assert ANSWER in text_of(captured.span()["output"])


@calls.needs_responses
def test_the_responses_api(provider: Any, captured: Any, mode: str) -> None:
    provider.answer(response())
    ask(provider, mode, lambda client: client.responses.create(model="m", input="Who?", instructions="Be brief"))
    span = captured.span()
    assert {"Who?", "Be brief"} <= set(span["input"].values())
    assert ANSWER in text_of(span["output"])


@calls.needs_responses
def test_a_fetched_response_is_not_shown_again(provider: Any, captured: Any, mode: str) -> None:
    provider.answer(response())
    ask(provider, mode, lambda client: client.responses.retrieve("resp_1"))
    assert not {"input", "output"} & captured.span().keys()


def test_embeddings_and_moderations_have_an_input(provider: Any, captured: Any, mode: str) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    provider.answer({"object": "list", "model": "e", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}})
    provider.answer({"id": "modr-1", "model": "m", "results": []})
    ask(provider, mode, lambda client: client.embeddings.create(model="e", input="first", encoding_format="float"))
    ask(provider, mode, lambda client: client.moderations.create(model="m", input="second"))
    first, second = captured.spans()
    assert (text_of(first["input"]), "output" in first) == ("first", False)
    assert text_of(second["input"]) == "second"


def test_sound_is_told_and_not_shown(provider: Any, captured: Any, mode: str) -> None:
    provider.answer(b"not really music", content_type="audio/mpeg")
    provider.answer({"text": "Hello"})
    ask(provider, mode, lambda client: client.audio.speech.create(model="tts-1", voice="alloy", input="Say it"))
    file = ("hello.mp3", b"not really music", "audio/mpeg")
    ask(provider, mode, lambda client: client.audio.transcriptions.create(model="whisper-1", file=file))
    speech, transcription = captured.spans()
    assert text_of(speech["input"]) == "Say it"
    assert "not really music" not in text_of(speech) + text_of(transcription)
    assert text_of(transcription["output"]) == "Hello"
