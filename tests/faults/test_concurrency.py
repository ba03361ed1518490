"""Rows C4 to C8: tasks by the thousand, exceptions anywhere, streams left behind, evil objects, re-entrancy."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from host import Host

    from collector import Collector

    Rounds = Callable[[int, int], int]


def spans_of(collector: Collector) -> list[dict[str, Any]]:
    return [span for batch in collector.accepted() for span in batch.spans]


# ---- C4 ----

FOREST = """
import asyncio, contextvars, random
chance = random.Random({seed})
size = {size}
made = 0
async def node(parent):
    global made
    made += 1
    name = f"{{made}}"
    with fasttrace.span(name, attributes={{"parent": parent}}):
        await asyncio.sleep(0)
        branches = [branch(name) for _ in range(chance.choice((0, 1, 2, 3))) if made < size]
        if branches: await asyncio.gather(*branches)
        await asyncio.sleep(0)
async def branch(parent):
    way = chance.choice(("task", "plain", "thread", "context"))
    if way == "task": await asyncio.create_task(node(parent))
    elif way == "plain": await node(parent)
    elif way == "thread": await asyncio.to_thread(leaf, parent)
    else: contextvars.copy_context().run(leaf, parent)
def leaf(parent):
    global made
    made += 1
    with fasttrace.span(f"leaf {{made}} {{threading.get_ident()}}", attributes={{"parent": parent}}): pass
async def group(count):
    if not hasattr(asyncio, "TaskGroup"):
        await asyncio.gather(*(node("root") for _ in range(count)))
        return
    async with asyncio.TaskGroup() as tasks:
        for _ in range(count): tasks.create_task(node("root"))
async def main():
    while made < size:
        with fasttrace.span("root"): await group(50)
asyncio.run(main())
assert PROCESSOR.flush(30).pending == 0 and not stats().dropped, stats()
say(stats().recorded)
"""


def test_c04_parents_stay_right_in_thousands_of_tasks(host: Host, collector: Collector, rounds: Rounds) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    settings = {"FASTTRACE_QUEUE_MAX_SIZE": "65536"}
    ((recorded,),) = host.run(FOREST.format(seed=seed, size=rounds(2000, 10_000)), **settings)
    spans = spans_of(collector)
    assert len(spans) == recorded
    by_id = {span["span_id"]: span for span in spans}
    wrong = [
        span["name"]
        for span in spans
        if span["name"] != "root"
        and by_id[span["parent_span_id"]]["name"] != span["attributes"]["parent"]
    ]
    assert wrong == []


# ---- C5 ----

INJECTED = """
import asyncio, gc, openai
class Injected:
    "Awaits `coroutine`, but raises `error` in it at its await number `at`."
    def __init__(self, coroutine, at, error):
        self.coroutine, self.at, self.error, self.awaits = coroutine, at, error, 0
    def __await__(self):
        steps = self.coroutine.__await__()
        act = lambda: steps.send(None)
        while True:
            try: yielded = act()
            except StopIteration as end: return end.value
            self.awaits += 1
            if self.awaits == self.at:
                act = lambda: steps.throw(self.error)
                continue
            try:
                sent = yield yielded
                act = lambda: steps.send(sent)
            except BaseException as error:
                act = lambda error=error: steps.throw(error)
class Other(BaseException): pass
KINDS = [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit, TimeoutError, ValueError, MemoryError]
KINDS += [Other]
def causes(error):
    while error is not None:
        yield error
        error = error.__cause__
async def one(client, at, kind):
    "How many awaits there were, and what came of it."
    async def create():
        return await client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "x"}])
    await create()  # so that there is a connection, and every call goes the same way
    error = kind("injected")
    injected = Injected(create(), at, error)
    try: outcome = type(await injected).__name__
    except BaseException as raised:
        outcome = "same" if raised is error else [type(raised).__name__, error in causes(raised)]
    return injected.awaits, outcome
