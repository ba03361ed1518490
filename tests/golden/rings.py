"""Ring files as dead processes of each core left them, one a format version: every later fasttrace reads them.

python tests/golden/rings.py    writes those of this version; only ever to add a version, never to change one
"""

from __future__ import annotations

import gzip
import importlib
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "core"))

from dead_rings import everything, recover

from fasttrace.core._pure import layout

RINGS = Path(__file__).resolve().parent / "rings"


def file_of(name: str) -> bytes:
    return gzip.decompress((RINGS / f"{name}.ring.gz").read_bytes())


def found_in(core: Any, data: bytes) -> bytes:
    """The lines of every span, those of calls in the air last, and what was counted."""
    found = recover(core, data)
    assert found.error is None
    return b"".join(found.lines[1::2]) + f"{found.counters}\n".encode()


def main() -> None:
    for backend in ("native", "pure"):
        core = importlib.import_module(f"fasttrace.core._{backend}")
        data, name = bytes(everything(core)), f"{backend}-v{layout.VERSION}"
        (RINGS / f"{name}.ring.gz").write_bytes(gzip.compress(data, mtime=0))
        (RINGS / f"{name}.txt").write_bytes(found_in(core, data))


if __name__ == "__main__":
    main()
