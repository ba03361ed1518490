"""The tracer of this process: configuration, core, processor and prices put together, once, at import.

Everything here is cheap until the first span: ring, thread, exporter and price list come with it. The functions but
`configure` are fasttrace's public ones of the same names.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fasttrace import config
from fasttrace.core import core
from fasttrace.errors import ConfigError, report, set_log_level
from fasttrace.trace.processor import Processor
from fasttrace.trace.span import Span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fasttrace.core._api import Price
    from fasttrace.pricing.catalog import Catalog
    from fasttrace.trace.span import Attribute
    from fasttrace.trace.stats import FlushResult, Stats


class Prices:
    """The price list, loaded by the exporter thread when a model is first met."""

    def __init__(self) -> None:
        self._catalog: Catalog | None = None

    def resolve(self, provider: str, model: str) -> Price | None:
        """What the list says of a model; None where it has no price that is exact for our counts."""
        if self._catalog is None:
            from fasttrace.pricing.catalog import Catalog

            self._catalog = Catalog.load()
            PROCESSOR.recorder.price_version = self._catalog.version
        return self._catalog.resolve(provider, model)


def _configured(settings: config.Config) -> config.Config:
    if settings.log_level:
        set_log_level(settings.log_level)
    return settings


def _from_environment() -> config.Config:
    settings, problems = config.load(os.environ, {})
    _configured(settings)
    for problem in problems:
        report(f"config {problem}", "%s", problem)
    return settings


PROCESSOR = Processor(core, _from_environment(), Prices().resolve)


def configure(overrides: Mapping[str, Any]) -> None:
    """Use these settings, over the environment's, from the next span on, and the hook `redact`, which is no setting.
    Raises ConfigError; then nothing changed."""
    settings = dict(overrides)
    redact = settings.pop("redact", None)
    if redact is not None and not callable(redact):
        raise ConfigError("redact", f"<{type(redact).__name__}>", "expected a function of (field, value), or None")
    loaded, _ = config.load(os.environ, settings)
    PROCESSOR.reconfigure(_configured(loaded), redact=redact)


def flush(timeout: float | None = None) -> FlushResult:
    """Have everything recorded so far sent or spooled; waits at most `timeout` seconds (default: EXPORT_TIMEOUT)."""
    return PROCESSOR.flush(timeout)


def stats() -> Stats:
    """Every counter of this process, as of now."""
    return PROCESSOR.stats()


def shutdown(timeout: float | None = None) -> FlushResult:
    """Stop recording, deliver within `timeout` seconds (default: SHUTDOWN_TIMEOUT), spool the rest. Safe to repeat."""
    return PROCESSOR.shutdown(timeout)


def backend() -> str:
    """Which core records: `native` or `pure`."""
    return core.BACKEND


def span(name: str, *, kind: str = "task", attributes: Mapping[str, Attribute] | None = None) -> Span:
    """A span around your own code, the parent of the calls inside: `with fasttrace.span("summarize") as s: ...`.

    Also `async with`. Raises ValueError for a kind that does not exist.
    """
    return Span(core, PROCESSOR.recorder, name, kind, attributes)
