"""Content as JSON: within its limit to the byte, exact about what was left out, at a bounded cost, whatever it is."""

from __future__ import annotations

import enum
import io
import json
import sys
import tracemalloc
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fasttrace.core._text import MAX_DEPTH
from fasttrace.instrumentation.content import chat_content, responses_content
from fasttrace.instrumentation.content.values import SIZE_STEPS, Text
from fasttrace.instrumentation.content.writer import MARK_BYTES, rendered

LIMIT = 65_536
CHAT = chat_content()
SECRET = "-".join(("sk", "proj", "abc123DEF456ghi789"))

names = st.text("abcdef", min_size=1, max_size=4)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
scalars = st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
fields = st.lists(values, max_size=5) | st.dictionaries(names, values, max_size=5)
slowly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def size(value: Any) -> int:
    """The characters of the texts, and one for each other value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, (dict, list)):
        return sum(size(item) for item in (value.values() if isinstance(value, dict) else value))
    return 1


def taken_apart(data: bytes) -> tuple[Any, int]:
    """What is there, and what was left out by its own account."""
    value = json.loads(data)
    if isinstance(value, dict):
        return value, value.pop("truncated", 0)
    if value and isinstance(value[-1], dict) and value[-1].keys() == {"truncated"}:
        return value[:-1], value[-1]["truncated"]
    return value, 0


def written(value: Any, limit: int = LIMIT) -> Any:
    data = rendered({"value": value}, limit)
    assert data is not None and len(data) <= limit
    return json.loads(data)["value"]


# ---- limits


@slowly
@given(fields)
def test_what_fits_is_there_whole(value: Any) -> None:
    data = rendered(value, LIMIT)
    assert data is not None
    assert json.loads(data) == value


@slowly
@given(fields, st.integers(MARK_BYTES, 400))
def test_what_is_cut_is_valid_within_the_limit_and_says_exactly_what_is_missing(value: Any, limit: int) -> None:
    whole = rendered(value, LIMIT)
    data = rendered(value, limit)
    assert whole is not None and data is not None
    if len(whole) <= limit:
        assert data == whole
        return
    assert len(data) <= limit
    kept, missing = taken_apart(data)
    assert size(kept) + missing == size(value)


@pytest.mark.parametrize("value", [{"a": "é" * 300}, ["\n" * 300], {"a": [{"b": "x" * 200}, 1, 2.5, None, True]}])
def test_one_byte_decides(value: Any) -> None:
    whole = rendered(value, LIMIT)
    assert whole is not None
    for limit in (len(whole), len(whole) + 1):
        assert rendered(value, limit) == whole
    data = rendered(value, len(whole) - 1)
    assert data is not None and len(data) < len(whole)
    assert data.endswith(b'"truncated":%d}' % taken_apart(data)[1] + (b"]" if whole.endswith(b"]") else b""))


def test_a_cut_text_is_as_long_as_there_is_room() -> None:
    for limit in range(200, 260):
        data = rendered({"a": "x" * 1000, "b": 1}, limit)
        assert data is not None
        kept, missing = taken_apart(data)
        assert kept == {"a": "x" * (1001 - missing)}
        assert limit - len(data) <= MARK_BYTES


def test_escapes_and_wide_characters_are_not_split() -> None:
    text = 'a"\n\x7f\\é€\U0001f600' * 200
    for limit in range(100, 140):
        data = rendered({"a": text}, limit)
        assert data is not None and len(data) <= limit
        kept, missing = taken_apart(data)
        assert text.startswith(kept["a"])
        assert len(kept["a"]) + missing == len(text)


def test_a_limit_without_room_for_anything_leaves_the_mark_or_nothing() -> None:
    assert rendered({"a": "x" * 100}, MARK_BYTES) == b'{"truncated":100}'
    assert rendered({"a": "x" * 100}, 17) == b'{"truncated":100}'
    assert rendered({"a": "x" * 100}, 16) is None
    assert rendered({"a": "x" * 100}, 0) is None


def test_what_was_lost_before_is_counted_too() -> None:
    assert rendered({"a": 1}, 100, 5) == b'{"a":1,"truncated":5}'
    assert rendered([], 100, 5) == b'[{"truncated":5}]'
    text = Text()
    text.pieces, text.omitted = ["x" * 2000], 7
    assert rendered([text], 5000) == b'["' + b"x" * 976 + b'",{"truncated":1031}]'


# ---- cost


def calls_made(action: Any) -> int:
    """How many functions are called, whoever wrote them."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


