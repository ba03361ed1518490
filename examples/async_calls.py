"""Concurrent calls under one span: `python examples/async_calls.py`, with OPENAI_API_KEY set."""

import asyncio

import openai

import fasttrace

CITIES = ("Lisbon", "Nairobi", "Osaka")


async def describe(client: openai.AsyncOpenAI, city: str) -> str:
    reply = await client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": f"{city} in five words."}],
    )
    return f"{city}: {reply.choices[0].message.content}"


async def main() -> None:
    async with openai.AsyncOpenAI() as client, fasttrace.span("describe cities", kind="chain"):
        for line in await asyncio.gather(*(describe(client, city) for city in CITIES)):
            print(line)
        await client.embeddings.create(model="text-embedding-3-small", input=list(CITIES))
    print(fasttrace.flush(5))


if __name__ == "__main__":
    asyncio.run(main())
