"""Which way spans leave, by configuration: the exporter, and the spool beside it.

Imported by the exporter thread when it starts, and with it everything heavy: HTTP, TLS, compression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fasttrace.config import VERSION
from fasttrace.errors import INFO, report
from fasttrace.exporters.compression import usable_encoding
from fasttrace.exporters.file import FileExporter
from fasttrace.exporters.http import HttpExporter
from fasttrace.exporters.memory import DiscardExporter
from fasttrace.exporters.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable

    from fasttrace.config import Config
    from fasttrace.exporters.base import Exporter, Patience

NO_COLLECTOR = "no collector: spans are kept in %s; FASTTRACE_COLLECTOR_URL has them sent"


class Outlet(NamedTuple):
    """exporter: None for the spool only. encoding: how bodies are to be compressed."""

    exporter: Exporter | None
    spool: Spool
    encoding: str


def open_outlet(config: Config, patience: Patience, exporter: Exporter | None, dropped: Callable[[], int]) -> Outlet:
    """What `config` asks for; `exporter` instead of the configured one, if it is given."""
    spool = Spool(config.state_directory, config.spool_max_bytes)
    chosen = exporter or choose_exporter(config, patience, dropped)
    if chosen is None:
        report("spool_only", NO_COLLECTOR, spool.path, level=INFO)
        encoding = usable_encoding(config.compression)
    else:
        encoding = prepare(chosen)
    return Outlet(chosen, spool, encoding)


def choose_exporter(config: Config, patience: Patience, dropped: Callable[[], int]) -> Exporter | None:
    """None: to the spool only."""
    if config.exporter == "file":
        return FileExporter(config.file_path)
    if config.exporter == "none":
        return DiscardExporter()
    if config.exporter == "spool" or config.collector_url is None:
        return None
    return HttpExporter(
        config.collector_url,
        patience=patience,
        version=VERSION,
        api_key=config.api_key,
        tenant_id=config.tenant_id,
        timeout_s=config.export_timeout,
        encoding=config.compression,
        trust_env=config.trust_env,
        dropped=dropped,
    )


def prepare(exporter: Exporter) -> str:
    """Have its imports made now; what fails here fails again, and is dealt with, at the first attempt."""
    try:
        exporter.prepare()
    except Exception as error:
        report("prepare", "the exporter is not ready: %s", error)
    return exporter.encoding
