"""fasttrace: every OpenAI call of a Python service becomes one exact span, delivered in the background.

    import fasttrace    # nothing else to do

Settings are environment variables (`FASTTRACE_COLLECTOR_URL`, ...) or keywords of `init()`. The package imports no
provider SDK and nothing heavy; FASTTRACE_AUTO_INSTRUMENT=false leaves patching to `instrument()`.
"""

from __future__ import annotations

from fasttrace.config import VERSION as __version__
from fasttrace.errors import ConfigError
from fasttrace.instrumentation import init, instrument, instrument_as_configured, uninstrument
from fasttrace.trace.span import Span
from fasttrace.trace.stats import FlushResult, Stats
from fasttrace.trace.tracer import backend, flush, shutdown, span, stats

__all__ = [
    "ConfigError",
    "FlushResult",
    "Span",
    "Stats",
    "__version__",
    "backend",
    "flush",
    "init",
    "instrument",
    "shutdown",
    "span",
    "stats",
    "uninstrument",
]

instrument_as_configured()
del instrument_as_configured
