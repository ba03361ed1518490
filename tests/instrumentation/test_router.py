"""A method that calls of many kinds go through: which kind a call is, what is read of its request and reply; both
cores."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from calls import resolve, run, spec, usage
from routes import client, options, params, routed

from fasttrace.core._api import Endpoint, Price

# ---- which route ----


@pytest.mark.parametrize(
    ("verb", "url", "operation"),
    [
        ("post", "/chat", "chat"),
        ("POST", "/chat", "chat"),
        ("post", "/chat?beta=true", "chat"),
        ("post", "/embed", "embeddings"),
        ("get", "/files/first", "first"),
        ("get", "/files/17", "files"),
        ("get", "/files/17?a=/b", "files"),
        ("get", "/files/", "files"),
        ("get", "/files", None),
        ("get", "/files/17/content", None),
        ("get", "/chat", None),
        ("post", "/chat/", None),
        ("post", "chat", None),
        ("post", "/cha", None),
        ("post", "/chat2", None),
        ("post", "", None),
        ("", "/chat", None),
        ("post", "https://api.example.com/chat", None),
        ("post", 7, None),
        (None, "/chat", None),
        ("post", "/chat\ud800", None),
    ],
)
def test_a_call_is_told_by_its_verb_and_path(recording: Any, verb: Any, url: Any, operation: str | None) -> None:
    one = client(recording)
    for _ in range(3):
        one.request(object, options(url, verb))
    assert [span["operation"] for span in recording.spans()] == [operation] * 3 * (operation is not None)
    assert recording.recorder.passed_streams == recording.recorder.dropped_unstarted == 0


def test_the_request_may_be_passed_by_keyword(recording: Any) -> None:
    client(recording).request(cast_to=object, options=options("/embed"))
    assert recording.span()["kind"] == "embedding"


def test_another_place_and_other_names_of_the_request(recording: Any) -> None:
    one = client(
        recording, lambda *args, **kwargs: args, position=1, keyword="what", verb="how", path="where", bodies=("body",)
    )
    what = SimpleNamespace(how="post", where="/chat", body={"model": "m"})
    assert one.request(what) == (one, what)
    one.request(what=what)
    assert [span["model_id"] for span in recording.spans()] == ["m", "m"]


class Slotted:
    __slots__ = ("json_data", "method", "url")

    def __init__(self) -> None:
        self.method, self.url, self.json_data = "post", "/chat", {"model": "m"}


class Raising:
    @property
    def url(self) -> str:
        raise LookupError("no url today")

    method = "post"


@pytest.mark.parametrize(
    ("request_object", "is_recorded"),
    [
        (Slotted(), True),
        ({"method": "post", "url": "/chat", "json_data": {"model": "m"}}, True),
        (Raising(), False),
        (None, False),
        ("text", False),
        (7, False),
        (SimpleNamespace(), False),
        (SimpleNamespace(url="/chat"), False),
    ],
)
def test_an_odd_request_object_never_harms_the_call(recording: Any, request_object: Any, is_recorded: bool) -> None:
    reply = object()
    one = client(recording, lambda self, cast_to, options, **kwargs: reply)
    assert one.request(object, request_object) is reply
    assert len(recording.spans()) == is_recorded


def test_a_call_without_a_request_object_is_passed_on(recording: Any) -> None:
    with pytest.raises(TypeError, match="options"):
        client(recording).request(object)
    assert recording.spans() == []


def test_an_interrupt_while_the_request_is_read_goes_on(recording: Any) -> None:
    class Interrupted:
        method = "post"

        @property
        def url(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client(recording).request(object, Interrupted())


def test_a_call_that_no_route_fits_starts_nothing(recording: Any) -> None:
    recording.recorder.ring = None
    before = recording.starts
    client(recording).request(object, options("/elsewhere"))
    assert recording.starts == before


def test_paths_made_for_one_call_are_told_apart(recording: Any) -> None:
    """Such a path leaves its memory to the next one's."""
    one = client(recording)
    expected = []
    for number in range(200):
        name = ("chat", "embed", "nothing")[number % 3]
        one.request(object, options("".join(["/", name])))
        expected += {"chat": ["chat"], "embed": ["embeddings"], "nothing": []}[name]
    assert [span["operation"] for span in recording.spans()] == expected


