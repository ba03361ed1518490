"""The log of fasttrace: no line of it has a secret, whatever the exception that it tells of says."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

import pytest

from fasttrace.core import _report

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "sk-" + "proj-0123456789abcdefghij"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    _report.logger().addHandler(handler)
    yield shown
    _report.logger().removeHandler(handler)


def test_a_traceback_is_rid_of_secrets(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_report, "_next_time", 0.0)
    try:
        raise ValueError(f"refused: {SECRET}")
    except ValueError as error:
        _report.report(error)
    told = lines.getvalue()
    assert "ValueError: refused: [redacted]" in told and "Traceback" in told and SECRET not in told


def test_so_are_a_message_and_its_arguments(lines: io.StringIO) -> None:
    _report.logger().warning("%s of %d: %s", SECRET, 2, {"key": SECRET})
    assert lines.getvalue() == "WARNING [redacted] of 2: {'key': '[redacted]'}\n"


def test_no_handler_sees_more_than_is_printed() -> None:
    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    kept: list[logging.LogRecord] = []
    handler = Keeps()
    _report.logger().addHandler(handler)
    try:
        raise ValueError(SECRET)
    except ValueError:
        _report.logger().error("it failed", exc_info=True)
    finally:
        _report.logger().removeHandler(handler)
    (record,) = kept
    assert SECRET not in repr(record.__dict__) and "[redacted]" in (record.exc_text or "")


def test_what_cannot_be_put_into_words_raises_into_nobody(lines: io.StringIO) -> None:
    class Evil(Exception):
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    _report.logger().warning("it failed: %s", Evil())
    assert lines.getvalue() == "WARNING it failed: %s (not to be told: RuntimeError)\n"


def test_where_nobody_listens_nothing_is_read_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback in words quotes the sources of its frames."""
    import linecache

    monkeypatch.setattr(_report, "_next_time", 0.0)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    asked: list[str] = []
    monkeypatch.setattr(linecache, "updatecache", lambda name, *_: asked.append(name) or [])
    linecache.clearcache()
    try:
        raise ValueError("unheard")
    except ValueError as error:
        _report.report(error)
    assert asked == []
