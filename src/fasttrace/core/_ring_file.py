"""Why a file is not the ring of a process: what `RecoveredRing` says of it, in both cores.

The header is taken at its word for nothing: a file is a ring if its magic, version and sizes make exactly the layout
that csrc/include/fasttrace/region.h describes, in exactly the bytes that there are. Whether it is one the native core
decides for itself; here is the pure core's verdict, and the reason for the user.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ._api import OtherVersion, RingOwner, RingShape, UnusedRing
from ._pure import layout

if TYPE_CHECKING:
    Data = bytes | bytearray | memoryview

OTHER_MAGIC = int.from_bytes(layout.MAGIC.to_bytes(8, "little"), "big")
READY_AT = 8 * layout.READY
RESOURCE_NAMES = frozenset(("service", "environment", "tenant_id", "workflow_id", "sdk"))


def fault_of(data: Data, size: int | None = None) -> ValueError | None:
    """None where the file is a ring that was used; UnusedRing where it was never, OtherVersion for one that another
    fasttrace or machine can read. `size`: of the file, where `data` is but its first page."""
    start = bytes(memoryview(data).cast("B")[: layout.HEADER_BYTES])
    size = memoryview(data).nbytes if size is None else size
    return _fault_of_kind(start) or _fault_of_length(start, size) or _fault_of_sizes(start, size)


def is_ring_of_this_version(start: bytes) -> bool:
    return (_word(start, 0), _word(start, 8, 4)) == (layout.MAGIC, layout.VERSION)


def _word(start: bytes, at: int, size: int = 8) -> int:
    return int.from_bytes(start[at : at + size], sys.byteorder)


def _fault_of_kind(start: bytes) -> ValueError | None:
    magic, version = _word(start, 0), _word(start, 8, 4)
    if not any(start[:8]) and not any(start[READY_AT : READY_AT + 8]):
        return UnusedRing("never used: its process died before the ring was formatted")
    if magic == OTHER_MAGIC:
        return OtherVersion("not a ring of this machine: it is in the other byte order")
    if magic != layout.MAGIC:
        return ValueError("not a ring: it does not begin with FTTRING1")
    if version > layout.VERSION:
        return OtherVersion(f"ring version {version}, of a newer fasttrace: this one reads version {layout.VERSION}")
    return None


def _fault_of_length(start: bytes, size: int) -> ValueError | None:
    if size < layout.HEADER_BYTES:
        return ValueError(f"not a whole ring: {size} bytes, and its header alone has {layout.HEADER_BYTES}")
    if not _word(start, READY_AT):
        return UnusedRing("never used: its process died while the ring was being formatted")
    return None


def _fault_of_sizes(start: bytes, size: int) -> ValueError | None:
    _, version, header_bytes, total, *parts, _, _, _, _, _ = layout.HEADER.unpack_from(start)
    if version != layout.VERSION or header_bytes != layout.HEADER_BYTES:
        return ValueError(f"not a ring: version {version} with a header of {header_bytes} bytes")
    try:
        offsets = layout.offsets_of(shape_of(start))
    except ValueError as error:
        return ValueError(f"not a ring: {error}")
    if parts[:8:2] != [offsets.strtab, offsets.inflight, offsets.slots, offsets.arena] or total != offsets.total:
        return ValueError("not a ring: its sizes and offsets disagree")
    if size != total:
        return ValueError(f"not a whole ring: {size} bytes of {total}")
    return None


def sound_resource(members: bytes) -> bytes:
    """The members, which together are valid JSON, where they are texts that a resource has, each once; else nothing:
    any other member would stand beside, or for, one of the span's own."""
    import json

    pairs: list[tuple[str, object]] = json.loads(b"{%b}" % members, object_pairs_hook=list)
    names = {name for name, value in pairs if name in RESOURCE_NAMES and isinstance(value, str)}
    return members if len(names) == len(pairs) else b""


def shape_of(start: bytes) -> RingShape:
    """As the header says it."""
    _, strtab, _, inflight, _, slots, _, arena, first_ticket = layout.HEADER.unpack_from(start)[4:13]
    return RingShape(slots, arena, strtab, inflight, first_ticket)


def owner_of(start: bytes) -> RingOwner:
    boot_id, writer_id, *rest = layout.HEADER.unpack_from(start)[13:]
    return RingOwner(writer_id, boot_id, *rest)
