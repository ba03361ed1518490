"""One line of `fasttrace doctor`, and how a check that fails by itself becomes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Status = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """What was looked at, how it stands, what was found; `advice` is what to do where it is not ok."""

    name: str
    status: Status
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Check:
    return Check(name, "ok", found)


def warn(name: str, found: str, advice: str) -> Check:
    return Check(name, "warn", found, advice)


def fail(name: str, found: str, advice: str) -> Check:
    return Check(name, "fail", found, advice)


def guarded(name: str, checks: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """The checks of a group; what one of them raises is its finding, and the next group goes on."""
    try:
        yield from checks()
    except Exception as error:
        found = f"the check met {type(error).__name__}: {error}"
        yield fail(name, found, "tell the maintainers of fasttrace, with the output of `fasttrace doctor --json`")
