"""One table of fields, and everybody who writes or checks spans held against it."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from fasttrace.core import _api
from fasttrace.core._pure import layout
from fasttrace.wire.fields import FIELDS, SCHEMA_VERSION, Place

ROOT = Path(__file__).parents[2]
HEADERS = ROOT / "csrc" / "include" / "fasttrace"
SCHEMA = json.loads(files("fasttrace.wire").joinpath("schema.json").read_text(encoding="utf-8"))


def header(name: str) -> str:
    return (HEADERS / name).read_text(encoding="utf-8")


def x_macro(name: str) -> list[tuple[str, str]]:
    """The X(ENUMERATOR, "wire name") entries of a list in span.h."""
    match = re.search(rf"#define {name}\(X\)((?:.*\\\n)*.*)", header("span.h"))
    assert match is not None, name
    return re.findall(r'X\((\w+), "([^"]*)"\)', match.group(1))


def names_at(place: Place) -> list[str]:
    return [field.name for field in FIELDS if field.place is place]


def enum_members(prefix: str) -> list[str]:
    """Enumerators FT_<prefix>_* of span.h in order, lower-case and without the prefix."""
    return [name.lower() for name in re.findall(rf"^    FT_{prefix}_(\w+),$", header("span.h"), re.MULTILINE)]


def test_c_enumeration_has_the_same_fields_in_the_same_order() -> None:
    entries = x_macro("FT_FIELDS")
    assert [wire for _, wire in entries] == [field.name for field in FIELDS]
    assert [enumerator.lower() for enumerator, _ in entries] == [field.name for field in FIELDS]


def test_pure_core_has_the_same_fields_in_the_same_order() -> None:
    assert layout.FIELDS == tuple(field.name for field in FIELDS)


@pytest.mark.parametrize(
    ("macro", "names"),
    [
        ("FT_KINDS", _api.KINDS),
        ("FT_STATUSES", _api.STATUSES),
        ("FT_USAGE_SOURCES", _api.USAGE_SOURCES),
        ("FT_COST_SOURCES", _api.COST_SOURCES),
    ],
)
def test_codes_are_the_same_in_c_python_and_schema(macro: str, names: tuple[str, ...]) -> None:
    assert tuple(wire for _, wire in x_macro(macro)) == names
    field = {"FT_KINDS": "kind", "FT_STATUSES": "status"}.get(macro) or macro[3:-1].lower()
    assert tuple(SCHEMA["properties"][field]["enum"]) == names
    assert layout.CODES[field] == names


def test_places_of_the_pure_core_are_those_of_the_table() -> None:
    assert sorted(layout.RECORD_STRINGS) == sorted(names_at(Place.STRING))
    assert list(layout.RECORD_STRINGS) == enum_members("STR")
    assert sorted(layout.TEXTS) == sorted(names_at(Place.TEXT))
    assert list(layout.LISTS) == names_at(Place.LIST)
    assert list(layout.JSONS) == names_at(Place.JSON)


def test_clip_lengths_agree_with_c_and_the_pure_core() -> None:
    source = (ROOT / "csrc" / "src" / "span.c").read_text(encoding="utf-8")
    limits = {name.lower(): int(limit) for name, limit in re.findall(r"\[FT_(\w+)\] = (\d+)", source)}
    assert limits == {field.name: field.clip_bytes for field in FIELDS if field.clip_bytes}
    recorded = {field.name: field.clip_bytes for field in FIELDS if field.place is not Place.RESOURCE}
    assert layout.CLIP_BYTES == {name: limit for name, limit in recorded.items() if limit}


def test_record_layout_is_what_the_header_asserts() -> None:
    asserted = dict(re.findall(r"_Static_assert\(offsetof\(ft_record, (\w+)\) == (\d+)", header("span.h")))
    assert {name: int(offset) for name, offset in asserted.items()} == {
        "counts": layout.FIRST_COUNT * 8,
        "kind": offset_of(layout.KIND),
        "strings": offset_of(layout.FIRST_STRING),
        "content_position": offset_of(layout.CONTENT_POSITION),
    }
    assert layout.RECORD.size == 8 * int(re.search(r"FT_RECORD_WORDS = (\d+)", header("span.h"))[1])  # type: ignore[index]
    assert layout.SLOT_BYTES == layout.RECORD.size + 8


def offset_of(position: int) -> int:
    """Where a value lies in the packed record: the only byte that a 1 in its place sets (little-endian or big)."""
    values = layout.EMPTY_RECORD[:]
    values[position] = -1 if position == layout.START_UNIX_NS else 1
    packed = layout.RECORD.pack(*values)
    size = {layout.KIND: 1, layout.FIRST_STRING: 2}.get(position, 8)
    return next(at for at, byte in enumerate(packed) if byte) // size * size


def test_header_layout_is_what_the_header_asserts() -> None:
    text = header("region.h")
    asserted = dict(re.findall(r"offsetof\(ft_header, (\w+)\) == (\d+)", text))
    words = {"head": layout.HEAD, "acked": layout.ACKED, "arena_head": layout.ARENA_HEAD}
    words |= {"strtab_used": layout.STRTAB_USED, "dropped": layout.DROPPED, "alive_ns": layout.ALIVE}
    words |= {"ranges": layout.RANGES, "resource": layout.RESOURCE_AT // 8, "has_redaction": layout.HAS_REDACTION}
    assert {name: int(offset) for name, offset in asserted.items()} == {name: at * 8 for name, at in words.items()}
    ready = re.search(r"ready;\s+/\* (\d+) \*/", text)
    assert ready is not None
    assert int(ready[1]) == layout.READY * 8 == layout.HEADER.size
    assert int(re.search(r"FT_REGION_MAGIC UINT64_C\((\w+)\)", text)[1], 16) == layout.MAGIC  # type: ignore[index]


def test_schema_has_every_field_in_order_and_nothing_else() -> None:
    assert list(SCHEMA["properties"]) == [field.name for field in FIELDS]
    assert SCHEMA["properties"]["schema_version"] == {"const": SCHEMA_VERSION}
    assert SCHEMA["additionalProperties"] is False


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_schema_types_are_those_of_the_table(field: Any) -> None:
    rule = SCHEMA["properties"][field.name]
    assert type_of(rule) == {"fixed": "number"}.get(field.json_type, field.json_type)
    limited = rule.get("items", rule) if field.json_type == "array" and field.clip_bytes else rule
    assert limited.get("maxLength", 0) == field.clip_bytes


def type_of(rule: dict[str, Any]) -> str:
    if "const" in rule or "enum" in rule:
        (example, *_) = rule.get("enum", [rule.get("const")])
        return "boolean" if isinstance(example, bool) else "string"
    return str(rule.get("type", "any"))


# ---- the schema as a judge of lines ----

TYPES = {"string": str, "object": dict, "array": list, "boolean": bool, "integer": int, "number": (int, float)}


def faults(rule: dict[str, Any], value: Any, path: str = "span") -> list[str]:
    """What the schema says against a value; of JSON Schema only the words that schema.json uses."""
    found = []
    if value not in rule.get("enum", [rule.get("const", value)]):
        found.append(f"{path}: not one of the values")
    if "type" in rule and not isinstance(value, TYPES[rule["type"]]):
        return [f"{path}: not {rule['type']}"]
    if "pattern" in rule and not re.search(rule["pattern"], value):
        found.append(f"{path}: pattern")
    sizes = {"minLength": len, "maxLength": len, "minItems": len, "maxItems": len, "minimum": int, "maximum": int}
    for word, size in sizes.items():
        if word in rule and (size(value) < rule[word] if word.startswith("min") else size(value) > rule[word]):
            found.append(f"{path}: {word}")
    for name in rule.get("required", ()):
        found += [] if name in value else [f"{path}.{name}: missing"]
    if rule.get("additionalProperties") is False:
        found += [f"{path}.{name}: unknown" for name in value.keys() - rule["properties"].keys()]
    for name, inner in rule.get("properties", {}).items():
        found += faults(inner, value[name], f"{path}.{name}") if name in value else []
    for element in value if "items" in rule else ():
        found += faults(rule["items"], element, f"{path}[]")
    return found


def test_schema_uses_no_word_that_is_not_judged_here() -> None:
    judged = {"const", "enum", "type", "pattern", "required", "additionalProperties", "properties", "items"}
    judged |= {"minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum"}
    words: set[str] = set()

    def collect(rule: dict[str, Any]) -> None:
        words.update(rule)
        for inner in (*rule.get("properties", {}).values(), *([rule["items"]] if "items" in rule else ())):
            collect(inner)

    collect(SCHEMA)
    assert words - judged == {"$schema", "$id", "title", "description"}


def test_what_the_cores_write_is_what_the_schema_asks_for(recording: Any) -> None:
    texts = {field.name: "é" * 9000 for field in FIELDS if field.place in (Place.STRING, Place.TEXT)}
    lists = {name: ["a", "é" * 200] for name in names_at(Place.LIST)}
    counts = dict.fromkeys([*layout.COUNTS, *layout.FIRSTS, "chunks", "http_status", "retries", "server_port"], 65535)
    codes = {name: codes[-1] for name, codes in layout.CODES.items()}
    texts["request_model"] = "another"
    jsons = {"request_params": b'{"a":1}', "attributes": b"{}", "input": b"null", "output": b'"x"'}
    jsons["events"] = b'[{"name":"n","timestamp":"t","attributes":{}}]'
    context = recording.core.new_context(recording.core.new_context(None))
    everything = {**texts, **lists, **counts, **codes, **jsons, "stream": True, "cost_usd": 2**64 - 1}
    recording.recorder.record(context, 1, 2**64 - 1, everything)
    recording.recorder.record(context, 0, 0, {})
    full, bare = recording.spans()
    assert (faults(SCHEMA, full), faults(SCHEMA, bare)) == ([], [])
    assert list(full) == [field.name for field in FIELDS if field.place is not Place.RESOURCE]
    assert faults(SCHEMA, full | {"kind": "other", "no_such": 1, "span_id": "x", "retries": 0, "tags": [1]}) == [
        "span.no_such: unknown",
        "span.span_id: pattern",
        "span.kind: not one of the values",
        "span.retries: minimum",
        "span.tags[]: not string",
    ]
