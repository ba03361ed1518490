"""One call, one span: `python examples/basic.py`, with OPENAI_API_KEY set.

Spans go to FASTTRACE_COLLECTOR_URL, or wait in the spool where that is not set.
"""

import openai

import fasttrace


def main() -> None:
    client = openai.OpenAI()
    with fasttrace.span("greet", attributes={"language": "en"}):
        reply = client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "Say hello."}],
        )
    print(reply.choices[0].message.content)
    print(fasttrace.flush(5))


if __name__ == "__main__":
    main()
