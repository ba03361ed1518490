"""Spans and batches as they lie in a spool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fasttrace
from fasttrace.exporters.base import EncodedBatch
from fasttrace.exporters.compression import compress

if TYPE_CHECKING:
    from collections.abc import Sequence

WRITER = "ab" * 16
SOURCES = str(Path(fasttrace.__file__).parent.parent)


def span_line(number: int, **fields: Any) -> bytes:
    span = {
        "schema_version": "1.0",
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "kind": "llm",
        "operation": "chat",
        "name": f"call {number}",
        "model_id": "gpt-4o-mini",
        "timestamp": f"2026-11-30T10:00:{number % 60:02d}.000000Z",
        "duration_ms": 12.5,
        "status": "success",
        "input_tokens": number,
        "service": "checkout",
    }
    return json.dumps({**span, **fields}, separators=(",", ":")).encode()


def batch_of(lines: Sequence[bytes], first: int = 0, encoding: str = "zstd", writer: str = WRITER) -> EncodedBatch:
    body = b"".join(line + b"\n" for line in lines)
    return EncodedBatch(f"{writer}:{first}:{len(lines)}", compress(body, encoding), encoding, len(lines))
