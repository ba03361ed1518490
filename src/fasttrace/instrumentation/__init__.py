"""What is patched, and how. One file a provider; the registry finds and undoes, the core's call driver records.

Turning an SDK on imports nothing of it, nor our file about it: both wait until the application imports the SDK.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from fasttrace.core import core
from fasttrace.instrumentation.registry import Instrumentation
from fasttrace.trace.tracer import PROCESSOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from fasttrace.core._api import CallSpec
    from fasttrace.instrumentation.registry import Patch

_lock = threading.RLock()
_instrumentations: dict[str, Instrumentation] = {}


def _method(original: Callable[..., Any], spec: CallSpec) -> Any:
    return core.method(original, spec, PROCESSOR.recorder)


def _openai() -> list[Patch]:
    from fasttrace.instrumentation import openai

    return openai.patches(_method, core.switch)


# Package → its table of patches, asked for when the package has been imported.
SDKS = {"openai": _openai}


def _instrumentation(name: str) -> Instrumentation:
    if name not in SDKS:
        raise ValueError(f"no instrumentation for {name!r}; there is one for: {', '.join(SDKS)}")
    with _lock:
        if name not in _instrumentations:
            _instrumentations[name] = Instrumentation(name, SDKS[name])
        return _instrumentations[name]


def instrument(name: str) -> None:
    """Record the calls of an SDK (`openai`), now or from its import on. Idempotent. ValueError for an unknown name."""
    _instrumentation(name).apply()


def uninstrument(name: str) -> None:
    """Put the SDK's own functions back; what kept one of ours makes plain calls. Idempotent."""
    _instrumentation(name).undo()


def instrument_all() -> None:
    """Every SDK there is an instrumentation for."""
    for name in SDKS:
        instrument(name)
