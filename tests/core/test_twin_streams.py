"""The twins are one in watching a stream: the same chunks, left in the same way, give the same lines from both."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._models import construct_type
from openai.types.chat import ChatCompletionChunk
from twin_calls import CHAT, PAIRS, Named, Resource, Word, spans_of_both
from twin_streams import (
    ASYNC_ENDINGS,
    BY_ITSELF,
    CHUNK,
    ENDINGS,
    EVENTS,
    STREAM,
    AsyncStream,
    Stream,
    as_objects,
    read,
    read_async,
    spec,
    watched,
)
from twins import CORES, SHAPE, Twin, examples, pair, put_price

from fasttrace.core._api import CURRENT, Endpoint, Price, StreamSpec
from fasttrace.instrumentation.openai.chat import CHAT_CHUNK


def choice(index: Any = 0, finish: Any = None, **delta: Any) -> dict[str, Any]:
    return {"index": index, "finish": finish, "delta": delta}


def tool(index: Any, name: Any, **more: Any) -> dict[str, Any]:
    return {"index": index, "function": {"name": name}, **more}


COUNTED = {"type": "counted", "input": 5, "cached": 3, "output": 7}
CONVERSATION = [
    {"model": "m-1", "id": "r-1", "choices": [choice(content="")]},
    {"choices": [choice(content="Hello")]},
    {"choices": [choice(content=" world"), choice(1, "length")]},
    {"choices": [choice(finish="stop")]},
    {"choices": [], "late": {"tier": "flex", "usage": COUNTED}},
]


@pytest.mark.parametrize("steps", [0, 1, 4, 5, 6])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_stream_ends_alike(ending: str, steps: int) -> None:
    twins = pair()
    put_price(twins, "example", "m-1", Price(input=10, cache_read=1, output=100))
    seen = [read(twin, lambda: Stream(CONVERSATION), spec(), steps, ending) for twin in twins]
    assert seen[0] == seen[1]
    (span,) = spans_of_both(twins)
    is_whole = steps > 4 or ending == "read to its end"
    assert span["stream"] is True
    assert span["usage_source"] == ("provider" if is_whole else "partial")
    assert ("cost_usd" in span) == (is_whole and "service_tier" not in span)


@pytest.mark.parametrize("steps", [0, 1, 4, 5, 6])
@pytest.mark.parametrize("ending", ASYNC_ENDINGS)
def test_an_asynchronous_stream_ends_alike(ending: str, steps: int) -> None:
    twins = pair()
    seen = [read_async(twin, lambda: AsyncStream(CONVERSATION), spec(is_async=True), steps, ending) for twin in twins]
    assert seen[0] == seen[1]
    (span,) = spans_of_both(twins)
    assert span["chunks"] == min(steps, 5) if ending != "read to its end" else 5


@pytest.mark.parametrize(
    "error", [ValueError("users"), TimeoutError("late"), KeyboardInterrupt(), GeneratorExit()], ids=repr
)
@pytest.mark.parametrize("given_chunks", [0, 2, 5])
def test_an_exception_of_the_stream_is_recorded_alike(error: BaseException, given_chunks: int) -> None:
    twins = pair()
    for twin in twins:
        stream = watched(twin, Stream(CONVERSATION[:given_chunks], error.with_traceback(None)), spec())
        with pytest.raises(type(error)) as raised:
            list(stream._iterator)
        assert raised.value is error
    (span,) = spans_of_both(twins)
    assert span["status"] in ("error", "timeout", "cancelled", "incomplete", "success")


# ---- what chunks tell ----

TEXTS = st.sampled_from(
    ["", "a", "b", "tool", "custom", "counted", "begun", "delta", "ended", "error", Named("n"), Word.MODEL]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5),
    st.sampled_from([1 << 40, (1 << 64) - 1, 1 << 64]),
    st.floats(0, 2),
    TEXTS,
)
MEMBERS = (
    "model",
    "version",
    "id",
    "usage",
    "late",
    "choices",
    "index",
    "finish",
    "delta",
    "content",
    "hidden",
    "name",
)
MEMBERS += ("reasoning", "calls", "function", "type", "input", "cached", "written", "thought", "output", "details")
MEMBERS += ("audio", "parts", "cost", "tier", "message", "code")


def objects(**members: Any) -> Any:
    """Objects that have some of these."""
    return st.fixed_dictionaries({}, optional=members)


def lists(one: Any) -> Any:
    return st.lists(st.one_of(one, st.none()), max_size=3)


TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=6),
    max_leaves=12,
)
INDICES = st.one_of(st.none(), st.integers(-1, 2), st.sampled_from([True, "0", 1 << 62, 1 << 63, 1 << 70]))
COUNTS = st.one_of(st.integers(0, 9), st.sampled_from([None, 0, -1, True, 1.5, (1 << 64) - 1]))
USAGES = objects(
    type=st.sampled_from(["counted", "other", None, 7]),
    **dict.fromkeys(("input", "cached", "written", "thought", "output"), COUNTS),
    details=objects(audio=COUNTS, parts=lists(COUNTS)),
    kinds=lists(objects(kind=st.sampled_from(["AUDIO", "", "TEXT", None, Word.MODEL]), count=COUNTS)),
    cost=st.one_of(COUNTS, st.floats(0, 1)),
)
CALLS = objects(index=INDICES, id=TEXTS, function=objects(name=TEXTS), name=TEXTS, type=TEXTS)
DELTAS = objects(content=LEAVES, hidden=LEAVES, reasoning=LEAVES, calls=lists(CALLS))
CHOICES = objects(index=INDICES, finish=st.one_of(TEXTS, LEAVES), delta=st.one_of(DELTAS, LEAVES))
CHUNKS = objects(
    model=TEXTS,
    version=TEXTS,
    id=st.one_of(TEXTS, LEAVES),
    type=st.one_of(TEXTS, st.sampled_from(["begun", "delta", "tool", "ended", "error"])),
    usage=st.one_of(USAGES, LEAVES),
    late=objects(tier=TEXTS, usage=USAGES, choices=lists(CHOICES)),
    choices=st.one_of(lists(CHOICES), LEAVES),
    message=st.one_of(TEXTS, objects(model=TEXTS, id=TEXTS)),
    content=LEAVES,
    name=TEXTS,
    finish=TEXTS,
    code=TEXTS,
)


@examples(250)
@given(
    st.lists(CHUNKS | TREES, max_size=7),
    st.booleans(),
    st.sampled_from(sorted(ENDINGS)),
    st.integers(0, 8),
    st.booleans(),
)
def test_any_chunks_are_read_alike(
    chunks: list[Any], as_attributes: bool, ending: str, steps: int, is_foreign: bool
) -> None:
    chunks = as_objects(chunks) if as_attributes else chunks
    twins = PAIRS.next()
    call_spec = spec() if is_foreign else spec(sdk="example")
    seen = [read(twin, lambda: Stream(chunks), call_spec, steps, ending) for twin in twins]
    assert seen[0] == seen[1]
    (span,) = spans_of_both(twins)
    assert span["chunks"] <= len(chunks)


@examples(100)
@given(st.lists(CHUNKS | TREES, max_size=7), st.sampled_from(sorted(ASYNC_ENDINGS)), st.integers(0, 8))
def test_any_chunks_of_an_asynchronous_stream_are_read_alike(chunks: list[Any], ending: str, steps: int) -> None:
    twins = PAIRS.next()
    seen = [read_async(twin, lambda: AsyncStream(chunks), spec(is_async=True), steps, ending) for twin in twins]
    assert seen[0] == seen[1]
    assert len(spans_of_both(twins)) == 1


@examples(150)
@given(CHUNKS, st.booleans(), st.booleans())
def test_any_reply_is_read_alike_by_the_same_nodes(reply: Any, as_attributes: bool, is_foreign: bool) -> None:
    twins = PAIRS.next()
    reply = as_objects(reply) if as_attributes else reply
    call_spec = CHAT._replace(reply=(*CHUNK, *EVENTS["error"]), sdk="openai" if is_foreign else "example")
    for twin in twins:
        assert watched(twin, reply, call_spec) is reply
    assert len(spans_of_both(twins)) == 1


@examples(100)
@given(st.lists(CHUNKS, min_size=1, max_size=5))
def test_what_was_read_once_is_read_alike_by_the_next_stream(chunks: list[Any]) -> None:
    """What is left to read of a chunk is worked out once for all streams of a method."""
    twins = PAIRS.next()
    for twin in twins:
        made = iter([Stream(chunks), Stream(chunks[::-1]), Stream([*chunks, *chunks])])
        method = twin.core.method(lambda self, streams=made, **kwargs: next(streams), spec(), twin.recorder)
        for _ in range(3):
            assert len(list(method(Resource(), model="asked")._iterator)) >= len(chunks)
    assert len(spans_of_both(twins)) == 3


def openai_chunk(**members: Any) -> Any:
    data = {"id": "chatcmpl-1", "model": "gpt-4o-mini-2024-07-18", "object": "chat.completion.chunk", "created": 1}
    return construct_type(value={**data, "choices": [], **members}, type_=ChatCompletionChunk)


def openai_choice(finish: Any = None, index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}


def openai_call(name: str | None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "function": {"name": name, "arguments": "{"}, **more}


OPENAI: dict[str, list[Any]] = {
    "text": [
        openai_chunk(choices=[openai_choice(role="assistant", content="")]),
        *[openai_chunk(choices=[openai_choice(content="word")]) for _ in range(40)],
        openai_chunk(choices=[openai_choice("stop")]),
        openai_chunk(usage={"prompt_tokens": 5, "completion_tokens": 40, "total_tokens": 45}),
    ],
    "tools": [
        openai_chunk(choices=[openai_choice(tool_calls=[openai_call("weather", id="a", type="function")])]),
        openai_chunk(choices=[openai_choice(tool_calls=[openai_call(None)])]),
        openai_chunk(choices=[openai_choice(tool_calls=[openai_call("clock", 1, id="b"), openai_call("weather")])]),
        openai_chunk(choices=[openai_choice(tool_calls=[openai_call("weather", id="c")])]),
        openai_chunk(choices=[openai_choice("tool_calls")]),
    ],
    "members that are not declared": [
        openai_chunk(choices=[openai_choice(reasoning_content="think")], x_groq={"usage": {"prompt_tokens": 3}}),
        openai_chunk(choices=[openai_choice(content="text")], provider="gateway"),
        *[openai_chunk(choices=[openai_choice(content="more")], x_groq=None) for _ in range(3)],
        openai_chunk(
            choices=[openai_choice("stop", 1), openai_choice("length")], x_groq={"usage": {"completion_tokens": 9}}
        ),
    ],
    "no choices": [openai_chunk(choices=None), openai_chunk(), openai_chunk(choices=[None])],
    "choices of another sort": [openai_chunk(choices=({"delta": {"content": "x"}},)), openai_chunk(choices={"a": 1})],
}


@pytest.mark.parametrize("name", OPENAI)
@pytest.mark.parametrize("is_foreign", [True, False])
def test_chunks_of_the_sdk_are_read_alike(name: str, is_foreign: bool) -> None:
    twins = pair()
    call_spec = spec(
        StreamSpec("_iterator", ("response", "stream"), CHAT_CHUNK), sdk="openai" if is_foreign else "example"
    )
    for _ in range(2):
        for ending, steps in (("read to its end", 0), ("dropped", 3)):
            for twin in twins:
                read(twin, lambda: Stream(OPENAI[name]), call_spec, steps, ending)
    assert len(spans_of_both(twins)) == 4


# ---- the watch ----


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.BACKEND)
@pytest.mark.parametrize("steps", [0, 2])
def test_a_stream_that_the_collector_takes_closes_its_body(core: Any, steps: int) -> None:
    """The stream's generator does it, which is in one cycle with the stream."""
    twin = Twin(core, SHAPE)
    stream = watched(twin, Stream(CONVERSATION), spec())
    body = stream.response.stream
    for _ in range(steps):
        next(stream)
    closed = body.__dict__
    del stream, body
    gc.collect()
    assert closed["closed"] == (steps > 0)


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.BACKEND)
def test_closing_twice_is_passed_on_twice(core: Any) -> None:
    twin = Twin(core, SHAPE)
    body = watched(twin, Stream(CONVERSATION), spec()).response.stream
    for _ in range(3):
        body.close()
    assert body.closed == 3
    assert len(twin.lines()) == 1


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_stream_that_is_the_reply_itself_is_watched_alike(steps: int) -> None:
    """It makes its request in the first step, with its span current, and counts what is tried again."""
    twins = pair()

    def requesting(current: list[Any]) -> Any:
        context = CURRENT.get()
        current.append(context)
        context.retries += 2
        yield from CONVERSATION[:2]
        current.append(CURRENT.get())
        yield CONVERSATION[2]

    for twin in twins:
        current: list[Any] = []
        iterator = watched(twin, requesting(current), spec(BY_ITSELF))
        assert CURRENT.get() is None
        for _ in range(steps):
            next(iterator)
            assert CURRENT.get() is None
        del iterator
        gc.collect()
        assert [context is None for context in current] == [False, True][: 0 if not steps else 1 + (steps > 2)]
    (span,) = spans_of_both(twins)
    assert (span.get("retries"), span["chunks"]) == (2 if steps else None, steps)


