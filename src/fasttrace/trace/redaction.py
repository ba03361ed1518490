"""The user's own redaction: `init(redact=callable)`, asked about each text of a span before it leaves the process.

It runs on the exporter thread, between the encoding of a batch and its compression, so that what is sent, spooled or
written to a file has only what it returned; the ring, from which a crash is recovered, has what was there before. The
built-in patterns were applied earlier, on the callers' threads.

A hook that raises, or returns what cannot stand in the field, costs that field: never the span, never its secrets. A
text that it returns is cut at the field's limit, as when it was recorded; JSON of more than a MiB, which no field has
by itself, is what cannot stand there. A line is cut as text between its members, as in exporters/truncate.py: what the
hook is not asked about keeps its bytes. A value it is asked about is parsed and printed anew: its numbers are Python's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fasttrace.core._text import clean, exact_text
from fasttrace.errors import report
from fasttrace.exporters.truncate import members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Hook = Callable[[str, Any], Any]

MAX_JSON_BYTES = 1 << 20
TEXT_BYTES = {"error_message": 2048, "error_stack": 8192}
# What a field may be: the schema's own type; content is whatever JSON it is.
FIELDS: dict[str, type] = {
    **dict.fromkeys(TEXT_BYTES, str),
    **dict.fromkeys(("request_params", "attributes"), dict),
    "events": list,
    **dict.fromkeys(("input", "output"), object),
}


class Failures:
    """How many fields were dropped because a hook failed. Written by the exporter thread, read by any."""

    def __init__(self) -> None:
        self.count = 0


class Redaction:
    """A hook and where its failures are counted; those of a later hook go to the same place."""

    def __init__(self, hook: Hook, failures: Failures) -> None:
        self._hook = hook
        self._failures = failures

    def lines(self, body: bytes) -> bytes:
        """NDJSON of a batch with what the hook made of it: as many lines. ValueError for what is no NDJSON of ours."""
        return b"".join(self._line(line) for line in body.splitlines(keepends=True))

    def _line(self, line: bytes) -> bytes:
        text = line.decode()
        return f"{{{','.join(self._members(text.rstrip()))}}}\n".encode() if text.strip() else line

    def _members(self, line: str) -> Iterator[str]:
        for name, value in members(line):
            shown = self._shown(name, value) if name in FIELDS else value
            if shown is not None:
                yield f'"{name}":{shown}'

    def _shown(self, name: str, value: str) -> str | None:
        """What takes the place of a value, as JSON; None: the field is left out."""
        from json import loads

        try:
            returned = self._hook(name, loads(value))
            return None if returned is None else _rendered(name, returned)
        except BaseException as error:  # also an exit: this thread is not the application's to end
            self._failures.count += 1
            report(
                f"redact {name}", "redact= failed on a field %s (%s): it is left out of the span", name, _kind_of(error)
            )
            return None


def withheld(field: str, value: Any) -> None:
    """The hook of whoever finds spans of a process whose own hook is not to be had: nothing of a text leaves."""


def _kind_of(error: BaseException) -> str:
    """Its class alone: what it says may be what was to be hidden."""
    return type(error).__name__


def _rendered(name: str, value: Any) -> str:
    """TypeError or ValueError for what is not JSON, is too large, or cannot stand in the field."""
    from json import dumps

    if not isinstance(value, FIELDS[name]):
        raise TypeError(f"expected {FIELDS[name].__name__}")
    text = exact_text(value)
    if text is not None and name in TEXT_BYTES:
        value = clean(text, TEXT_BYTES[name]).decode()
    rendered = dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if len(rendered.encode()) > MAX_JSON_BYTES:  # which a lone surrogate does not pass: it is no text
        raise ValueError(f"more than {MAX_JSON_BYTES} bytes of JSON")
    return rendered


def redacted_lines(body: bytes, redaction: Redaction | None) -> bytes:
    """`body` as it is where there is no hook."""
    return body if redaction is None else redaction.lines(body)
