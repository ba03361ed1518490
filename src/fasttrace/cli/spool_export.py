"""`fasttrace spool export`: the spans that wait, copied into one file of JSON lines. Nothing is taken from the spool.

The file belongs to this user alone. It appears whole, under its name, or not at all: a file that is there is replaced
only with --force, and by the finished one. With --from-rings also what dead processes left in their rings, read from a
copy of them; the rings stay as they are for whoever adopts them.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from fasttrace.cli import terminal
from fasttrace.cli.terminal import count, plain
from fasttrace.core import core
from fasttrace.exporters.spool_view import SpoolView
from fasttrace.trace.ring_files import OPEN_FLAGS, ring_files

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import BinaryIO

    from fasttrace.config import Config
    from fasttrace.core._api import Batch, PriceTable, RecoveredRing

BATCH_SPANS, BATCH_BYTES = 1000, 1 << 20
WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def run(arguments: argparse.Namespace, config: Config) -> int:
    """The command; returns its exit code: 1 where a segment or ring could not be read."""
    done = Count()
    lines = _counted(_lines(config, arguments.from_rings, done), done)
    if arguments.output == "-":
        _print(lines)
    elif not _write_file(os.path.abspath(os.path.expanduser(arguments.output)), arguments.force, lines):
        terminal.error("spool export", f"{arguments.output} is there already: name another file, or add --force")
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
    for segment in view.segments():
        try:
            yield from view.lines(segment) or []
        except (OSError, ValueError) as error:
            done.failed(segment.name, error)
    if is_with_rings:
        yield from _ring_lines(config, done)


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


def _write_file(path: str, is_forced: bool, lines: Iterator[bytes]) -> bool:
    """False, and nothing written, where the file is there and may not be replaced."""
    temporary = f"{path}.{os.getpid()}.tmp" if is_forced else path
    try:
        fd = os.open(temporary, WRITE_FLAGS, 0o600)
    except FileExistsError:
        return False
    try:
        with open(fd, "wb") as file:
            _write_all(file, lines)
            os.fsync(file.fileno())
        if is_forced:
            os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return True


# ---- rings


def _ring_lines(config: Config, done: Count) -> Iterator[bytes]:
    prices = Prices()
    for file in ring_files(config.ring_dir):
        if file.state != "dead":
            continue
        try:
            yield from _lines_of(core.RecoveredRing(_copy(file.path)), prices)
            done.rings += 1
        except FileNotFoundError:  # adopted meanwhile
            continue
        except (OSError, ValueError) as error:
            done.failed(file.path, error)


def _copy(path: str) -> bytes:
    with open(os.open(path, OPEN_FLAGS), "rb") as file:
        return file.read()


def _lines_of(ring: RecoveredRing, prices: Prices) -> Iterator[bytes]:
    """Committed spans that nobody settled, then the calls that were in the air."""
    for settled in [one for one in ring.ranges if one.is_settled]:
        yield from _read_until(ring, settled.first_ticket, prices)
        ring.skip(settled.next_ticket)
    yield from _read_until(ring, None, prices)
    yield from prices.lines(ring.aborted(), ring.resource)


def _read_until(ring: RecoveredRing, ticket: int | None, prices: Prices) -> Iterator[bytes]:
    while (batch := ring.read(BATCH_SPANS, BATCH_BYTES, ticket)).count:
        yield from prices.lines(batch, ring.resource)


class Prices:
    """The price list, for spans whose process died before it looked them up; read when the first is met."""

    def __init__(self) -> None:
        self._catalog: Any = None
        self._table: PriceTable = core.PriceTable()

    def lines(self, batch: Batch, resource: bytes) -> list[bytes]:
        for provider, model in batch.unpriced():
            self._table.put(provider, model, self._list.resolve(provider, model))
        return batch.encode(self._table, self._list.version, resource).splitlines()

    @property
    def _list(self) -> Any:
        if self._catalog is None:
            from fasttrace.pricing.catalog import Catalog

            self._catalog = Catalog.load()
        return self._catalog
