"""What is patched, and how. One file a provider; the registry finds and undoes, the core's call driver records.

Turning an SDK on imports nothing of it, nor our file about it: both wait until the application imports the SDK.

The settings decide about an SDK until the application does: from its first `instrument` or `uninstrument` of that SDK
on, settings change nothing about it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from fasttrace.core import core
from fasttrace.instrumentation.registry import Instrumentation
from fasttrace.trace.tracer import PROCESSOR, configure

if TYPE_CHECKING:
    from collections.abc import Callable

    from fasttrace.core._api import CallSpec
    from fasttrace.instrumentation.registry import Patch

_lock = threading.RLock()
_instrumentations: dict[str, Instrumentation] = {}
_by_hand: set[str] = set()


def _method(original: Callable[..., Any], spec: CallSpec) -> Any:
    return core.method(original, spec, PROCESSOR.recorder)


def _openai() -> list[Patch]:
    from fasttrace.instrumentation import openai

    return openai.patches(_method, core.switch)


def _anthropic() -> list[Patch]:
    from fasttrace.instrumentation import anthropic

    return anthropic.patches(_method, core.switch)


def _google_genai() -> list[Patch]:
    from fasttrace.instrumentation import google

    return google.patches(_method, core.switch)


def _google_generativeai() -> list[Patch]:
    from fasttrace.instrumentation import google_legacy

    return google_legacy.patches(_method, core.switch)


# Name → its table of patches, asked for when the package has been imported.
SDKS = {
    "openai": _openai,
    "anthropic": _anthropic,
    "google_genai": _google_genai,
    "google_generativeai": _google_generativeai,
}
# Name → package, where the two differ.
PACKAGES = {"google_genai": "google.genai", "google_generativeai": "google.generativeai"}


def _instrumentation(name: str) -> Instrumentation:
    if name not in SDKS:
        raise ValueError(f"no instrumentation for {name!r}; there is one for: {', '.join(SDKS)}")
    with _lock:
        if name not in _instrumentations:
            _instrumentations[name] = Instrumentation(PACKAGES.get(name, name), SDKS[name])
        return _instrumentations[name]


def instrument(name: str) -> None:
    """Record the calls of an SDK, a name of SDKS, now or from its import on. Idempotent. ValueError for others."""
    instrumentation = _instrumentation(name)
    _by_hand.add(name)
    instrumentation.apply()


def uninstrument(name: str) -> None:
    """Put the SDK's own functions back; what kept one of ours makes plain calls. Idempotent."""
    instrumentation = _instrumentation(name)
    _by_hand.add(name)
    instrumentation.undo()


def instrument_as_configured() -> None:
    """Every SDK that the application has not decided about: on or off, as the settings say. Idempotent."""
    settings = PROCESSOR.config
    for name in SDKS:
        if name in _by_hand:
            continue
        if settings.enabled and settings.auto_instrument:
            _instrumentation(name).apply()
        else:
            _instrumentation(name).undo()


def init(**overrides: Any) -> None:
    """Configure fasttrace from code: settings by their lower-case names without the prefix, over the environment.

    `redact(field, value)`, a function and no environment variable, is asked about each text of a span before it leaves
    the process, on the exporter thread: of `error_message` and `error_stack` it gets the text, of `request_params`,
    `attributes`, `events`, `input` and `output` the parsed JSON. What it returns takes the place, None leaves the field
    out; so does an exception, which `stats().redaction_failures` counts.

    Spans recorded before are delivered under the configuration they were recorded with. `enabled` and `auto_instrument`
    turn automatic instrumentation on or off, but not what was done by `instrument()` or `uninstrument()`. Raises
    ConfigError, naming the setting, for one that does not exist or cannot be used; then nothing has changed.
    """
    configure(overrides)
    instrument_as_configured()
