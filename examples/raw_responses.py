"""Headers beside the answer: `python examples/raw_responses.py`, with OPENAI_API_KEY set.

Each call is one span with its tokens, read when you parse the response, not before.
"""

import openai

import fasttrace

QUESTION = "Where is my parcel?"


def main() -> None:
    completions = openai.OpenAI().chat.completions

    raw = completions.with_raw_response.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": QUESTION}],
    )
    print(raw.headers["x-request-id"], raw.parse().choices[0].message.content)

    with completions.with_streaming_response.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": QUESTION}],
    ) as response:
        print(response.status_code, response.parse().choices[0].message.content)

    raw_stream = completions.with_raw_response.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in raw_stream.parse():
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="")
    print()
    print(fasttrace.flush(5))


if __name__ == "__main__":
    main()
