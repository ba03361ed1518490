"""The twins are one on the call's path: the same arguments and the same reply objects give the same lines from both."""

from __future__ import annotations

import asyncio
import collections
import enum
import gc
import json
import re
import sys
import types
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import openai
import pytest
import wrapt
from hypothesis import given
from hypothesis import strategies as st
from openai._models import construct_type
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from twins import CORES, SHAPE, Pairs, Twin, examples, pair, put_price, span_of

from fasttrace.core._api import CURRENT, CallSpec, Endpoint, Price
from fasttrace.core._text import render_param
from fasttrace.instrumentation.openai import CHAT_REPLY, CHAT_REQUEST, EMBEDDINGS_REPLY
from fasttrace.trace.failure import failure

# What differs between two calls, whoever records them: ids and times.
CHANGING = ("trace_id", "span_id", "timestamp", "duration_ms")
DIFFERENT = re.compile(rb'("trace_id":"|"span_id":"|"timestamp":"|"duration_ms":)[-0-9a-fT:.Z]+')
URL = "https://gateway.example.com:8443/v1"


def masked(line: bytes) -> bytes:
    return DIFFERENT.sub(rb"\1*", line)


def without(names: tuple[str, ...], span: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in span.items() if name not in names}


def resolve(url: object) -> Any:
    return Endpoint("example", "gateway.example.com", 8443)


CHAT = CallSpec("llm", "chat", "openai", False, CHAT_REQUEST, CHAT_REPLY, ("_client", "_base_url"), resolve, failure)
EMBEDDINGS = CHAT._replace(kind="embedding", operation="embeddings", reply=EMBEDDINGS_REPLY)


class Resource:
    def __init__(self, url: Any = URL) -> None:
        self._client = SimpleNamespace(_base_url=url)


def call(twin: Twin, spec: CallSpec, original: Any, *args: Any, **kwargs: Any) -> Any:
    """What one call returned or raised."""
    bound = twin.core.method(original, spec, twin.recorder)
    try:
        made = bound(*args, **kwargs)
        return asyncio.run(awaited(made)) if spec.is_async else made
    except BaseException as error:
        return error
    finally:
        assert CURRENT.get() is None


async def awaited(made: Any) -> Any:
    return await made


PAIRS = Pairs()


