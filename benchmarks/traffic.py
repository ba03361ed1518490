"""What the gateway stands between: a provider, `python traffic.py`, and a load.

Both answer or ask from ready bytes, so that the gateway is what there is to wait for. The provider prints its port, and
ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import replies

CHUNKS = 20
QUESTION = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": replies.QUESTION}]}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"


def _plain() -> bytes:
    body = json.dumps(replies.OPENAI).encode()
    return HEAD % (b"application/json", len(body)) + body


def _streamed() -> bytes:
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in replies.openai_chunks(CHUNKS)]
    body = "".join([*events, "data: [DONE]\n\n"]).encode()
    return HEAD % (b"text/event-stream", len(body)) + body


class Provider(asyncio.Protocol):
    """Answers one request after another on its connection: a stream where the request asks for one."""

    plain, streamed = _plain(), _streamed()

    def connection_made(self, transport: Any) -> None:
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self.received = b""
        self.transport.write(self.streamed if b'"stream":true' in body else self.plain)


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


async def provide() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


class Load:
    """Connections that ask again as soon as they are answered."""

    def __init__(self, port: int, connections: int) -> None:
        self.port = port
        self.connections = connections
        self._loop = asyncio.new_event_loop()
        self._open = self._loop.run_until_complete(self._connect())

    async def _connect(self) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        return [await asyncio.open_connection("127.0.0.1", self.port) for _ in range(self.connections)]

    def ask(self, path: str) -> bytes:
        """One answer."""
        return self._loop.run_until_complete(_ask(*self._open[0], _question(path)))

    def burst(self, path: str, each: int = 1) -> None:
        """So many answers on each connection, all connections at once."""
        self._loop.run_until_complete(self._burst(_question(path), each))

    async def _burst(self, question: bytes, each: int) -> None:
        async def one_after_another(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(each):
                await _ask(reader, writer, question)

        await asyncio.gather(*(one_after_another(*pair) for pair in self._open))

    def close(self) -> None:
        for _, writer in self._open:
            writer.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


def _question(path: str) -> bytes:
    body = json.dumps(QUESTION).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: bytes) -> bytes:
    """The body; raises for any answer but 200."""
    writer.write(question)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    if b"content-length" in head:
        return await reader.readexactly(_length(head))
    return await reader.readuntil(b"0\r\n\r\n")


if __name__ == "__main__":
    asyncio.run(provide())
