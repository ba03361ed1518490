"""The application of the fault tests, imported into the process under test.

`record` goes to the pipeline alone, `call` through the official SDK to a provider; both note a ticket in the side file
before and after, by one append each. Of a call through a `noting_client` it is noted, too, that its request is on its
way: from then on until it returns a call is in the air.
"""

from __future__ import annotations

import json
import logging  # noqa: F401 -- as whoever calls a provider has
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import fasttrace
from fasttrace.core import core
from fasttrace.core._api import CURRENT
from fasttrace.trace.tracer import PROCESSOR

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "PROCESSOR",
    "call",
    "chat_client",
    "child",
    "core",
    "fasttrace",
    "note",
    "noting_client",
    "os",
    "record",
    "say",
    "stats",
    "sys",
    "threading",
    "ticketed",
    "time",
    "wait_until",
]

FIELDS = {"kind": "llm", "operation": "chat", "provider": "openai", "model_id": "gpt-4o-mini", "status": "success"}
START_UNIX_NS = 1_700_000_000_000_000_000
WATCHDOG_S = 60.0

_now = threading.local()
_side_fd = os.open(os.environ["TICKETS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
stats = fasttrace.stats


def note(sign: str, ticket: str) -> None:
    os.write(_side_fd, f"{sign}{ticket}\n".encode())


def record(count: int = 1, name: str = "span", **fields: Any) -> None:
    for _ in range(count):
        context = core.new_context(None)
        note("<", context.span_id)
        PROCESSOR.recorder.record(context, START_UNIX_NS, 1000, {**FIELDS, "name": name, **fields})
        note(">", context.span_id)


def ticketed(act: Callable[[], Any]) -> Any:
    """`act()`, a call of an SDK, as one ticket: its span is the child of a context of ours."""
    before, context = CURRENT.get(), core.new_context(None)
    CURRENT.set(context)
    note("<", context.span_id)
    _now.ticket = context.span_id
    try:
        return act()
    finally:
        note(">", context.span_id)
        CURRENT.set(before)


def chat_client(**options: Any) -> Any:
    import openai

    return openai.OpenAI(max_retries=0, **options)


def noting_client() -> Any:
    import openai

    hooks: Any = {"request": [lambda request: note("!", _now.ticket)]}
    return chat_client(http_client=openai.DefaultHttpxClient(event_hooks=hooks))


def call(client: Any, model: str = "gpt-4o-mini", text: str = "Where is order A-1042?", **more: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return ticketed(lambda: client.chat.completions.create(model=model, messages=messages, **more))


def say(*values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def child(act: Callable[[], Any], code: int = 0) -> None:
    """Fork, act in the child and end it there, wait for it in the parent."""
    pid = os.fork()
    if pid == 0:
        act()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code


def wait_until(is_true: Callable[[], Any]) -> None:
    """Until it is; the process ends with an error when it never is."""
    give_up_s = time.monotonic() + WATCHDOG_S
    while not is_true():
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"never came true; {fasttrace.stats()}")
        time.sleep(0.002)
