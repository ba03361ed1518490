"""Secrets in content that are known by where they stand: members that are named so, headers, the queries of URLs."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from fasttrace.core._text import REDACTED, SECRET_NAMES, exact_text, folded
from fasttrace.instrumentation.content.values import Text, get, pairs

if TYPE_CHECKING:
    from re import Match, Pattern

    from fasttrace.instrumentation.content.values import Pairs

_SCHEMA_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))


def is_secret_member(key: object, value: object, beside: Pairs, within: object) -> bool:
    """Whether the value of a member must not be shown: by its name, the members beside it, the member they are in."""
    name = folded(key)
    if name == "headers":
        return ("type", "mcp") in beside or (pairs(value, 1) is not None and not _is_schema(value))
    if name in SECRET_NAMES or (name == "value" and folded(within) == "domainsecrets"):
        return type(value) is Text or isinstance(value, (bytes, bytearray)) or exact_text(value) is not None
    return False


def _is_schema(value: object) -> bool:
    """A tool's parameter may be named `headers` too; what is declared of it is none."""
    kind = get(value, "type")
    return (exact_text(kind.value if isinstance(kind, Enum) else kind) or "").lower() in _SCHEMA_TYPES


# What a query's key has in it when its value is a secret; `author` and `keyword` have it only by chance.
_WORDS = "key(?!words?=)|token|secret|(?<![a-z])sig|signature|passw|pwd|auth(?!ors?=)|credential|jwt"
_url: Pattern[str] | None = None
_query: Pattern[str] | None = None


def redact_queries(text: str) -> str:
    """`text` with the secrets in the queries and fragments of its URLs as "[redacted]". A value that is cut is known
    for one as a whole one is.
    """
    global _query, _url
    if _url is None or _query is None:
        import re

        _query = re.compile(rf"(?<=[?&;#])([^=&?;#]{{0,64}}(?:{_WORDS})[^=&?;#]{{0,64}}=)[^&#]+", re.IGNORECASE)
        _url = re.compile(r"""://[^\s"'<>\\]+""")
    return _url.sub(_redacted_url, text)


def _redacted_url(url: Match[str]) -> str:
    text = url.group()
    return text if _query is None or "=" not in text else _query.sub(_redacted_value, text)


def _redacted_value(found: Match[str]) -> str:
    return found.group(1) + REDACTED
