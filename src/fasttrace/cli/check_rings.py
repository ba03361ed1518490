"""What `fasttrace doctor` asks of rings: the one that an application would have here, and those of other processes.

The first is opened for real, as the application would, and removed. The others are only read.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from fasttrace.cli import check_process
from fasttrace.cli.check import Check, advice_for, ok, warn
from fasttrace.cli.check_places import free_bytes, made_for_now
from fasttrace.cli.terminal import bytes_of, count, plain
from fasttrace.core import core
from fasttrace.core._backing import new_owner, open_own_directory, open_ring_file
from fasttrace.exporters.spool_view import CORRUPT, REJECTED, SpoolView
from fasttrace.trace.ring_files import ring_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fasttrace.config import Config
    from fasttrace.core._backing import Backing
    from fasttrace.trace.ring_files import RingFile

OLD_S = 86_400.0


def ring(config: Config) -> Iterator[Check]:
    """The ring as the application would open it, and a span through it."""
    owner = new_owner()
    with made_for_now(config.ring_dir):
        backing = open_ring_file(config.ring_dir, config.ring_shape, owner, core.region_bytes)
        try:
            yield _of_backing(backing, config)
            yield from check_process.round_trip(core.Ring(backing.fd, backing.shape, owner), config.compression)
        finally:
            backing.remove()
            backing.close()


def _of_backing(backing: Backing, config: Config) -> Check:
    if backing.path is None:
        return _anonymous(backing, config)
    size = core.region_bytes(backing.shape)
    directory = os.path.dirname(backing.path)
    room = f"room for {backing.shape.slots:,} spans, {bytes_of(size)}; {bytes_of(free_bytes(directory))} free"
    found = f"{directory} ({backing.kind}): {room}"
    if not backing.reason:
        return ok("ring", found)
    return warn("ring", f"{found}. Not as asked: {backing.reason}", _ring_advice(backing, config))


def _anonymous(backing: Backing, config: Config) -> Check:
    found = f"in the process's own memory ({backing.reason}): what a killed process had not sent is lost"
    if sys.platform == "win32":
        return ok("ring", found)
    return warn("ring", found, _ring_advice(backing, config))


def _ring_advice(backing: Backing, config: Config) -> str:
    if config.ring_dir is not None and backing.kind != "ring_dir":
        return _directory_advice(config.ring_dir)
    if backing.shape != config.ring_shape:
        return "give the shared memory more room (docker: --shm-size), or lower FASTTRACE_QUEUE_MAX_SIZE"
    return "name a private directory in FASTTRACE_RING_DIR, best in a tmpfs"


def _directory_advice(path: str) -> str:
    """What to do where FASTTRACE_RING_DIR names this one, and it was not used."""
    other = "or change FASTTRACE_RING_DIR"
    try:
        found = os.lstat(path)
        os.close(open_own_directory(path))
    except PermissionError:
        is_shared = found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX
        inside = os.path.join(path, f"fasttrace-{os.geteuid()}")
        return f"set FASTTRACE_RING_DIR={inside}" if is_shared else f"chmod 700 {path}, {other}"
    except OSError as error:
        return advice_for(error, "FASTTRACE_RING_DIR")
    return f"give it more room, {other}"


# ---- rings of others


def other_rings(config: Config) -> Iterator[Check]:
    of_state: dict[str, list[RingFile]] = {}
    for file in ring_files(config.ring_dir):
        of_state.setdefault(file.state, []).append(file)
    found = [*_of_processes(of_state), *_of_no_use(of_state)]
    yield from found or [ok("rings", "none of other processes")]


def _of_processes(of_state: Mapping[str, list[RingFile]]) -> Iterator[Check]:
    if live := of_state.get("live"):
        yield ok("rings", f"of live processes: {_named(live)}")
    if dead := of_state.get("dead"):
        waiting = sum(file.waiting for file in dead)
        found = f"of dead processes, with {count(waiting, 'span')} not sent: {_named(dead)}"
        yield warn("rings", found, "the next process that records adopts them, or `fasttrace spool drain` now")
    if held := of_state.get("held"):
        found = f"locked, though the owner is not to be seen: {_named(held)}"
        advice = "end the process that holds it (lsof names it): a fork child of the owner, or of another container"
        yield warn("rings", found, advice)


def _of_no_use(of_state: Mapping[str, list[RingFile]]) -> Iterator[Check]:
    """Files in which no ring is to be read here. Only what can be nobody's any more is for removal."""
    if newer := of_state.get("newer"):
        yield warn("rings", f"of a newer fasttrace: {_paths(newer)}", "use that version's `fasttrace doctor`")
    old = [file for file in of_state.get("unreadable", ()) if time.time() - file.changed_s > OLD_S]
    if old:
        yield warn("rings", f"that cannot be read, older than a day: {_paths(old)}", "remove them")
    if aside := of_state.get("aside"):
        size = bytes_of(sum(file.size for file in aside))
        found = f"set aside because no ring could be read from them, {size}: {_paths(aside)}"
        yield warn("rings", found, "look at them, and at the memory of this machine; then they may be removed")
    if foreign := of_state.get("foreign"):
        yield ok("rings", f"beside {count(len(foreign), 'file')} of others, which are left alone")


def _paths(files: list[RingFile]) -> str:
    return ", ".join(plain(file.path) for file in files[:3]) + (f" and {len(files) - 3} more" if files[3:] else "")


def _named(files: list[RingFile]) -> str:
    shown = [_name(file) for file in files[:4]]
    return ", ".join(shown) + (f" and {len(files) - 4} more" if len(files) > 4 else "")


def _name(file: RingFile) -> str:
    return f"{_owner(file)} ({file.waiting:,} of {count(file.recorded, 'span')} not sent yet)"


def _owner(file: RingFile) -> str:
    return f"{file.pid} {plain(file.service, 40)}".rstrip()


# ---- counters


def counters(config: Config) -> Iterator[Check]:
    """What the header of each live ring counts, and what lies in the spool."""
    for file in ring_files(config.ring_dir):
        if file.state == "live":
            yield _counters_of(file)
    with suppress(OSError):  # which the check of the spool tells
        yield _counters_of_spool(SpoolView(config.state_directory))


def _counters_of_spool(view: SpoolView) -> Check:
    total = view.totals()
    rejected, corrupt = len(view.aside(REJECTED)), len(view.aside(CORRUPT))
    waiting = f"{count(total.spans, 'span')} in {count(total.segments, 'segment')} waiting"
    found = f"the spool: {waiting}; {count(rejected, 'file')} rejected, {corrupt:,} corrupt"
    counts = {"segments": total.segments, "spans": total.spans, "rejected_files": rejected, "corrupt_files": corrupt}
    return ok("counters", found)._replace(counts=counts)


def _counters_of(file: RingFile) -> Check:
    counts = file.counts
    found = (
        f"{_owner(file)}: {counts.recorded:,} recorded, {counts.acknowledged:,} acknowledged, "
        f"{counts.in_flight:,} in the air; dropped: {counts.busy:,} busy, {counts.content_too_large:,} content too "
        f"large, {counts.inflight_full:,} in-flight full"
    )
    if counts.busy:
        check = warn("counters", found, "spans come faster than they are sent: raise FASTTRACE_QUEUE_MAX_SIZE")
    else:
        check = ok("counters", found)
    return check._replace(counts={"pid": file.pid, **counts._asdict()})
