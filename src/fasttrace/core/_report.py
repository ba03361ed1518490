"""The log of fasttrace, and what of ours went wrong on a caller's thread.

The logger is `fasttrace`, silent unless the application configures it: a NullHandler keeps the interpreter's handler
of last resort away. What it says is rid of secrets: a traceback quotes the application's exceptions and its source.
`logging` is imported only when there is something to say. `report` is called by both cores' call drivers from wherever
the call runs: at most one line a minute, and no lock of ours that a signal handler could meet.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger, LogRecord

INTERVAL_S = 60.0
_next_time = 0.0
_suppressed = 0


def logger() -> Logger:
    """The logger `fasttrace`."""
    import logging

    found = logging.getLogger("fasttrace")
    if not found.handlers:
        found.addHandler(logging.NullHandler())
    if _rid_of_secrets not in found.filters:
        found.addFilter(_rid_of_secrets)
    return found


def _rid_of_secrets(record: LogRecord) -> bool:
    """Whatever handler prints the record, it has no other text than this one. Never raises. Where nobody listens
    nothing is put into words: a traceback's would be read from disk, perhaps on a caller's thread."""
    from logging import Formatter

    from ._text import redact

    if not _is_heard(record.levelno):
        return False
    try:
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info:
            record.exc_text, record.exc_info = redact(Formatter().formatException(record.exc_info)), None
    except Exception as error:  # what the line tells of cannot be put into words
        record.msg = f"{record.msg!s} (not to be told: {type(error).__name__})"
        record.args = record.exc_info = record.exc_text = None
    return True


def _is_heard(level: int) -> bool:
    """Whether the application has a handler for a line of ours."""
    import logging

    source: Logger | None = logging.getLogger("fasttrace")
    while source is not None:
        if any(level >= handler.level and type(handler) is not logging.NullHandler for handler in source.handlers):
            return True
        source = source.parent if source.propagate else None
    return False


def report(exception: BaseException) -> None:
    """Log that reading a call failed with `exception`; later failures of a minute are counted into the next line."""
    global _next_time, _suppressed
    now = time.monotonic()
    if now < _next_time:
        _suppressed += 1
        return
    _next_time = now + INTERVAL_S
    more, _suppressed = _suppressed, 0
    try:
        logger().warning(
            "a call could not be read in full; its span has what was read so far (%d more since the last line)",
            more,
            exc_info=(type(exception), exception, exception.__traceback__),
        )
    except Exception:  # a handler of the application's own: it must not end the call that it would tell of
        _suppressed += more + 1
