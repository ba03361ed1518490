"""The fields of a span, in the order in which they are written: the one table that everything else is held against.

Tests compare it with the C enumeration (csrc/include/fasttrace/span.h), the pure core's layout and schema.json. A field
that has no value is left out of a line: never null, never a made-up 0.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

SCHEMA_VERSION = "1.0"


class Place(Enum):
    """Where a field is kept between the call and the line."""

    CONSTANT = "constant"  # the same in every line
    RECORD = "record"  # a number or a code in the fixed-size record
    STRING = "string"  # the string table, by index from the record
    TEXT = "text"  # the content block, as text
    LIST = "list"  # the content block, one entry an element
    JSON = "json"  # the content block, as ready JSON
    RESOURCE = "resource"  # rendered once a process


class Field(NamedTuple):
    """One field: its JSON type ("fixed" is a number made from an integer), its place, its clip in bytes of UTF-8.

    `clip_bytes` is per element for a list, 0 where nothing is clipped.
    """

    name: str
    json_type: str
    place: Place
    clip_bytes: int = 0


FIELDS = (
    Field("schema_version", "string", Place.CONSTANT),
    Field("trace_id", "string", Place.RECORD),
    Field("span_id", "string", Place.RECORD),
    Field("parent_span_id", "string", Place.RECORD),
    Field("kind", "string", Place.RECORD),
    Field("operation", "string", Place.STRING, 128),
    Field("name", "string", Place.STRING, 256),
    Field("provider", "string", Place.STRING, 64),
    Field("model_id", "string", Place.STRING, 128),
    Field("request_model", "string", Place.STRING, 128),
    Field("server_address", "string", Place.STRING, 256),
    Field("server_port", "integer", Place.RECORD),
    Field("timestamp", "string", Place.RECORD),
    Field("duration_ms", "fixed", Place.RECORD),
    Field("stream", "boolean", Place.RECORD),
    Field("first_chunk_ms", "fixed", Place.RECORD),
    Field("first_token_ms", "fixed", Place.RECORD),
    Field("first_text_ms", "fixed", Place.RECORD),
    Field("chunks", "integer", Place.RECORD),
    Field("status", "string", Place.RECORD),
    Field("error_type", "string", Place.STRING, 128),
    Field("error_code", "string", Place.STRING, 64),
    Field("error_message", "string", Place.TEXT, 2048),
    Field("error_stack", "string", Place.TEXT, 8192),
    Field("http_status", "integer", Place.RECORD),
    Field("retries", "integer", Place.RECORD),
    Field("response_id", "string", Place.TEXT, 128),
    Field("finish_reasons", "array", Place.LIST, 128),
    Field("tool_calls", "array", Place.LIST, 128),
    Field("input_tokens", "integer", Place.RECORD),
    Field("output_tokens", "integer", Place.RECORD),
    Field("cache_read_tokens", "integer", Place.RECORD),
    Field("cache_write_tokens", "integer", Place.RECORD),
    Field("cache_write_1h_tokens", "integer", Place.RECORD),
    Field("reasoning_tokens", "integer", Place.RECORD),
    Field("input_audio_tokens", "integer", Place.RECORD),
    Field("output_audio_tokens", "integer", Place.RECORD),
    Field("input_image_tokens", "integer", Place.RECORD),
    Field("web_search_requests", "integer", Place.RECORD),
    Field("usage_source", "string", Place.RECORD),
    Field("cost_usd", "fixed", Place.RECORD),
    Field("cost_source", "string", Place.RECORD),
    Field("price_version", "string", Place.STRING, 64),
    Field("service_tier", "string", Place.STRING, 64),
    Field("request_params", "object", Place.JSON),
    Field("session_id", "string", Place.TEXT, 128),
    Field("user_id", "string", Place.TEXT, 128),
    Field("tags", "array", Place.LIST, 128),
    Field("goal", "string", Place.TEXT, 128),
    Field("capsule_id", "string", Place.TEXT, 64),
    Field("attributes", "object", Place.JSON),
    Field("events", "array", Place.JSON),
    Field("input", "any", Place.JSON),
    Field("output", "any", Place.JSON),
    Field("service", "string", Place.RESOURCE, 128),
    Field("environment", "string", Place.RESOURCE, 128),
    Field("tenant_id", "string", Place.RESOURCE, 128),
    Field("workflow_id", "string", Place.RESOURCE, 128),
    Field("sdk", "string", Place.RESOURCE, 128),
)
