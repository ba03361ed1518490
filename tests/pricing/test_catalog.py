"""What the price list gives out: known prices, what it refuses, what it remembers, what loading it costs."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from fasttrace.core._api import Price
from fasttrace.pricing import catalog
from fasttrace.pricing.catalog import Catalog, active_table, price_of

USD_PER_MILLION = 10**6  # one dollar for a million tokens is this many pico-USD for one


@pytest.fixture(scope="module")
def prices() -> Catalog:
    return Catalog.load()


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "gpt-4o-mini-2024-07-18", {"input": 0.15, "cache_read": 0.075, "output": 0.6}),
        ("openai", "gpt-4o", {"input": 2.5, "cache_read": 1.25, "output": 10}),
        ("openai", "text-embedding-3-small", {"input": 0.02, "output": 0}),
        ("azure.ai.openai", "gpt-4o-2024-08-06", {"input": 2.5, "cache_read": 1.25, "output": 10}),
        (
            "anthropic",
            "claude-3-5-haiku-20241022",
            {"input": 0.8, "cache_read": 0.08, "cache_write": 1, "cache_write_1h": 1.6, "output": 4},
        ),
        ("gcp.gemini", "gemini-2.5-flash", {"input": 0.3, "cache_read": 0.03, "input_audio": 1, "output": 2.5}),
    ],
)
def test_known_prices(prices: Catalog, provider: str, model: str, expected: dict[str, float]) -> None:
    price = prices.resolve(provider, model)
    assert price is not None
    assert {part: getattr(price, part) / USD_PER_MILLION for part in expected} == expected


def test_a_part_without_its_own_price_is_charged_as_what_it_is_part_of() -> None:
    price = price_of({"input": 10, "cache_write": 12, "output": 30})
    assert price == Price(
        input=10,
        cache_read=10,
        cache_write=12,
        cache_write_1h=12,
        input_audio=10,
        input_image=10,
        output=30,
        output_audio=30,
    )


def test_prices_hold_up_to_the_first_tier_of_any_unit() -> None:
    price = price_of({"input": [10, [128_000, 20], [256_000, 30]], "cache_read": [1, [200_000, 2]], "output": 40})
    assert price is not None
    assert (price.input, price.cache_read, price.input_limit) == (10, 1, 128_000)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"output": 1},
        {"input_characters": 1},
        {"input": 1, "audio_hours": 1},
        {"input": 1, "output": 2, "output_reasoning": 3},
        {"input": 1, "output": 2, "output_image": 3},
        {"input": 1, "cache_write": "83333.3333333333"},
        {"input": [1, [0, 2]]},
    ],
    ids=str,
)
def test_prices_that_the_parts_cannot_express_are_none(table: dict[str, object]) -> None:
    assert price_of(table) is None


def test_free_is_a_price() -> None:
    assert price_of({"input": 0, "output": 0}) == Price()


@pytest.mark.parametrize(
    ("day", "expected"), [("2025-12-31", 1), ("2026-01-01", 2), ("2026-05-31", 2), ("2026-06-01", 3)]
)
def test_the_last_price_that_has_started_counts(day: str, expected: int) -> None:
    dated = [{"input": 1}, {"from": "2026-01-01", "input": 2}, {"from": "2026-06-01", "input": 3}]
    table = active_table(dated, day)
    assert table is not None and table["input"] == expected
    assert price_of(table) == price_of({"input": expected})


def test_before_every_start_the_first_price_counts() -> None:
    assert active_table([{"from": "2026-01-01", "input": 1}, {"from": "2026-06-01", "input": 2}], "2020-01-01") == {
        "from": "2026-01-01",
        "input": 1,
    }


def test_a_price_by_the_time_of_day_is_none_unless_a_later_one_has_replaced_it() -> None:
    windows = [{"input": 1}, {"between": ["00:30", "16:30"], "input": 2}]
    assert active_table(windows, "2026-01-01") is None
    assert active_table([*windows, {"from": "2026-01-01", "input": 3}], "2026-01-01") == {
        "from": "2026-01-01",
        "input": 3,
    }


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "no-such-model"),
        ("my-gateway", "gpt-4o"),
        ("openai", ""),
        ("", "gpt-4o"),
        ("deepseek", "deepseek-chat"),
        ("openai", "tts-1"),
    ],
)
def test_an_unknown_price_is_none(prices: Catalog, provider: str, model: str) -> None:
    assert prices.resolve(provider, model) is None


def test_hits_and_misses_are_remembered_and_bounded(prices: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = catalog.find_model

    def counting(providers: object, provider: str, model: str) -> object:
        asked.append(model)
        return real(providers, provider, model)  # type: ignore[arg-type]

    monkeypatch.setattr(catalog, "find_model", counting)
    fresh = Catalog({"version": prices.version, "providers": prices._providers})
    for _ in range(3):
        assert fresh.resolve("openai", "gpt-4o") is not None
        assert fresh.resolve("openai", "no-such-model") is None
    assert asked == ["gpt-4o", "no-such-model"]
    for number in range(catalog.REMEMBERED_MAX + 10):
        fresh.resolve("nobody", str(number))
    assert len(fresh._remembered) <= catalog.REMEMBERED_MAX


def test_the_version_names_a_date_and_the_source(prices: Catalog) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d\+genai-prices-[\w.]+", prices.version)
    assert len(prices.version) <= 64


def test_the_list_is_small_on_disk_and_in_memory() -> None:
    script = """
import json, tracemalloc
from fasttrace.pricing.catalog import Catalog
tracemalloc.start()
catalog = Catalog.load()
print(json.dumps({"kept": tracemalloc.get_traced_memory()[0]}))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["kept"] <= 3 << 20


def test_importing_the_catalog_reads_nothing() -> None:
    script = (
        "import sys; import fasttrace.core._api as api; before = set(sys.modules); import fasttrace.pricing.catalog; "
        "print(sorted(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['fasttrace.pricing', 'fasttrace.pricing.catalog', 'fasttrace.pricing.match']"
