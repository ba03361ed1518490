"""The twins are one in reading a reply: the same objects give the same lines from both."""

from __future__ import annotations

import collections
import enum
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
from twin_calls import (
    CHANGING,
    CHAT,
    Count,
    Named,
    Overridden,
    Sliced,
    Word,
    as_objects,
    chat_reply,
    choices,
    same,
    tools,
    usage,
    without,
)
from twins import SHAPE, examples, pair, put_price

from fasttrace.core._api import Price
from fasttrace.instrumentation.openai.chat import EMBEDDINGS_REPLY

EMBEDDINGS = CHAT._replace(kind="embedding", operation="embeddings", reply=EMBEDDINGS_REPLY)

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
