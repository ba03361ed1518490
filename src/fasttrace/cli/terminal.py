"""What the commands print, fit for whatever is on the other side: a terminal, a pipe, a log of a container.

Text out of spans and headers was written by somebody else. What a terminal would obey (escape sequences, control
characters of both sets, marks that turn the writing direction) is taken out before it is printed. No line is wider than
100 columns, nothing but a terminal gets colours, and a reader that has gone ends a command quietly.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

WIDTH = 100
TEXT_MAX = 2000
ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"
)
COLOURS = {"ok": "32", "warn": "33", "fail": "31;1"}


def plain(text: object, most: int = TEXT_MAX) -> str:
    """At most `most` characters of a text on one line, without anything that a terminal would obey."""
    visible = ESCAPE_SEQUENCE.sub("", str(text)[: 4 * most])
    cleaned = "".join(letter if letter.isprintable() else " " for letter in visible)
    return cut(cleaned, most)


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def plain_json(value: Any) -> Any:
    """The same JSON value with every text in it plain."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list):
        return [plain_json(element) for element in value]
    if isinstance(value, dict):
        return {plain(name): plain_json(element) for name, element in value.items()}
    return value


def json_for_terminal(line: bytes) -> str:
    """A line of JSON in which what a terminal would obey is written as JSON's own escapes: the value is the same."""
    text = line.decode(errors="replace")
    return "".join(letter if letter.isprintable() else _json_escape(letter) for letter in text)


def _json_escape(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def prepare_output() -> None:
    """A character that the terminal's encoding does not have becomes a question mark, not an exception."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def flush_output() -> None:
    """Now, while a reader that has gone can still be dealt with."""
    sys.stdout.flush()


def leave_quietly() -> None:
    """Whoever read our output has gone: let nothing be written to it any more, at exit neither."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def error(command: str, text: str) -> None:
    print(f"fasttrace {command}: {text}", file=sys.stderr)


def has_colours() -> bool:
    is_dumb = os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ or os.name == "nt"
    return sys.stdout.isatty() and not is_dumb


def coloured(word: str, text: str) -> str:
    """`text` in the colour of a status, on a terminal."""
    return f"\x1b[{COLOURS[word]}m{text}\x1b[0m" if word in COLOURS and has_colours() else text


def wrapped(first: str, text: str, indent: int) -> Iterator[str]:
    """`first`, padded to `indent`, then the text, within the width."""
    lines = textwrap.wrap(text, WIDTH - indent, break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        yield f"{first if number == 0 else '':<{indent}}{line}".rstrip()


def table(heading: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Rows under a heading, each line within the width; the columns of `right` by number are figures."""
    cells = [list(heading), *([plain(cell, 60) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heading))]
    for row in cells:
        padded = (
            f"{cell:>{width}}" if column in right else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield cut("  ".join(padded).rstrip(), WIDTH)


def span_of(age_s: float) -> str:
    """A length of time, in its largest unit."""
    for unit, seconds in (("d", 86_400), ("h", 3600), ("min", 60)):
        if age_s >= seconds:
            return f"{age_s / seconds:.0f} {unit}"
    return f"{max(age_s, 0):.0f} s"


def bytes_of(size: float) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} bytes"


def count(number: int, noun: str) -> str:
    """`1 span`, `2 spans`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def text_of(span: Mapping[str, Any], *fields: str) -> str:
    """The first of these fields that a span has, plain."""
    return next((plain(span[field], 60) for field in fields if span.get(field) is not None), "")
