"""What can go wrong with us, and the one way in which it is said.

`ConfigError` is the only exception that reaches a user, and only from `init()`. Everything else is a line on the
logger `fasttrace`, which is silent unless the application configures logging or FASTTRACE_LOG_LEVEL is set. Lines are
rate-limited by kind: a collector that is gone for an hour is one line a minute, not one a batch. Any thread.
"""

from __future__ import annotations

import time

from fasttrace.core._report import logger

LINE_INTERVAL_S = 60.0
DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40

_last_lines: dict[str, tuple[float, int]] = {}


class ConfigError(ValueError):
    """A setting that cannot be used. `why` says what was expected, so that the message is the way out."""

    def __init__(self, setting: str, value: object, why: str) -> None:
        super().__init__(setting, value, why)
        self.setting = setting
        self.value = value
        self.why = why

    def __str__(self) -> str:
        return f"{self.setting}={self.value!r}: {self.why}"


def report(kind: str, message: str, *args: object, level: int = WARNING, exc_info: bool = False) -> None:
    """One log line; at most one a minute of each `kind`, with the number of those held back."""
    now = time.monotonic()
    last, held_back = _last_lines.get(kind, (-LINE_INTERVAL_S, 0))
    if now - last < LINE_INTERVAL_S:
        _last_lines[kind] = (last, held_back + 1)
        return
    _last_lines[kind] = (now, 0)
    if held_back:
        message, args = message + " (and %d like it)", (*args, held_back)
    try:
        logger().log(level, message, *args, exc_info=exc_info)
    except Exception:  # a handler of the application's own: it must not end the thread that has something to say
        _last_lines[kind] = (now, held_back + 1)


def set_log_level(level: str) -> None:
    """Show lines of `level` and above on standard error. Touches the logger `fasttrace` and no other."""
    import logging

    ours = logger()
    ours.setLevel(level)
    if any(isinstance(handler, logging.StreamHandler) for handler in ours.handlers):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    ours.addHandler(handler)
