"""Compression of whole batches: one call a batch, in C, without the GIL.

zstd comes from the standard library where that has it (3.14), else from the `zstandard` package; where neither is to
be had (free-threaded builds have no wheel of it), gzip takes its place. Both keep a checksum inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from types import ModuleType

ZSTD_LEVEL = 3
GZIP_LEVEL = 6
DECODED_MAX_BYTES = 256 << 20


def usable_encoding(wanted: str) -> str:
    """`wanted`, or the nearest encoding that this interpreter has."""
    if wanted == "zstd" and _stdlib_zstd() is None and _zstandard() is None:
        return "gzip"
    return wanted


def compress(body: bytes, encoding: str) -> bytes:
    """`body` in one frame of `zstd` or `gzip`, or as it is for `none`."""
    if encoding == "zstd":
        return _compress_zstd(body)
    if encoding == "gzip":
        import gzip

        return gzip.compress(body, GZIP_LEVEL, mtime=0)
    return body


def decompress(body: bytes, encoding: str) -> bytes:
    """The inverse of `compress`. ValueError for a damaged body, and for one that would be larger than 256 MiB."""
    if encoding == "none":
        return body
    try:
        return _decompress_zstd(body) if encoding == "zstd" else _decompress_gzip(body)
    except Exception as error:
        raise ValueError(f"not a {encoding} body: {error}") from error


def _compress_zstd(body: bytes) -> bytes:
    zstd = _stdlib_zstd()
    if zstd is not None:
        options = {zstd.CompressionParameter.compression_level: ZSTD_LEVEL, zstd.CompressionParameter.checksum_flag: 1}
        return cast(bytes, zstd.compress(body, options=options))
    import zstandard

    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compress(body)


def _decompress_zstd(body: bytes) -> bytes:
    zstd = _stdlib_zstd()
    if zstd is not None:
        decompressor = zstd.ZstdDecompressor()
        return _whole(decompressor.decompress(body, DECODED_MAX_BYTES), decompressor.eof)
    import zstandard

    size = zstandard.frame_content_size(body)
    _whole(body, 0 <= size <= DECODED_MAX_BYTES)
    return zstandard.ZstdDecompressor().decompress(body)


def _decompress_gzip(body: bytes) -> bytes:
    import zlib

    decompressor = zlib.decompressobj(wbits=31)
    return _whole(decompressor.decompress(body, DECODED_MAX_BYTES), decompressor.eof)


def _whole(plain: bytes, is_whole: bool) -> bytes:
    if not is_whole:
        raise ValueError("cut short or too large")
    return plain


def _stdlib_zstd() -> ModuleType | None:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    return cast("ModuleType", zstd)


def _zstandard() -> ModuleType | None:
    try:
        import zstandard
    except ImportError:
        return None
    return zstandard
