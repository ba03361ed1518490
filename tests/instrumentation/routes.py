"""A made-up SDK whose calls all go through one method, for the tests of the call driver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from calls import Client, spec

from fasttrace.core._api import Node, Router

REQUEST = {
    "model": "model",
    "tier": "tier",
    "messages": "ignored",
    "temperature": "param",
    "seed": "param",
    "effort": "param",
    "thinking": {"budget": "param", "effort": "param", "deep": {"level": "param", "model": "model"}},
}


def routed(**changes: Any) -> Any:
    return spec(request=REQUEST, endpoint=("_base_url",), **changes)


ROUTES = {
    "post /chat": routed(),
    "post /embed": routed(kind="embedding", operation="embeddings"),
    "get /files/*": routed(operation="files"),
    "get /files/first": routed(operation="first"),
}


def options(url: Any = "/chat", method: Any = "post", json_data: Any = None, **more: Any) -> Any:
    return SimpleNamespace(method=method, url=url, json_data=json_data, **more)


def client(recording: Any, original: Any = None, routes: Any = ROUTES, **changes: Any) -> Any:
    """A client as an SDK has them, its `request` patched."""

    def request(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        return None

    class APIClient(Client):
        pass

    APIClient.request = recording.core.method(original or request, Router(routes, **changes), recording.recorder)
    return APIClient()


def params(span: dict[str, Any]) -> Any:
    return span.get("request_params")


def replying(recording: Any, reply: Any, nodes: tuple[Node, ...], **changes: Any) -> dict[str, Any]:
    """The span of a call whose reply this is, read by these nodes."""
    recording.core.method(lambda **kwargs: reply, spec(reply=nodes, **changes), recording.recorder)(model="m")
    span: dict[str, Any] = recording.span()
    return span