def same(
    reply: Any, *, twins: tuple[Twin, Twin] | None = None, spec: CallSpec = CHAT, raises: bool = False, **kwargs: Any
) -> dict[str, Any]:
    """The span of one call that returns (or raises) `reply`; both cores hand on that very object."""

    def original(self: Any, **kwargs: Any) -> Any:
        if raises:
            raise reply
        return reply

    async def coroutine(self: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return original(self, **kwargs)

    twins = twins or PAIRS.next()
    resource = Resource()
    function = coroutine if spec.is_async else original
    assert [call(twin, spec, function, resource, **kwargs) is reply for twin in twins] == [True, True]
    (native,), (pure,) = (twin.lines() for twin in twins)
    assert masked(native) == masked(pure)
    return span_of(native)


def chat_reply(**changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hello", "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 19,
            "completion_tokens": 10,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 7, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0, "accepted_prediction_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        **changes,
    }


def usage(**changes: Any) -> dict[str, Any]:
    return {"usage": {**chat_reply()["usage"], **changes}}


def tools(*names: Any) -> dict[str, Any]:
    calls = [{"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}} for name in names]
    calls.append({"id": "d", "type": "custom", "custom": {"name": "shell", "input": "ls"}})
    return choices({"finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": calls}})


def choices(*changes: dict[str, Any]) -> dict[str, Any]:
    return {"choices": [{**chat_reply()["choices"][0], **change} for change in changes]}


REPLIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "three choices": choices({"finish_reason": "stop"}, {"finish_reason": None}, {"finish_reason": "length"}),
    "tool calls": tools("weather", "weather", "é" * 100),
    "no usage": {"usage": None},
    "no details": usage(prompt_tokens_details=None, completion_tokens_details=None),
    "cache writes of a gateway": usage(prompt_tokens_details={"cached_tokens": 1, "cache_write_tokens": 2}),
    "pictures": usage(prompt_tokens_details={"cached_tokens": 0, "image_tokens": 5}),
    "a gateway's cost": usage(cost=0.00014),
    "a gateway's cost in whole dollars": usage(cost=2),
    "free at a gateway": usage(cost=0),
    "costs that are none": usage(cost="0.1"),
    "cost beyond sense": usage(cost=1e9),
    "negative cost": usage(cost=-1),
    "fields nobody knows": {"provider": "x", "extra": {"deep": [1]}},
    "choices gone": {"choices": None},
    "numbers where text was": {"id": 5, "model": 7, "service_tier": True},
    "text where numbers were": usage(prompt_tokens="19", completion_tokens=None),
    "floats where numbers were": usage(prompt_tokens=19.0, completion_tokens=float("nan")),
    "numbers beyond 64 bits": usage(prompt_tokens=1 << 64, completion_tokens=(1 << 64) - 1),
    "lone surrogates": {"id": "\ud800x", "model": "m\udfff", "service_tier": "\ud83d\ude00"},
    "long texts": {"id": "é" * 65, "model": "€" * 60, "service_tier": "t" * 65},
    "nothing": dict.fromkeys(chat_reply()),
}


@pytest.mark.parametrize("changes", REPLIES.values(), ids=REPLIES)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_reply_of_the_sdk_is_read_alike(changes: dict[str, Any], is_async: bool) -> None:
    data = chat_reply(**changes)
    model = construct_type(value=data, type_=ChatCompletion)
    assert type(model) is ChatCompletion
    twins = pair(SHAPE._replace(arena_bytes=1 << 14))
    put_price(twins, "example", "gpt-4o-mini-2024-07-18", Price(input=150_000, cache_read=75_000, output=600_000))
    spec = CHAT._replace(is_async=is_async)
    kwargs = {"model": "gpt-4o-mini", "messages": [], "temperature": 0.2, "spec": spec, "twins": twins}
    forms = (model, data, as_objects(data), wrapt.ObjectProxy(model))
    plain, *others = (without(CHANGING, same(form, **kwargs)) for form in forms)
    assert others == [plain] * 3


def as_objects(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_objects(member) for name, member in value.items()})
    return [as_objects(item) for item in value] if isinstance(value, list) else value


def test_who_has_every_attribute_is_no_pydantic_model() -> None:
    span = same(Answering(), model="asked")
    assert (span["model_id"], span["input_tokens"]) == ("m", 3)


def test_what_a_gateway_says_a_call_cost_is_in_dollars() -> None:
    for cost, expected in ((0.00014, 0.00014), (2, 2), (0, 0), (9007, None), (1 << 70, None), (True, None), (-1, None)):
        span = same(construct_type(value=chat_reply(**usage(cost=cost)), type_=ChatCompletion), model="m")
        assert span.get("cost_usd") == expected
        assert span.get("cost_source") == (None if expected is None else "provider")


def test_an_embedding_is_read_alike() -> None:
    data = {
        "object": "list",
        "model": "e-3",
        "data": [],
        "usage": {"prompt_tokens": 8, "total_tokens": 8, "cost": 1e-7},
    }
    span = same(construct_type(value=data, type_=CreateEmbeddingResponse), spec=EMBEDDINGS, model="e-3", input="x")
    assert (span["input_tokens"], span["cost_usd"], span["model_id"]) == (8, 1e-7, "e-3")
    assert "output_tokens" not in span


# ---- replies of no SDK ----


class Slots:
    __slots__ = ("model", "usage")

    def __init__(self) -> None:
        self.model = "m"
        self.usage = {"prompt_tokens": 3}


class Raising:
    """Everything raises, its dictionary too."""

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


class Properties:
    model = "class-level"

    @property
    def usage(self) -> Any:
        raise RuntimeError("not now")

    @property
    def id(self) -> str:
        return "from-a-property"

    @property
    def service_tier(self) -> str:
        raise AttributeError("none")


class Overridden(dict):  # type: ignore[type-arg]
    def __getitem__(self, key: Any) -> Any:
        raise ZeroDivisionError

    def __contains__(self, key: Any) -> bool:
        raise ZeroDivisionError

    def get(self, *args: Any) -> Any:
        raise ZeroDivisionError


