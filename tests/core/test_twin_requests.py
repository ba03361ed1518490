"""The twins are one in reading a request: the same arguments to the same host give the same lines from both."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twin_calls import CHAT, Count, Named, Resource, Word, call, chat_reply, masked, same, usage
from twins import SHAPE, examples, pair

from fasttrace.core._api import Endpoint
from fasttrace.core._text import render_param
from fasttrace.instrumentation.openai.chat import CHAT_REQUEST

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
def test_a_stream_that_nobody_watches_is_recorded_alike(name: str) -> None:
    twins = pair()
    value, is_stream = STREAMS[name]
    spec = CHAT._replace(request={**CHAT_REQUEST, "stream": "stream"})
    for twin in twins:
        call(twin, spec, lambda self, **kwargs: None, Resource(), model="m", stream=value)
    assert [twin.recorder.passed_streams for twin in twins] == [int(is_stream)] * 2
    (native,), (pure,) = (twin.lines() for twin in twins)
    assert masked(native) == masked(pure)
    assert json.loads(native).get("stream", False) is is_stream


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
    spec = CHAT._replace(resolve=lambda url, client: endpoint)
    reply = chat_reply(**usage(cost=0.5))
    first, second = same(reply, twins=twins, spec=spec, model="m"), same(reply, twins=twins, spec=spec, model="m")
    assert first.get("cost_usd") == second.get("cost_usd")
    assert first.get("server_port") == second.get("server_port")


BOUND_TO = {
    "nothing": (),
    "none": (None,),
    "hidden": (Hidden(),),
    "no client": (SimpleNamespace(),),
    "a mock": (Resource(MagicMock()),),
}


@pytest.mark.parametrize("args", BOUND_TO.values(), ids=BOUND_TO)
@pytest.mark.parametrize("error", [None, ValueError("no url"), AttributeError("no host")], ids=repr)
def test_a_host_that_cannot_be_found_costs_the_host_only(args: tuple[Any, ...], error: Exception | None) -> None:
    def broken(url: object, client: object) -> Any:
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
            resolve=lambda url, client, number=number: Endpoint(f"provider-{number}", f"host-{number}", number)
        )
        model = f"model-{number}-{'m' * number}"
        span = same(chat_reply(model=f"answered-{number}", **usage(cost=0.1)), twins=twins, spec=spec, model=model)
        assert (span["provider"], span["server_address"]) == (f"provider-{number}", f"host-{number}")
        assert (span["request_model"], span["model_id"]) == (model, f"answered-{number}")
        assert (span["name"], span["cost_usd"]) == (f"chat {model}", 0.1)
