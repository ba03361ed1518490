"""The price list against the package it was made from: the same data, the same model for a name, the same cost.

Cost is compared for every model that has a price here over a grid of usages, to the last pico-dollar. Models that the
reference prices and we do not are each held to one of the reasons in `reason_for_no_price`. Outside the grid: usages
where cached tokens are audio or pictures (spans do not count them apart; the reference refuses to guess), and usages
above the first tier, where we have no price.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fasttrace.core._api import Price
from fasttrace.pricing import generate
from fasttrace.pricing.catalog import Catalog, active_table, price_of
from fasttrace.pricing.match import find_model

genai_prices = pytest.importorskip(
    "genai_prices", reason="genai-prices, the source of models.json, is not installed (it needs Python 3.11)"
)
from genai_prices.data import providers as PROVIDERS  # noqa: E402
from genai_prices.types import ModelPrice, TieredPrices, TimeOfDateConstraint, Usage  # noqa: E402

MODELS = [(provider, model) for provider in PROVIDERS for model in provider.models]
DATA = json.loads(generate.TARGET.read_text(encoding="utf-8"))
NOON = datetime.now(timezone.utc).replace(hour=12)
DAY = NOON.date().isoformat()
LARGE = 3_000_017

GRID: list[dict[str, int]] = [
    {"input_tokens": 0, "output_tokens": 0},
    {"input_tokens": 1},
    {"input_tokens": 1, "output_tokens": 1},
    {"input_tokens": 1_234, "output_tokens": 567, "reasoning_tokens": 500},
    {"input_tokens": LARGE, "output_tokens": LARGE},
    {"input_tokens": 2_000, "cache_read_tokens": 1_999, "output_tokens": 3},
    {"input_tokens": 2_000, "cache_read_tokens": 2_000},
    {"input_tokens": 9_000, "cache_read_tokens": 1_000, "cache_write_tokens": 3_000, "output_tokens": 7},
    {"input_tokens": 9_000, "cache_write_tokens": 3_000, "cache_write_1h_tokens": 2_000, "output_tokens": 7},
    {"input_tokens": 800, "input_audio_tokens": 300, "output_tokens": 900, "output_audio_tokens": 450},
    {"input_tokens": 800, "input_image_tokens": 700, "output_tokens": 1},
    {"input_tokens": 800, "input_audio_tokens": 300, "input_image_tokens": 300},
    {"input_tokens": 50, "output_tokens": 20, "web_search_requests": 3},
]


def reference_usage(counts: Mapping[str, int]) -> Any:
    """A span's counts as the reference's."""
    usage = {name: count for name, count in counts.items() if name not in ("web_search_requests", "reasoning_tokens")}
    usage["web_searches"] = counts.get("web_search_requests", 0)
    return Usage(**usage)


def reference_pico_usd(model: Any, provider: Any, counts: Mapping[str, int]) -> Decimal:
    result = model.calc_price(reference_usage(counts), provider, genai_request_timestamp=NOON)
    return Decimal(result.total_price * 10**12)


def our_entry(provider_id: str, model_id: str) -> Any:
    return DATA["providers"][provider_id]["models"][model_id]


def usages(input_limit: int) -> Iterator[dict[str, int]]:
    yield from (counts for counts in GRID if not input_limit or counts["input_tokens"] <= input_limit)
    if input_limit:
        yield {"input_tokens": input_limit, "output_tokens": 9}
        yield {"input_tokens": input_limit, "cache_read_tokens": input_limit - 1, "output_tokens": 9}


def test_the_list_is_what_the_installed_package_gives() -> None:
    text = generate.TARGET.read_text(encoding="utf-8")
    date = DATA["version"].partition("+")[0]
    assert generate.render(date) == text, "models.json is out of date: run python -m fasttrace.pricing.generate"
    assert len(text.encode()) <= 400_000


def test_every_provider_and_model_is_in_the_list() -> None:
    ours = [(provider, model) for provider, entry in DATA["providers"].items() for model in entry["models"]]
    assert ours == [(provider.id, model.id) for provider, model in MODELS]


def priced_models() -> Iterator[tuple[Any, Any, Price]]:
    for provider, model in MODELS:
        prices = active_table(our_entry(provider.id, model.id)["prices"], DAY)
        price = None if prices is None else price_of(prices)
        if price is not None:
            yield provider, model, price


@pytest.fixture(scope="module")
def expected_costs() -> list[tuple[str, str, Price, dict[str, int], Decimal]]:
    """(provider, model, our price, usage, the reference's cost in pico-USD), computed once for both cores."""
    return [
        (provider.id, model.id, price, counts, reference_pico_usd(model, provider, counts))
        for provider, model, price in priced_models()
        for counts in usages(price.input_limit)
    ]


def test_every_cost_is_the_reference_cost_to_the_last_pico_dollar(core: Any, expected_costs: list[Any]) -> None:
    table = core.PriceTable(len(MODELS))
    wrong = []
    for provider, model, price, counts, expected in expected_costs:
        assert table.put(provider, model, price)
        cost = table.cost(provider, model, counts)
        if cost != expected:
            wrong.append((provider, model, counts, cost, expected))
    assert not wrong
    assert len(expected_costs) > 20_000


def test_above_the_limit_there_is_no_cost_because_the_reference_reprices(core: Any) -> None:
    table = core.PriceTable(len(MODELS))
    repriced = 0
    for provider, model, price in priced_models():
        if not price.input_limit:
            continue
        assert table.put(provider.id, model.id, price)
        above = {"input_tokens": price.input_limit + 1}
        assert table.cost(provider.id, model.id, above) is None
        repriced += reference_pico_usd(model, provider, above) != price.input * (price.input_limit + 1)
    assert repriced > 100


def reason_for_no_price(model: Any) -> str | None:
    """Why a model has no price here, told from the reference's own data."""
    prices = model.get_prices(NOON)
    rates = {key: rate for key, rate in vars(prices).items() if rate is not None}
    if not isinstance(model.prices, ModelPrice) and any(
        isinstance(item.constraint, TimeOfDateConstraint) for item in model.prices
    ):
        return "time of day"
    if not rates:
        return "no rate at all"
    if "input_mtok" not in rates:
        return "not by input tokens"
    apart = {"output_reasoning_mtok", "output_citation_mtok", "output_image_mtok", "output_video_mtok"}
    if rates.keys() & (apart | {"input_video_mtok", "audio_hours", "input_audio_hours"}):
        return "a unit that spans do not count"
    bases = [rate.base if isinstance(rate, TieredPrices) else rate for rate in rates.values()]
    if any(rate * 10**6 != (rate * 10**6).to_integral_value() for rate in bases):
        return "not whole pico-dollars"
    return None


def test_a_model_without_price_has_one_of_the_known_reasons_and_none_with_price_has() -> None:
    reasons: Counter[str] = Counter()
    for provider, model in MODELS:
        prices = active_table(our_entry(provider.id, model.id)["prices"], DAY)
        price = None if prices is None else price_of(prices)
        reason = reason_for_no_price(model)
        assert (price is None) == (reason is not None), (provider.id, model.id, reason)
        reasons[reason or "priced"] += 1
    assert set(reasons) == {
        "priced",
        "time of day",
        "no rate at all",
        "not by input tokens",
        "a unit that spans do not count",
        "not whole pico-dollars",
    }
    assert reasons["priced"] > 0.8 * len(MODELS)


def test_dated_prices_switch_on_the_reference_day() -> None:
    switches = 0
    for provider, model in MODELS:
        if isinstance(model.prices, ModelPrice) or reason_for_no_price(model) == "time of day":
            continue
        starts = [item.constraint.start_date for item in model.prices if item.constraint]
        for day in {start + timedelta(days=shift) for start in starts for shift in (-1, 0)}:
            at = datetime(day.year, day.month, day.day, 12, tzinfo=timezone.utc)
            table = active_table(our_entry(provider.id, model.id)["prices"], day.isoformat())
            assert table is not None
            standard = {unit: rate for unit, rate in table.items() if unit != "from"}
            assert standard == generate.price_table(model.get_prices(at)), (provider.id, model.id, day)
            switches += 1
    assert switches > 400


def names_of(clause: Any) -> Iterator[str]:
    for operand in vars(clause).values():
        if isinstance(operand, str):
            yield operand
        else:
            for part in operand:
                yield from names_of(part)


def test_a_name_finds_the_model_that_the_reference_finds() -> None:
    ours = {id(our_entry(provider.id, model.id)): model.id for provider, model in MODELS}
    names = 0
    for provider in PROVIDERS:
        asked = {name for model in provider.models for name in (model.id, *names_of(model.match))}
        for name in asked | {f"{name}-20251211" for name in asked} | {name.upper() for name in asked}:
            expected = provider.find_model(name, all_providers=PROVIDERS)
            if expected is None:
                continue
            found = find_model(DATA["providers"], provider.id, name)
            assert found is not None and ours[id(found)] == expected.id, (provider.id, name)
            names += 1
    assert names > 5_000


def test_the_generator_checks_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "models.json"
    monkeypatch.setattr(generate, "TARGET", target)
    assert generate.main(["--check"]) == 1 and not target.exists()
    assert generate.main([]) == 0
    written = target.read_bytes()
    assert generate.main(["--check"]) == 0 and generate.main([]) == 0
    assert target.read_bytes() == written
    target.write_text(target.read_text().replace('"input":150000', '"input":150001'))
    assert generate.main(["--check"]) == 1
    assert "run python -m fasttrace.pricing.generate" in capsys.readouterr().err


def test_the_catalog_of_the_package_reads_the_same_list() -> None:
    assert Catalog.load().version == DATA["version"]