def test_threads_find_their_own_routes(recording: Any) -> None:
    one = client(recording)

    def calls(url: str, operation: str) -> None:
        for number in range(100):
            one.request(object, options(url, json_data={"model": f"{operation}-{number % 7}"}))

    threads = [threading.Thread(target=calls, args=pair) for pair in (("/chat", "chat"), ("/embed", "embeddings")) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans = recording.spans()
    wrong = [span for span in spans if not span["name"].startswith(f"{span['operation']} {span['operation']}-")]
    assert len(spans) == 400
    assert wrong == []


def test_a_router_without_routes_is_refused(recording: Any) -> None:
    with pytest.raises(ValueError, match="routes"):
        client(recording, routes={})


def test_a_routed_coroutine_is_recorded(recording: Any) -> None:
    async def request(self: Any, cast_to: Any, options: Any, *, stream: bool = False) -> Any:
        return SimpleNamespace(model="m-1", usage=usage())

    one = client(recording, request, {"post /chat": routed(is_async=True)})
    assert run(one.request(object, options(json_data={"model": "m"}))).model == "m-1"
    run(one.request(object, options("/elsewhere")))
    assert recording.span()["input_tokens"] == 12


def test_a_failure_is_recorded_under_its_route(recording: Any) -> None:
    def request(self: Any, cast_to: Any, options: Any) -> Any:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        client(recording, request).request(object, options("/embed", json_data={"model": "m"}))
    span = recording.span()
    assert (span["status"], span["operation"], span["model_id"]) == ("timeout", "embeddings", "m")


def test_the_resolver_is_given_the_instance_once(recording: Any) -> None:
    seen: list[Any] = []

    def resolves(base_url: object, instance: object) -> Endpoint:
        seen.append((base_url, instance))
        return resolve(base_url, instance)

    one = client(recording, routes={"post /chat": routed(resolve=resolves)})
    one.request(object, options())
    one.request(object, options())
    assert seen == [(one._base_url, one)]
    assert [span["server_address"] for span in recording.spans()] == ["api.example.com"] * 2


# ---- the request's members ----


def test_the_members_of_the_body_are_read(recording: Any) -> None:
    body = {"model": "m", "messages": [1], "temperature": 0.5, "seed": 7, "unknown": 1, "effort": None}
    client(recording).request(object, options(json_data=body))
    span = recording.span()
    assert (span["name"], span["model_id"], params(span)) == ("chat m", "m", {"temperature": 0.5, "seed": 7})
    assert body == {"model": "m", "messages": [1], "temperature": 0.5, "seed": 7, "unknown": 1, "effort": None}


def test_names_that_are_not_interned_are_found_by_their_text(recording: Any) -> None:
    body = {"".join([name[:2], name[2:]]): value for name, value in {"seed": 1, "effort": "low", "other": 2}.items()}
    client(recording).request(object, options("".join(["/ch", "at"]), "".join(["po", "st"]), body))
    assert params(recording.span()) == {"seed": 1, "effort": "low"}


def test_the_last_body_that_has_a_member_counts(recording: Any) -> None:
    body = {"model": "m", "seed": 1, "temperature": 0.5, "effort": "low"}
    extra = {"model": "other", "seed": 2, "effort": None}
    client(recording).request(object, options(json_data=body, extra_json=extra))
    span = recording.span()
    assert (span["model_id"], params(span)) == ("other", {"temperature": 0.5, "seed": 2})


@pytest.mark.parametrize("body", [None, [1, 2], b"{}", "text", 7])
def test_a_body_that_is_no_dictionary_is_not_read(recording: Any, body: Any) -> None:
    client(recording).request(object, options(json_data=body, extra_json={"seed": 3}))
    assert params(recording.span()) == {"seed": 3}


def test_a_body_may_be_a_dictionary_of_anybody(recording: Any) -> None:
    class Body(dict):  # type: ignore[type-arg]
        def __getitem__(self, key: object) -> Any:
            raise AssertionError("not to be asked")

    client(recording).request(object, options(json_data=Body(model="m", seed=3, thinking=Body(budget=4))))
    span = recording.span()
    assert (span["model_id"], params(span)) == ("m", {"seed": 3, "budget": 4})


class Settings:
    """Members in the instance, in the class, and one that raises."""

    effort = "high"

    def __init__(self, budget: Any) -> None:
        self.budget = budget

    @property
    def deep(self) -> Any:
        raise LookupError


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ({"budget": 9, "other": 1}, {"budget": 9}),
        ({"budget": None, "effort": "low"}, {"effort": "low"}),
        ({"deep": {"level": 2}, "budget": 1}, {"budget": 1, "level": 2}),
        (SimpleNamespace(budget=3, deep=SimpleNamespace(level=True)), {"budget": 3, "level": True}),
        (Settings(5), {"budget": 5, "effort": "high"}),
        (Settings(None), {"effort": "high"}),
        (None, None),
        ("auto", None),
        ([1], None),
        ({}, None),
    ],
)
def test_nested_members_are_read(recording: Any, thinking: Any, expected: Any) -> None:
    client(recording).request(object, options(json_data={"thinking": thinking}))
    assert params(recording.span()) == expected


