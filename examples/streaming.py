"""A streamed answer from each of three providers: `python examples/streaming.py`, with their keys set.

A stream is one span: time to its first text, chunks, tokens, however it ends. OpenAI sends usage with a stream only
where it is asked to; the other two always do.
"""

import anthropic
import openai
from google import genai

import fasttrace

QUESTION = "Where is my parcel?"


def ask_openai() -> None:
    stream = openai.OpenAI().chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="")
    print()


def ask_anthropic() -> None:
    with anthropic.Anthropic().messages.stream(
        model="claude-haiku-4-5",
        max_tokens=200,
        messages=[{"role": "user", "content": QUESTION}],
    ) as stream:
        for text in stream.text_stream:
            print(text, end="")
    print()


def ask_google() -> None:
    client = genai.Client()
    for chunk in client.models.generate_content_stream(model="gemini-2.5-flash", contents=QUESTION):
        print(chunk.text, end="")
    print()


if __name__ == "__main__":
    ask_openai()
    ask_anthropic()
    ask_google()
    print(fasttrace.flush(5))
