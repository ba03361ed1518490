"""What an exception tells: within bounds, without secrets, without a look at the disk, whatever its methods do."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import subprocess
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from fasttrace.core._text import REDACTION_MARGIN
from fasttrace.trace.failure import (
    ERROR_CODE_BYTES,
    ERROR_MESSAGE_BYTES,
    ERROR_STACK_BYTES,
    PLACES_MAX,
    STACK_FRAMES,
    failure,
)

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "-".join(("sk", "proj", "abc123DEF456ghi789"))
PEM = f"-----BEGIN PRIVATE KEY-----\n{'MIIE' * 400}\n-----END PRIVATE KEY-----"

# A script, because there are no sources of `-c` that could be read. It imports `re`, as every provider SDK does.
FAILING_CALL = """
import re, sys, threading
import fasttrace
from fasttrace.core import core
from fasttrace.core._api import CallSpec, Endpoint
from fasttrace.trace.failure import failure
from fasttrace.trace.tracer import PROCESSOR

def create(self, **kwargs):
    raise ValueError("Incorrect API key provided: " + "-".join(("sk", "abc123DEF456")))

def resolve(key, client):
    return Endpoint("example", None, None)

spec = CallSpec("llm", "chat", "example", False, {}, (), (), resolve, failure)
method = core.method(create, spec, PROCESSOR.recorder)
with fasttrace.span("opens the ring"):
    pass
caller, is_watching, events = threading.get_ident(), False, []

def hook(event, args):
    if is_watching and threading.get_ident() == caller:
        events.append((event, str(args)))

sys.addaudithook(hook)
is_watching = True
try:
    method(None)
except ValueError:
    pass
is_watching = False
print([event for event in events if event[0].split(".")[0] in ("open", "import", "os", "socket")])
print(fasttrace.stats().recorded)
"""


def raised(error: BaseException) -> dict[str, Any]:
    with pytest.raises(type(error)):
        raise error
    return failure(error)


def test_a_failing_call_opens_nothing(tmp_path: Path) -> None:
    script = tmp_path / "application.py"
    script.write_text(FAILING_CALL)
    env = {**os.environ, "FASTTRACE_STATE_DIR": str(tmp_path / "state"), "FASTTRACE_EXPORTER": "spool"}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=60)
    assert (done.stdout.splitlines(), done.stderr) == (["[]", "2"], "")


# ---- the message


@pytest.mark.parametrize("before", [0, *range(ERROR_MESSAGE_BYTES - len(SECRET) - 2, ERROR_MESSAGE_BYTES + 2)])
def test_a_secret_that_the_limit_cuts_is_redacted(before: int) -> None:
    fields = raised(ValueError("x" * before + " " + SECRET + " " + "y" * 5000))
    assert len(fields["error_message"]) <= ERROR_MESSAGE_BYTES
    assert SECRET[:3] not in fields["error_message"]


def test_a_secret_that_the_end_of_the_margin_cuts_is_left_out() -> None:
    limit = ERROR_MESSAGE_BYTES + REDACTION_MARGIN
    for cut in range(1, len(SECRET)):
        text = f"{PEM} " + "x" * (limit - len(PEM) - 2 - cut) + " " + SECRET + " " + "y" * 5000
        message = raised(ValueError(text))["error_message"]
        assert message.startswith("[redacted] xxx")
        assert set(message[11:]) == {"x"}


def test_a_message_is_cut_on_a_character() -> None:
    message = raised(ValueError("é" * 5000))["error_message"]
    assert message == "é" * (ERROR_MESSAGE_BYTES // 2)


def test_the_methods_of_a_text_are_not_asked() -> None:
    class Text(str):
        def __getitem__(self, key: Any) -> str:
            raise AssertionError

        __len__ = __contains__ = __getitem__  # type: ignore[assignment]

    class Wordy(Exception):
        code = Text("c" * 100)

        def __str__(self) -> str:
            return Text("text")

    fields = raised(Wordy())
    assert (fields["error_message"], fields["error_code"]) == ("text", "c" * ERROR_CODE_BYTES)


def test_an_exception_that_cannot_be_read_in_full_tells_the_rest() -> None:
    class Opaque(Exception):
        @property
        def status_code(self) -> int:
            raise LookupError

    fields = raised(Opaque("text"))
    assert (fields["status"], fields["error_message"]) == ("error", "text")
    assert fields["error_type"].endswith("Opaque")
    assert "in raised" in fields["error_stack"]


def test_an_interrupt_in_the_text_of_an_exception_goes_on() -> None:
    class Slow(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failure(Slow())


def test_the_code_of_a_provider_goes_before_the_http_status() -> None:
    error: Any = ValueError()
    error.status_code = 429
    fields = raised(error)
    assert (fields["http_status"], fields["error_code"]) == (429, "429")
    error.code = "rate_limit_exceeded"
    fields = raised(error)
    assert (fields["http_status"], fields["error_code"]) == (429, "rate_limit_exceeded")


class Refused(Exception):
    """An SDK's exception: whatever attributes it has."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("refused")
        self.__dict__.update(attributes)