class Frozen:
    __slots__ = ("_iterator",)

    def __init__(self, iterator: Any) -> None:
        object.__setattr__(self, "_iterator", iterator)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)


NO_STREAMS: dict[str, Any] = {
    "none": None,
    "no iterator": Resource(),
    "an iterator that is none": Stream([]).response,
    "a list": as_objects({"_iterator": [1]}),
    "an attribute that cannot be set": Frozen(iter(())),
}


@pytest.mark.parametrize("reply", NO_STREAMS)
@pytest.mark.parametrize("stream", [STREAM, None], ids=["watched", "not watched"])
def test_a_reply_that_is_no_stream_is_recorded_alike(reply: str, stream: Any) -> None:
    twins = pair()
    for twin in twins:
        assert watched(twin, NO_STREAMS[reply], spec(stream)) is NO_STREAMS[reply]
        assert twin.recorder.passed_streams == 1
        assert twin.core.end_streams(twin.recorder) == 0
    (span,) = spans_of_both(twins)
    assert (span["status"], span["stream"]) == ("success", True)


@pytest.mark.parametrize("capture", [True, False])
def test_content_is_captured_alike(capture: bool) -> None:
    twins = pair()
    for twin in twins:
        twin.recorder.capture_input = twin.recorder.capture_output = capture
        twin.recorder.content_max_bytes = 321
        read(twin, lambda: Stream([*CONVERSATION, None]), spec(), 3, "read to its end")
        read(twin, lambda: Stream(CONVERSATION), spec(), 3, "dropped")
    spans = spans_of_both(twins)
    assert [span.get("output") for span in spans] == (
        [{"fed": 6, "limit": 321}, {"fed": 3, "limit": 321}] if capture else [None, None]
    )
    assert [span.get("input") for span in spans] == ([["model"]] * 2 if capture else [None, None])


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.BACKEND)
def test_the_end_of_the_process_ends_every_open_stream_once(core: Any) -> None:
    twin = Twin(core, SHAPE)
    streams = [watched(twin, Stream(CONVERSATION), spec()) for _ in range(5)]
    list(streams[0]._iterator)
    next(streams[1])
    assert twin.core.end_streams(twin.recorder) == 4
    assert twin.core.end_streams(twin.recorder) == 0
    assert [len(list(stream._iterator)) for stream in streams] == [0, 4, 5, 5, 5]
    assert len(twin.lines()) == 5


def test_another_endpoint_reads_other_nodes_alike() -> None:
    twins = pair()
    for provider in ("openai", "other", "openai"):
        call_spec = spec(resolve=lambda url, client, provider=provider: Endpoint(provider, "host", None))
        for twin in twins:
            read(twin, lambda: Stream([{"usage": {**COUNTED, "cost": 0.25}}]), call_spec, 0, "read to its end")
    assert [span.get("cost_usd") for span in spans_of_both(twins)] == [None, 0.25, None]


def test_the_spec_of_a_plain_call_asks_for_a_stream() -> None:
    twins = pair()
    call_spec = CHAT._replace(request={"stream": "stream", "model": "model"}, stream=STREAM)
    for twin in twins:
        method = twin.core.method(lambda self, **kwargs: Stream(CONVERSATION), call_spec, twin.recorder)
        for wish in (True, False):
            list(method(Resource(), model="m", stream=wish)._iterator)
    assert [span.get("chunks") for span in spans_of_both(twins)] == [5, None]
