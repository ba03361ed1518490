"""What happens to a processor when its process forks.

A fork child shares the parent's ring, its open files and none of its threads. It must touch none of them: the spans
in the ring are the parent's, the lock on the ring's file is held as long as any copy of its descriptor is open, and a
connection written to by two processes is broken for both. So the child drops its copies and starts from nothing; its
own ring, thread and connection come with its first span. The parent goes on as if nothing had happened.

What a thread of ours holds at the moment of the fork stays held in the child for good: the lock of a module that it
is importing, of the log, of the resolver. So a fork waits until the exporter rests, which it does whenever it waits for
anything, and until a first span that is just being recorded has its ring. The wait is bounded, to a tenth of a second
once nothing is left to import: an exporter stuck on a disk must not stop its application from forking.

A fork that Python did not make (from C) calls no hook: the processor compares process ids, and the core has its own
word for it.
"""

from __future__ import annotations

import os
import weakref
from _thread import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from fasttrace.trace.wakeup import original

if TYPE_CHECKING:

    class Exporting(Protocol):
        def hold_still(self) -> Any:
            """Wait a moment until the exporter rests, and keep it there: a lock to release, None if it does not come
            to rest."""

    class ForkAware(Protocol):
        @property
        def worker(self) -> Exporting | None: ...

        def hold_opening(self) -> Any:
            """Wait a moment until no thread is opening the ring, and keep it so: a lock to release, None if that does
            not come to be."""

        def forget_parent(self) -> None: ...


GATE_WAIT_S = 10.0

_opening: weakref.WeakSet[Any] = weakref.WeakSet()
_watched: weakref.WeakSet[Any] = weakref.WeakSet()
_is_opening_registered = _is_registered = False
_gate: Any = original("_thread", "RLock")()
_held: dict[int, dict[Any, Any]] = {}  # by the forking thread: whose lock, None where it could not be had


def watch_opening(processor: ForkAware) -> None:
    """Have every fork of this process wait while a thread opens the ring of `processor`, which imports things."""
    global _is_opening_registered
    _opening.add(processor)
    if _is_opening_registered or not hasattr(os, "register_at_fork"):
        return
    _is_opening_registered = True
    os.register_at_fork(before=_before_last, after_in_parent=_release, after_in_child=_forget_locks)


def watch(processor: ForkAware) -> None:
    """Have every fork of this process wait for `processor` and call `forget_parent()` in the child."""
    global _is_registered
    _watched.add(processor)
    if _is_registered or not hasattr(os, "register_at_fork"):
        return
    # Hooks before a fork run last in, first out. Those of `logging` take its lock, which an exporter on its way to rest
    # may need: they must be registered by now, so that ours runs first. (An application that calls a provider has
    # imported `logging` long ago; nothing else is imported on the way of a first span.)
    import logging  # noqa: F401

    _is_registered = True
    os.register_at_fork(before=_before, after_in_child=_in_child)


def _before() -> None:
    held = _held.setdefault(get_ident(), {})
    for processor in list(_watched):
        worker = processor.worker
        if worker is not None and worker not in held:
            held[worker] = worker.hold_still()


def wait_until_over() -> None:
    """An exporter thread begins when no fork is on its way: its hooks may be those of before there was an exporter.
    Not for ever: in the child of a fork from C, a thread that is not there may hold the gate."""
    if _gate.acquire(timeout=GATE_WAIT_S):
        _gate.release()


def _before_last() -> None:
    held = _held.setdefault(get_ident(), {})
    held[_gate] = _gate if _gate.acquire(timeout=GATE_WAIT_S) else None
    for processor in list(_opening):
        held[processor] = processor.hold_opening()
    _before()  # an exporter may have begun while we waited


def _release() -> None:
    for lock in _held.pop(get_ident(), {}).values():
        if lock is not None:
            lock.release()


def _forget_locks() -> None:
    global _gate
    _gate = original("_thread", "RLock")()
    _held.clear()


def _in_child() -> None:
    for processor in list(_watched):
        processor.forget_parent()
