"""`fasttrace spool`: what waits on disk, and what to do with it. `list` and `purge` are here, the others beside it.

All of it may run beside processes that write, claim and send segments. Only `drain` claims any; `purge` removes what
nobody is sending.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from fasttrace import config
from fasttrace.cli import terminal
from fasttrace.cli.terminal import bytes_of, count, plain, span_of
from fasttrace.exporters.spool_view import CORRUPT, REJECTED, SpoolView, totals_of
from fasttrace.trace.ring_files import ring_files

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from fasttrace.config import Config
    from fasttrace.exporters.spool_view import Aside, Waiting

WORD = "purge"


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code: 2 for what cannot be done as asked."""
    loaded, problems = config.load(os.environ, {})
    if arguments.state_dir:
        loaded = loaded._replace(state_dir=os.path.abspath(os.path.expanduser(arguments.state_dir)))
    try:
        return _act(arguments, loaded, problems)
    except BrokenPipeError:
        raise
    except OSError as error:
        terminal.error(f"spool {arguments.action}", plain(error))
        return 2


def _act(arguments: argparse.Namespace, loaded: Config, problems: list[str]) -> int:
    if arguments.action == "list":
        return list_segments(loaded)
    if arguments.action == "purge":
        return purge(loaded, arguments)
    if arguments.action == "show":
        from . import spool_show

        return spool_show.run(arguments, loaded)
    if arguments.action == "export":
        from . import spool_export

        return spool_export.run(arguments, loaded)
    from . import spool_drain

    return spool_drain.run(loaded, problems)


# ---- list


def list_segments(loaded: Config) -> int:
    view = SpoolView(loaded.state_directory)
    segments = view.segments()
    print(f"spool      {plain(view.path)}")
    if segments:
        rows = [_row(view, segment) for segment in segments]
        for line in terminal.table(("age", "service", "writer", "spans", "bytes", "state"), rows, right=(0, 3, 4)):
            print(line)
    for line in _summary(view, segments, loaded):
        print(line)
    return 0


def _row(view: SpoolView, segment: Waiting) -> tuple[str, ...]:
    age = span_of(time.time() - segment.created_ns / 1e9)
    service = view.service_of(segment) or "unknown"
    return (age, service, segment.writer[:8], f"{segment.span_count:,}", f"{segment.size:,}", state_of(segment))


def state_of(segment: Waiting) -> str:
    if segment.sender is None:
        return "waiting"
    if segment.is_sent:
        return f"being sent by {segment.sender}"
    return f"waiting (left by {segment.sender}, which is gone)"


def _summary(view: SpoolView, segments: list[Waiting], loaded: Config) -> Iterator[str]:
    total = totals_of(segments)
    if segments:
        share = total.size / loaded.spool_max_bytes
        size = f"{bytes_of(total.size)}, {share:.1%} of FASTTRACE_SPOOL_MAX_BYTES"
        yield f"waiting    {count(total.spans, 'span')} in {count(total.segments, 'segment')}, {size}"
    else:
        yield "waiting    nothing"
    for kind in (CORRUPT, REJECTED):
        if files := view.aside(kind):
            yield f"{kind:<10} {_size_of(files)}"
    if reason := plain(view.newest_reason(), 60):
        yield f"           the newest because: {reason}"
    for file in ring_files(loaded.ring_dir):
        if file.state == "dead":
            what = f"{count(file.waiting, 'span')} of process {file.pid} {plain(file.service, 30)}".rstrip()
            yield f"ring       {what}, which is gone: for the next process, or `fasttrace spool drain`"


def _size_of(files: list[Aside]) -> str:
    return f"{count(len(files), 'file')}, {bytes_of(sum(file.size for file in files))}"


# ---- purge


def purge(loaded: Config, arguments: argparse.Namespace) -> int:
    """Remove what waits and what was set aside, or only a part; what is being sent stays."""
    view = SpoolView(loaded.state_directory)
    is_all = not (arguments.corrupt or arguments.rejected)
    kinds = [kind for kind in (CORRUPT, REJECTED) if is_all or getattr(arguments, kind)]
    segments = [segment for segment in view.segments() if not segment.is_sent] if is_all else []
    files = {kind: view.aside(kind) for kind in kinds}
    if not segments and not any(files.values()):
        print("nothing to remove")
        return 0
    if not arguments.yes and not _is_confirmed(_inventory(segments, files)):
        terminal.error("spool purge", f"nothing was removed: it needs --yes, or the word {WORD} at its question")
        return 2
    gone = [segment for segment in segments if _remove(os.path.join(view.path, segment.entry))]
    gone_files = {kind: [file for file in found if _remove(file.path)] for kind, found in files.items()}
    print(f"removed {_inventory(gone, gone_files)}")
    return 0


def _inventory(segments: list[Waiting], files: dict[str, list[Aside]]) -> str:
    total = totals_of(segments)
    parts = [f"{count(total.spans, 'span')} in {count(total.segments, 'segment')}"] if segments else []
    parts += [f"{count(len(found), 'file')} of {kind}/" for kind, found in files.items() if found]
    return ", ".join(parts) or "nothing: others were faster"


def _is_confirmed(inventory: str) -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        return input(f"{inventory} will be gone for good. Type {WORD} to go on: ").strip() == WORD
    except EOFError:
        return False


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:  # sent, claimed or removed meanwhile
        return False
    return True