class Reply:
    status_code = 503


class Grpc:
    name = "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    ("attributes", "http_status", "error_code"),
    [
        ({"status_code": 401, "code": "invalid_api_key", "body": {"code": "other"}}, 401, "invalid_api_key"),
        ({"status_code": 400, "code": None, "body": {"code": "bad", "type": "invalid_request_error"}}, 400, "bad"),
        ({"status_code": 400, "body": {"code": None, "type": "invalid_request_error"}}, 400, "invalid_request_error"),
        ({"status_code": 402, "body": {"error": {"code": 402, "message": "no"}}}, 402, "402"),
        (
            {"status_code": 429, "body": {"type": "error", "error": {"type": "rate_limit_error"}}},
            429,
            "rate_limit_error",
        ),
        ({"status_code": 500, "body": {"type": "error", "error": "no mapping"}}, 500, "500"),
        ({"status_code": 502, "body": "<html>"}, 502, "502"),
        ({"code": 429, "status": "RESOURCE_EXHAUSTED"}, 429, "RESOURCE_EXHAUSTED"),
        ({"code": 502, "status": "Bad Gateway"}, 502, "502"),
        ({"code": HTTPStatus.TOO_MANY_REQUESTS, "grpc_status_code": Grpc()}, 429, "RESOURCE_EXHAUSTED"),
        ({"code": HTTPStatus.NOT_FOUND, "grpc_status_code": None}, 404, "404"),
        ({"response": Reply()}, 503, "503"),
        (
            {"response": {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {"HTTPStatusCode": 429}}},
            429,
            "ThrottlingException",
        ),
        ({"status": 404}, 404, "404"),
        ({"code": 1045}, None, None),
        ({"code": True, "status": "done with it", "body": [], "response": None}, None, None),
    ],
)
def test_status_and_code_are_found_where_the_sdks_keep_them(
    attributes: dict[str, Any], http_status: int | None, error_code: str | None
) -> None:
    fields = raised(Refused(**attributes))
    assert (fields.get("http_status"), fields.get("error_code")) == (http_status, error_code)
    assert fields["status"] == "error"
    assert all(type(value) in (str, int) for value in fields.values())


def test_an_attribute_that_raises_hides_no_other() -> None:
    class Opaque(Exception):
        code = "quota"

        @property
        def response(self) -> None:
            raise RuntimeError

        body = status_code = response

    assert raised(Opaque())["error_code"] == "quota"


def test_the_exit_of_a_program_has_no_code_of_a_provider() -> None:
    fields = raised(SystemExit(404))
    assert fields["status"] == "cancelled"
    assert not {"http_status", "error_code"} & fields.keys()


# ---- timeouts and cancellations


def named(name: str, *bases: type[BaseException]) -> type[BaseException]:
    return type(name, bases or (Exception,), {})


def caused(error: BaseException, *causes: BaseException) -> BaseException:
    last = error
    for cause in causes:
        last.__cause__ = cause
        last = cause
    return error


