"""The application of the demo: a support desk that calls OpenAI from threads and from an event loop.

Some calls are nested in spans of the application, some fail. Each call is noted as the application saw it, from the
reply itself, so that the spans which arrive can be held against something that knows nothing of fasttrace.
Runs on its own thread; `notes` is appended to by many.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import openai

import fasttrace

from .loopback import KEY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from types import TracebackType

    from typing_extensions import Self

LIMITED_MODEL = "gpt-4-turbo"
FLAKY_MODEL = "gpt-4.1-mini"
EMBEDDING_MODEL = "text-embedding-3-small"
GUIDE = "You are the support desk of a parcel service. " + " ".join(
    f"Rule {number}: answer in two sentences, quote order numbers exactly, and never promise a date twice."
    for number in range(1, 15)
)
TICKETS = (
    "Where is order A-1042?",
    "My parcel B-77 came with a broken lid.",
    "Please change the address of C-9.",
    "I was charged twice for D-15.",
)
LOOKUP = {
    "type": "function",
    "function": {
        "name": "look_up_order",
        "parameters": {"type": "object", "properties": {"order": {"type": "string"}}},
    },
}


class Note(NamedTuple):
    """One call as its caller saw it."""

    operation: str
    model: str
    error_type: str | None
    response_id: str | None
    input_tokens: int | None
    output_tokens: int | None
    parent: str | None


class Desk:
    """Clients, and the notes of every call made through them."""

    def __init__(self, base_url: str | None = None, api_key: str | None = None, max_retries: int = 2) -> None:
        self.notes: list[Note] = []
        self.tasks: list[str] = []
        self.base_url = base_url
        self.client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=max_retries)
        self.async_client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=max_retries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def chat(self, model: str, text: str, parent: str | None = None, **more: Any) -> None:
        create = self.client.chat.completions.create
        self._call("chat", parent, create, model=model, messages=_messages(text), **more)

    def embed(self, text: str, parent: str | None = None) -> None:
        self._call("embeddings", parent, self.client.embeddings.create, model=EMBEDDING_MODEL, input=text)

    async def chat_async(self, model: str, text: str, parent: str | None = None, **more: Any) -> None:
        create = self.async_client.chat.completions.create
        await self._call_async("chat", parent, create, model=model, messages=_messages(text), **more)

    def _call(self, operation: str, parent: str | None, create: Callable[..., Any], **request: Any) -> None:
        try:
            reply = create(**request)
        except openai.APIError as error:
            self.notes.append(_failed(operation, request["model"], parent, error))
            return
        self.notes.append(_answered(operation, request["model"], parent, reply))

    async def _call_async(
        self, operation: str, parent: str | None, create: Callable[..., Awaitable[Any]], **request: Any
    ) -> None:
        try:
            reply = await create(**request)
        except openai.APIError as error:
            self.notes.append(_failed(operation, request["model"], parent, error))
            return
        self.notes.append(_answered(operation, request["model"], parent, reply))


def run_loopback(desk: Desk) -> None:
    """Four tickets in threads and a digest in an event loop at the same time, then what goes wrong in production."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        jobs = [pool.submit(_answer_ticket, desk, ticket) for ticket in TICKETS]
        jobs.append(pool.submit(asyncio.run, _write_digest(desk)))
        jobs.append(pool.submit(_things_go_wrong, desk))
        for job in jobs:
            job.result()


def run_live(desk: Desk, model: str) -> None:
    """Three small calls, two of them under one span."""
    desk.tasks.append("live check")
    with fasttrace.span("live check"):
        desk.chat(model, "Say hello.", "live check", max_completion_tokens=16)
        desk.embed("hello", "live check")
    desk.chat(model, "Say goodbye.", max_completion_tokens=16)


def _answer_ticket(desk: Desk, ticket: str) -> None:
    task = "answer ticket"
    desk.tasks.append(task)
    with fasttrace.span(task, attributes={"ticket": ticket}):
        desk.embed(ticket, task)
        desk.chat("gpt-4o-mini", ticket, task, tools=[LOOKUP])
        desk.chat("gpt-4o-mini", f"{ticket} Order status: in transit.", task, temperature=0.2)


async def _write_digest(desk: Desk) -> None:
    task = "write digest"
    desk.tasks.append(task)
    async with fasttrace.span(task, kind="chain"), desk.async_client:
        await asyncio.gather(*(desk.chat_async("gpt-4o", f"Summarise: {ticket}", task) for ticket in TICKETS[:3]))
        await desk.chat_async("o4-mini", "Rank the three summaries.", task, max_completion_tokens=400)


def _things_go_wrong(desk: Desk) -> None:
    desk.chat(FLAKY_MODEL, "A model whose first answer is a 500: the SDK tries again.")
    with Desk(desk.base_url, KEY, max_retries=0) as impatient:
        impatient.chat(LIMITED_MODEL, "A model without quota.")
    with Desk(desk.base_url, f"{KEY}-expired") as stranger:
        stranger.chat("gpt-4o-mini", "A call with an old key.")
        stranger.embed("The same, for an embedding.")
    desk.notes.extend([*impatient.notes, *stranger.notes])


def _messages(text: str) -> list[Any]:
    return [{"role": "system", "content": GUIDE}, {"role": "user", "content": text}]


def _answered(operation: str, model: str, parent: str | None, reply: Any) -> Note:
    identifier = getattr(reply, "id", None)
    usage = reply.usage
    completion = getattr(usage, "completion_tokens", None)
    return Note(operation, model, None, identifier, usage.prompt_tokens, completion, parent)


def _failed(operation: str, model: str, parent: str | None, error: Exception) -> Note:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return Note(operation, model, name, None, None, None, parent)


# ---- the spans against the notes


def differences(desk: Desk, spans: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the spans get wrong: a call or a task without its one span, a span without its call. Empty: all is right."""
    spans = list(spans)
    names = {span["span_id"]: span["name"] for span in spans}
    received = Counter(_as_note(span, names) for span in spans if span["kind"] in ("llm", "embedding"))
    made = Counter(desk.notes)
    found = [f"no span for {note}" for note in (made - received).elements()]
    found += [f"no call for the span {note}" for note in (received - made).elements()]
    tasks, seen = Counter(desk.tasks), Counter(s["name"] for s in spans if s["kind"] in ("task", "chain"))
    if tasks != seen:
        found.append(f"tasks run: {dict(tasks)}, received: {dict(seen)}")
    return found


def _as_note(span: Mapping[str, Any], names: Mapping[str, str]) -> Note:
    parent = span.get("parent_span_id")
    return Note(
        span["operation"],
        span.get("request_model", span.get("model_id")),
        span.get("error_type"),
        span.get("response_id"),
        span.get("input_tokens"),
        span.get("output_tokens"),
        names.get(parent, f"unknown {parent}") if parent else None,
    )
