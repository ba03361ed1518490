"""What happens to a processor when its process forks.

A fork child shares the parent's ring, its open files and none of its threads. It must touch none of them: the spans
in the ring are the parent's, the lock on the ring's file is held as long as any copy of its descriptor is open, and a
connection written to by two processes is broken for both. So the child drops its copies and starts from nothing; its
own ring, thread and connection come with its first span. The parent goes on as if nothing had happened.

A fork that Python did not make (from C) calls no hook: the processor compares process ids, and the core has its own
word for it.

`heavy_imports` is held by the exporter thread while it imports the HTTP stack. Before a fork it is waited for, because
a module that is half imported by a thread that the child does not have can never be imported there.
"""

from __future__ import annotations

import os
import weakref
from _thread import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from fasttrace.trace.wakeup import original

if TYPE_CHECKING:

    class ForkAware(Protocol):
        def forget_parent(self) -> None: ...


IMPORTS_WAIT_S = 2.0

_watched: weakref.WeakSet[Any] = weakref.WeakSet()
_is_registered = False
heavy_imports: Any = original("_thread", "allocate_lock")()
_holders: set[int] = set()


def watch(processor: ForkAware) -> None:
    """Have `processor.forget_parent()` called in every child of this process."""
    global _is_registered
    _watched.add(processor)
    if _is_registered or not hasattr(os, "register_at_fork"):
        return
    _is_registered = True
    os.register_at_fork(before=_before, after_in_parent=_release, after_in_child=_in_child)


def _before() -> None:
    if heavy_imports.acquire(timeout=IMPORTS_WAIT_S):
        _holders.add(get_ident())


def _release() -> None:
    if get_ident() in _holders:
        _holders.discard(get_ident())
        heavy_imports.release()


def _in_child() -> None:
    global heavy_imports
    _holders.clear()
    heavy_imports = original("_thread", "allocate_lock")()
    for processor in list(_watched):
        processor.forget_parent()
