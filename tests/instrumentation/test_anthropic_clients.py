"""The anthropic SDK's clients for other clouds, over loopback HTTP: the same calls, another provider, path and framing.

Their base URL is a gateway's here, so that the class of the client is what tells the provider.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import struct
from typing import Any

import anthropic_calls as calls
import pytest
from anthropic_calls import MODEL, REQUEST, message, text_events

from fasttrace.instrumentation import anthropic as instrumentor

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")

VERTEX_MODELS = "/projects/project/locations/us-east5/publishers/anthropic/models"
WHOLE = {"status": "success", "input_tokens": 100, "output_tokens": 20, "usage_source": "provider", "model_id": MODEL}


@pytest.fixture
def patched(recording: Any) -> Any:
    with calls.instrumented(recording):
        yield recording


def client_of(provider: Any, name: str, is_async: bool = False) -> Any:
    options: dict[str, Any] = {"base_url": f"http://127.0.0.1:{provider.port}", "max_retries": 0}
    if name.startswith("AnthropicBedrock"):
        pytest.importorskip("botocore", reason="botocore, which signs for Bedrock, is not installed")
        options |= {"aws_access_key": "key", "aws_secret_key": "secret", "aws_region": "us-east-1"}
    elif name == "AnthropicVertex":
        pytest.importorskip("google.auth", reason="google-auth, which Vertex clients need, is not installed")
        options |= {"region": "us-east5", "project_id": "project", "access_token": "token"}
    else:
        options |= {"api_key": "k"}
    if not hasattr(anthropic, name):
        pytest.skip(f"anthropic {anthropic.__version__} has no {name}")
    return getattr(anthropic, f"Async{name}" if is_async else name)(**options)


def call(provider: Any, name: str, *, is_async: bool, **more: Any) -> list[Any]:
    """The reply, or the events of the stream."""
    if is_async:
        return asyncio.run(call_async(provider, name, **more))
    with client_of(provider, name) as client:
        reply = client.messages.create(**REQUEST, **more)
        return list(reply) if more else [reply]


async def call_async(provider: Any, name: str, **more: Any) -> list[Any]:
    async with client_of(provider, name, is_async=True) as client:
        reply = await client.messages.create(**REQUEST, **more)
        return [event async for event in reply] if more else [reply]


def expect(span: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert {name: span.get(name) for name in wanted} == wanted


def aws_frame(event: dict[str, Any]) -> bytes:
    """One event as Bedrock frames it: lengths, headers, payload, and a checksum after each."""
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode()}).encode()
    headers = b""
    named = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    for name, value in named.items():
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    prelude += struct.pack(">I", binascii.crc32(prelude))
    frame = prelude + headers + payload
    return frame + struct.pack(">I", binascii.crc32(frame))


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("name", "wanted", "path"),
    [
        ("AnthropicBedrock", "aws.bedrock", f"/model/{MODEL}/invoke"),
        ("AnthropicVertex", "gcp.vertex_ai", f"{VERTEX_MODELS}/{MODEL}:rawPredict"),
        ("AnthropicFoundry", "azure.ai.inference", "/v1/messages"),
    ],
)
def test_another_clouds_message_is_one_span_of_its_provider(
    provider: Any, patched: Any, name: str, wanted: str, path: str, is_async: bool
) -> None:
    provider.answer(message())
    (reply,) = call(provider, name, is_async=is_async)
    assert type(reply) is anthropic.types.Message
    assert provider.requests[0][0] == path
    span = patched.span()
    expect(span, WHOLE | {"provider": wanted, "server_address": "127.0.0.1", "server_port": provider.port})
    assert span["request_params"] == {"max_tokens": 64}
    assert "request_model" not in span


@pytest.mark.parametrize("is_async", [False, True])
def test_a_stream_in_the_framing_of_bedrock(provider: Any, patched: Any, is_async: bool) -> None:
    frames = [aws_frame(event) for name, event in text_events() if name != "ping"]
    provider.stream(frames, content_type="application/vnd.amazon.eventstream")
    events = call(provider, "AnthropicBedrock", is_async=is_async, stream=True)
    assert events[0].type == "message_start"
    assert provider.requests[0][0].endswith("/invoke-with-response-stream")
    expect(patched.span(), WHOLE | {"provider": "aws.bedrock", "stream": True, "chunks": 7})


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("name", ["AnthropicVertex", "AnthropicFoundry"])
def test_a_stream_of_another_cloud(provider: Any, patched: Any, name: str, is_async: bool) -> None:
    provider.stream(text_events())
    call(provider, name, is_async=is_async, stream=True)
    expect(patched.span(), WHOLE | {"stream": True, "chunks": 7})


def test_the_stream_helper_of_another_cloud(provider: Any, patched: Any) -> None:
    provider.stream(text_events())
    with client_of(provider, "AnthropicVertex") as client:
        with client.messages.stream(**REQUEST) as stream:
            assert "".join(stream.text_stream) == "Hello!"
    expect(patched.span(), WHOLE | {"provider": "gcp.vertex_ai", "stream": True})


@pytest.mark.parametrize(
    ("base_url", "wanted"),
    [
        ("https://api.anthropic.com", "anthropic"),
        ("https://gateway.example.com/anthropic", "anthropic"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
        ("https://bedrock-mantle.us-east-1.api.aws/anthropic", "aws.bedrock"),
        ("https://us-east5-aiplatform.googleapis.com/v1", "gcp.vertex_ai"),
        ("https://aiplatform.eu.rep.googleapis.com/v1", "gcp.vertex_ai"),
        ("https://resource.services.ai.azure.com/anthropic/", "azure.ai.inference"),
        ("https://api.deepseek.com/anthropic", "deepseek"),
    ],
)
def test_the_base_url_tells_the_provider_first(base_url: str, wanted: str) -> None:
    with anthropic.Anthropic(api_key="k", base_url=base_url) as client:
        (spec, *_) = instrumentor._routes(False).values()
        found: Any = client
        for name in spec.endpoint:
            found = getattr(found, name)
        assert spec.resolve(found, client).provider == wanted
