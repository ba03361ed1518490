"""Prompts and answers in the spans: `python examples/content_capture.py`, with OPENAI_API_KEY set.

Off unless you ask for it; `FASTTRACE_CAPTURE_CONTENT=true` (or `input`, `output`) does the same without code. Keys and
passwords in the text are replaced before it is stored, and each side is cut at `content_max_bytes`.
"""

import openai

import fasttrace

fasttrace.init(capture_content="true", content_max_bytes=16_384)


def main() -> None:
    client = openai.OpenAI()
    reply = client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[
            {"role": "system", "content": "You are the support desk of a parcel service."},
            {"role": "user", "content": "Where is order A-1042? My key is sk-proj-abcdefghijklmnopqrstuvwxyz012345."},
        ],
    )
    print(reply.choices[0].message.content)
    print(fasttrace.flush(5))


if __name__ == "__main__":
    main()