class Sliced(list):  # type: ignore[type-arg]
    def __len__(self) -> int:
        raise ZeroDivisionError


class Named(str):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def encode(self, *args: Any) -> bytes:
        raise ZeroDivisionError


class Word(str, enum.Enum):
    MODEL = "gpt-enum"
    OTHER = "gpt-other"


class Count(enum.IntEnum):
    FEW = 3


class Answering:
    """Has every attribute, most of them None."""

    def __getattr__(self, name: str) -> Any:
        return {"model": "m", "usage": {"prompt_tokens": 3}}.get(name)


class Fake:
    """Claims to be a dictionary."""

    __class__ = dict  # type: ignore[assignment]

    def __init__(self) -> None:
        self.model = "m"


ODD: dict[str, Any] = {
    "none": None,
    "a number": 7,
    "text": "text",
    "bytes": b"bytes",
    "a list": [{"model": "m"}],
    "a class": Properties,
    "a function": same,
    "a module": enum,
    "a mock": MagicMock(),
    "a mock of the model": MagicMock(spec=ChatCompletion),
    "a mock of a dict": MagicMock(spec=dict),
    "mocks inside": SimpleNamespace(
        model=MagicMock(spec=str), id=MagicMock(), usage=MagicMock(spec=dict), choices=MagicMock()
    ),
    "slots": Slots(),
    "properties": Properties(),
    "raising": Raising(),
    "an object that has every attribute": Answering(),
    "an object that claims to be a dict": Fake(),
    "a dict of its own kind": Overridden(model="m", usage=Overridden(prompt_tokens=3)),
    "an ordered dict": collections.OrderedDict(model="m", usage=collections.OrderedDict(prompt_tokens=3)),
    "a default dict": collections.defaultdict(lambda: "made up", model="m"),
    "a mapping proxy": types.MappingProxyType({"model": "m"}),
    "a list of its own kind": {"choices": Sliced([{"finish_reason": "stop"}])},
    "a tuple of choices": {"choices": ({"finish_reason": "stop"}, 7, None, [], "x")},
    "text of its own kind": {"model": Named("m\ud800"), "id": Named("é" * 100), "service_tier": Word.MODEL},
    "counts of their own kind": {"usage": {"prompt_tokens": Count.FEW, "completion_tokens": True}},
    "keys that are no text": {1: 2, None: "x", "model": "m"},
    "empty texts": {"model": "", "id": "", "service_tier": "", "choices": [{"finish_reason": ""}]},
    "a thousand choices": {"choices": [{"finish_reason": "stop"}] * 1100},
    "a model that differs": {"model": "other"},
    "a pydantic model without extras": openai.BaseModel.construct(),
    "a pydantic model, half made": ChatCompletion.__new__(ChatCompletion),
}


@pytest.mark.parametrize("reply", ODD)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_odd_reply_is_read_alike(reply: str, is_async: bool) -> None:
    assert same(ODD[reply], model="asked", spec=CHAT._replace(is_async=is_async))["status"] == "success"


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 1 << 65),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["m", "asked"]),
)
NAMES = ("model", "id", "usage", "choices", "message", "tool_calls", "function", "name", "finish_reason", "cost")
NAMES += ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens", "service_tier")
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=20,
)


@examples(150)
@given(st.dictionaries(st.sampled_from(NAMES), TREES, max_size=8), st.booleans())
def test_any_tree_is_read_alike(tree: dict[str, Any], as_attributes: bool) -> None:
    same(as_objects(tree) if as_attributes else tree, model="asked")


# ---- arguments ----


class Float(float):
    """As numpy's float64: a subclass with a repr of its own."""

    def __repr__(self) -> str:
        return f"np.float64({float(self)})"

    __str__ = __repr__


class Broken(float):
    def __float__(self) -> float:
        raise ZeroDivisionError

    def __ne__(self, other: object) -> bool:
        raise ZeroDivisionError

    __eq__ = __ne__
    __hash__ = None  # type: ignore[assignment]


class Long(int):
    def __format__(self, spec: str) -> str:
        return "9" * 5000

    def bit_length(self) -> int:
        return 1


