"""Embeddings, completions, images, audio and moderations of the official openai SDK over loopback HTTP."""

from __future__ import annotations

from typing import Any

import openai_calls as calls
import pytest
from openai_calls import ask, stream_type, usage

openai = calls.openai
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # some of these, by the SDK

IMAGE = {"created": 1, "data": [{"b64_json": "aGVsbG8="}]}
SOUND = ("hello.mp3", b"not really music", "audio/mpeg")
PICTURE = ("hello.png", b"not really a picture", "image/png")
NO_USAGE = {"input_tokens", "output_tokens", "usage_source", "cost_usd"}


def has_stream(method: Any) -> bool:
    import inspect

    return "stream" in inspect.signature(method).parameters


def embeddings(**changes: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
    of_tokens = {"prompt_tokens": 7, "total_tokens": 7}
    return {"object": "list", "model": "text-embedding-3-small", "data": data, "usage": of_tokens, **changes}


def test_embeddings_are_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(embeddings())
    reply = ask(
        provider,
        mode,
        lambda client: client.embeddings.create(
            model="text-embedding-3-small", input="Hello", dimensions=2, encoding_format="float"
        ),
    )
    assert reply.data[0].embedding == [0.5, 0.25]
    span = patched_openai.span()
    assert (span["kind"], span["operation"]) == ("embedding", "embeddings")
    assert (span["model_id"], span["input_tokens"], span["usage_source"]) == ("text-embedding-3-small", 7, "provider")
    assert span["request_params"] == {"dimensions": 2, "encoding_format": "float"}
    assert not {"output_tokens", "request_model", "stream"} & span.keys()


def test_a_text_completion_is_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    choices = [{"index": 0, "text": "upon a time", "logprobs": None, "finish_reason": "length"}]
    provider.answer(
        {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1,
            "model": "davinci-002",
            "choices": choices,
            "usage": usage(),
        }
    )
    ask(provider, mode, lambda client: client.completions.create(model="davinci-002", prompt="Once", best_of=2))
    span = patched_openai.span()
    assert (span["kind"], span["operation"], span["name"]) == ("llm", "text_completion", "text_completion davinci-002")
    assert (span["response_id"], span["finish_reasons"]) == ("cmpl-1", ["length"])
    assert (span["input_tokens"], span["output_tokens"]) == (100, 20)
    assert span["request_params"] == {"best_of": 2}


@pytest.mark.parametrize("is_streamed", [False, True], ids=["plain", "streamed"])
def test_a_text_completion_without_a_token_has_zero(
    provider: Any, patched_openai: Any, mode: str, is_streamed: bool
) -> None:
    """The API leaves the count out."""
    choices = [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "davinci-002"}
    found = {"prompt_tokens": 11, "total_tokens": 11}
    if is_streamed:
        provider.stream([{**head, "choices": choices}, {**head, "choices": [], "usage": found}, "[DONE]"])
    else:
        provider.answer({**head, "choices": choices, "usage": found})
    ask(provider, mode, lambda client: client.completions.create(model="davinci-002", prompt="x", stream=is_streamed))
    span = patched_openai.span()
    assert (span["input_tokens"], span["output_tokens"], span["usage_source"]) == (11, 0, "provider")


def test_a_moderation_is_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer({"id": "modr-1", "model": "omni-moderation-2024-09-26", "results": []})
    ask(provider, mode, lambda client: client.moderations.create(model="omni-moderation-latest", input="x"))
    span = patched_openai.span()
    assert (span["kind"], span["operation"], span["response_id"]) == ("moderation", "moderation", "modr-1")
    assert (span["model_id"], span["request_model"]) == ("omni-moderation-2024-09-26", "omni-moderation-latest")
    assert not NO_USAGE & span.keys()


# ---- images ----

IMAGE_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
    "output_tokens": 4160,
    "total_tokens": 4210,
}


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("image_generation", lambda images, **more: images.generate(prompt="a cat", **more)),
        ("image_edit", lambda images, **more: images.edit(image=PICTURE, prompt="a cat", **more)),
        ("image_variation", lambda images, **more: images.create_variation(image=PICTURE, **more)),
    ],
)
def test_images_are_one_span(provider: Any, patched_openai: Any, mode: str, operation: str, call: Any) -> None:
    provider.answer({**IMAGE, "usage": IMAGE_USAGE})
    reply = ask(provider, mode, lambda client: call(client.images, model="gpt-image-1", size="1024x1024", n=1))
    assert type(reply) is openai.types.ImagesResponse
    span = patched_openai.span()
    assert (span["kind"], span["operation"], span["model_id"]) == ("image", operation, "gpt-image-1")
    assert (span["input_tokens"], span["output_tokens"], span["input_image_tokens"]) == (50, 4160, 40)
    assert span["request_params"] == {"size": "1024x1024", "n": 1}


