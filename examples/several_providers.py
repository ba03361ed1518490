"""One question to four providers under one span: `python examples/several_providers.py`, with their keys set.

The fourth speaks OpenAI's API at an address of its own; its spans have the provider that this address belongs to.
"""

import asyncio
import os

import anthropic
import openai
from google import genai

import fasttrace

QUESTION = "Where is my parcel?"


async def ask_openai(model: str, client: openai.AsyncOpenAI) -> str | None:
    async with client:
        reply = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": QUESTION}])
        return reply.choices[0].message.content


async def ask_anthropic() -> str | None:
    async with anthropic.AsyncAnthropic() as client:
        reply = await client.messages.create(
            model="claude-haiku-4-5", max_tokens=200, messages=[{"role": "user", "content": QUESTION}]
        )
        return next((block.text for block in reply.content if block.type == "text"), None)


async def ask_google() -> str | None:
    reply = await genai.Client().aio.models.generate_content(model="gemini-2.5-flash", contents=QUESTION)
    return reply.text


async def main() -> None:
    groq = openai.AsyncOpenAI(
        base_url=os.environ.get("GROQ_BASE_URL", "https://api.groq.com/openai/v1"),
        api_key=os.environ["GROQ_API_KEY"],
    )
    with fasttrace.span("compare answers", kind="chain"):
        answers = await asyncio.gather(
            ask_openai("gpt-4o-mini", openai.AsyncOpenAI()),
            ask_openai("llama-3.3-70b-versatile", groq),
            ask_anthropic(),
            ask_google(),
        )
    for answer in answers:
        print(answer)
    print(fasttrace.flush(5))


if __name__ == "__main__":
    asyncio.run(main())
