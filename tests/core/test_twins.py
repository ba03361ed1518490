"""The twins are one: the same fields give the same bytes from both cores, at and around every limit there is."""

from __future__ import annotations

import enum
import json
from importlib import resources
from typing import Any
from unittest.mock import MagicMock

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twins import CORES, LIMITS, SHAPE, Pairs, contexts, examples, pair, put_price, record, same_lines, span_of

from fasttrace.core._api import COST_SOURCES, KINDS, STATUSES, USAGE_SOURCES, Price
from fasttrace.core._text import render_json
from fasttrace.wire.fields import FIELDS, Place

SCHEMA = json.loads((resources.files("fasttrace.wire") / "schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


class Tint(str, enum.Enum):
    """Hashes by its name, not by its text."""

    SUCCESS = "success"
    LLM = "llm"


class Loud(str):
    def __str__(self) -> str:
        raise AssertionError("a field's text is not asked for its str()")


class Number(int):
    pass


ODD = (None, True, False, 1.5, -1, 1 << 64, 1 << 70, "", b"", b"{", [], {}, (), object(), MagicMock())
ODD += (MagicMock(spec=str), MagicMock(spec=int), MagicMock(spec=list), MagicMock(spec=bytes), bytearray(b"{}"))
ODD += (Number(5), Tint.SUCCESS, Loud("text"), float("nan"), [1, None, "x", b"y"], ("a", "\ud800"), {"a": 1}, {"b"})

# One to four bytes of UTF-8, halves of pairs, what JSON escapes, what %-formats and line splitters trip over.
CHARACTERS = 'aé€😀\ud83d\ude00\udfff"\\/\x00\x07\b\t\n\x1f\x7f\x80\x85\u2028\ufeff\uffff%s{}'


def texts(limit: int) -> st.SearchStrategy[Any]:
    """Around `limit` bytes: filled with characters of one width up to a few bytes before it, then any."""
    tails = st.text(st.sampled_from(CHARACTERS), max_size=6)
    fillers = st.builds(
        lambda char, short, tail: char * max(0, (limit - short) // len(char.encode())) + tail,
        st.sampled_from("xé€😀"),
        st.integers(-2, 6),
        tails,
    )
    return st.one_of(fillers, tails, st.text(st.sampled_from(CHARACTERS), max_size=40), st.sampled_from(ODD))


POWERS = [1 << bits for bits in (0, 8, 15, 16, 31, 32, 53, 62, 63, 64)]
NUMBERS = st.sampled_from(sorted({power + step for power in [0, *POWERS] for step in (-1, 0, 1)})) | st.sampled_from(
    ODD
)
DECADES = [10**decade + step for decade in range(20) for step in (-1, 0, 1)]
FIXED = st.sampled_from([*DECADES, 999_999_999_999, 1_230_000, 2**53, 2**63 - 1, 2**63, 2**64 - 1]) | NUMBERS
REPORTED_USD = st.sampled_from([0.0, -0.0, 5e-324, 1e-12, 5e-13, 1.5e-12, 0.1 + 0.2, 9006.999999999999, 9007.0, 1e300])
COSTS = FIXED | REPORTED_USD | st.floats()
JSON_BYTES = [0, 1000, 1006, 1007, 1008, 1009, 1024, 65_520, 65_536, (SHAPE.arena_bytes // 2) - 40, 1 << 20]


def members(padding: int) -> bytes:
    return b'{"k":"%s"}' % (b"p" * padding)


OBJECTS = st.one_of(
    st.dictionaries(st.text(st.sampled_from(CHARACTERS), max_size=5), st.floats() | st.integers(), max_size=3).map(
        render_json
    ),
    st.sampled_from(JSON_BYTES).map(members),
    st.sampled_from([odd for odd in ODD if odd != b"{"]),
)
EVENTS = st.sampled_from([b"[]", b'[{"name":"n","timestamp":"t","attributes":{}}]', b"", None, "[]"])
CODES = {"kind": KINDS, "status": STATUSES, "usage_source": USAGE_SOURCES, "cost_source": COST_SOURCES}


def values_of(field: Any) -> st.SearchStrategy[Any]:
    """Values at the limits of a field, and values that do not belong there."""
    if field.name in CODES:
        return st.sampled_from([*CODES[field.name], "unknown", "SUCCESS", "llm\x00", "\ud800", *ODD])
    if field.place is Place.LIST:
        return st.lists(texts(field.clip_bytes), max_size=4) | texts(field.clip_bytes)
    if field.place is Place.JSON:
        return EVENTS if field.name == "events" else OBJECTS
    if field.name == "stream":
        return st.sampled_from([True, False, 1, "true", None])
    if field.name == "cost_usd":
        return COSTS
    if field.json_type in ("integer", "fixed"):
        return FIXED if field.json_type == "fixed" else NUMBERS
    return texts(field.clip_bytes)


VALUES = {field.name: values_of(field) for field in FIELDS}
LEAP_DAY_2000_S, END_OF_2099_S = 951_782_400, 4_102_444_799
STARTS = st.sampled_from(
    [
        0,
        1,
        -1,
        -(1 << 63),
        (1 << 63) - 1,
        999_999_999,
        10**9,
        LEAP_DAY_2000_S * 10**9,
        END_OF_2099_S * 10**9 + 999_999_999,
    ]
)
DURATIONS = st.sampled_from([0, 1, 999, 1000, 10**6 - 1, 10**6, 10**6 + 1, 1_500_000, 1 << 63, (1 << 64) - 1])


PAIRS = Pairs()


def check(fields: dict[str, Any], **times: Any) -> dict[str, Any]:
    twins = PAIRS.next()
    record(twins, fields, **times)
    (line,) = same_lines(twins)
    span = span_of(line)
    VALIDATOR.validate(span)
    assert twins[0].recorder.ring.counters() == twins[1].recorder.ring.counters()
    return span


@pytest.mark.parametrize("name", VALUES)
def test_one_field_at_its_limits_is_the_same_line(name: str) -> None:
    @examples(60)
    @given(VALUES[name])
    def each(value: Any) -> None:
        check({name: value})

    each()


@examples(200)
@given(st.fixed_dictionaries({}, optional=VALUES), STARTS, DURATIONS, st.booleans())
def test_any_fields_together_are_the_same_line(fields: dict[str, Any], start: int, duration: int, child: bool) -> None:
    check(fields, start_unix_ns=start, duration_ns=duration, is_child=child)


@examples(200)
@given(st.lists(st.fixed_dictionaries({}, optional=VALUES), min_size=2, max_size=5))
def test_lines_of_one_batch_do_not_depend_on_each_other(spans: list[dict[str, Any]]) -> None:
    """The writers keep forms, seconds and indices from one line to the next."""
    twins = PAIRS.next()
    for fields in [*spans, *spans]:
        record(twins, fields)
    for line in same_lines(twins):
        VALIDATOR.validate(span_of(line))


@examples(60)
@given(STARTS, DURATIONS)
def test_times_are_the_same_at_their_limits(start: int, duration: int) -> None:
    span = check({}, start_unix_ns=start, duration_ns=duration)
    assert span["timestamp"].startswith("1970-01-01T00:00:00.") == (start < 10**9)


@pytest.mark.parametrize("decimals", range(13))
def test_a_cost_is_exact_at_every_decimal(decimals: int) -> None:
    twins = pair()
    for pico_usd in (10**decimals, 10**decimals * 123, 10**decimals * 1_000_001, 10**12 + 10**decimals):
        record(twins, {"cost_usd": pico_usd})
    for line, pico_usd in zip(same_lines(twins), (1, 123, 1_000_001, None), strict=True):
        number = line.split(b'"cost_usd":')[1].split(b",")[0].rstrip(b"}\n")
        whole, _, fraction = number.partition(b".")
        written = int(whole) * 10**12 + int(fraction.ljust(12, b"0"))
        assert written == (10**12 + 10**decimals if pico_usd is None else 10**decimals * pico_usd)
        assert not fraction.endswith(b"0")
        assert len(fraction) <= 12


@pytest.mark.parametrize("name", [name for name, limit in LIMITS.items() if limit])
def test_text_of_one_byte_too_many_is_cut_on_a_character(name: str) -> None:
    limit, is_list = LIMITS[name], name in ("finish_reasons", "tool_calls", "tags")
    if FIELDS[[field.name for field in FIELDS].index(name)].place is Place.RESOURCE:
        assert name not in check({name: "x"})
        return
    for character in "xé€😀":
        width = len(character.encode())
        value = [character * limit] if is_list else character * limit
        written = check({"model_id": "m", name: value})[name]
        assert (written[0] if is_list else written) == character * (limit // width)


# ---- when there is no room ----

TINY = SHAPE._replace(slots=64, strtab_bytes=4096, arena_bytes=1 << 16)
TINY_PAIRS = Pairs(TINY)
SIZES = [0, 1, 7, 8, 1007, 1008, 1009, 32_759, 32_760, 32_761, 65_536, (1 << 20) - 8, 1 << 20]


@pytest.mark.parametrize("free", [0, 8, 16, 64])
def test_a_full_string_table_changes_nothing_in_the_lines(free: int) -> None:
    """Strings that find no place travel with the content, on both."""
    twins = pair(TINY)
    for start in range(8, 4096 - 256 - free, 256):
        record(twins, {"name": f"{start:0254}"})
    record(twins, {"name": "n" * (4096 - 8 - free - 256 * ((4096 - 256 - free - 8 + 255) // 256) - 2)})
    for number in range(4):
        model = f"model-{number}"
        record(twins, {"operation": "o" * number, "name": f"é{number}" * 60, "provider": "p", "model_id": model})
        record(twins, {"model_id": f"answered-{number}", "request_model": model, "provider": "p", "input_tokens": 3})
        record(twins, {"model_id": model, "request_model": model, "error_type": "E", "error_code": f"c{number}"})
        record(twins, {"model_id": "n" * number, "request_model": f"asked-{number}", "service_tier": "t"})
        record(twins, {"request_model": f"asked-{number}", "provider": "p", "input_tokens": 3})
    spans = [span_of(line) for line in same_lines(twins)][-20:]
    for number in range(4):
        _, both, same, _, asked = spans[5 * number : 5 * number + 5]
        assert (both["model_id"], both["request_model"]) == (f"answered-{number}", f"model-{number}")
        assert same["model_id"] == f"model-{number}"
        assert "request_model" not in same
        assert asked["model_id"] == f"asked-{number}"
        assert "request_model" not in asked


def test_a_model_that_found_no_place_in_the_string_table_has_its_price_all_the_same() -> None:
    twins = pair(TINY)
    for start in range(15):
        record(twins, {"name": f"{start:0254}", "provider": "p"})
    record(twins, {"name": "n" * 230, "provider": "p"})
    fields = {"provider": "p", "model_id": "a-model-not-in-the-table", "request_model": "asked", "input_tokens": 3}
    for change in ({}, {"request_model": None}, {"model_id": None}):
        record(twins, fields | change)
    record(twins, fields | {"service_tier": "batch"})  # not at the list's prices, wherever the tier's name is
    batches = [twin.read() for twin in twins]
    asked = [batch.unpriced() for batch in batches]
    assert asked[0] == asked[1]
    assert set(asked[0]) == {("p", "a-model-not-in-the-table"), ("p", "asked")}
    put_price(twins, "p", "a-model-not-in-the-table", Price(input=7))
    put_price(twins, "p", "asked", Price(input=5))
    lines = [batch.encode(twin.recorder.prices, "v", b"") for batch, twin in zip(batches, twins, strict=True)]
    assert lines[0] == lines[1]
    costs = [span_of(line).get("cost_usd") for line in lines[0].splitlines(keepends=True)][-4:-1]
    assert costs == [21e-12, 21e-12, 15e-12]
    assert lines[0].count(b'"cost_usd"') == 3


@examples(60)
@given(st.lists(st.sampled_from(SIZES)))
def test_content_that_does_not_fit_is_left_out_and_counted_alike(sizes: list[int]) -> None:
    twins = TINY_PAIRS.next()
    for size in sizes:
        record(twins, {"response_id": "r", "input": b'"%s"' % (b"i" * max(size - 2, 0)), "output": b"1"})
        record(twins, {"output": b'"%s"' % (b"o" * max(size - 2, 0))})
    for line in same_lines(twins):
        span_of(line)
    assert twins[0].recorder.ring.counters() == twins[1].recorder.ring.counters()


def test_the_largest_content_there_is() -> None:
    large = SHAPE._replace(arena_bytes=4 << 20)
    for size in ((1 << 20) - 8, (1 << 20) - 7):
        twins = pair(large)
        record(twins, {"input": b'"%s"' % (b"i" * (size - 2)), "response_id": "r"})
        (line,) = same_lines(twins)
        assert ("input" in span_of(line)) == (size == (1 << 20) - 8)
        assert [twin.recorder.ring.counters().content_too_large for twin in twins] == [1, 1]


@pytest.mark.parametrize("resource", [b"", b'"service":"s"', '"service":"é%s%%"'.encode(), b'"service":"\xff"'])
def test_the_resource_ends_every_line_as_it_is(resource: bytes) -> None:
    twins = pair()
    for number in range(3):
        record(twins, {"name": f"n{number}%"})
    for line in same_lines(twins, resource=resource):
        assert line.endswith((b"," if resource else b"") + resource + b"}\n")


def test_odd_names_are_no_fields() -> None:
    odd: dict[Any, Any] = {"kind\x00": "llm", "\ud800": 1, 7: 7, None: 1, "": "", "trace_id": "t", "duration_ms": 5}
    span = check({**odd, "name": "n", "sdk": "other", "timestamp": "now", "schema_version": "9"})
    assert {"kind", "sdk"}.isdisjoint(span)
    assert (span["name"], span["schema_version"]) == ("n", "1.0")


def test_a_value_whose_methods_raise_costs_its_field_only() -> None:
    class Breaking(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            raise ZeroDivisionError

    class Unhashable(str):
        __hash__ = None  # type: ignore[assignment]

    span = check({"tags": Breaking(["a"]), "status": Unhashable("error"), "model_id": Unhashable("m"), "name": "n"})
    assert "tags" not in span
    assert (span["status"], span["model_id"], span["name"]) == ("error", "m", "n")


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.BACKEND)
@pytest.mark.parametrize("times", [(1 << 63, 0), (-(1 << 63) - 1, 0), (0, -1), (0, 1 << 64)])
def test_times_that_are_none_are_refused_before_a_ticket_is_taken(core: Any, times: tuple[int, int]) -> None:
    twins = pair()
    which = CORES.index(core)
    with pytest.raises((OverflowError, ValueError)):
        twins[which].recorder.record(contexts()[which], *times, {"name": "n"})
    assert twins[which].recorder.ring.counters().recorded == 0


# ---- money ----

COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens")
COUNTS += ("reasoning_tokens", "input_audio_tokens", "output_audio_tokens", "input_image_tokens", "web_search_requests")
AMOUNTS = st.sampled_from([0, 1, 2, 3, 999, 10**6, 1 << 31, 1 << 32, (1 << 53) + 1, 1 << 63, (1 << 64) - 1])
SMALL = st.integers(0, 5)
PRICES = st.builds(Price, *[AMOUNTS | SMALL] * 10, input_limit=AMOUNTS | SMALL)
USAGES = st.one_of(
    st.dictionaries(st.sampled_from(COUNTS), AMOUNTS | SMALL, max_size=10),
    st.fixed_dictionaries(
        {"input_tokens": st.integers(0, 30), "output_tokens": st.integers(0, 10)},
        optional=dict.fromkeys(COUNTS[2:], SMALL),
    ),
)


EARLY, LATE = Pairs(), Pairs()


@examples(200)
@given(PRICES, USAGES)
def test_a_price_and_counts_give_one_cost(price: Price, counts: dict[str, int]) -> None:
    tables = [core.PriceTable() for core in CORES]
    costs = []
    for table in tables:
        assert table.put("p", "m", price)
        costs.append(table.cost("p", "m", counts))
    assert costs[0] == costs[1]
    assert costs[0] is None or 0 <= costs[0] < 1 << 64
    assert [table.cost("p", "other", counts) for table in tables] == [None, None]
    early, late = EARLY.next(), LATE.next()
    put_price(early, "p", "m", price)
    fields = {"provider": "p", "model_id": "m", **counts}
    record(early, fields)
    record(late, fields)
    batches = [twin.read() for twin in late]
    put_price(late, "p", "m", price)
    assert batches[0].unpriced() == batches[1].unpriced() == ([("p", "m")] if "input_tokens" in counts else [])
    native, pure = (b.encode(twin.recorder.prices, "v", b"") for b, twin in zip(batches, late, strict=True))
    assert native == pure
    (line,) = same_lines(early)
    spans = span_of(line), span_of(native)
    for span in spans:
        VALIDATOR.validate(span)
        assert span.get("cost_source") == (None if costs[0] is None else "local")
        assert ("price_version" in span) == (costs[0] is not None)
    assert spans[0].get("cost_usd") == spans[1].get("cost_usd")


@pytest.mark.parametrize(
    ("answered", "asked", "expected"),
    [("known", "known", 5), ("free", "known", 5), ("known", "free", 5), ("free", "free", None), ("new", "known", None)],
)
def test_the_price_of_the_asked_model_stands_where_the_other_has_none(
    answered: str, asked: str, expected: int | None
) -> None:
    twins = pair()
    put_price(twins, "p", "known", Price(input=5))
    put_price(twins, "p", "free", None)
    record(twins, {"provider": "p", "model_id": answered, "request_model": asked, "input_tokens": 1})
    batches = [twin.read() for twin in twins]
    assert batches[0].unpriced() == batches[1].unpriced()
    assert len(batches[0].unpriced()) == (2 if answered == "new" else 0)
    put_price(twins, "p", "new", Price(input=9))
    lines = [batch.encode(twin.recorder.prices, "v", b"") for batch, twin in zip(batches, twins, strict=True)]
    assert lines[0] == lines[1]
    assert span_of(lines[0]).get("cost_usd") == (9e-12 if answered == "new" else expected and expected * 1e-12)


@pytest.mark.parametrize("version", ["", "v", "v" * 64, "v" * 65, "é" * 33, "v" * 128])
def test_a_price_version_is_clipped_early_and_late(version: str) -> None:
    twins = pair()
    put_price(twins, "p", "m", Price(input=1))
    for twin in twins:
        twin.recorder.price_version = version
    record(twins, {"provider": "p", "model_id": "m", "input_tokens": 1})
    record(twins, {"provider": "p", "model_id": "late", "input_tokens": 1})
    batches = [twin.read() for twin in twins]
    put_price(twins, "p", "late", Price(input=1))
    lines = [batch.encode(twin.recorder.prices, version, b"") for batch, twin in zip(batches, twins, strict=True)]
    assert lines[0] == lines[1]
    for line in lines[0].splitlines(keepends=True):
        span = span_of(line)
        VALIDATOR.validate(span)
        assert span.get("price_version", "") == version.encode()[:64].decode("utf-8", "ignore")


@pytest.mark.parametrize("capacity", [0, 1, 5])
def test_a_full_price_table_refuses_alike(capacity: int) -> None:
    native, pure = (core.PriceTable(capacity) for core in CORES)
    puts = [("p", f"m{number}", Price(input=number)) for number in range(7)]
    for provider, model, price in [*puts, *puts, ("p", "x" * 4097, Price()), ("p", "é" * 2049, Price())]:
        assert native.put(provider, model, price) == pure.put(provider, model, price)
        assert native.cost(provider, model, {"input_tokens": 2}) == pure.cost(provider, model, {"input_tokens": 2})


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.BACKEND)
@pytest.mark.parametrize("amount", [-1, 1 << 64])
def test_a_price_that_does_not_fit_is_refused(core: Any, amount: int) -> None:
    with pytest.raises(OverflowError):
        core.PriceTable().put("p", "m", Price(input=amount))
