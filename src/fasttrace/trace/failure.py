"""What an exception tells about the call that raised it. Runs on the caller's thread, only when something failed.

Nothing is read from disk for it: the stack says where, and whoever has the source can look. An exception's text, class
and attributes may be anybody's code, so that every one of them may raise, or be of any size. No provider is imported:
what they have in common is names of classes and attributes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from fasttrace.core._report import report
from fasttrace.core._text import clean, exact_text, redact_within, redacted

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

_CANCELLED = frozenset(("CancelledError", "Cancelled", "KeyboardInterrupt", "GeneratorExit", "SystemExit"))
_TIMEOUT = frozenset(
    ("TimeoutError", "APITimeoutError", "TimeoutException", "Timeout")
    + ("DeadlineExceeded", "ReadTimeoutError", "ConnectTimeoutError")
)
_CONNECTION = "APIConnectionError"  # what the SDKs make of whatever went wrong below them, kept as its cause
_CAUSES_MAX = 8
_DEADLINE = "DEADLINE_EXCEEDED"


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
    fields["status"] = _status(exception)
    fields["error_type"] = _qualified(kind)
    fields["error_stack"] = _stack(exception)
    message = _message(exception)
    if message:
        fields["error_message"] = message
    if fields["status"] != "cancelled":  # the code of an exit is another thing
        _read_codes(exception, fields)


def _status(exception: BaseException) -> str:
    """By the names of the classes. A connection failed for what its causes say."""
    names = _class_names(exception)
    if _CONNECTION in names:
        cause = exception.__cause__
        for _ in range(_CAUSES_MAX):
            names |= _class_names(cause)
            cause = None if cause is None else cause.__cause__
    if not names.isdisjoint(_CANCELLED):
        return "cancelled"
    return "error" if names.isdisjoint(_TIMEOUT) else "timeout"


def _class_names(value: object) -> set[str]:
    return {base.__name__ for base in type(value).__mro__}


def _read_codes(exception: BaseException, fields: dict[str, Value]) -> None:
    """The HTTP status, and the provider's word for what is wrong, or else the status once more."""
    response = _attribute(exception, "response")
    status = _http_status(exception, response)
    code = _provider_code(exception, response)
    if status is not None:
        fields["http_status"] = status
        fields["error_code"] = str(status)
    if code:
        fields["error_code"] = redacted(code, ERROR_CODE_BYTES).decode()
    if code == _DEADLINE:
        fields["status"] = "timeout"


def _http_status(exception: BaseException, response: object) -> int | None:
    status = _attribute(exception, "status_code")
    if type(status) is int:
        return status
    for holder, name in ((exception, "code"), (exception, "status"), (response, "status_code")):
        status = _attribute(holder, name)
        if isinstance(status, int) and 400 <= status <= 599:
            return int.__int__(status)
    status = _member(_member(response, "ResponseMetadata"), "HTTPStatusCode")
    return status if type(status) is int else None


def _provider_code(exception: BaseException, response: object) -> str | None:
    """The first word found where SDKs keep it: openai's, what the body says (anthropic), Google's, botocore's."""
    body = _attribute(exception, "body")
    error = _member(body, "error")
    if not isinstance(error, dict):
        error = body
    return (
        _word(_attribute(exception, "code"))
        or _word(_member(error, "code"))
        or _word(_member(error, "type"))
        or _word(_attribute(_attribute(exception, "grpc_status_code"), "name"))
        or _identifier(_attribute(exception, "status"))
        or _word(_member(_member(response, "Error"), "Code"))
    )


def _attribute(value: object, name: str) -> object:
    """One that raises hides no other."""
    try:
        return getattr(value, name, None)
    except Exception as error:
        report(error)
        return None


def _word(value: object) -> str | None:
    """A text that tells something; "error" is the type of every error."""
    text = exact_text(value)
    return text if text and text != "error" else None


def _identifier(value: object) -> str | None:
    """Of a reply that is no JSON it is the reason, in words."""
    text = _word(value)
    return text if text and text.isidentifier() else None


def _member(value: object, name: str) -> object:
    return dict.get(value, name) if isinstance(value, dict) else None


def _qualified(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(exception: BaseException) -> str:
    try:
        text = str.__str__(str(exception))
    except Exception as error:  # the exception's own __str__
        text = f"<{type(error).__name__} in __str__>"
    return redacted(text, ERROR_MESSAGE_BYTES).decode()


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
