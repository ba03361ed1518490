"""Instrumenting an SDK and undoing it leaves every attribute of every class and module as it was, identity included."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from fasttrace.instrumentation import PACKAGES, SDKS
from fasttrace.instrumentation.registry import Instrumentation, _no_switch

Attributes = dict[tuple[str, str], Any]


def instrumentation_of(name: str) -> Instrumentation:
    """The SDK's instrumentation; the test is skipped where the SDK is not installed."""
    package = PACKAGES.get(name, name)
    pytest.importorskip(package, reason=f"{package} is not installed")
    return Instrumentation(package, SDKS[name])


def modules_of(instrumentation: Instrumentation) -> list[Any]:
    return [importlib.import_module(name) for name in sorted({patch.module for patch in instrumentation._table()})]


def attributes_of(modules: list[Any]) -> Attributes:
    """What every class of the patched modules, every base of theirs, and the modules themselves have."""
    found: Attributes = {}
    for module in modules:
        owners = {module.__name__: module}
        for _, one in inspect.getmembers(module, inspect.isclass):
            owners |= {f"{base.__module__}.{base.__qualname__}": base for base in one.__mro__}
        for owner_name, owner in owners.items():
            found |= {(owner_name, name): value for name, value in vars(owner).items()}
    return found


def different(before: Attributes, after: Attributes) -> set[tuple[str, str]]:
    missing = object()
    keys = before.keys() | after.keys()
    return {key for key in keys if before.get(key, missing) is not after.get(key, missing)}


@pytest.mark.parametrize("name", SDKS)
def test_undoing_restores_every_attribute(name: str) -> None:
    instrumentation = instrumentation_of(name)
    modules = modules_of(instrumentation)
    before = attributes_of(modules)
    for _ in range(2):
        instrumentation.apply()
        changed = different(before, attributes_of(modules))
        instrumentation.undo()
        paths = {patch.path.rpartition(".")[2] for patch in instrumentation._table()}
        assert changed
        assert {attribute for _, attribute in changed} <= paths
        assert different(before, attributes_of(modules)) == set()


@pytest.mark.parametrize("name", SDKS)
def test_what_is_patched_answers_as_before(name: str) -> None:
    """Name, documentation, signature, annotations, and which kind of function it is."""
    instrumentation = instrumentation_of(name)
    before = attributes_of(modules_of(instrumentation))
    instrumentation.apply()
    try:
        after = attributes_of(modules_of(instrumentation))
        methods = {patch.path for patch in instrumentation._table() if patch.switch is not _no_switch}
        for key in different(before, after):
            if ".".join((key[0].rpartition(".")[2], key[1])) not in methods:
                continue  # a wait before a retry, that nobody asks what it is
            original, patched = before[key], after[key]
            for attribute in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
                assert getattr(patched, attribute) == getattr(original, attribute), (key, attribute)
            assert inspect.signature(patched) == inspect.signature(original)
            assert inspect.iscoroutinefunction(patched) == inspect.iscoroutinefunction(original)
            assert patched.__wrapped__ is original
    finally:
        instrumentation.undo()