async def main():
    client = openai.AsyncOpenAI(max_retries=0)
    most, _ = await one(client, 10**9, ValueError)
    for kind in KINDS:
        for at in range(1, most + 1):
            fasttrace.uninstrument("openai")
            plain = await one(client, at, kind)
            fasttrace.instrument("openai")
            with fasttrace.span("around") as span: traced = await one(client, at, kind)
            assert traced == plain, (kind, at, traced, plain)
            say(span.span_id, kind.__name__, traced[1])
    await client.close()
asyncio.run(main())
"""


def status_of(kind: str, outcome: str | list[object]) -> str:
    """What the caller saw: a reply, the very exception, or another one that something below made of it."""
    if outcome == "ChatCompletion":
        return "success"
    return STATUS[kind] if outcome == "same" or kind == "TimeoutError" else "error"


STATUS = {
    **dict.fromkeys(("CancelledError", "KeyboardInterrupt", "SystemExit", "GeneratorExit"), "cancelled"),
    "TimeoutError": "timeout",
    **dict.fromkeys(("ValueError", "MemoryError", "Other"), "error"),
}


def test_c05_an_exception_at_any_await_goes_on_as_the_same_object(host: Host, collector: Collector) -> None:
    """Whatever becomes of it without us becomes of it with us; and the span tells what its caller saw."""
    said = host.run(INJECTED)
    assert len(said) >= len(STATUS)
    calls: dict[str, list[str]] = {}
    for span in spans_of(collector):
        if span["kind"] == "llm":
            calls.setdefault(span.get("parent_span_id", ""), []).append(span["status"])
    calls.pop("")  # the one that counted the awaits
    assert calls == {ticket: ["success", status_of(kind, outcome)] for ticket, kind, outcome in said}
    assert {kind for _, kind, outcome in said if outcome == "same"} >= {"CancelledError", "KeyboardInterrupt", "Other"}


# ---- C6 ----

STREAMS = """
import gc
import anthropic, openai
from google import genai
url, key = os.environ["PROVIDER_URL"], os.environ["OPENAI_API_KEY"]
ours = openai.OpenAI(max_retries=0)
claude = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)
gemini = genai.Client(api_key=key, http_options={"base_url": url})
messages = [{"role": "user", "content": "Where is order A-1042?"}]
claudes = {"model": "claude-3-5-haiku-latest", "max_tokens": 99, "messages": messages}
OPEN = {
    "openai": lambda: ours.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True),
    "anthropic": lambda: claude.messages.create(**claudes, stream=True),
    "google": lambda: gemini.models.generate_content_stream(model="gemini-2.0-flash", contents="Where?"),
}
def abandon(stream): next(iter(stream))
def never(stream): pass
def twice(stream): assert list(stream) and not list(stream)
def elsewhere(stream):
    next(iter(stream))
    kept = [stream]
    del stream
    thread = threading.Thread(target=kept.clear); thread.start(); thread.join()
def in_a_cycle(stream):
    next(iter(stream))
    cycle = [stream]; cycle.append(cycle)
for provider, stream in OPEN.items():
    for use in (abandon, never, twice, elsewhere, in_a_cycle):
        with fasttrace.span(f"{provider} {use.__name__}"):
            ticketed(lambda: use(stream()))
        gc.collect()