class APIConnectionError(Exception): ...


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TimeoutError(), "timeout"),
        (asyncio.TimeoutError(), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
        (concurrent.futures.CancelledError(), "cancelled"),
        (concurrent.futures.TimeoutError(), "timeout"),
        (KeyboardInterrupt(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (named("APITimeoutError", APIConnectionError)(), "timeout"),
        (named("ReadTimeout", named("TimeoutException"))(), "timeout"),
        (named("ReadTimeout", named("Timeout", OSError))(), "timeout"),
        (named("DeadlineExceeded", named("GatewayTimeout"))(), "timeout"),
        (named("ReadTimeoutError", named("HTTPClientError"))(), "timeout"),
        (named("Cancelled", BaseException)(), "cancelled"),
        (APIConnectionError(), "error"),
        (caused(APIConnectionError(), ConnectionResetError()), "error"),
        (caused(APIConnectionError(), named("ReadTimeout", named("TimeoutException"))()), "timeout"),
        (caused(APIConnectionError(), OSError(), TimeoutError()), "timeout"),
        (caused(ValueError(), TimeoutError()), "error"),
        (caused(named("APITimeoutError", APIConnectionError)(), named("ReadTimeout")()), "timeout"),
        (Refused(code=504, status="DEADLINE_EXCEEDED"), "timeout"),
        (Refused(code=504, status="GATEWAY"), "error"),
        (Refused(status_code=408), "error"),
    ],
)
def test_timeouts_and_cancellations_are_told_apart(error: BaseException, status: str) -> None:
    assert failure(error)["status"] == status


def test_causes_that_go_round_end() -> None:
    error = APIConnectionError()
    caused(error, ValueError(), error)
    assert failure(error)["status"] == "error"


# ---- the stack


def descend(depth: int) -> None:
    if depth == 0:
        raise ValueError(depth)
    descend(depth - 1)


def compiled(file: str, count: int) -> dict[str, Any]:
    """The failure of a function that calls itself `count` times, said to be in `file`."""
    names: dict[str, Any] = {}
    exec(compile("def f(n):\n    if n: f(n - 1)\n    1 / 0\n", file, "exec"), names)
    with pytest.raises(ZeroDivisionError) as caught:
        names["f"](count)
    return failure(caught.value)


@pytest.mark.parametrize(("depth", "frames"), [(0, 2), (5, 7), (900, STACK_FRAMES)])
def test_the_stack_is_the_most_recent_frames_in_order(depth: int, frames: int) -> None:
    with pytest.raises(ValueError) as caught:
        descend(depth)
    lines = str(failure(caught.value)["error_stack"]).splitlines()
    assert len(lines) == frames
    first = descend.__code__.co_firstlineno
    assert lines[-1] == f'  File "{__file__}", line {first + 2}, in descend'
    assert lines[1:-1] == [f'  File "{__file__}", line {first + 3}, in descend'] * (frames - 2)


def test_a_stack_of_long_names_keeps_whole_lines_of_the_most_recent_frames() -> None:
    stack = compiled("é" * 10_000, 100)["error_stack"]
    assert ERROR_STACK_BYTES * 3 // 4 < len(stack.encode()) <= ERROR_STACK_BYTES
    lines = stack.splitlines()
    assert all(line.startswith('  File "ééé') for line in lines)
    assert lines[-1].endswith("line 3, in f")


def test_a_stack_is_rid_of_secrets() -> None:
    stack = compiled(f"/srv/{SECRET}/app.py", 0)["error_stack"]
    assert '  File "/srv/[redacted]/app.py", line 3, in f' in stack


def test_the_places_that_failed_are_remembered_within_bounds() -> None:
    from fasttrace.trace import failure as module

    for number in range(PLACES_MAX + 10):
        assert f'"file {number}", line 3, in f' in compiled(f"file {number}", 0)["error_stack"]
    assert 0 < len(module._places) <= PLACES_MAX


def test_an_exception_that_was_never_raised_has_an_empty_stack() -> None:
    assert failure(ValueError("x"))["error_stack"] == ""
