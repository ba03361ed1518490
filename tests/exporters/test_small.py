"""Compression, files, memory, and the trimming of a span."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttrace.exporters import compression
from fasttrace.exporters.base import ACCEPTED
from fasttrace.exporters.compression import compress, decompress, usable_encoding
from fasttrace.exporters.file import FileExporter
from fasttrace.exporters.memory import DiscardExporter, MemoryExporter
from fasttrace.exporters.truncate import members, without_content

# ---- compression


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "none"])
@pytest.mark.parametrize("body", [b"", b"x", b"span\n" * 100_000, os.urandom(1000)])
def test_a_body_comes_back(encoding: str, body: bytes) -> None:
    assert decompress(compress(body, encoding), encoding) == body
    assert compress(body, encoding) == compress(body, encoding), "the same bytes each time"


def test_others_can_read_it() -> None:
    assert zstandard.ZstdDecompressor().decompress(compress(b"span\n", "zstd")) == b"span\n"
    assert gzip.decompress(compress(b"span\n", "gzip")) == b"span\n"


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
def test_damage_and_bombs_are_errors(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = compress(b"span\n" * 1000, encoding)
    for body in (b"", b"garbage", good[:-1], good[: len(good) // 2]):
        with pytest.raises(ValueError, match=encoding):
            decompress(body, encoding)
    monkeypatch.setattr(compression, "DECODED_MAX_BYTES", 4999)
    with pytest.raises(ValueError, match="too large"):
        decompress(good, encoding)


def test_gzip_takes_the_place_of_a_missing_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_encoding("zstd") == "zstd"
    monkeypatch.setattr(compression, "_stdlib_zstd", lambda: None)
    monkeypatch.setattr(compression, "_zstandard", lambda: None)
    assert [usable_encoding(name) for name in ("zstd", "gzip", "none")] == ["gzip", "gzip", "none"]


# ---- files


def test_a_file_gets_one_line_a_span(tmp_path: Path, make_batch: Any) -> None:
    path = tmp_path / "deep" / "spans.jsonl"
    exporter = FileExporter(str(path))
    batches = [make_batch(3, encoding="none"), make_batch(2, first=3, encoding="none")]
    assert [exporter.export(batch) for batch in batches] == [ACCEPTED] * 2
    assert [json.loads(line)["n"] for line in path.read_bytes().splitlines()] == [0, 1, 2, 3, 4]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no such owner there")
def test_a_file_of_another_user_is_left_alone(tmp_path: Path, make_batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_bytes(b"theirs\n")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert FileExporter(str(path)).export(make_batch(encoding="none")).action == "retry"
    assert path.read_bytes() == b"theirs\n"


def test_files_rotate_by_size(tmp_path: Path, make_batch: Any) -> None:
    path = tmp_path / "spans.jsonl"
    batches = [make_batch(1, first=n, encoding="none") for n in range(7)]
    exporter = FileExporter(str(path), rotate_bytes=2 * len(batches[0].body), kept=2)
    for batch in batches:
        exporter.export(batch)
    held = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    bodies = [batch.body for batch in batches]
    assert held == {
        "spans.jsonl": bodies[6],
        "spans.jsonl.1": bodies[4] + bodies[5],
        "spans.jsonl.2": bodies[2] + bodies[3],
    }


def test_a_file_that_cannot_be_written_is_tried_again(tmp_path: Path, make_batch: Any) -> None:
    (tmp_path / "spans.jsonl").mkdir()
    outcome = FileExporter(str(tmp_path / "spans.jsonl")).export(make_batch(encoding="none"))
    assert outcome.action == "retry"


def test_a_batch_that_did_not_fit_is_taken_back(
    tmp_path: Path, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, batch = tmp_path / "spans.jsonl", make_batch(encoding="none")
    exporter, write = FileExporter(str(path)), os.write
    exporter.export(batch)
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    assert exporter.export(batch).action == "retry"
    monkeypatch.undo()
    assert path.read_bytes() == batch.body


# ---- memory


def test_memory_keeps_spans(make_batch: Any) -> None:
    exporter = MemoryExporter()
    exporter.export(make_batch(2))
    exporter.export(make_batch(1, first=2, encoding="gzip"))
    assert [span["n"] for span in exporter.spans] == [0, 1, 2]


def test_discard_says_so(make_batch: Any) -> None:
    assert DiscardExporter().export(make_batch()).action == "discarded"


# ---- trimming

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=9)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(), JSON, max_size=9), st.booleans())
def test_members_are_found_in_any_compact_object(value: dict[str, Any], ascii_only: bool) -> None:
    line = json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)
    assert [(name, json.loads(text)) for name, text in members(line)] == list(value.items())


def test_content_goes_first_then_what_else_is_long() -> None:
    line = b'{"a":1.50,"error_stack":"long","attributes":{"key":"' + b"v" * 50 + b'"},"input":["' + b"i" * 50 + b'"]}'
    first = without_content(line)
    assert first == line[: line.index(b'"input"')] + b'"input":{"truncated":54}}', "two brackets, two quotes"
    second = without_content(first)
    assert second == b'{"a":1.50,"attributes":{"truncated":60},"input":{"truncated":54}}'
    assert without_content(second) == second


def test_short_content_is_not_made_longer() -> None:
    line = b'{"input":"x","output":"y"}'
    assert without_content(line) == line
