"""The twins are one in a method that calls of many kinds go through: the same requests and the same raw replies give
the same lines from both."""

from __future__ import annotations

import gc
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twin_calls import CHAT, PAIRS, Count, Named, Overridden, Word, chat_reply, resolve, spans_of_both
from twin_streams import CONTENT, STREAM, Response, Stream, as_objects, collected
from twins import CORES, SHAPE, Twin, examples, pair

from fasttrace.core._api import CallSpec, Router
from fasttrace.trace.failure import failure

REQUEST = {
    "model": "model",
    "tier": "tier",
    "speed": "rate",
    "seed": "param",
    "messages": "ignored",
    "thinking": {"budget": "param", "effort": "param", "deep": {"level": "param", "model": "model", "tier": "tier"}},
}
PLAIN = CallSpec("llm", "chat", "openai", False, REQUEST, CHAT.reply, ("_base_url",), resolve, failure)
ROUTES = {
    "post /chat": PLAIN._replace(stream=STREAM, content=CONTENT),
    "post /plain": PLAIN._replace(content=CONTENT),
    "get /chat/*": PLAIN._replace(operation="fetch"),
    "delete /*": PLAIN._replace(operation="delete"),
}


def options(path: Any = "/chat", verb: Any = "post", **members: Any) -> Any:
    return SimpleNamespace(url=path, method=verb, **members)


def asked(twin: Twin, request: Any, reply: Any = None, router: Router | None = None, **kwargs: Any) -> Any:
    """What one call of the client returned; the method keeps nothing of it."""
    given_out = [reply]
    del reply

    def original(self: Any, *args: Any, **kwargs: Any) -> Any:
        return given_out.pop()

    client = SimpleNamespace(_base_url="https://gateway.example.com")
    method = twin.core.method(original, router or Router(ROUTES), twin.recorder)
    return method(client, object, request, **kwargs)


# ---- which route ----

SEGMENTS = st.sampled_from(["", "/", "/chat", "chat", "/plain", "/1", "?", "?a=/b", "*", "é", "\ud800", "/*"])
PATHS = st.lists(SEGMENTS, max_size=4).map("".join) | st.sampled_from([None, 7, b"/chat", Named("/chat")])
VERBS = st.sampled_from(["post", "POST", "get", "Delete", "delete", "", "pos", "post ", None, 1, Named("get")])


@examples(200)
@given(PATHS, VERBS)
def test_any_path_finds_the_same_route(path: Any, verb: Any) -> None:
    twins = PAIRS.next()
    for twin in twins:
        for _ in range(2):
            asked(twin, options(path, verb), chat_reply())
    assert len(spans_of_both(twins)) in (0, 2)


class Raising:
    method = "post"

    @property
    def url(self) -> str:
        raise LookupError("no path")


ODD_REQUESTS: dict[str, Any] = {
    "none": None,
    "text": "post /chat",
    "a dict": {"method": "post", "url": "/chat", "json_data": {"model": "m"}},
    "nothing in it": SimpleNamespace(),
    "raising": Raising(),
    "bodies that are none": options(json_data=[("model", "m")], extra_json=b"{}"),
    "a body of its own kind": options(json_data=Overridden(model="m", seed=3)),
    "a body that is a mock's": options(json_data=SimpleNamespace(model="m")),
}


@pytest.mark.parametrize("request_object", ODD_REQUESTS.values(), ids=ODD_REQUESTS)
def test_an_odd_request_is_taken_alike(request_object: Any) -> None:
    twins = pair()
    reply = chat_reply()
    for twin in twins:
        assert asked(twin, request_object, reply) is reply
    assert len(spans_of_both(twins)) <= 1


# ---- what is read of the request ----

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 1 << 65),
    st.floats(),
    st.sampled_from(["", "m", "flex", "default", "é" * 40, "\ud800", Word.MODEL, Count.FEW, Named("x"), b"b", (1,)]),
)
NAMES = sorted({*REQUEST, *("budget", "effort", "deep", "level", "other")})
BELOW = st.recursive(
    SCALARS, lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=4) | st.lists(inner, max_size=2)
)
BODIES = st.dictionaries(st.sampled_from(NAMES), BELOW, max_size=6)


@examples(250)
@given(BODIES, st.none() | BODIES, st.booleans())
def test_any_bodies_are_read_alike(body: dict[str, Any], extra: dict[str, Any] | None, as_attributes: bool) -> None:
    if as_attributes:
        body = {name: as_objects(value) for name, value in body.items()}
    twins = PAIRS.next()
    for twin in twins:
        asked(twin, options(json_data=body, extra_json=extra), chat_reply())
    assert len(spans_of_both(twins)) == 1


def test_what_is_captured_of_a_request_and_amended_is_the_first_body() -> None:
    def amend(body: dict[str, Any]) -> None:
        body["amended"] = True
        raise ValueError("after that")

    twins = pair()
    router = Router({"post /chat": ROUTES["post /chat"]._replace(amend=amend)})
    for twin in twins:
        twin.recorder.capture_input = True
        bodies: list[dict[str, Any]] = [{"model": "m"}, {"seed": 1}]
        for is_streamed in (True, False):
            list(asked(twin, options(extra_json=bodies[is_streamed]), Stream([]), router, stream=is_streamed)._iterator)
        assert bodies == [{"model": "m"}, {"seed": 1, "amended": True}]
    assert [span["input"] for span in spans_of_both(twins)] == [["seed"], ["model"]]


# ---- raw replies ----


class RawResponse(Response):
    def __init__(self, body: bytes | None) -> None:
        super().__init__()
        if body is not None:
            self._content = body


