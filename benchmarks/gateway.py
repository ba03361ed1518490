"""An LLM gateway as people write them, with FastAPI and the official SDK: `python gateway.py`, with PROVIDER_URL set.

It prints its port, and ends when its standard input does. `POST /recording/on` and `off` patch the SDK and put it back,
between the phases that are compared; `POST /delivery` sends what was recorded.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import openai
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

import fasttrace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

app = FastAPI()
client = openai.AsyncOpenAI(api_key="sk-none", base_url=os.environ["PROVIDER_URL"], max_retries=0)


@app.post("/chat")
async def chat(request: Request) -> dict[str, Any]:
    reply = await client.chat.completions.create(**await request.json())
    return {"answer": reply.choices[0].message.content}


@app.post("/stream")
async def stream(request: Request) -> StreamingResponse:
    chunks = await client.chat.completions.create(**await request.json(), stream=True)

    async def words() -> AsyncIterator[str]:
        async for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    return StreamingResponse(words(), media_type="text/plain")


@app.post("/recording/{state}")
async def recording(state: str) -> dict[str, float]:
    (fasttrace.instrument if state == "on" else fasttrace.uninstrument)("openai")
    return used()


@app.post("/delivery")
async def delivery() -> dict[str, float]:
    fasttrace.flush(5)
    return used()


def used() -> dict[str, float]:
    """What this process has used and recorded so far."""
    return {"cpu_s": time.process_time(), "recorded": fasttrace.stats().recorded}


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_stop_with_input, args=(server,), daemon=True).start()
    server.run([listener])


def _stop_with_input(server: uvicorn.Server) -> None:
    sys.stdin.read()
    server.should_exit = True


if __name__ == "__main__":
    main()
