"""One line of `fasttrace doctor`, and how a check that fails by itself becomes one."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Status = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """What was looked at, how it stands, what was found; `advice` is what to do where it is not ok. `counts`: the
    figures of what was found, for machines."""

    name: str
    status: Status
    found: str
    advice: str = ""
    counts: dict[str, int] | None = None


def ok(name: str, found: str) -> Check:
    return Check(name, "ok", found)


def warn(name: str, found: str, advice: str) -> Check:
    return Check(name, "warn", found, advice)


def fail(name: str, found: str, advice: str) -> Check:
    return Check(name, "fail", found, advice)


ADVICE = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there",
    errno.EROFS: "it is mounted read-only: have it mounted for writing",
    errno.EACCES: "not yours: run as the application's user",
    errno.EPERM: "not yours: run as the application's user",
    errno.ENOTDIR: "a file is in the way: move it away",
    errno.EEXIST: "a file is in the way: move it away",
    errno.EISDIR: "a directory is in the way: move it away",
    errno.ELOOP: "a link is in the way, which is not followed: remove it",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files of this machine",
    errno.EIO: "look at the disk",
}


def advice_for(error: OSError, setting: str) -> str:
    """What to do about a place that cannot be used; `setting` names it."""
    number = errno.EACCES if isinstance(error, PermissionError) else error.errno
    first = ADVICE.get(number or 0, "make it a directory of mode 0700 of this user")
    return f"{first}, or set {setting} to another place"


def text_of(error: OSError) -> str:
    """What the system says, and of which file."""
    said = error.strerror or str(error)
    return f"{error.filename}: {said}" if isinstance(error.filename, str) else said


def guarded(name: str, checks: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """The checks of a group; what one of them raises is its finding, and the next group goes on."""
    try:
        yield from checks()
    except OSError as error:
        yield fail(name, text_of(error), "see why this user cannot use that, as the application would have to")
    except Exception as error:
        found = f"the check met {type(error).__name__}: {error}"
        yield fail(name, found, "tell the maintainers of fasttrace, with the output of `fasttrace doctor --json`")