def test_the_model_may_be_below(recording: Any) -> None:
    client(recording).request(object, options(json_data={"thinking": {"deep": {"model": "below"}}}))
    assert recording.span()["model_id"] == "below"


def test_nested_members_of_keyword_arguments_are_read(recording: Any) -> None:
    """As google's config: a pydantic object, or a dictionary."""
    pydantic = pytest.importorskip("pydantic")

    class Deep(pydantic.BaseModel):
        level: int | None = None

    class Config(pydantic.BaseModel):
        temperature: float | None = None
        budget: int | None = None
        deep: Deep | None = None

    config = {"temperature": "param", "budget": "param", "deep": {"level": "param"}}
    method = recording.core.method(
        lambda **kwargs: None, spec(request={"model": "model", "config": config}), recording.recorder
    )
    for given in (
        Config(temperature=0.5, deep=Deep(level=4)),
        {"temperature": 0.5, "deep": {"level": 4}},
        {"temperature": 0.5, "deep": Deep(level=4)},
    ):
        method(model="m", config=given)
    assert [params(span) for span in recording.spans()] == [{"temperature": 0.5, "level": 4}] * 3


def test_a_tier_in_the_body_is_seen(recording: Any) -> None:
    recording.recorder.prices.put("example", "m", Price(input=1_000_000, output=1_000_000))
    one = client(recording, lambda self, cast_to, options: SimpleNamespace(model="m", usage=usage()))
    for tier in ("default", "flex"):
        one.request(object, options(json_data={"model": "m", "tier": tier}))
    priced, unpriced = recording.spans()
    assert "cost_usd" in priced
    assert "cost_usd" not in unpriced


# ---- streamed calls that nobody can watch ----


@pytest.mark.parametrize(("stream", "is_streamed"), [(True, True), (1, True), (False, False), (None, False)])
def test_the_stream_keyword_tells_a_streamed_call(recording: Any, stream: Any, is_streamed: bool) -> None:
    reply = object()
    one = client(recording, lambda self, cast_to, options, **kwargs: reply)
    assert one.request(object, options(json_data={"model": "m", "stream": not stream}), stream=stream) is reply
    span = recording.span()
    assert span.get("stream", False) is is_streamed
    assert span["status"] == "success"
    assert recording.recorder.passed_streams == is_streamed


def test_a_spec_may_always_stream(recording: Any) -> None:
    recording.core.method(lambda **kwargs: None, spec(always_streams=True), recording.recorder)(model="m")
    client(recording, routes={"post /chat": routed(always_streams=True)}).request(object, options())
    assert [span["stream"] for span in recording.spans()] == [True, True]
    assert recording.recorder.passed_streams == 2


def test_a_streamed_request_is_amended_before_it_is_sent(recording: Any) -> None:
    def amend(body: dict[str, Any]) -> None:
        body["amended"] = True

    def request(self: Any, cast_to: Any, options: Any, **kwargs: Any) -> Any:
        return dict(options.json_data)

    one = client(recording, request, {"post /chat": routed(amend=amend)})
    assert one.request(object, options(json_data={"seed": 1})) == {"seed": 1}
    assert one.request(object, options(json_data={"seed": 1}), stream=True) == {"seed": 1, "amended": True}


@pytest.mark.parametrize("error", [RuntimeError, AttributeError])
def test_an_amendment_that_raises_costs_nothing(recording: Any, error: type[Exception]) -> None:
    def amend(body: dict[str, Any]) -> None:
        raise error("not today")

    one = client(recording, routes={"post /chat": routed(amend=amend)})
    one.request(object, options(json_data={"seed": 1}), stream=True)
    assert params(recording.span()) == {"seed": 1}
