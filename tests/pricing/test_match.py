"""Finding a span's model in the price list: clauses, providers, spellings of a name."""

from __future__ import annotations

import pytest

from fasttrace.pricing.match import find_model, holds, spellings


@pytest.mark.parametrize(
    ("clause", "hits", "misses"),
    [
        ({"equals": "GPT-4"}, ["gpt-4"], ["gpt-4o", ""]),
        ({"equals": ["a", "b"]}, ["a", "b"], ["c", "ab"]),
        ({"starts_with": "gpt-"}, ["gpt-", "gpt-4"], ["a-gpt-"]),
        ({"ends_with": "-mini"}, ["o4-mini"], ["o4-mini-high"]),
        ({"contains": "claude"}, ["us.claude-3"], ["claud"]),
        ({"regex": r"^o[134]"}, ["o1", "o3-mini"], ["o2", "go1"]),
        ({"equals": "a", "starts_with": "b"}, ["a", "bb"], ["ab"]),
        ({"and": [{"starts_with": "a"}, {"ends_with": "z"}]}, ["az", "abz"], ["a", "z"]),
        ({"or": {"equals": "a"}}, ["a"], ["b"]),
        ({"and": [{"or": [{"equals": ["a", "b"]}, {"equals": "c"}]}, {"contains": "b"}]}, ["b"], ["a", "c"]),
        ({"made_up": "a"}, [], ["a"]),
    ],
    ids=str,
)
def test_clauses(clause: dict[str, object], hits: list[str], misses: list[str]) -> None:
    assert [name for name in hits + misses if holds(clause, name)] == hits


PROVIDERS = {
    "azure": {"fallback": ["openai"], "models": {"own": {"price": "azure own"}}},
    "openai": {
        "fallback": ["azure"],
        "models": {
            "gpt-x": {"match": {"equals": ["gpt-x", "gpt-x-2025-12-11"]}, "price": "gpt-x"},
            "gpt-x-all": {"match": {"starts_with": "gpt-x"}, "price": "pattern"},
            "openai/routed": {"price": "routed"},
            "routed": {"price": "bare"},
        },
    },
    "google": {"fallback": [], "models": {"gemini-y": {"price": "gemini-y"}}},
    "aws": {
        "fallback": [],
        "models": {"anthropic.claude-v1:0": {"price": "claude"}, "global.anthropic.claude-v1:0": {"price": "global"}},
    },
}


@pytest.mark.parametrize(
    ("provider", "name", "expected"),
    [
        ("openai", "gpt-x", "gpt-x"),
        ("openai", "GPT-X ", "gpt-x"),
        ("openai", "gpt-x-2025-12-11", "gpt-x"),
        ("openai", "gpt-x-20251211", "pattern"),
        ("openai", "openai/routed", "routed"),
        ("openai", "azure/routed", "bare"),
        ("openai", "ft:routed:org::id", None),
        ("openai", "ft:routed@1", None),
        ("azure.ai.openai", "own", "azure own"),
        ("azure.ai.openai", "gpt-x", "gpt-x"),
        ("openai", "own", "azure own"),
        ("gcp.gemini", "models/gemini-y", "gemini-y"),
        ("gcp.vertex_ai", "publishers/google/models/gemini-y", "gemini-y"),
        ("gcp.vertex_ai", "projects/p/locations/l/publishers/google/models/gemini-y@20250101", "gemini-y"),
        ("aws.bedrock", "eu.anthropic.claude-v1:0", "claude"),
        ("aws.bedrock", "global.anthropic.claude-v1:0", "global"),
        ("aws.bedrock", "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-v1:0", "claude"),
        ("vllm", "gpt-x", None),
        ("openai", "gemini-y", None),
        ("gcp.gemini", "gpt-x", None),
    ],
)
def test_the_model_of_a_span(provider: str, name: str, expected: str | None) -> None:
    model = find_model(PROVIDERS, provider, name)
    assert (model and model["price"]) == expected


def test_resold_models_are_looked_up_one_step_only() -> None:
    chain = {
        "a": {"fallback": ["b"], "models": {}},
        "b": {"fallback": ["c"], "models": {}},
        "c": {"fallback": [], "models": {"m": {}}},
    }
    assert find_model(chain, "a", "m") is None
    assert find_model(chain, "b", "m") is not None


def test_the_reported_name_comes_first_and_no_spelling_twice() -> None:
    assert list(spellings("models/Gemini-Y@20250101")) == ["models/gemini-y@20250101", "gemini-y@20250101", "gemini-y"]
    assert list(spellings("plain")) == ["plain"]
    assert list(spellings("gpt-5.2-20251211")) == ["gpt-5.2-20251211", "gpt-5.2-2025-12-11"]
    assert list(spellings("  ")) == []