def peak_bytes(action: Any) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("letter", ["x", "é", "\n"])
def test_a_huge_text_costs_what_is_written_of_it(letter: str) -> None:
    source = {"messages": [{"role": "user", "content": letter * 100_000_000}]}
    found: list[bytes | None] = []
    assert peak_bytes(lambda: found.append(CHAT.input(source, LIMIT))) < 2 << 20
    assert found[0] is not None and LIMIT - 100 < len(found[0]) <= LIMIT
    kept, missing = taken_apart(found[0])
    assert len(kept["messages"][0]["content"]) + missing == 100_000_000


@pytest.mark.parametrize(
    "source",
    [
        {"messages": [{"role": "user", "content": "hi"}] * 1_000_000},
        {"messages": [{f"k{number}": number for number in range(500_000)}]},
        {"messages": [[0] * 1_000_000] * 10},
        {"messages": [{"a": {}}] * 1_000_000},
        {"messages": [("x",)] * 1_000_000},
    ],
    ids=["messages", "members", "numbers", "empty", "tuples"],
)
def test_many_parts_cost_what_is_written_of_them(source: Any) -> None:
    most = 100 * (4096 // 4 + SIZE_STEPS)
    assert calls_made(lambda: CHAT.input(source, 4096)) < most
    assert peak_bytes(lambda: CHAT.input(source, 4096)) < 4 << 20
    data = CHAT.input(source, 4096)
    assert data is not None and taken_apart(data)[1] > 300_000


def test_after_some_thousand_values_each_further_one_counts_one() -> None:
    value = ["xx"] * 100_000
    data = rendered(value, 256)
    assert data is not None
    kept, missing = taken_apart(data)
    assert missing == 2 * (1 + SIZE_STEPS) + (len(value) - len(kept) - 1 - SIZE_STEPS)  # one was begun


def test_a_huge_model_is_not_turned_into_text() -> None:
    class Model(SimpleNamespace):
        __fields_set__: Any = ()

        def __str__(self) -> str:
            raise AssertionError

        __repr__ = __str__

    assert written(Model(a=1, b=None, _c=2, parsed=3)) == {"a": 1}


# ---- whatever the values are


class Colour(enum.Enum):
    RED = "red"


class Word(str, enum.Enum):
    STOP = "stop"


@dataclass
class Point:
    x: int
    y: int | None = None


class Text2(str):
    def __len__(self) -> int:
        raise AssertionError

    __getitem__ = __contains__ = startswith = find = encode = __iter__ = __len__  # type: ignore[assignment]


class Rows(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        raise AssertionError

    __len__ = __getitem__ = __iter__


class Table(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise AssertionError

    __len__ = __iter__ = __getitem__ = keys = values = get = items


class Opaque:
    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name) if name.startswith("_") else RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class Liar:
    @property
    def __class__(self) -> Any:
        return dict

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


class Broken(SimpleNamespace):
    __fields_set__ = ()

    @property
    def __dict__(self) -> Any:
        raise RuntimeError


class Unread(io.StringIO):
    name = "/secret/place/notes.txt"

    def read(self, *_: Any) -> str:
        raise AssertionError

    __next__ = readline = read


def generator() -> Any:
    raise AssertionError
    yield


def get_weather(city: str) -> str:
    return city


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Colour.RED, "red"),
        (Word.STOP, "stop"),
        (Point(1), {"x": 1}),
        (SimpleNamespace(a=[1, SimpleNamespace(b=None)]), {"a": [1, {}]}),
        (Text2("text"), "text"),
        (Rows([1, 2]), [1, 2]),
        (Table(a=1), {"a": 1}),
        ((1, None, "a"), [1, None, "a"]),
        ({1: 2, None: 3, (): 4}, {"1": 2, "<NoneType>": 3, "<tuple>": 4}),
        (float("nan"), "NaN"),
        (2**70, str(2**70)),
        ("a\ud800b", "a\ufffdb"),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        (Unread("x"), {"type": "file", "name": "notes.txt"}),
        (Path("/secret/place/photo.png"), {"type": "file", "name": "photo.png"}),
        (get_weather, {"type": "function", "name": "get_weather"}),
        (Point, "<Point>"),
        (object(), "<object>"),
        (Opaque(), "<Opaque>"),
        (Liar(), "<unserialisable>"),
        (Broken(), "<unserialisable>"),
        (generator(), "<generator>"),
        (range(10**12), "<range>"),
        ({1, 2}, "<set>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_value_has_one_form_and_none_is_asked_for_it(value: Any, shown: Any) -> None:
    assert written(value) == shown
    assert written([value, 1]) == [shown, 1]
    assert CHAT.input({"messages": [value]}, LIMIT) is not None


EVIL = (Opaque(), Liar(), Broken(), Text2("x"), Rows([1]), Table(a=1), object(), b"\xff", "\ud800", 10**5000)


class Evil(NamedTuple):
    """Stands for one of them: whatever draws a value wants to show it."""

    which: int


def made_evil(value: Any) -> Any:
    if isinstance(value, Evil):
        return EVIL[value.which]
    if isinstance(value, dict):
        return {key: made_evil(item) for key, item in value.items()}
    return [made_evil(item) for item in value] if isinstance(value, list) else value


anything = st.recursive(
    st.builds(Evil, st.integers(0, len(EVIL) - 1)) | scalars | st.none() | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names | st.none(), inner, max_size=5),
)


@slowly
@given(anything, st.integers(0, 300))
def test_nothing_raises_and_everything_is_json(drawn: Any, limit: int) -> None:
    value = made_evil(drawn)
    chunks = ({"choices": value}, {"choices": [{"delta": value}]}, {"type": "response.completed", "response": value})
    for content in (CHAT, responses_content()):
        stream = content.stream(limit)
        for chunk in (value, *chunks):
            stream.feed(chunk)
        found = (
            content.input({"messages": value, "input": value}, limit),
            content.output({"choices": [{"message": value}], "output": [value]}, limit),
            stream.result(),
        )
        for data in found:
            assert data is None or len(data) <= limit
            json.loads(data or b"0", parse_constant=lambda name: pytest.fail(name))


def test_depth_is_bounded_and_cycles_end() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    data = rendered(deep, LIMIT)
    assert data is not None and b"<truncated>" in data
    assert data.count(b"[") == MAX_DEPTH
    around: list[Any] = []
    around += [around, around, {"again": around}]
    data = rendered(around, 1000)
    assert data is not None and len(data) <= 1000 and taken_apart(data)[1] > 0


# ---- secrets


def test_secrets_are_redacted_wherever_they_are() -> None:
    source = {
        "messages": [
            {"role": "user", "content": f"my key is {SECRET}!"},
            {"content": [{"type": "text", "text": SECRET}]},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", SECRET: "https://user:hunter2@example.com/x.png"}},
            {"type": "mcp", "headers": {"Authorization": "opaque"}, "authorization": "hunter2"},
        ],
    }
    data = CHAT.input(source, LIMIT)
    assert data is not None and b"hunter2" not in data and SECRET[:8].encode() not in data and b"opaque" not in data
    assert b"https://[redacted]@example.com/x.png" in data


@pytest.mark.parametrize("limit", range(100, 200))
def test_a_secret_that_the_limit_cuts_is_redacted(limit: int) -> None:
    data = CHAT.input({"messages": [{"content": "y" * 60 + " " + SECRET + " " + "x" * 5000}]}, limit)
    assert data is not None and len(data) <= limit and b"sk-" not in data