def test_images_billed_by_the_piece_have_no_tokens(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer({"created": 1, "data": [{"url": "https://example.com/cat.png"}]})
    ask(provider, mode, lambda client: client.images.generate(model="dall-e-3", prompt="a cat", quality="hd"))
    span = patched_openai.span()
    assert (span["status"], span["request_params"]) == ("success", {"quality": "hd"})
    assert not NO_USAGE & span.keys()


@pytest.mark.skipif(
    not has_stream(openai.resources.Images.generate), reason=f"openai {openai.__version__} streams no images"
)
@pytest.mark.parametrize("kind", ["image_generation", "image_edit"])
def test_a_streamed_image_is_one_span(provider: Any, patched_openai: Any, mode: str, kind: str) -> None:
    image = {
        "b64_json": "aGVsbG8=",
        "created_at": 1,
        "size": "1024x1024",
        "quality": "high",
        "background": "opaque",
        "output_format": "png",
    }
    partial = f"{kind}.partial_image", {"type": f"{kind}.partial_image", "partial_image_index": 0, **image}
    completed = f"{kind}.completed", {"type": f"{kind}.completed", "usage": IMAGE_USAGE, **image}
    provider.stream([partial, partial, completed])

    def call(client: Any) -> Any:
        if kind == "image_edit":
            return client.images.edit(image=PICTURE, prompt="x", model="gpt-image-1", stream=True, partial_images=2)
        return client.images.generate(prompt="x", model="gpt-image-1", stream=True, partial_images=2)

    given = ask(provider, mode, call)
    assert (given.kind, len(given.items)) == (stream_type(mode), 3)
    span = patched_openai.span()
    assert (span["operation"], span["stream"], span["chunks"], span["status"]) == (kind, True, 3, "success")
    assert (span["input_tokens"], span["output_tokens"], span["input_image_tokens"]) == (50, 4160, 40)
    assert "first_token_ms" in span
    assert span["request_params"] == {"partial_images": 2}


# ---- audio ----


def test_speech_is_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(b"not really music", content_type="audio/mpeg")
    reply = ask(
        provider, mode, lambda client: client.audio.speech.create(model="tts-1", voice="alloy", input="Hello", speed=2)
    )
    assert reply.content == b"not really music"
    span = patched_openai.span()
    assert (span["kind"], span["operation"], span["model_id"]) == ("audio", "speech", "tts-1")
    assert (span["status"], span["request_params"]) == ("success", {"voice": "alloy", "speed": 2})
    assert not NO_USAGE & span.keys()


def test_streamed_speech_is_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    """Sound as it comes: the SDK reads nothing before the user does."""
    provider.answer(b"not really music", content_type="audio/mpeg")

    def call(client: Any) -> Any:
        return client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input="Hello")

    def read(reply: Any) -> bytes:
        return b"".join(reply.iter_bytes())

    async def read_async(reply: Any) -> bytes:
        return b"".join([part async for part in reply.iter_bytes()])

    assert ask(provider, mode, call, use=read if mode == "sync" else read_async) == b"not really music"
    span = patched_openai.span()
    assert (span["operation"], span["status"], span["model_id"]) == ("speech", "success", "tts-1")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            {
                "type": "tokens",
                "input_tokens": 14,
                "output_tokens": 5,
                "total_tokens": 19,
                "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
            },
            (14, 5, 10),
        ),
        ({"type": "duration", "seconds": 3}, (None, None, None)),
        (None, (None, None, None)),
    ],
    ids=["tokens", "duration", "none"],
)
def test_a_transcription_is_one_span(
    provider: Any, patched_openai: Any, mode: str, found: Any, expected: tuple[int | None, ...]
) -> None:
    provider.answer({"text": "Hello", "usage": found})
    reply = ask(
        provider,
        mode,
        lambda client: client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND, language="en"),
    )
    assert reply.text == "Hello"
    span = patched_openai.span()
    assert (span["kind"], span["operation"], span["model_id"]) == ("audio", "transcription", "gpt-4o-transcribe")
    assert span["request_params"] == {"language": "en"}
    names = ("input_tokens", "output_tokens", "input_audio_tokens")
    assert tuple(span.get(name) for name in names) == expected


def test_a_transcription_as_text_is_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(b"Hello\n", content_type="text/plain")

    def call(client: Any) -> Any:
        return client.audio.transcriptions.create(model="whisper-1", file=SOUND, response_format="text")

    assert ask(provider, mode, call) == "Hello\n"
    span = patched_openai.span()
    assert (span["status"], span["request_params"]) == ("success", {"response_format": "text"})


@pytest.mark.skipif(
    not has_stream(openai.resources.audio.Transcriptions.create),
    reason=f"openai {openai.__version__} streams no transcriptions",
)
def test_a_streamed_transcription_is_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    of_tokens = {"type": "tokens", "input_tokens": 14, "output_tokens": 5, "total_tokens": 19}
    done = {"type": "transcript.text.done", "text": "Hello", "usage": of_tokens}
    provider.stream([{"type": "transcript.text.delta", "delta": "Hello"}, done, "[DONE]"])
    given = ask(
        provider,
        mode,
        lambda client: client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND, stream=True),
    )
    assert (given.kind, len(given.items)) == (stream_type(mode), 2)
    span = patched_openai.span()
    assert (span["operation"], span["stream"], span["chunks"]) == ("transcription", True, 2)
    assert (span["input_tokens"], span["output_tokens"], span["status"]) == (14, 5, "success")
    assert "first_text_ms" in span


def test_a_translation_is_one_span(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer({"text": "Hello"})
    ask(provider, mode, lambda client: client.audio.translations.create(model="whisper-1", file=SOUND, temperature=0))
    span = patched_openai.span()
    assert (span["operation"], span["model_id"], span["request_params"]) == (
        "translation",
        "whisper-1",
        {"temperature": 0},
    )
    assert not NO_USAGE & span.keys()
