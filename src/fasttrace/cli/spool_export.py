"""`fasttrace spool export`: the spans that wait, copied into one file of JSON lines. Nothing is taken from the spool.

The file belongs to this user alone. It appears whole, under its name, or not at all: it is written under another, which
is all that a kill leaves. A file that is there is replaced only with --force, and by the finished one. With
--from-rings also what dead processes left in their rings, read from a copy of them in the batches that whoever adopts
them makes; the rings stay as they are. Texts that their process would have given to a redaction of its own
(`init(redact=...)`) are left out: there is none here.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from fasttrace.cli import terminal
from fasttrace.cli.terminal import count, plain
from fasttrace.core import core
from fasttrace.core._orphans import FILE_MAX_BYTES
from fasttrace.exporters.spool import NAME
from fasttrace.exporters.spool_view import SpoolView
from fasttrace.trace.ring_files import OPEN_FLAGS, ring_files

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import BinaryIO

    from fasttrace.config import Config
    from fasttrace.core._api import RecoveredRing
    from fasttrace.trace.encoder import Encoder
    from fasttrace.trace.ring_files import RingFile


def run(arguments: argparse.Namespace, config: Config) -> int:
    """The command; returns its exit code: 1 where a segment or ring could not be read."""
    done = Count()
    lines = _counted(_lines(config, arguments.from_rings, done), done)
    if arguments.output == "-":
        _print(lines)
    elif problem := _write_file(os.path.abspath(os.path.expanduser(arguments.output)), arguments.force, lines):
        terminal.error("spool export", f"{plain(arguments.output)} {problem}")
        return 2
    rings = f", {count(done.rings, 'ring')} of dead processes among them" if arguments.from_rings else ""
    print(f"{count(done.spans, 'span')} exported{rings}; they still wait", file=sys.stderr)
    return 1 if done.unreadable else 0


class Count:
    """What was read so far."""

    def __init__(self) -> None:
        self.spans = self.rings = self.unreadable = 0

    def failed(self, name: str, error: Exception) -> None:
        self.unreadable += 1
        terminal.error("spool export", f"{plain(name)} cannot be read: {plain(error)}")


def _counted(lines: Iterator[bytes], done: Count) -> Iterator[bytes]:
    for line in lines:
        done.spans += 1
        yield line


def _lines(config: Config, is_with_rings: bool, done: Count) -> Iterator[bytes]:
    view = SpoolView(config.state_directory)
    spooled = set()
    for segment in view.segments():
        try:
            yield from view.lines(segment) or []
            spooled.add(_batch_id(segment.name))
        except (OSError, ValueError) as error:
            done.failed(segment.name, error)
    if is_with_rings:
        yield from _ring_lines(config, spooled, done)


def _batch_id(segment: str) -> str:
    match = NAME.fullmatch(segment)
    return ":".join(match.group("writer", "first", "count")) if match else ""


def _print(lines: Iterator[bytes]) -> None:
    if not sys.stdout.isatty():
        _write_all(sys.stdout.buffer, lines)
        return
    for line in lines:
        print(terminal.json_for_terminal(line))


def _write_all(to: BinaryIO, lines: Iterator[bytes]) -> None:
    for line in lines:
        to.write(line + b"\n")
    to.flush()


def _refusal(path: str, is_forced: bool) -> str:
    """Why this file is not written; "" where it may be. Only a regular file is ever replaced, with --force."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return ""
    if not stat.S_ISREG(mode):
        return "is no regular file: name another, or - for standard output"
    return "" if is_forced else "is there already: name another file, or add --force"


def _write_file(path: str, is_forced: bool, lines: Iterator[bytes]) -> str:
    """The file under its name once it is whole, or nothing and the reason."""
    if problem := _refusal(path, is_forced):
        return problem
    fd, temporary = _temporary_beside(path)
    try:
        with open(fd, "wb") as file:
            _write_all(file, lines)
            os.fsync(file.fileno())
        problem = _refusal(path, is_forced) or _give_name(temporary, path, is_forced)
    except BaseException:
        os.unlink(temporary)
        raise
    if problem:
        os.unlink(temporary)
    return problem


def _temporary_beside(path: str) -> tuple[int, str]:
    """A file of this user alone, in the same directory."""
    from tempfile import mkstemp

    try:
        return mkstemp(prefix=".fasttrace-", suffix=".tmp", dir=os.path.dirname(path))
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def _give_name(temporary: str, path: str, is_forced: bool) -> str:
    """A link takes no name that is taken; file systems without links have only the look before."""
    if is_forced:
        os.replace(temporary, path)
        return ""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return _refusal(path, is_forced) or "was there a moment ago: try again"
    except OSError:
        os.rename(temporary, path)
    else:
        os.unlink(temporary)
    return ""


# ---- rings


def _ring_lines(config: Config, spooled: set[str], done: Count) -> Iterator[bytes]:
    """What no segment has: an adoption that was cut short leaves batches both in the spool and in the ring."""
    from fasttrace.trace.tracer import PROCESSOR

    encoder = PROCESSOR.encoder()
    for file in ring_files(config.ring_dir):
        if file.state != "dead":
            continue
        try:
            ring = core.RecoveredRing(_copy(file))
            yield from _lines_of(ring, encoder, config.batch_size, spooled)
        except FileNotFoundError:  # adopted meanwhile
            continue
        except (OSError, ValueError) as error:
            done.failed(file.path, error)
            continue
        done.rings += 1
        if ring.has_redaction:
            _tell_of_redaction(file)


def _copy(file: RingFile) -> bytes:
    if file.size > FILE_MAX_BYTES:
        raise OSError(f"{file.size:,} bytes are more than any ring has")
    with open(os.open(file.path, OPEN_FLAGS), "rb") as opened:
        return opened.read()


def _lines_of(ring: RecoveredRing, encoder: Encoder, batch_size: int, spooled: set[str]) -> Iterator[bytes]:
    from fasttrace.trace.recovery import encoded_batches

    for batch, _ in encoded_batches(ring, encoder, batch_size):
        if batch.batch_id not in spooled:
            yield from batch.lines()


def _tell_of_redaction(file: RingFile) -> None:
    text = "had a redaction of its own, which is not to be had here: the texts of its spans are left out"
    terminal.error("spool export", f"process {file.pid} {text}")
