"""The wire contract: one span is one JSON object on one line, the same for every writer and reader of it."""

from __future__ import annotations

from .decode import DecodeError, decode, decompress
from .fields import FIELDS, SCHEMA_VERSION, Field, Place

__all__ = ["FIELDS", "SCHEMA_VERSION", "DecodeError", "Field", "Place", "decode", "decompress"]
