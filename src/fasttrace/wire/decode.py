"""A batch as it came over the wire, to spans: for whoever receives (collector, demo, tests).

Input is not trusted: bodies are inflated piece by piece up to a cap, JSON is strict (no NaN, objects only), and an
error names the line. Any thread; no state.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, NoReturn

DECODED_MAX_BYTES = 64 << 20
ZSTD_PIECE_BYTES = 1024  # no piece of this size inflates to more than 32 MiB
ENCODINGS = ("", "none", "identity", "gzip", "zstd")


class DecodeError(ValueError):
    """A body that cannot be read; `line` is the 1-based number of the offending line, 0 for the body as a whole."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line


def decode(body: bytes, encoding: str = "", max_bytes: int = DECODED_MAX_BYTES) -> list[dict[str, Any]]:
    """The spans of an NDJSON body. `encoding` is the Content-Encoding: zstd, gzip, or none. Raises DecodeError."""
    lines = decompress(body, encoding, max_bytes).split(b"\n")
    return [_span(line, number) for number, line in enumerate(lines, 1) if line.strip()]


def decompress(body: bytes, encoding: str = "", max_bytes: int = DECODED_MAX_BYTES) -> bytes:
    """The body as it was before its Content-Encoding. Raises DecodeError when damaged, or larger than `max_bytes`."""
    encoding = encoding.strip().lower()
    if encoding not in ENCODINGS:
        raise DecodeError(f"unknown encoding {encoding!r}")
    if encoding not in ("gzip", "zstd"):
        return _within(body, max_bytes)
    try:
        return _within(_gunzip(body, max_bytes) if encoding == "gzip" else _unzstd(body, max_bytes), max_bytes)
    except DecodeError:
        raise
    except Exception as error:  # each library has its own, and none is worth an import here
        raise DecodeError(f"not a {encoding} body: {error}") from error


def _within(body: bytes, max_bytes: int) -> bytes:
    if len(body) > max_bytes:
        raise DecodeError(f"larger than {max_bytes} bytes")
    return body


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    plain = inflater.decompress(body, max_bytes + 1)
    if not inflater.eof and len(plain) <= max_bytes:
        raise DecodeError("cut short")
    return plain


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    try:
        from compression.zstd import ZstdDecompressor  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return _unzstd_by_package(body, max_bytes)
    inflater = ZstdDecompressor()
    plain: bytes = inflater.decompress(body, max_bytes + 1)
    if not inflater.eof and len(plain) <= max_bytes:
        raise DecodeError("cut short")
    return plain


def _unzstd_by_package(body: bytes, max_bytes: int) -> bytes:
    import zstandard

    inflater = zstandard.ZstdDecompressor().decompressobj()
    plain = bytearray()
    for at in range(0, len(body), ZSTD_PIECE_BYTES):
        plain += inflater.decompress(body[at : at + ZSTD_PIECE_BYTES])
        if inflater.eof or len(plain) > max_bytes:
            break
    if not inflater.eof and len(plain) <= max_bytes:
        raise DecodeError("cut short")
    return bytes(plain)


def _span(line: bytes, number: int) -> dict[str, Any]:
    try:
        span = json.loads(line.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {error}", number) from error
    if not isinstance(span, dict):
        raise DecodeError(f"not an object but {type(span).__name__}", number)
    return span


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
