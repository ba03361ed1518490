"""A span that is too large for its collector, made smaller without touching its numbers.

The line is cut as text between its members: parsing and printing it again would turn fixed-point numbers into floats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What goes first, and what goes only if that was not enough: (members cut to {"truncated": N}, members left out).
STAGES = (
    (("input", "output"), ()),
    (("attributes",), ("events", "error_stack", "request_params")),
)


def without_content(line: bytes) -> bytes:
    """The span with its content cut to `{"truncated": bytes}`; the same line when there is nothing left to cut."""
    for cut, left_out in STAGES:
        smaller = b"{" + b",".join(_kept(line, cut, left_out)) + b"}"
        if len(smaller) < len(line):
            return smaller
    return line


def _kept(line: bytes, cut: tuple[str, ...], left_out: tuple[str, ...]) -> Iterator[bytes]:
    for name, value in members(line.decode()):
        stub = f'{{"truncated":{len(value.encode())}}}'
        if name in cut and len(stub) < len(value):
            value = stub
        if name not in left_out:
            yield f'"{name}":{value}'.encode()


def members(line: str) -> Iterator[tuple[str, str]]:
    """Name and text of each member of a JSON object written without spaces. ValueError for anything else."""
    from json import JSONDecoder

    decode = JSONDecoder().raw_decode
    position = 1
    while position < len(line) - 1:
        name, colon = decode(line, position)
        _, end = decode(line, colon + 1)
        yield name, line[colon + 1 : end]
        position = end + 1