PARAMETERS = st.one_of(
    st.floats(),
    st.floats(-3, 3).map(lambda value: round(value, 4)),
    st.sampled_from([0.0, -0.0, 0.001, 0.00099, 999_999_999.9999, 1e9, 1e16, 1e-5, 2.5, 0.1 + 0.2, 1e22, 5e-324]),
    st.integers(-(1 << 66), 1 << 66),
    st.sampled_from([step + (1 << bits) for bits in (31, 53, 63, 64, 1024, 20_000) for step in (-1, 0, 1)]),
    st.sampled_from([-(1 << 63), -(1 << 63) - 1, True, False, Count.FEW, Long(1 << 70), Long(3)]),
    st.builds(Float, st.floats()),
    st.sampled_from(
        [Broken(0.5), Word.MODEL, Named("x\ud800"), Named("n" * 80), MagicMock(spec=str), MagicMock(spec=float)]
    ),
    st.text(max_size=70),
    st.sampled_from(
        ["é" * 32, "é" * 33, "x" * 64, "x" * 65, "x" * 63 + "é", "\ud800", "\ud83d\ude00", '"\\\x00\x7f', ""]
    ),
    st.sampled_from([None, [], {}, object(), b"x", 1j, ["stop"], "x" * 100_000]),
)
PARAMETER_NAMES = [name for name, use in CHAT_REQUEST.items() if use == "param"]
MODELS = st.one_of(
    st.text(max_size=10),
    st.sampled_from(["m" * 127, "m" * 128, "é" * 64, "é" * 65, "\ud800m", "m%s", None, 7, b"m", MagicMock(spec=str)]),
    st.sampled_from([Word.MODEL, Word.OTHER, Named("m"), Named("n"), "m" * 10_000]),
)


@examples(250)
@given(st.dictionaries(st.sampled_from(PARAMETER_NAMES), PARAMETERS, max_size=5), MODELS, st.booleans())
def test_any_arguments_are_read_alike(parameters: dict[str, Any], model: Any, is_named: bool) -> None:
    if is_named:
        parameters["model"] = model
    parameters = {"".join(list(name)): value for name, value in parameters.items()}
    span = same({"usage": {"prompt_tokens": 1}}, **parameters)
    scalars = {name: value for name, value in parameters.items() if issubclass(type(value), (str, int, float))}
    sent = {name: json.loads(render_param(value) or b"") for name, value in scalars.items() if name != "model"}
    assert span.get("request_params", {}) == sent


def test_a_model_named_by_an_enumeration_is_not_mistaken_for_another() -> None:
    twins = pair()
    for model in (Word.MODEL, Word.OTHER, Named("third"), None, "fourth", Word.MODEL):
        span = same(None, twins=twins, model=model)
        assert span.get("model_id") == (None if model is None else str.__str__(model))
        assert span["name"] == ("chat" if model is None else f"chat {str.__str__(model)}")


class Doubtful:
    def __bool__(self) -> bool:
        raise ZeroDivisionError


