"""Write models.json from the installed `genai-prices` package (a development dependency).

    python -m fasttrace.pricing.generate [--check]

Maintainers run it by hand or in CI; users never do. Nothing is fetched: the prices are those of the package version
installed, and the same prices always give the same bytes: the date in `version` is the day on which they last changed
here. --check writes nothing and fails where the file differs.

The file keeps everything the source says, also what cost arithmetic does not use yet, so that later work needs no new
format. Per provider: `fallback`, the providers whose models it resells, and `models`, one a line, sorted by id, which
is also the order in which they are tried. Per model:

    match      clause (see match.py); left out where it is "equals the id"
    prices     unit -> price, or a list of such objects with `from` (a date) or `between` (two times of day, UTC); the
               last one that applies counts
    variants   prices that replace single units `when` the request or the reply says so (service tier, batch)

A price is a whole number of pico-USD per token, request, page or hour; a string where the source's number is not a
whole one (a float's trace); a list [base, [start, price], ...] where the whole request is repriced once its input
passes `start` tokens.
"""

from __future__ import annotations

import argparse
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from fasttrace.pricing.catalog import today

TARGET = Path(__file__).with_name("models.json")
FORMAT = 1
PICO_USD = 10**12
# Suffix of a price's name there, how many units that price is for, what the unit is called here. Hours stay hours: a
# second's price is seldom a whole number.
UNITS = (
    ("_mtok", 10**6, ""),
    ("_kcount", 10**3, ""),
    ("_kpages", 10**3, "_pages"),
    ("_mchars", 10**6, "_characters"),
    ("_gpixels", 10**9, "_pixels"),
    ("_hours", 1, "_hours"),
)

Json = dict[str, Any]


def unit_of(price_key: str) -> tuple[str, int]:
    """Our name of a unit and the number of units the source's price is for. ValueError for a kind not known here."""
    for suffix, count, ending in UNITS:
        if price_key.endswith(suffix):
            return price_key.removesuffix(suffix) + ending, count
    raise ValueError(f"genai-prices has a new kind of price, {price_key!r}: add its unit to {__name__}.UNITS")


def pico_usd(price: Decimal, count: int) -> int | str:
    """Price of one unit in pico-USD; the exact decimal as text where that is not a whole number."""
    exact = price * PICO_USD / count
    if exact * count != price * PICO_USD:
        raise ValueError(f"{price} USD for {count} has no finite decimal price per unit")
    return int(exact) if exact == exact.to_integral_value() else format(exact, "f")


def rate(price: Any, count: int) -> int | str | list[Any]:
    if isinstance(price, Decimal):
        return pico_usd(price, count)
    tiers = [[tier.start, pico_usd(tier.price, count)] for tier in price.tiers]
    return [pico_usd(price.base, count), *tiers]


def price_table(model_price: Any) -> Json:
    table = {}
    for price_key, price in vars(model_price).items():
        if price is not None:
            unit, count = unit_of(price_key)
            table[unit] = rate(price, count)
    return dict(sorted(table.items()))


def constraint(condition: Any) -> Json:
    if condition is None:
        return {}
    if hasattr(condition, "start_date"):
        return {"from": condition.start_date.isoformat()}
    return {"between": [time_of_day(condition.start_time), time_of_day(condition.end_time)]}


def time_of_day(value: Any) -> str:
    if value.utcoffset():
        raise ValueError(f"time of day {value} is not UTC")
    return str(value.replace(tzinfo=None).isoformat("minutes" if not value.second else "seconds"))


def clause(condition: Any) -> Json:
    """One match clause; alternatives of one kind share a list: {"equals": ["a", "b"]} is either of them."""
    ((name, value),) = vars(condition).items()
    if name == "and_":
        return {"and": [clause(part) for part in value]}
    if name != "or_":
        return {name: value}
    merged: Json = {}
    for part in map(clause, value):
        for kind, operand in part.items():
            merged.setdefault(kind, []).extend(operand if isinstance(operand, list) and kind != "and" else [operand])
    return {kind: operands[0] if len(operands) == 1 else operands for kind, operands in merged.items()}


def model_entry(model: Any) -> Json:
    entry: Json = {}
    match = clause(model.match)
    if match != {"equals": model.id}:
        entry["match"] = match
    if isinstance(model.prices, list):
        entry["prices"] = [constraint(item.constraint) | price_table(item.prices) for item in model.prices]
    else:
        entry["prices"] = price_table(model.prices)
    if model.price_variants:
        entry["variants"] = [
            {"when": item.when} | constraint(item.constraint) | {"prices": price_table(item.prices)}
            for item in model.price_variants
        ]
    return entry


def provider_lines(provider: Any) -> list[str]:
    ids = [model.id for model in provider.models]
    if ids != sorted(set(ids)):
        raise ValueError(f"models of {provider.id} are not sorted and unique: their order of matching would be lost")
    models = [f"{compact(model.id)}:{compact(model_entry(model))}" for model in provider.models]
    fallback = compact(provider.fallback_model_providers or [])
    return [f'{compact(provider.id)}:{{"fallback":{fallback},"models":{{', ",\n".join(models), "}}"]


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def render(date: str) -> str:
    """The text of models.json, dated `YYYY-MM-DD`. ImportError where `genai-prices` is not installed."""
    import genai_prices
    from genai_prices.data import providers

    release = f"genai-prices {genai_prices.__version__}"
    header = {
        "format": FORMAT,
        "version": f"{date}+{release.replace(' ', '-')}",
        "source": f"{release} (MIT), https://github.com/pydantic/genai-prices",
    }
    lines = [f"{compact(name)}:{compact(value)}," for name, value in header.items()]
    blocks = ["\n".join(provider_lines(provider)) for provider in sorted(providers, key=lambda item: str(item.id))]
    return "\n".join(["{", *lines, '"providers":{', ",\n".join(blocks), "}}", ""])


def current() -> tuple[str, str]:
    """Text and date of the file as it is; empty, and today, where there is none."""
    if not TARGET.exists():
        return "", today()
    text = TARGET.read_text(encoding="utf-8")
    return text, str(json.loads(text)["version"]).partition("+")[0]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fasttrace.pricing.generate", description="Write models.json.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail where the file differs")
    check = parser.parse_args(arguments).check
    text, date = current()
    try:
        same = render(date) == text
    except ImportError as error:
        return say(2, f"{error}: install the development dependency genai-prices")
    if same:
        return say(0, f"{TARGET} is up to date")
    if check:
        return say(1, f"{TARGET} differs: run python -m fasttrace.pricing.generate")
    TARGET.write_text(render(today()), encoding="utf-8", newline="\n")
    return say(0, f"{TARGET} written")


def say(status: int, line: str) -> int:
    (sys.stderr if status else sys.stdout).write(line + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
