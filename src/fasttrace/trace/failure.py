"""What an exception tells about the call that raised it. Runs on the caller's thread, only when something failed.

Nothing is read from disk for it: the stack says where, and whoever has the source can look. An exception's text, class
and attributes may be anybody's code, so that every one of them may raise, or be of any size.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from fasttrace.core._report import report
from fasttrace.core._text import clean, exact_text, redact_within

if TYPE_CHECKING:
    from types import CodeType, TracebackType

    from fasttrace.core._api import Value

ERROR_MESSAGE_BYTES = 2048
ERROR_STACK_BYTES = 8192
ERROR_CODE_BYTES = 64
STACK_FRAMES = 30
FILE_NAME_CHARACTERS = 512
FUNCTION_NAME_CHARACTERS = 128
PLACES_MAX = 1024

_CANCELLED = ("CancelledError", "KeyboardInterrupt", "GeneratorExit", "SystemExit")
_TIMEOUT = ("TimeoutError", "APITimeoutError", "TimeoutException")


def failure(exception: BaseException) -> dict[str, Value]:
    """What an exception tells: status, error_type, error_code, http_status, error_message, error_stack.

    Never raises but for an interrupt; of an exception that cannot be read in full, what was read so far.
    """
    fields: dict[str, Value] = {"status": "error"}
    try:
        _read(exception, fields)
    except Exception as error:  # the exception's own attributes
        report(error)
    return fields


def _read(exception: BaseException, fields: dict[str, Value]) -> None:
    kind = type(exception)
    fields["status"] = _status(kind)
    fields["error_type"] = _qualified(kind)
    fields["error_stack"] = _stack(exception)
    message = _message(exception)
    if message:
        fields["error_message"] = message
    status_code = getattr(exception, "status_code", None)
    if type(status_code) is int:
        fields["http_status"] = status_code
        fields["error_code"] = str(status_code)
    code = exact_text(getattr(exception, "code", None))
    if code:
        fields["error_code"] = clean(code, ERROR_CODE_BYTES).decode()


def _status(kind: type[BaseException]) -> str:
    names = [base.__name__ for base in kind.__mro__]
    if any(name in _CANCELLED for name in names):
        return "cancelled"
    return "timeout" if any(name in _TIMEOUT for name in names) else "error"


def _qualified(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(exception: BaseException) -> str:
    try:
        text = str.__str__(str(exception))
    except Exception as error:  # the exception's own __str__
        text = f"<{type(error).__name__} in __str__>"
    return clean(redact_within(text, ERROR_MESSAGE_BYTES), ERROR_MESSAGE_BYTES).decode()


def _stack(exception: BaseException) -> str:
    """Where the exception passed, most recent last; of too many frames the most recent."""
    passed: deque[TracebackType] = deque(maxlen=STACK_FRAMES)
    traceback = exception.__traceback__
    while traceback is not None:
        passed.append(traceback)
        traceback = traceback.tb_next
    places: deque[str] = deque()
    room = ERROR_STACK_BYTES
    for traceback in reversed(passed):
        place, size = _place(traceback.tb_frame.f_code, traceback.tb_lineno)
        room -= size
        if room < 0:
            break
        places.appendleft(place)
    return "".join(places)


_places: dict[tuple[str, int, str], tuple[str, int]] = {}


def _place(code: CodeType, line: int) -> tuple[str, int]:
    """A line of the stack and its bytes, remembered: what fails fails again in the same places."""
    key = (code.co_filename, line, code.co_name)
    known = _places.get(key)
    if known is not None:
        return known
    file = redact_within(code.co_filename, FILE_NAME_CHARACTERS)
    name = redact_within(code.co_name, FUNCTION_NAME_CHARACTERS)
    data = clean(f'  File "{file}", line {line}, in {name}\n', ERROR_STACK_BYTES)
    if len(_places) >= PLACES_MAX:
        _places.clear()
    if len(code.co_filename) <= FILE_NAME_CHARACTERS and len(code.co_name) <= FUNCTION_NAME_CHARACTERS:
        _places[key] = data.decode(), len(data)
    return data.decode(), len(data)
