"""The body of a reply that nobody parsed, decoded: both cores read from it what they would have read from the objects
that an SDK makes of it. Runs where such a reply is dropped, on whichever thread that is, and never raises but for an
interrupt.
"""

from __future__ import annotations

BODY_MAX_BYTES = 1 << 20
DATA = b"data:"


def decode(body: bytes) -> tuple[object | None, list[object]]:
    """(reply, []) for a JSON object, (None, chunks) for server-sent events, (None, []) for anything else and for more
    than 1 MiB; data that is no JSON object is left out."""
    if not 0 < len(body) <= BODY_MAX_BYTES:
        return None, []
    reply = _object(body)
    if reply is not None or DATA not in body:
        return reply, []
    found = [event_of(line) for line in body.splitlines()]
    return None, [chunk for chunk in found if chunk is not None]


def event_of(line: bytes) -> dict[str, object] | None:
    """The JSON object that a line of server-sent events says, None for any other line."""
    return _object(line[len(DATA) :]) if line.startswith(DATA) else None


def _object(data: bytes) -> dict[str, object] | None:
    data = data.strip()
    if not data.startswith(b"{"):  # also of "[DONE]"
        return None
    import json

    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
