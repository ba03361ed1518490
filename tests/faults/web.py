"""The application behind the servers of row B7: one call of the SDK a request, as WSGI and as ASGI."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from application import call, chat_client, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TEXT = [("content-type", "text/plain"), ("content-length", "2")]
_clients: dict[int, Any] = {}


def client() -> Any:
    """Each process its own: connections do not survive a fork."""
    if os.getpid() not in _clients:
        _clients[os.getpid()] = chat_client()
    return _clients[os.getpid()]


def answer(path: str) -> bytes:
    if path == "/stuck":
        record()
        while True:  # computes: a wait would let a greenlet's worker answer others
            time.monotonic()
    call(client())
    return b"ok"


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", TEXT)
    return [body]


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    if scope["type"] != "http":
        return
    body = answer(scope["path"])
    headers = [(name.encode(), value.encode()) for name, value in TEXT]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