STREAMS: dict[str, tuple[Any, bool]] = {
    "true": (True, True),
    "one": (1, True),
    "a word": ("false", True),
    "a mock": (MagicMock(), True),
    "false": (False, False),
    "none": (None, False),
    "not given": (openai.NOT_GIVEN, False),
    "a value that cannot be asked": (Doubtful(), False),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_passed_through_alike(name: str) -> None:
    twins = pair()
    value, is_stream = STREAMS[name]
    for twin in twins:
        call(twin, CHAT, lambda self, **kwargs: None, Resource(), model="m", stream=value)
    assert [twin.recorder.passed_streams for twin in twins] == [int(is_stream)] * 2
    assert [len(twin.lines()) for twin in twins] == [int(not is_stream)] * 2


# ---- the host ----


class Hidden:
    @property
    def _client(self) -> Any:
        raise RuntimeError("closed")


ENDPOINTS: dict[str, Any] = {
    "the sdk's own": Endpoint("openai", "api.openai.com", None),
    "no address": Endpoint("openai", None, None),
    "a plain tuple": ("other", "host", 80),
    "no endpoint": None,
    "too short": ("other", "host"),
    "not text": Endpoint(7, 8, "9"),  # type: ignore[arg-type]
    "not even hashable": Endpoint("other", [], None),  # type: ignore[arg-type]
    "ports": Endpoint("other", "host", 65_535),
    "a port too large": Endpoint("other", "host", 65_536),
    "a port too large by far": Endpoint("other", "host", 1 << 70),
    "a negative port": Endpoint("other", "host", -1),
    "port 0": Endpoint("other", "", 0),
    "long": Endpoint("p" * 65, "é" * 129, 1),
    "surrogates": Endpoint("p\ud800", "h\udfff", True),
    "text of its own kind": Endpoint(Named("p"), Word.MODEL, Count.FEW),
}


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_an_endpoint_is_taken_alike(endpoint: Any) -> None:
    twins = pair()
    spec = CHAT._replace(resolve=lambda url: endpoint)
    reply = chat_reply(**usage(cost=0.5))
    first, second = same(reply, twins=twins, spec=spec, model="m"), same(reply, twins=twins, spec=spec, model="m")
    assert first.get("cost_usd") == second.get("cost_usd")
    assert first.get("server_port") == second.get("server_port")


@pytest.mark.parametrize("args", [(), (None,), (Hidden(),), (SimpleNamespace(),), (Resource(MagicMock()),)], ids=repr)
@pytest.mark.parametrize("error", [None, ValueError("no url"), AttributeError("no host")], ids=repr)
def test_a_host_that_cannot_be_found_costs_the_host_only(args: tuple[Any, ...], error: Exception | None) -> None:
    def broken(url: object) -> Any:
        raise error  # type: ignore[misc]

    twins = pair()
    spec = CHAT._replace(resolve=broken) if error else CHAT
    for twin in twins:
        assert call(twin, spec, lambda *args, **kwargs: "reply", *args, model="m") == "reply"
    (native,), (pure,) = (twin.lines() for twin in twins)
    assert masked(native) == masked(pure)


def test_a_full_string_table_changes_nothing_for_calls() -> None:
    twins = pair(SHAPE._replace(strtab_bytes=4096))
    for number in range(80):
        spec = CHAT._replace(
            resolve=lambda url, number=number: Endpoint(f"provider-{number}", f"host-{number}", number)
        )
        model = f"model-{number}-{'m' * number}"
        span = same(chat_reply(model=f"answered-{number}", **usage(cost=0.1)), twins=twins, spec=spec, model=model)
        assert (span["provider"], span["server_address"]) == (f"provider-{number}", f"host-{number}")
        assert (span["request_model"], span["model_id"]) == (model, f"answered-{number}")
        assert (span["name"], span["cost_usd"]) == (f"chat {model}", 0.1)


# ---- failures ----


class Strange(Exception):
    """Its message, code and status are what they should not be."""

    status_code = 70_000
    code = Named("rate\ud800")

    def __str__(self) -> str:
        return "e" * 3000 + "é\ud800"


class Coded(Exception):
    def __init__(self, status_code: Any, code: Any) -> None:
        super().__init__("message")
        self.status_code, self.code = status_code, code


FAILURES: list[BaseException] = [
    ValueError("no"),
    ValueError(),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    asyncio.CancelledError(),
    TimeoutError("late"),
    Strange(),
    Coded(429, "rate_limit_exceeded"),
    Coded(True, 5),
    Coded(-1, None),
    Coded(65_536, "é" * 40),
    openai.OpenAIError("sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_an_error_is_recorded_alike(error: BaseException) -> None:
    twins = pair()

    def original(self: Any, **kwargs: Any) -> Any:
        raise error.with_traceback(None)

    resource = Resource()
    for twin in twins:
        assert call(twin, CHAT, original, resource, model="m") is error
    (native,), (pure,) = (twin.lines() for twin in twins)
    # The frames are the SDK's and the caller's, but for one of ours in the pure core.
    native_span, pure_span = span_of(native), span_of(pure)
    assert "in original" in native_span.pop("error_stack")
    assert "in original" in pure_span.pop("error_stack")
    assert without(CHANGING, native_span) == without(CHANGING, pure_span)


ANSWERS: dict[str, Any] = {
    "a dict": {"status": "timeout", "error_type": "T", "http_status": 504},
    "an ordered dict": collections.OrderedDict(status="timeout", error_code="c"),
    "a mapping": types.MappingProxyType({"status": "cancelled"}),
    "codes nobody knows": {"status": "lost", "kind": "\ud800"},
    "odd names": {7: 1, "status\x00": "timeout", "\ud800": 1, "error_type": "T"},
    "none": None,
    "a list": [("status", "timeout")],
    "a number": 3,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_what_a_failure_tells_is_taken_alike(answer: Any) -> None:
    error = ValueError("users")
    same(error, spec=CHAT._replace(failure=lambda error: answer), raises=True, model="m")


@pytest.mark.parametrize("during", ["reply", "failure", "request"])
def test_an_interrupt_while_a_call_is_read_is_never_swallowed(during: str) -> None:
    twins = pair()
    interrupt = KeyboardInterrupt()

    def interrupted(*args: Any) -> Any:
        raise interrupt

    class Reply:
        usage = property(interrupted)
        _client = property(interrupted)

    def original(self: Any, **kwargs: Any) -> Any:
        if during == "failure":
            raise ValueError("users")
        return Reply()

    spec = CHAT._replace(failure=interrupted)
    resource: Any = Reply() if during == "request" else Resource()
    for twin in twins:
        assert call(twin, spec, original, resource, model="m") is interrupt
        if during == "failure":
            assert isinstance(interrupt.__context__, ValueError)
    native, pure = ([masked(line) for line in twin.lines()] for twin in twins)
    assert native == pure
    assert len(native) == (during != "request")


# ---- coroutines ----


@pytest.mark.parametrize("ending", ["close", "throw", "exit", "cancel", "drop", "unstarted"])
def test_a_coroutine_that_does_not_end_by_itself_is_recorded_alike(ending: str) -> None:
    twins = pair()
    spec = CHAT._replace(is_async=True)

    @types.coroutine
    def pause() -> Any:
        yield "paused"

    async def original(self: Any, **kwargs: Any) -> Any:
        await pause()

    for twin in twins:
        coroutine = twin.core.method(original, spec, twin.recorder)(Resource(), model="m")
        if ending == "unstarted":
            coroutine.close()
            continue
        assert coroutine.send(None) == "paused"
        if ending == "close":
            coroutine.close()
        elif ending != "drop":
            error = {"throw": ValueError, "exit": GeneratorExit, "cancel": asyncio.CancelledError}[ending]("x")
            with pytest.raises(type(error)):
                coroutine.throw(error)
        del coroutine
        assert CURRENT.get() is None
    # The frames are left out: one of them is the pure core's own.
    native, pure = ([without((*CHANGING, "error_stack"), span_of(line)) for line in twin.lines()] for twin in twins)
    assert native == pure
    assert len(native) == (ending != "unstarted")


# ---- what a call leaves behind ----


def raising(self: Any, **kwargs: Any) -> Any:
    raise ValueError("users")


async def answering(self: Any, **kwargs: Any) -> Any:
    return chat_reply()


KINDS: dict[str, tuple[Any, CallSpec]] = {
    "sync": (lambda self, **kwargs: chat_reply(), CHAT),
    "error": (raising, CHAT),
    "async": (answering, CHAT._replace(is_async=True)),
    "async that raises at once": (raising, CHAT._replace(is_async=True)),
    "async without a coroutine": (lambda self, **kwargs: chat_reply(), CHAT._replace(is_async=True)),
}


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.BACKEND)
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_calls_leave_no_object_behind(core: Any, kind: str) -> None:
    """On a debug build of Python references are counted too, else blocks of memory: the least of three rounds, because
    caches fill by and by."""
    original, spec = KINDS[kind]
    twin = Twin(core, SHAPE)
    create = core.method(original, spec, twin.recorder)
    resource = Resource()
    count = getattr(sys, "gettotalrefcount", sys.getallocatedblocks)

    def calls() -> None:
        for _ in range(1000):
            try:
                made = create(resource, model="m", temperature=0.2)
                if type(made) is not dict:
                    made.send(None)
            except (ValueError, StopIteration):
                pass
        twin.lines()

    grown = []
    for _ in range(4):
        gc.collect()
        before = count()
        calls()
        gc.collect()
        grown.append(count() - before)
    assert min(grown[1:]) < 200
