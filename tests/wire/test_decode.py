"""Batches as they come over the wire, sound and otherwise."""

from __future__ import annotations

import gzip
import json

import pytest

from fasttrace.wire import DecodeError, decode, decompress

SPANS = [{"span_id": "1", "name": "é"}, {"span_id": "2", "cost_usd": 0.0000219}]
BODY = b"".join(json.dumps(span).encode() + b"\n" for span in SPANS)


def zstd(body: bytes, with_size: bool = True) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(write_content_size=with_size, write_checksum=True).compress(body)


@pytest.mark.parametrize("encoding", ["", "none", "identity", "gzip", "zstd", "ZSTD "])
def test_every_encoding_gives_the_same_spans(encoding: str) -> None:
    pack = {"gzip": gzip.compress, "zstd": zstd}.get(encoding.strip().lower(), bytes)
    assert decode(pack(BODY), encoding) == SPANS


def test_a_zstd_frame_of_unknown_size_is_read() -> None:
    assert decode(zstd(BODY, with_size=False), "zstd") == SPANS


def test_blank_lines_and_a_missing_last_newline_are_nothing() -> None:
    assert decode(b"\n" + BODY.replace(b"\n", b"\r\n\n")[:-3]) == SPANS
    assert decode(b"") == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"a":', "not JSON"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":-Infinity}', "-Infinity is not JSON"),
        (b'{"a":"\xff"}', "not JSON"),
        (b"[1]", "not an object but list"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_an_error_names_the_line(line: bytes, says: str) -> None:
    with pytest.raises(DecodeError, match=says) as caught:
        decode(BODY + line)
    assert caught.value.line == 3
    assert str(caught.value).startswith("line 3: ")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("with_size", [True, False])
def test_every_cut_of_a_body_is_refused(encoding: str, with_size: bool) -> None:
    whole = gzip.compress(BODY) if encoding == "gzip" else zstd(BODY, with_size)
    for length in range(len(whole)):
        with pytest.raises(DecodeError):
            decompress(whole[:length], encoding)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_garbage_is_refused(encoding: str) -> None:
    with pytest.raises(DecodeError, match=f"not a {encoding} body"):
        decompress(b"this is no such thing at all", encoding)


@pytest.mark.parametrize("with_size", [True, False])
@pytest.mark.parametrize("encoding", ["", "gzip", "zstd"])
def test_more_than_the_cap_is_refused(encoding: str, with_size: bool) -> None:
    bomb = b"\n" * 100_001
    packed = {"gzip": gzip.compress(bomb), "zstd": zstd(bomb, with_size)}.get(encoding, bomb)
    assert decompress(packed, encoding, 100_001) == bomb
    with pytest.raises(DecodeError, match="larger than 100000 bytes"):
        decompress(packed, encoding, 100_000)


def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(DecodeError, match="unknown encoding 'br'"):
        decompress(BODY, "br")
