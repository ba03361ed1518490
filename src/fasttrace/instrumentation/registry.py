"""Finding, patching and undoing: which provider methods are replaced, before or after their SDK is imported.

An SDK that is not imported yet is waited for by a finder on sys.meta_path: it lets the other finders find the module
and has the loader tell when it ran. It is there only while something is waited for. (wrapt has such hooks, but
importing it costs a whole event loop, 40 ms; it is used where the SDK is there already, to find what is patched.)

A patch is undone by putting back the very object that was found. Whatever kept a bound method of ours goes on calling
it (SDKs do, under `with_raw_response`), so it is switched off too, and switched on again when the patch comes back.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from fasttrace.core._report import report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def _no_switch(replacement: Any, is_on: bool) -> None:
    """For a replacement that does nothing of its own when nothing is recorded."""


class Patch(NamedTuple):
    """One attribute that is replaced.

    module, path: where it is; replace: what stands for it, given the original; switch: turns the replacement on or off,
    for whoever kept it; is_optional: some releases of the SDK do not have it.
    """

    module: str
    path: str
    replace: Callable[[Any], Any]
    switch: Callable[[Any, bool], None] = _no_switch
    is_optional: bool = False


class _Applied(NamedTuple):
    patch: Patch
    owner: Any
    name: str
    original: Any
    replacement: Any
    was_own: bool


class ImportWatch:
    """A finder that calls back once a module has been imported. Thread-safe; removes itself when idle."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiting: dict[str, list[Callable[[ModuleType], None]]] = {}
        self._searching: set[tuple[int, str]] = set()

    def wait(self, name: str, callback: Callable[[ModuleType], None]) -> None:
        """Call `callback(module)` when `name` has been imported: now, if it has been already."""
        with self._lock:
            module = sys.modules.get(name)
            if module is None:
                self._waiting.setdefault(name, []).append(callback)
                if self not in sys.meta_path:
                    sys.meta_path.insert(0, self)
        if module is not None:
            _call(callback, module)

    def forget(self, callbacks: Sequence[Callable[[ModuleType], None]]) -> None:
        """Wait no longer for these."""
        with self._lock:
            for name, waiting in list(self._waiting.items()):
                self._waiting[name] = [callback for callback in waiting if callback not in callbacks]
                if not self._waiting[name]:
                    self._drop(name)

    def _drop(self, name: str) -> list[Callable[[ModuleType], None]]:
        with self._lock:
            callbacks = self._waiting.pop(name, [])
            if not self._waiting and self in sys.meta_path:
                sys.meta_path.remove(self)
            return callbacks

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Part of the import system: the other finders' spec, its loader made to tell."""
        key = (threading.get_ident(), name)
        if name not in self._waiting or key in self._searching:
            return None
        from importlib.util import find_spec

        self._searching.add(key)
        try:
            spec = find_spec(name)
        finally:
            self._searching.discard(key)
        if spec is not None and spec.loader is not None:
            self._watch(name, spec.loader)
        return spec

    def _watch(self, name: str, loader: Any) -> None:
        """Shadow `exec_module` on this one loader object until it ran: the loader stays what it is for everybody."""
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)
            execute(module)
            for callback in self._drop(name):
                _call(callback, module)

        try:
            loader.exec_module = exec_module
        except AttributeError as error:  # a loader without a dictionary: nothing to shadow, nothing to patch
            report(error)


def _call(callback: Callable[[ModuleType], None], module: ModuleType) -> None:
    try:
        callback(module)
    except Exception as error:  # an import must never fail for us
        report(error)


WATCH = ImportWatch()


class Instrumentation:
    """The patches of one SDK: applied as its modules come, undone together. Idempotent both ways.

    package: what is waited for; table: the patches, asked for once, when the package has been imported.
    """

    def __init__(self, package: str, table: Callable[[], Sequence[Patch]]) -> None:
        self._package = package
        self._table = table
        self._lock = threading.RLock()
        self._applied: dict[tuple[int, str], _Applied] = {}
        self._callbacks: list[Callable[[ModuleType], None]] = []

    @property
    def is_on(self) -> bool:
        """Whether the SDK is instrumented, or will be when it is imported."""
        return bool(self._callbacks)

    def apply(self) -> None:
        """Patch what is imported, wait for the rest."""
        with self._lock:
            if self._callbacks:
                return
            self._callbacks = [self._arrived]
        WATCH.wait(self._package, self._arrived)

    def _arrived(self, package: ModuleType) -> None:
        """The package is there: patch those of its modules that are, wait for the others."""
        by_module: dict[str, list[Patch]] = {}
        for patch in self._table():
            by_module.setdefault(patch.module, []).append(patch)
        waits = [(name, self._patcher(patches)) for name, patches in by_module.items()]
        with self._lock:
            if not self._callbacks:
                return
            self._callbacks = [self._arrived, *(callback for _, callback in waits)]
        for name, callback in waits:
            WATCH.wait(name, callback)

    def undo(self) -> None:
        """Put every original back. Where somebody patched over ours since, ours stays under theirs, switched off."""
        with self._lock:
            WATCH.forget(self._callbacks)
            self._callbacks = []
            for done in self._applied.values():
                done.patch.switch(done.replacement, False)
                _restore(done)

    def _patcher(self, patches: list[Patch]) -> Callable[[ModuleType], None]:
        def patch_module(module: ModuleType) -> None:
            for patch in patches:
                try:
                    self._patch(module, patch)
                except Exception as error:  # one method that cannot be patched leaves the others recorded
                    report(error)

        return patch_module

    def _patch(self, module: ModuleType, patch: Patch) -> None:
        from wrapt import resolve_path

        try:
            owner, name, original = resolve_path(module, patch.path)
        except AttributeError:
            if patch.is_optional:
                return
            raise
        with self._lock:
            if self._callbacks:
                self._replace(patch, owner, name, original)

    def _replace(self, patch: Patch, owner: Any, name: str, original: Any) -> None:
        """The same original gets the same replacement again: somebody may have kept it."""
        done = self._applied.get((id(owner), name))
        if done is not None and original is done.replacement:
            return
        if done is None or done.original is not original:
            done = _Applied(patch, owner, name, original, patch.replace(original), name in vars(owner))
            self._applied[id(owner), name] = done
        patch.switch(done.replacement, True)
        setattr(owner, name, done.replacement)


def _restore(done: _Applied) -> None:
    if vars(done.owner).get(done.name) is not done.replacement:
        return
    if done.was_own:
        setattr(done.owner, done.name, done.original)
    else:
        delattr(done.owner, done.name)
