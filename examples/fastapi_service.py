"""A service that answers with an LLM: `python examples/fastapi_service.py`, with OPENAI_API_KEY set.

    curl localhost:8000/ask -d '{"question": "Where is my parcel?"}' -H 'content-type: application/json'
    curl localhost:8000/stream?question=Where+is+my+parcel

Delivery is in the background; the lifespan gives it a moment when the service stops.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import openai
import uvicorn
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import fasttrace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODEL = "gpt-4o-mini"
client = openai.AsyncOpenAI()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await client.close()
    await run_in_threadpool(fasttrace.flush, 5)


app = FastAPI(lifespan=lifespan)


class Question(BaseModel):
    question: str


@app.post("/ask")
async def ask(asked: Question) -> dict[str, str | None]:
    async with fasttrace.span("ask", kind="server"):
        reply = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": asked.question}]
        )
    return {"answer": reply.choices[0].message.content}


@app.get("/stream")
async def stream(question: str) -> StreamingResponse:
    chunks = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        stream=True,
        stream_options={"include_usage": True},
    )

    async def words() -> AsyncIterator[str]:
        async for chunk in chunks:
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""

    return StreamingResponse(words(), media_type="text/plain")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
