"""What every span of this process says about the process: rendered once as JSON members, copied into each line.

Runs on the thread that configures fasttrace; the bytes are then read by the exporter thread.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from fasttrace.config import VERSION
from fasttrace.core._text import quote, redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fasttrace.config import Config

SDK = f"fasttrace-python/{VERSION}"
MEMBER_BYTES = 256


def resource_members(config: Config, environ: Mapping[str, str] = os.environ) -> bytes:
    """`"service":"…","environment":"…",…,"sdk":"…"`: schema order, no braces, members without a value left out."""
    members = {
        "service": config.service_name or environ.get("OTEL_SERVICE_NAME") or _script_name(),
        "environment": config.environment,
        "tenant_id": config.tenant_id,
        "workflow_id": config.workflow_id,
        "sdk": SDK,
    }
    return ",".join(f'"{name}":{_json_text(text)}' for name, text in members.items() if text).encode()


def _json_text(text: str) -> str:
    return quote(redacted(text, MEMBER_BYTES).decode())


def _script_name() -> str:
    """The stem of the script; a module run with -m is known by its package."""
    path = sys.argv[0] if getattr(sys, "argv", None) else ""
    name = os.path.basename(path)
    if name == "__main__.py":
        name = os.path.basename(os.path.dirname(path))
    stem = os.path.splitext(name)[0]
    return stem if stem and not stem.startswith("-") else "unknown_service"
