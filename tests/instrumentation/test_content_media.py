"""Images, audio and files in content: type, size and digest of what was sent, never a byte of it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from fasttrace.instrumentation.content import (
    chat_content,
    embeddings_content,
    generate_content_content,
    media_content,
    messages_content,
    responses_content,
)
from fasttrace.instrumentation.content.media import HASHED_MAX_BYTES, Media, Payload

LIMIT = 65_536
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3 + b"\xfb\xff"
WAV = b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(range(256))
ENCODED = base64.b64encode(PNG).decode()
DATA_URL = f"data:image/png;base64,{ENCODED}"


def told(kind: str, data: bytes = PNG) -> dict[str, Any]:
    return {"type": kind, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def parsed(data: bytes | None) -> Any:
    assert data is not None
    assert PNG[40:60] not in data and ENCODED[40:80].encode() not in data
    return json.loads(data)


def model(**members: Any) -> Any:
    return SimpleNamespace(**members)


@pytest.mark.parametrize(
    ("content", "source", "where", "expected"),
    [
        (
            chat_content(),
            {"messages": [{"content": [{"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}}]}]},
            ("messages", 0, "content", 0, "image_url", "url"),
            told("image/png"),
        ),
        (
            chat_content(),
            {"messages": [{"content": [{"type": "input_audio", "input_audio": {"data": ENCODED, "format": "mp3"}}]}]},
            ("messages", 0, "content", 0, "input_audio", "data"),
            told("audio/mp3"),
        ),
        (
            chat_content(),
            {"messages": [{"content": [{"type": "file", "file": {"file_data": ENCODED, "filename": "a.png"}}]}]},
            ("messages", 0, "content", 0, "file", "file_data"),
            told("image/png"),
        ),
        (
            responses_content(),
            {"input": [{"content": [{"type": "input_file", "file_data": f"data:application/pdf;base64,{ENCODED}"}]}]},
            ("input", 0, "content", 0, "file_data"),
            told("application/pdf"),
        ),
        (
            responses_content(),
            {"input": [{"type": "image_generation_call", "result": ENCODED}]},
            ("input", 0, "result"),
            told("image/png"),
        ),
        (
            messages_content(),
            {"messages": [{"content": [{"source": {"type": "base64", "media_type": "image/webp", "data": ENCODED}}]}]},
            ("messages", 0, "content", 0, "source", "data"),
            told("image/webp"),
        ),
        (
            generate_content_content(),
            {"contents": [model(parts=[model(inline_data=model(data=PNG, mime_type="image/heic"))])]},
            ("contents", 0, "parts", 0, "inline_data", "data"),
            told("image/heic"),
        ),
        (
            generate_content_content(),
            {"contents": [{"parts": [{"inlineData": {"data": ENCODED, "mimeType": "image/heic"}}]}]},
            ("contents", 0, "parts", 0, "inlineData", "data"),
            told("image/heic"),
        ),
        (media_content(), {"image": PNG, "prompt": "p"}, ("image",), told("image/png")),
        (media_content(), {"image": ("a.png", bytearray(PNG), "image/png")}, ("image", 1), told("image/png")),
        (media_content(), {"file": memoryview(WAV)}, ("file",), told("audio/wav", WAV)),
        (embeddings_content(), {"input": [b"\x00\x01"]}, ("input", 0), told("application/octet-stream", b"\x00\x01")),
    ],
)
def test_a_payload_in_a_request_is_told(content: Any, source: Any, where: Any, expected: Any) -> None:
    found = parsed(content.input(source, LIMIT))
    for step in where:
        found = found[step]
    assert found == expected


@pytest.mark.parametrize(
    ("content", "reply", "expected"),
    [
        (media_content(), {"data": [{"b64_json": ENCODED}]}, {"data": [{"b64_json": told("image/png")}]}),
        (media_content(), {"data": [{"url": "https://u:p4ss@x/y"}]}, {"data": [{"url": "https://[redacted]@x/y"}]}),
        (media_content(), {"response": model(_content=WAV)}, {"data": told("audio/wav", WAV)}),
        (media_content(), "said", {"text": "said"}),
        (media_content(), {"text": "said", "usage": {}}, {"text": "said"}),
        (
            media_content(),
            {"generated_images": [model(image=model(image_bytes=PNG, mime_type="image/png"))]},
            {"generated_images": [{"image": {"image_bytes": told("image/png"), "mime_type": "image/png"}}]},
        ),
        (
            chat_content(),
            {"choices": [{"index": 0, "message": {"audio": {"id": "a", "data": ENCODED, "transcript": "t"}}}]},
            [{"index": 0, "message": {"audio": {"id": "a", "data": told("image/png"), "transcript": "t"}}}],
        ),
        (
            chat_content(),
            {"choices": [{"index": 0, "message": {"images": [{"image_url": {"url": DATA_URL}}]}}]},
            [{"index": 0, "message": {"images": [{"image_url": {"url": told("image/png")}}]}}],
        ),
    ],
)
def test_a_payload_in_a_reply_is_told(content: Any, reply: Any, expected: Any) -> None:
    assert parsed(content.output(reply, LIMIT)) == expected


@pytest.mark.parametrize(
    "member",
    [
        {"type": "text", "media_type": "text/plain", "data": "plain words"},
        {"data": "cGxhaW4="},
        {"data": "a,b\nc,d", "format": "csv"},
        {"type": "function_call", "result": ENCODED[:8]},
        {"url": "https://example.com/cat.png"},
        {"text": "data: none"},
        {"text": "data:image/svg+xml,<svg/>"},
    ],
)
def test_what_is_no_payload_stays(member: Any) -> None:
    assert parsed(chat_content().input({"messages": [member]}, LIMIT)) == {"messages": [member]}


def test_a_payload_inside_of_a_text_is_left_out_of_it() -> None:
    data = chat_content().input({"messages": [{"content": f"see ![cat]({DATA_URL}) there"}]}, LIMIT)
    assert parsed(data)["messages"][0]["content"] == "see ![cat](data:image/png;base64,[redacted]) there"
    large = "see " + f"data:image/png;base64,{'QUJD' * 100_000} there"
    text = json.loads(chat_content().input({"messages": [large]}, LIMIT) or b"")["messages"][0]
    assert text == "see data:image/png;base64,[redacted]"


@pytest.mark.parametrize("data", [b"", b"a", b"ab", b"abc", b"\xfb\xff\xfe\xff", PNG])
def test_one_payload_is_the_same_in_every_form(data: bytes) -> None:
    standard, urlsafe = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    broken = "\n".join(standard[at : at + 76] for at in range(0, len(standard), 76))
    expected = told("x/y", data)
    assert Media().of_bytes(data, "x/y") == expected
    for text in (standard, urlsafe, standard.rstrip("="), urlsafe.rstrip("="), broken):
        assert Media().of_base64(text, "x/y") == expected
    assert Media().of_data_url(f"data:x/y;charset=utf-8;base64,{standard}") == expected


def test_what_is_no_base64_is_told_by_its_length() -> None:
    assert Media().of_base64("no base64 é", "x/y") == {"type": "x/y", "bytes": len("no base64 é")}


def test_payloads_of_one_field_share_what_is_hashed() -> None:
    half = bytes(HASHED_MAX_BYTES // 2)
    images = [half, base64.b64encode(half + b"1").decode(), b"abc", bytearray(half)]
    found = json.loads(media_content().input({"image": [{"b64_json": image} for image in images]}, LIMIT) or b"")
    told_of = [image["b64_json"] for image in found["image"]]
    assert [image["bytes"] for image in told_of] == [len(half), len(half) + 1, 3, len(half)]
    assert ["sha256" in image for image in told_of] == [True, False, True, False]


def test_the_same_image_again_is_hashed_once() -> None:
    most = bytes(HASHED_MAX_BYTES)
    found = json.loads(media_content().input({"image": [most, most]}, LIMIT) or b"")
    assert ["sha256" in image for image in found["image"]] == [True, True]


def test_a_large_payload_is_neither_decoded_nor_copied() -> None:
    source = {"messages": [{"content": [{"image_url": {"url": "data:image/png;base64," + "iVBO" * 10_000_000}}]}]}
    tracemalloc.start()
    try:
        data = chat_content().input(source, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    found = json.loads(data or b"")["messages"][0]["content"][0]["image_url"]["url"]
    assert found == {"type": "image/png", "bytes": 30_000_000}


def test_a_file_is_named_and_not_read() -> None:
    class File(io.BytesIO):
        name = "/home/me/cat.png"

        def read(self, *_: Any) -> bytes:
            raise AssertionError

    assert parsed(media_content().input({"image": File(PNG)}, LIMIT)) == {"image": {"type": "file", "name": "cat.png"}}


# ---- streams


def streamed(chunks: Any, content: Any = None, limit: int = LIMIT) -> Any:
    stream = (content or media_content()).stream(limit)
    for chunk in chunks:
        stream.feed(chunk)
    data = stream.result()
    return None if data is None else parsed(data)


def test_speech_is_what_its_pieces_are_together() -> None:
    pieces = [WAV[at : at + 50] for at in range(0, len(WAV), 50)]
    chunks: list[Any] = [{"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()} for piece in pieces]
    assert streamed([*chunks, {"type": "speech.audio.done"}]) == {"data": told("audio/wav", WAV)}


def test_a_payload_in_pieces_that_is_too_large_has_no_digest() -> None:
    payload = Payload()
    piece = base64.b64encode(bytes(HASHED_MAX_BYTES // 2)).decode()
    for _ in range(3):
        payload.add(piece)
    assert payload.told() == {"type": "application/octet-stream", "bytes": 3 * (HASHED_MAX_BYTES // 2)}


def test_a_streamed_image_is_its_last_version() -> None:
    partial = {"type": "image_generation.partial_image", "b64_json": base64.b64encode(WAV).decode()}
    last = {"type": "image_generation.completed", "b64_json": ENCODED}
    assert streamed([partial, last]) == {"data": [{"b64_json": told("image/png")}]}
    assert streamed([partial]) is None


def test_a_stream_keeps_no_payload() -> None:
    data, text = bytes(PNG), DATA_URL + ""
    before = sys.getrefcount(data), sys.getrefcount(text)
    stream = generate_content_content().stream(LIMIT)
    for part in ({"inline_data": {"data": data, "mime_type": "image/png"}}, {"file_data": {"file_uri": text}}):
        stream.feed({"candidates": [{"content": {"parts": [part]}}]})
    del part
    assert (sys.getrefcount(data), sys.getrefcount(text)) == before
    first, second = parsed(stream.result())[0]["content"]["parts"]
    assert first["inline_data"]["data"] == second["file_data"]["file_uri"] == told("image/png")


def test_a_transcript_is_joined() -> None:
    deltas = [{"type": "transcript.text.delta", "delta": word} for word in ("One ", "two")]
    assert streamed([*deltas, {"type": "transcript.text.done", "text": "One two"}]) == {"text": "One two"}


def test_audio_of_a_chat_comes_in_pieces() -> None:
    pieces = [WAV[:100], WAV[100:]]
    deltas = [{"audio": {"id": "a", "transcript": "One "}}]
    deltas += [{"audio": {"data": base64.b64encode(piece).decode(), "transcript": "x"}} for piece in pieces]
    deltas += [{"audio": {"expires_at": 5}}]
    found = streamed([{"choices": [{"index": 0, "delta": delta}]} for delta in deltas], chat_content())
    audio = {"id": "a", "transcript": "One xx", "expires_at": 5, "data": told("audio/wav", WAV)}
    assert found == [{"index": 0, "message": {"audio": audio}}]


def test_vectors_are_no_content() -> None:
    assert embeddings_content().output({"data": [{"embedding": [0.1, 0.2]}]}, LIMIT) is None