class Raw:
    """A raw reply, as the SDKs have them."""

    def __init__(self, response: Any, **members: Any) -> None:
        self.http_response = response
        self._parsed_by_type: Any = {}
        self.__dict__.update(members)

    def parse(self, parsed: Any, to: type = object) -> Any:
        self._parsed_by_type[to] = parsed
        return parsed


def sent(*events: Any) -> bytes:
    return b"".join(b"event: x\ndata: %b\n\n" % json.dumps(event).encode() for event in events)


EVENTS = (
    {"model": "m-1", "choices": [{"index": 0, "delta": {"content": "Hello"}}]},
    {"choices": [{"index": 0, "finish": "stop"}], "usage": {"type": "counted", "input": 3, "output": 4}},
)
BODIES_READ: dict[str, bytes | None] = {
    "unread": None,
    "empty": b"",
    "a reply": json.dumps(chat_reply()).encode(),
    "a list": b"[1]",
    "half a reply": json.dumps(chat_reply()).encode()[:-9],
    "no json": b"<html>",
    "events": sent(*EVENTS) + b"data: [DONE]\n\n",
    "events with an error": sent(EVENTS[0], {"type": "error", "code": "overloaded"}),
    "events, cut": sent(*EVENTS)[:-30],
    "events of nothing": b"data: 1\n\ndata:\n\ndata: [DONE]\n\n",
    "too much": b" " * (1 << 20) + b"{}",
    "deep": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("body", BODIES_READ.values(), ids=BODIES_READ)
@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("path", ["/chat", "/plain"])
@pytest.mark.parametrize("consumed", [True, False, 1])
def test_a_raw_reply_that_nobody_parses_is_read_alike(body: Any, is_streamed: bool, path: str, consumed: Any) -> None:
    twins = pair(SHAPE._replace(arena_bytes=1 << 18))
    for twin in twins:
        twin.recorder.capture_output = True
        with collected():
            raw = asked(twin, options(path), Raw(RawResponse(body)), stream=is_streamed)
            assert twin.lines() == []
            del raw
    (span,) = spans_of_both(twins)
    assert span["status"] in ("success", "error", "incomplete")


PARSED: dict[str, Any] = {
    "a reply": as_objects(chat_reply()),
    "none": None,
    "text": "text",
    "an error": SimpleNamespace(code="failed"),
    "no stream": SimpleNamespace(_iterator=3),
}


@pytest.mark.parametrize("parsed", PARSED.values(), ids=PARSED)
@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("body", [None, b"{}"], ids=["unread", "read"])
def test_what_is_parsed_first_is_read_alike(parsed: Any, is_streamed: bool, body: bytes | None) -> None:
    twins = pair()
    for twin in twins:
        twin.recorder.capture_output = True
        raw = asked(twin, options(), Raw(RawResponse(body)), stream=is_streamed)
        raw.http_response.stream.close()
        assert raw.parse(parsed) is parsed
        assert twin.recorder.ring.counters().recorded == 1
        raw.parse(as_objects(chat_reply()), dict)
        assert raw._parsed_by_type == {object: parsed, dict: raw._parsed_by_type[dict]}
        assert type(raw._parsed_by_type.copy()) is dict
        del raw
        gc.collect()
    assert len(spans_of_both(twins)) == 1


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
@pytest.mark.parametrize("ending", ["drop", "close", "end"])
def test_a_stream_that_is_parsed_is_watched_alike(steps: int, ending: str) -> None:
    twins = pair()
    for twin in twins:
        with collected():
            stream = Stream(EVENTS)
            raw = asked(twin, options(), Raw(stream.response), stream=True)
            assert raw.parse(stream) is stream
            for _ in range(steps):
                next(stream, None)
            if ending == "close":
                raw.http_response.stream.close()
            if ending == "end":
                assert twin.core.end_streams(twin.recorder) == (steps < 3)
            del raw, stream
    (span,) = spans_of_both(twins)
    assert (span["chunks"], span["stream"]) == (min(steps, 2), True)
    assert span["status"] == ("success" if steps > 1 else "incomplete")


@pytest.mark.parametrize("body", [None, *BODIES_READ.values()][:8])
@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "plain"])
def test_a_raw_reply_that_cannot_be_heard_is_recorded_at_once_alike(body: bytes | None, is_streamed: bool) -> None:
    twins = pair()
    for twin in twins:
        for members in ({"_parsed_by_type": None}, {"_parsed_by_type": SimpleNamespace()}):
            reply = Raw(RawResponse(body), **members)
            assert asked(twin, options(), reply, stream=is_streamed) is reply
        assert twin.core.end_streams(twin.recorder) == 0
    assert len(spans_of_both(twins)) == 2


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.BACKEND)
def test_a_raw_reply_in_a_cycle_is_read_when_the_collector_takes_it(core: Any) -> None:
    """By then the weak references to what is taken are gone."""
    twin = Twin(core, SHAPE)
    with collected():
        raw = asked(twin, options(), Raw(RawResponse(None)), stream=False)
        raw.http_response._content = json.dumps(chat_reply()).encode()
        raw.http_response.raw = raw
        del raw
    (line,) = twin.lines()
    assert json.loads(line)["input_tokens"] == 19


@pytest.mark.parametrize("body", [None, BODIES_READ["a reply"]])
def test_a_process_that_ends_reads_what_there_is_alike(body: bytes | None) -> None:
    twins = pair()
    for twin in twins:
        raw = asked(twin, options(), Raw(RawResponse(body)))
        assert twin.core.end_streams(twin.recorder) == 1
        assert raw.parse("text") == "text"
    (span,) = spans_of_both(twins)
    assert span["status"] == ("success" if body else "incomplete")
