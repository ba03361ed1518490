"""Which entry of the price list a span means: provider names, match clauses, and spellings of one model's name.

A span's provider is the semconv name of who was called, and only that provider's list is searched: the same model costs
something else elsewhere, so a provider not named here has no price, whatever its models are called. Within the list the
entries are tried in order, the first whose clause holds is the model; then come the models the provider resells.

A name is tried as it was reported, then in other spellings of the same model: a compact date with dashes, without the
path, router or region that was put before it, without `@version`. A fine-tuned model (`ft:`) is billed at its own rate,
so nothing is ever cut off such a name.

Runs on the exporter thread, once per provider and model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    Clause = Mapping[str, Any]
    Model = Mapping[str, Any]
    Providers = Mapping[str, Mapping[str, Any]]

# gen_ai.provider.name -> provider of models.json, where the two differ. Names alike in both need no line.
PROVIDERS = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "fireworks_ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "novita_ai": "novita",
    "together_ai": "together",
    "voyage_ai": "voyageai",
    "x_ai": "x-ai",
    "z_ai": "zai",
}

# What callers and routers put before a model's own name, and the regions of Bedrock's inference profiles.
ROUTER_PREFIXES = ("models/", "openai/", "azure/", "anthropic/", "google/", "gemini/", "vertex_ai/", "bedrock/")
REGION_PREFIXES = ("us.", "us-gov.", "eu.", "apac.", "au.", "ca.", "jp.", "global.")


def holds(clause: Clause, name: str) -> bool:
    """Whether a clause holds for a lower-case name: one of its kinds, for one of that kind's operands, is enough."""
    return any(_holds_one(kind, operand, name) for kind, operand in clause.items())


def _holds_one(kind: str, operand: Any, name: str) -> bool:
    if kind == "and":
        return all(holds(part, name) for part in operand)
    if isinstance(operand, list):
        return any(_holds_one(kind, item, name) for item in operand)
    if kind == "or":
        return holds(operand, name)
    return _holds_text(kind, operand, name)


def _holds_text(kind: str, operand: str, name: str) -> bool:
    if kind == "regex":
        import re

        return re.search(operand, name) is not None
    operand = operand.lower()
    if kind == "equals":
        return name == operand
    if kind == "starts_with":
        return name.startswith(operand)
    if kind == "ends_with":
        return name.endswith(operand)
    return kind == "contains" and operand in name


def find_model(providers: Providers, provider: str, name: str) -> Model | None:
    """The entry of a semconv provider's model; None where the provider or the model is not in the list."""
    seller = providers.get(PROVIDERS.get(provider, provider))
    if seller is None:
        return None
    for spelling in spellings(name):
        for owner in (seller, *(providers[fallback] for fallback in seller["fallback"])):
            model = _first_match(owner["models"], spelling)
            if model is not None:
                return model
    return None


def _first_match(models: Mapping[str, Model], name: str) -> Model | None:
    for model_id, model in models.items():
        clause = model.get("match")
        if name == model_id.lower() if clause is None else holds(clause, name):
            return model
    return None


def spellings(name: str) -> Iterator[str]:
    """A model's name in lower case, as reported first, then what else it is known by; no duplicates."""
    reported = name.strip().lower()
    seen = set()
    for bare in (reported, _without_prefixes(reported), _without_version(_without_prefixes(reported))):
        for spelling in (bare, _with_dashed_date(bare)):
            if spelling and spelling not in seen:
                seen.add(spelling)
                yield spelling


def _without_prefixes(name: str) -> str:
    if name.startswith(("arn:", "projects/", "publishers/")):
        name = name.rpartition("/")[2]
    for prefixes in (ROUTER_PREFIXES, REGION_PREFIXES):
        name = next((name[len(prefix) :] for prefix in prefixes if name.startswith(prefix)), name)
    return name


def _without_version(name: str) -> str:
    return name.partition("@")[0] if not name.startswith("ft:") else name


def _with_dashed_date(name: str) -> str:
    """`gpt-5.2-20251211` as `gpt-5.2-2025-12-11`: routers write the one form, providers the other."""
    import re

    return re.sub(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)", r"-\1-\2-\3", name)
