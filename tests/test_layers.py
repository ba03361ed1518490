"""The architecture, read from the import statements: which room of the package may use which.

Every import counts, also those inside functions and under TYPE_CHECKING. A room may import itself, the rooms below it,
and the third-party packages named for it.
"""

from __future__ import annotations

import ast
import re
import sys
from importlib.util import resolve_name
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fasttrace

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(fasttrace.__file__).parent
LAYERS = (
    {"core"},
    {"wire", "pricing", "tokens", "semconv", "config", "errors"},
    {"trace", "exporters"},
    {"instrumentation", "integrations"},
    {"__init__", "__main__", "cli"},
)
# Within a layer: what stands at its floor, and the one edge between two rooms.
FLOOR = {"errors", "semconv"}
BESIDE = {("trace", "exporters"), ("__main__", "cli"), ("cli", "__init__"), ("__main__", "__init__")}
THIRD_PARTY = {
    "wire": {"zstandard"},
    "pricing": {"genai_prices"},
    "tokens": {"tiktoken"},
    "trace": {"opentelemetry"},
    "exporters": {"httpcore", "httpx", "zstandard", "orjson"},
    "instrumentation": {"wrapt"},
    "cli": {"rich", "openai"},
}
ANYWHERE = {"typing_extensions", "_typeshed", "cython"}
STANDARD = sys.stdlib_module_names | {"compression"}
PYX_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w.]+))", re.MULTILINE)

SOURCES = sorted(path for pattern in ("*.py", "*.pyi", "*.pyx", "*.pxd") for path in PACKAGE.rglob(pattern))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """`fasttrace.trace.fork` stands in `trace`; the package itself is `__init__`."""
    return (module.split(".") + ["__init__"])[1]


def imports(path: Path) -> Iterator[str]:
    """Absolute names of what a source imports; `from fasttrace import errors` gives `fasttrace.errors`."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".pyx", ".pxd"):
        yield from (a or b for a, b in PYX_IMPORT.findall(text))
        return
    package = module_name(path) if path.stem == "__init__" else module_name(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _from(node, package)


def _from(node: ast.ImportFrom, package: str) -> Iterator[str]:
    module = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
    if module != "fasttrace":
        yield module
        return
    for alias in node.names:
        is_room = (PACKAGE / alias.name).is_dir() or (PACKAGE / f"{alias.name}.py").is_file()
        yield f"{module}.{alias.name}" if is_room else module


def layer_of(room: str) -> int:
    (layer,) = [number for number, rooms in enumerate(LAYERS) if room in rooms]
    return layer


def may_import(room: str, other: str) -> bool:
    if room == other or (room, other) in BESIDE:
        return True
    if layer_of(other) == layer_of(room):
        return other in FLOOR or room == "__init__"
    return layer_of(other) < layer_of(room)


def test_every_room_has_a_layer() -> None:
    rooms = {room_of(module_name(path)) for path in SOURCES}
    assert rooms <= set().union(*LAYERS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down_the_layers(path: Path) -> None:
    room = room_of(module_name(path))
    upwards = [
        name for name in imports(path) if name.split(".")[0] == "fasttrace" and not may_import(room, room_of(name))
    ]
    assert upwards == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_the_named_third_parties_are_used(path: Path) -> None:
    allowed = THIRD_PARTY.get(room_of(module_name(path)), set()) | ANYWHERE | {"fasttrace"}
    roots = {name.split(".")[0] for name in imports(path)} - STANDARD - {"libc", "cpython"}
    assert roots - allowed == set()


def test_the_reader_of_imports_sees_a_breach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = PACKAGE / "core" / "__init__.py"
    for text, expected in (
        ("from fasttrace.trace import tracer", "fasttrace.trace"),
        ("def f():\n    from ..exporters import http", "fasttrace.exporters"),
        ("from fasttrace import config", "fasttrace.config"),
    ):
        monkeypatch.setattr(Path, "read_text", lambda *_, text=text, **__: text)
        (name,) = imports(source)
        assert name == expected
        assert not may_import("core", room_of(name))
