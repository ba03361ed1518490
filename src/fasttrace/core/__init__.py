"""Which core runs: the native one, or its pure-Python twin.

`FASTTRACE_PURE=1` picks the twin; `FASTTRACE_PURE=0` requires the native core, so that a broken build cannot hide;
unset, it is native where the extension imports, else pure with one log line. Decided once, at import.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from ._text import use_redact

if TYPE_CHECKING:
    from ._api import Core

_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")


def native() -> Core:
    from . import _native

    return cast("Core", _native)


def pure() -> Core:
    from . import _pure

    return cast("Core", _pure)


def native_or_pure() -> Core:
    try:
        return native()
    except ImportError as error:
        from ._report import logger

        logger().warning("the native core does not load (%s); the pure-Python core runs instead, slower", error)
        return pure()


def select(wish: str | None) -> Core:
    """The core for a value of FASTTRACE_PURE; a value that is neither yes nor no counts as unset."""
    choice = (wish or "").strip().lower()
    if choice in _YES:
        return pure()
    return native() if choice in _NO else native_or_pure()


core: Core = select(os.environ.get("FASTTRACE_PURE"))
use_redact(core.redact)
