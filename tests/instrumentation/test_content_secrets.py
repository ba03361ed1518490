"""Secrets and payloads that are known by where they stand, not by what they look like."""

from __future__ import annotations

import base64
import hashlib
import json
from types import SimpleNamespace
from typing import Any

import pytest

from fasttrace.instrumentation.content import chat_content, generate_content_content, responses_content

LIMIT = 65_536
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3
ENCODED = base64.b64encode(PNG).decode()


def told(kind: str) -> dict[str, Any]:
    return {"type": kind, "bytes": len(PNG), "sha256": hashlib.sha256(PNG).hexdigest()}


def shown_tool(tool: Any, content: Any = None) -> Any:
    source = {"input": "x", "tools": [tool]} if content is None else {"config": {"tools": [tool]}}
    data = (content or responses_content()).input(source, LIMIT)
    assert data is not None and b"hunter2" not in data
    return json.loads(data)["tools"][0]


def shown_part(part: Any, content: Any = None) -> Any:
    data = (content or chat_content()).input({"messages": [part], "contents": [part]}, LIMIT)
    assert data is not None and ENCODED[40:80].encode() not in data
    found = json.loads(data)
    return (found.get("messages") or found["contents"])[0]


def test_the_value_of_a_domains_secret_is_redacted() -> None:
    secret = {"domain": "a.com", "name": "TOKEN", "value": "hunter2"}
    policy = {"type": "allowlist", "allowed_domains": ["a.com"], "domain_secrets": [secret, secret]}
    found = shown_tool({"type": "code_interpreter", "container": {"type": "auto", "network_policy": policy}})
    expected = {"domain": "a.com", "name": "TOKEN", "value": "[redacted]"}
    assert found["container"]["network_policy"] == {**policy, "domain_secrets": [expected, expected]}
    assert shown_part({"domain": "a.com", "value": "v"}) == {"domain": "a.com", "value": "v"}


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_the_headers_of_a_googles_tool_are_redacted(kind: Any) -> None:
    transport = kind(url="https://h", headers={"X-Goog-Api-Key": "hunter2", "X-Other": "hunter2"})
    found = shown_tool(
        kind(mcp_servers=[kind(name="m", streamable_http_transport=transport)]), generate_content_content()
    )
    server = {"name": "m", "streamable_http_transport": {"url": "https://h", "headers": "[redacted]"}}
    assert found == {"mcp_servers": [server]}


def test_a_parameter_that_is_named_like_a_secret_is_declared() -> None:
    properties = {"headers": {"type": "object", "description": "d"}, "password": {"type": "string"}}
    tool = {"type": "function", "parameters": {"type": "object", "properties": properties}}
    assert shown_tool(tool) == tool


@pytest.mark.parametrize(
    "name",
    "api_key_string apiKeyString access_token id_token refresh-token CLIENT_SECRET Authorization X-API-Key x_api_key "
    "API-KEY Password authorization_token".split(),
)
@pytest.mark.parametrize("value", ["hunter2", b"hunter2"])
def test_a_member_that_is_named_for_a_secret_is_redacted(name: str, value: Any) -> None:
    tool = {"google_maps": {"auth_config": {"some_config": {name: value}}}}
    assert shown_tool(tool, generate_content_content()) == {
        "google_maps": {"auth_config": {"some_config": {name: "[redacted]"}}}
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/sse?api_key=hunter2", "https://h/sse?api_key=[redacted]"),
        ("wss://h?a=1&X-Amz-Signature=hunter2&b=2", "wss://h?a=1&X-Amz-Signature=[redacted]&b=2"),
        ("https://h/b?sv=1&sig=hunter2%3D#x", "https://h/b?sv=1&sig=[redacted]#x"),
        ("https://h/#access_token=hunter2", "https://h/#access_token=[redacted]"),
        ("https://h/?PassWord=hunter2&AUTH=hunter2", "https://h/?PassWord=[redacted]&AUTH=[redacted]"),
        ("see https://h/?token=hunter2 there", "see https://h/?token=[redacted] there"),
        ("https://h/?a=1;secret=hunter2", "https://h/?a=1;secret=[redacted]"),
        ("https://h/?q=key&author=me&keyword=it&design=1", "https://h/?q=key&author=me&keyword=it&design=1"),
        ("a&key=1 is no URL", "a&key=1 is no URL"),
    ],
)
def test_secrets_in_the_query_of_a_url_are_redacted(url: str, expected: str) -> None:
    assert shown_tool({"type": "mcp", "server_url": url})["server_url"] == expected


@pytest.mark.parametrize("limit", range(60, 140, 3))
def test_a_query_that_the_limit_cuts_is_redacted(limit: int) -> None:
    data = chat_content().input({"messages": ["https://h/?api_key=hunter2" + "hunter2" * 1000]}, limit)
    assert data is None or (len(data) <= limit and b"hun" not in data and json.loads(data))


@pytest.mark.parametrize(
    "url",
    [f"DATA:image/png;BASE64,{ENCODED}", f" \n data:image/png;base64,{ENCODED}", f"Data:image/png;Base64,{ENCODED}"],
)
def test_the_scheme_of_a_data_url_has_no_case(url: str) -> None:
    assert shown_part({"image_url": {"url": url}}) == {"image_url": {"url": told("image/png")}}
    assert shown_part({"file_data": url}) == {"file_data": told("image/png")}


def test_base64_in_the_place_of_a_url_is_told() -> None:
    assert shown_part({"type": "image_url", "image_url": ENCODED})["image_url"] == told("image/png")
    assert shown_part({"image_url": {"url": ENCODED}})["image_url"]["url"] == told("image/png")
    for url in ("https://example.com/" + "a" * 100, "file-abc123", "/a/b"):
        assert shown_part({"image_url": url}) == {"image_url": url}


def test_embeddings_in_a_message_are_told() -> None:
    assert shown_part({"type": "image_embeds", "image_embeds": ENCODED})["image_embeds"] == told("image/png")
    assert shown_part({"image_embeds": {"a": ENCODED}}) == {"image_embeds": {"a": told("image/png")}}


@pytest.mark.parametrize("name", ["inline_data", "inlineData"])
def test_inline_data_needs_no_type(name: str) -> None:
    part = {name: {"data": ENCODED}}
    assert shown_part({"parts": [part]}, generate_content_content()) == {"parts": [{name: {"data": told("image/png")}}]}
    stream = generate_content_content().stream(LIMIT)
    stream.feed({"candidates": [{"content": {"parts": [part]}}]})
    assert json.loads(stream.result() or b"")[0]["content"]["parts"] == [{name: {"data": told("image/png")}}]


def test_one_payload_in_two_parts_has_the_type_of_each() -> None:
    found = shown_part({"content": [{"input_audio": {"data": ENCODED, "format": "wav"}}, {"file_data": ENCODED}]})
    assert found["content"] == [
        {"input_audio": {"data": told("audio/wav"), "format": "wav"}},
        {"file_data": told("image/png")},
    ]
