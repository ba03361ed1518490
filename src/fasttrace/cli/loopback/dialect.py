"""What the APIs of the loopback provider share: the request as it was asked, the words of the answer, how they count.

A dialect is a module with `answer(asked)`, which may raise Refusal, `events(reply, request)`, the same as a stream, and
`refused(refusal)`, the body of an error in that API's shape. They run on the server's threads.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from .server import Json

ANSWER = (
    "The parcel left the depot on Tuesday and is due before noon tomorrow; the carrier will ring first, "
    "and the refund for the late delivery has been booked to the card that paid for it."
)


class Asked(NamedTuple):
    """One request. number: how many there were; is_seen: whether a text was asked about before, with this model."""

    path: str
    model: str
    request: Json
    number: int
    is_seen: Callable[[str], bool]

    def cached_tokens(self, prefix: object, block: int = 128) -> int:
        """Tokens of a first message that was seen before with this model, in whole blocks."""
        return tokens(prefix) // block * block if self.is_seen(f"{self.model} {prefix}") else 0


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}


if TYPE_CHECKING:

    class Dialect(Protocol):
        def answer(self, asked: Asked) -> Json: ...
        def events(self, reply: Json, request: Json) -> bytes: ...
        def refused(self, refusal: Refusal) -> Json: ...


def tokens(text: object) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text if isinstance(text, str) else json.dumps(text)))


def reply_words(limit: int | None) -> tuple[str, bool]:
    """The answer, and whether it was cut to `limit` words."""
    words = ANSWER.split()
    count = limit or len(words)
    return " ".join(words[:count]), count < len(words)


def server_sent(data: Json, event: str | None = None) -> bytes:
    return (f"event: {event}\n" if event else "").encode() + f"data: {json.dumps(data)}\n\n".encode()