"""


def test_c06_streams_that_are_left_behind_are_one_span_each(host: Host, collector: Collector) -> None:
    pytest.importorskip("anthropic")
    pytest.importorskip("google.genai")
    host.run(STREAMS)
    begun, returned = set(host.ledger.begun), set(host.ledger.returned)
    assert begun == returned
    spans = [span for span in spans_of(collector) if span["kind"] == "llm"]
    parents = [span["parent_span_id"] for span in spans]
    assert len(parents) == len(set(parents))
    assert set(parents) <= begun
    by_provider = {name: [s["status"] for s in spans if name in s["provider"]] for name in ("openai", "anthropic")}
    assert by_provider["openai"] == ["incomplete", "incomplete", "success", "incomplete", "incomplete"]
    assert by_provider["anthropic"] == ["incomplete", "incomplete", "success", "incomplete", "incomplete"]
    # Google's stream is a generator: one that is never iterated makes no call.
    google = [s["status"] for s in spans if "openai" not in s["provider"] and "anthropic" not in s["provider"]]
    assert google == ["incomplete", "success", "incomplete", "incomplete"]


# ---- C7 ----

EVIL = """
class Wicked(Exception): pass
def wicked(*_, **__): raise Wicked("from an object of the application")
class Evil:
    __str__ = __repr__ = __len__ = __bool__ = __eq__ = __hash__ = __iter__ = __getattr__ = __float__ = __int__ = wicked
class EvilError(Exception):
    __str__ = __repr__ = wicked
    def __getattr__(self, name): raise Wicked(name)
    @property
    def response(self): raise Wicked("response")
class EvilText(str):
    __str__ = __len__ = __eq__ = __hash__ = encode = wicked
class EvilNumber(int):
    __int__ = __index__ = __eq__ = __str__ = wicked
    __hash__ = int.__hash__
for value in (Evil(), [Evil()], {"x": Evil()}, EvilText("t"), EvilNumber(3), {EvilNumber(1): 2}):
    with fasttrace.span("evil", attributes={"ours": "kept", "theirs": value}) as span:
        span.set_attribute("more", value)
error = EvilError()
try:
    with fasttrace.span("failed"): raise error
except EvilError as raised: assert raised is error
client = chat_client()
for value in (Evil(), EvilText("t"), EvilNumber(3)):
    for where in ("model", "user", "metadata"):
        arguments = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}], where: value}
        fasttrace.uninstrument("openai")
        try: plain = type(client.chat.completions.create(**arguments))
        except BaseException as raised: plain = type(raised)
        fasttrace.instrument("openai")
        try: traced = type(client.chat.completions.create(**arguments))
        except BaseException as raised: traced = type(raised)
        assert traced is plain, (where, traced, plain)
        say(where, plain.__name__)
"""


def test_c07_objects_that_raise_wherever_they_are_touched(host: Host, collector: Collector) -> None:
    calls = host.run(EVIL)
    spans = spans_of(collector)
    evil = [span for span in spans if span["name"] == "evil"]
    assert len(evil) == 6
    assert all(span["attributes"]["ours"] == "kept" for span in evil)
    (failed,) = [span for span in spans if span["name"] == "failed"]
    assert failed["status"] == "error" and failed["error_type"].endswith("EvilError")
    assert len([span for span in spans if span["kind"] == "llm"]) == len(calls) == 9


# ---- C8 ----

REENTRANT = """
import gc, signal
client = chat_client()
call(client)
traced = 0
class Final:
    def __del__(self):
        global traced
        traced += 1
        with fasttrace.span("finalizer"): pass
        if traced % 500 == 0: call(client)
def handler(*_):
    with fasttrace.span("handler"): pass
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
gc.set_threshold(1)
for number in range({iterations}):
    cycle = [Final()]; cycle.append(cycle)
    del cycle
    with fasttrace.span("outer"):
        record(1)
        if number % 200 == 0: call(client)
signal.setitimer(signal.ITIMER_REAL, 0)
gc.set_threshold(700)
gc.collect()
assert PROCESSOR.flush(30).pending == 0
ledger = stats()
say(sum(ledger.dropped.values()), traced)
"""


def test_c08_collections_finalizers_and_signal_handlers_that_record(host: Host, rounds: Rounds) -> None:
    iterations = rounds(2000, 100_000)
    ((dropped, traced),) = host.run(REENTRANT.format(iterations=iterations), FASTTRACE_QUEUE_MAX_SIZE="65536")
    assert (dropped, traced) == (0, iterations)
    host.settle(beside=("finalizer", "handler", "outer"))
