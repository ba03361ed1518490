"""The application of test_canary.py: every place where a secret can be, with real SDKs. Run as a process of its own.

Its first line of input is JSON: {"port", "secrets": {place: secret}, "control", "log", "is_redacting"}. After that, a
word a line is what it does next; it answers each with a line of JSON.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import sys
from typing import Any

import anthropic
import openai
from google import genai

import fasttrace
from fasttrace.core import _text, core
from fasttrace.trace.tracer import PROCESSOR

GIVEN = json.loads(sys.stdin.readline())
SECRETS, CONTROL, ROOT = GIVEN["secrets"], GIVEN["control"], f"127.0.0.1:{GIVEN['port']}"

if not GIVEN["is_redacting"]:  # for the test of the test, which runs on the pure core
    _text.use_redact(lambda text: (text, 0, 0))
    _text._is_harmless = lambda text: True  # type: ignore[assignment,return-value]
else:

    def hidden(field: str, value: Any) -> Any:
        """The user's own: what has no shape that anybody else could know."""
        return json.loads(re.sub("hunter [A-Za-z0-9]+", "?", json.dumps(value)))

    fasttrace.init(redact=hidden)
logging.getLogger("fasttrace").addHandler(logging.FileHandler(GIVEN["log"]))  # beside the one on standard error
for sdk in ("openai", "anthropic", "google_genai"):
    fasttrace.instrument(sdk)


def secret(place: str) -> str:
    """Each is taken once a round: a place that nobody plants would prove nothing."""
    PLANTED.add(place)
    found: str = SECRETS[place]
    return found


PLANTED: set[str] = set()


def openai_calls() -> None:
    client = openai.OpenAI(
        api_key=secret("api_key="),
        base_url=f"http://{ROOT}/v1",
        default_headers={"x-api-key": secret("default_headers")},
        max_retries=0,
    )
    tool = {"type": "function", "function": {"name": "f", "description": secret("tool description"), "parameters": {}}}
    client.chat.completions.create(
        model=secret("requested model"),
        messages=[
            {"role": "user", "content": f"{CONTROL} my key is {secret('prompt')}, help: {secret('hooked prompt')}"}
        ],
        user=secret("user="),
        metadata={"key": secret("metadata")},
        extra_headers={"x-goog-api-key": secret("extra_headers")},
        extra_body={"service_tier": secret("service tier"), "reasoning_effort": secret("request parameter")},
        tools=[tool],
    )
    for _ in client.chat.completions.create(model="gpt-4o", messages=[], stream=True):
        pass
    try:
        client.chat.completions.create(model="gpt-4o", messages=[])
    except openai.AuthenticationError:
        PLANTED.update(("401 body", "401 code"))
    os.environ["OPENAI_API_KEY"] = secret("environment")
    address = f"http://user:{secret('base URL password')}@{ROOT}/v1"
    other = openai.OpenAI(base_url=address, default_query={"key": secret("base URL ?key=")}, max_retries=0)
    other.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": f"at {address}?key=1"}])


def anthropic_calls() -> None:
    client = anthropic.Anthropic(api_key=secret("anthropic api_key="), base_url=f"http://{ROOT}", max_retries=0)
    asked: dict[str, Any] = {"model": "claude-sonnet-4-5", "max_tokens": 9}
    message = {"role": "user", "content": [{"type": "text", "text": f"{CONTROL} {secret('anthropic prompt')}"}]}
    client.messages.create(**asked, system=secret("anthropic system"), messages=[message])
    for _ in client.messages.create(**asked, messages=[{"role": "user", "content": "x"}], stream=True):
        pass


def google_calls() -> None:
    client = genai.Client(api_key=secret("google api_key="), http_options={"base_url": f"http://{ROOT}"})
    client.models.generate_content(model="gemini-2.5-flash", contents=f"{CONTROL} {secret('google prompt')}")


class Thing:
    def __repr__(self) -> str:
        return f"Thing({secret('repr of an object')!r})"


class Odd(Exception):
    """Its attributes raise, which is a line of our log."""

    @property
    def code(self) -> str:
        raise RuntimeError(f"{CONTROL} {secret('exception attribute that raises')}")

    @property
    def body(self) -> dict[str, str]:
        return {"type": secret("exception attribute")}


def fails() -> None:
    """In a file and a function that are named for a secret."""
    name = secret("function name").replace("-", "_")
    code = f"def {name}(error):\n    raise error\nfunction = {name}"
    scope: dict[str, Any] = {}
    exec(compile(code, f"/srv/{secret('file name')}/app.py", "exec"), scope)
    kind = type(secret("exception class"), (Odd,), {})
    scope["function"](
        kind(f"{CONTROL} could not reach postgres://u:{secret('exception text')}@db/x: {secret('hooked exception')}")
    )


def spans() -> None:
    attributes: dict[str, Any] = {
        "control": CONTROL,
        "value": secret("attribute"),
        secret("attribute key"): 1,
        "list": ["a", secret("attribute in a list")],
        "nested": {"a": [{"b": f"Authorization: Bearer {secret('nested attribute')}"}]},
        "object": Thing(),
        "bytes": secret("attribute of bytes").encode(),
        "private": secret("private key"),
        "hooked": {"name": [secret("hooked attribute")]},
    }
    with fasttrace.span(f"{CONTROL} {secret('span name')}", attributes=attributes) as span:
        span.set_attribute("late", secret("late attribute"))
    SHOWN.append(repr(span))
    try:
        with fasttrace.span("failing"):
            fails()
    except Odd:
        pass
    context = core.new_context(None)
    fields = {
        "kind": "task",
        "tags": [CONTROL, secret("tag")],
        **{
            name: secret(name) for name in ("session_id", "user_id", "goal", "capsule_id", "provider", "server_address")
        },
    }
    PROCESSOR.recorder.record(context, 1, 1, fields)


SHOWN: list[str] = []


def everything() -> dict[str, Any]:
    PLANTED.clear()
    openai_calls()
    anthropic_calls()
    google_calls()
    spans()
    return {"planted": sorted(PLANTED)}


def flush() -> dict[str, Any]:
    fasttrace.flush(10)
    return {"ring": fasttrace.stats().backing, "stats": dict(fasttrace.stats()._asdict(), dropped=0)}


def show() -> dict[str, Any]:
    """What is printed or pickled of our objects."""
    shown = [
        *SHOWN,
        repr(PROCESSOR.config),
        repr(fasttrace.stats()),
        repr(PROCESSOR.recorder),
        repr(PROCESSOR.recorder.ring),
    ]
    shown.append(pickle.dumps(fasttrace.stats()._replace(dropped={})).decode("latin-1"))
    return {"shown": shown}


ACTS = {"everything": everything, "flush": flush, "show": show}
for line in sys.stdin:
    sys.stdout.write(json.dumps(ACTS[line.strip()]()) + "\n")
    sys.stdout.flush()
