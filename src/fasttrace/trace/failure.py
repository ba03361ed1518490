"""What an exception tells about the call that raised it. Runs on the caller's thread, only when something failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.core._text import clean, redact

if TYPE_CHECKING:
    from fasttrace.core._api import Value

ERROR_MESSAGE_BYTES = 2048
ERROR_STACK_BYTES = 8192
ERROR_CODE_BYTES = 64

_CANCELLED = ("CancelledError", "KeyboardInterrupt", "GeneratorExit", "SystemExit")
_TIMEOUT = ("TimeoutError", "APITimeoutError", "TimeoutException")


def failure(exception: BaseException) -> dict[str, Value]:
    """What an exception tells: status, error_type, error_code, http_status, error_message, error_stack."""
    kind = type(exception)
    fields: dict[str, Value] = {"status": _status(kind), "error_type": _qualified(kind)}
    status_code = getattr(exception, "status_code", None)
    if type(status_code) is int:
        fields["http_status"] = status_code
    code = getattr(exception, "code", None)
    if isinstance(code, str) and code:
        fields["error_code"] = clean(code, ERROR_CODE_BYTES).decode()
    elif type(status_code) is int:
        fields["error_code"] = str(status_code)
    message = _message(exception)
    if message:
        fields["error_message"] = message
    fields["error_stack"] = _stack(exception)
    return fields


def _status(kind: type[BaseException]) -> str:
    names = [base.__name__ for base in kind.__mro__]
    if any(name in _CANCELLED for name in names):
        return "cancelled"
    return "timeout" if any(name in _TIMEOUT for name in names) else "error"


def _qualified(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(exception: BaseException) -> str:
    try:
        text = str(exception)
    except Exception as error:  # the exception's own __str__
        text = f"<{type(error).__name__} in __str__>"
    return clean(redact(text), ERROR_MESSAGE_BYTES).decode()


def _stack(exception: BaseException) -> str:
    """The traceback's frames without their values, the most recent kept when they are too many."""
    import traceback

    frames = "".join(traceback.format_tb(exception.__traceback__))
    data = clean(redact(frames), 1 << 20)
    return data[-ERROR_STACK_BYTES:].decode("utf-8", "ignore")
