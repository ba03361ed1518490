"""The ring's file is one format: what either core writes, before it is killed, the other core's reader understands.

Compared are whole files. A child process of each core makes the same pushes and the same calls in the air (equal ids,
times and owner) and is killed by SIGKILL without a chance to tidy up; then header, string table, in-flight table, slots
and arena are held against each other, byte by byte. What may differ is the padding behind a block of content, up to 7
bytes that no checksum covers: the native core writes zeros there, the pure one leaves what was there; it is cleared
before the comparison. Both files are then opened by the pure core's reader, which has no part in writing them.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import random
import re
import signal
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from twins import CORES, NATIVE, OWNER, PURE, Twin, contexts, pair, same_lines, span_of

from fasttrace.core._api import Price, RingShape
from fasttrace.core._pure import layout
from fasttrace.core._pure.aborted import aborted_calls
from fasttrace.core._pure.reader import Reader
from fasttrace.core._pure.ring import Ring

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no SIGKILL and no ring file here")
SHAPES = {
    "one lap": RingShape(64, 1 << 16, 8192, 3),
    "many laps": RingShape(8, 4096, 4096, 0),
    "wrap of the sequences": RingShape(16, 8192, 4096, 1, (1 << 63) - 20),
    "wrap of the tickets": RingShape(16, 8192, 4096, 1, (1 << 64) - 20),
}
PUSHES = 50
START_UNIX_NS = 1_700_000_000_000_000_000
START_NS = 1 << 40
DURATION = re.compile(rb',"duration_ms":[0-9.]+')


def fields_of(number: int) -> dict[str, Any]:
    """Some of everything: strings, numbers at the limits, no, little and much content, prices known and unknown."""
    fields: dict[str, Any] = {
        "kind": ("llm", "tool", "nonsense")[number % 3],
        "operation": "chat",
        "name": f"chat é{number % 7}",
        "provider": "p",
        "model_id": ("priced", "free", "new")[number % 3],
        "request_model": ("priced", "asked")[number % 2],
        "server_port": 65_530 + number,
        "status": "success",
        "http_status": 200,
        "retries": number % 2,
        "input_tokens": number,
        "output_tokens": (1 << 64) - 1 - number,
        "cache_read_tokens": number % 2,
        "reasoning_tokens": 0,
        "first_token_ms": number * 1_000_001,
        "stream": number % 2 == 0,
        "chunks": number,
    }
    if number % 4:
        fields.update(response_id="r" * number, tags=["a", "é" * number, ""], request_params=b'{"n":%d}' % number)
    if number % 10 == 9:
        fields["output"] = b'"%s"' % (b"o" * (30 * number))
    return fields


def make_calls(twin: Twin, own: list[Any]) -> None:
    """Three enter, the second leaves, one more enters: a place is used again."""
    places = [twin.recorder.enter(own[0], START_UNIX_NS, START_NS, "agent", "first é")]
    places += [twin.recorder.enter(own[n], START_UNIX_NS + n, START_NS + n, "tool", f"call {n}") for n in (1, 2)]
    twin.recorder.leave(places[1])
    twin.recorder.enter(own[3], START_UNIX_NS - 1, (1 << 63) - 1, "nonsense", "n" * 300)


def write(core: Any, path: Path, shape: RingShape, identities: list[tuple[Any, ...]]) -> None:
    """In a child: push everything, say so, wait to be killed."""
    path.write_bytes(bytes(core.region_bytes(shape)))
    told_read, told_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with path.open("r+b") as file:
                twin = Twin(core, shape, file.fileno())
            twin.recorder.prices.put("p", "priced", Price(input=3, output=2))
            twin.recorder.prices.put("p", "free", None)
            which = CORES.index(core)
            make_calls(twin, [identity[which] for identity in identities])
            for number, identity in enumerate(identities):
                twin.recorder.record(identity[which], START_UNIX_NS + number, number << 20, fields_of(number))
            twin.recorder.ring.acknowledge((shape.first_ticket + 3) & layout.MASK64)
            os.write(told_write, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(told_write)
    assert os.read(told_read, 1) == b"x"
    os.close(told_read)
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> RingShape:
    return SHAPES[request.param]


@pytest.fixture
def files(tmp_path: Path, shape: RingShape) -> tuple[Path, Path]:
    """The file of a killed native process, and that of a killed pure one."""
    identities = [contexts(number % 2 == 1) for number in range(PUSHES)]
    paths = tmp_path / "native", tmp_path / "pure"
    for core, path in zip(CORES, paths, strict=True):
        write(core, path, shape, identities)
    return paths


def without_padding(data: bytes, shape: RingShape) -> bytes:
    """The file with zeros behind the blocks of content that its slots name."""
    cleared, offsets = bytearray(data), layout.offsets_of(shape)
    for slot in range(shape.slots):
        at = offsets.slots + slot * layout.SLOT_BYTES + 8
        values = layout.RECORD.unpack_from(cleared, at)
        end = values[layout.CONTENT_POSITION] + values[layout.CONTENT_LENGTH]
        for position in range(end, (end + 7) & -8):
            cleared[offsets.arena + position % shape.arena_bytes] = 0
    return bytes(cleared)


def section(data: bytes, start: int, end: int) -> list[str]:
    return [data[at : min(at + 8, end)].hex() for at in range(start, end, 8)]


def test_the_same_pushes_make_the_same_file(files: tuple[Path, Path], shape: RingShape) -> None:
    native, pure = (path.read_bytes() for path in files)
    assert len(native) == len(pure) == NATIVE.region_bytes(shape) == PURE.region_bytes(shape)
    offsets = layout.offsets_of(shape)
    bounds = [0, offsets.strtab, offsets.inflight, offsets.slots, offsets.arena]
    for start, end in itertools.pairwise(bounds):
        assert section(native, start, end) == section(pure, start, end)
    if shape is SHAPES["one lap"]:  # where nothing was overwritten, there is nothing but the blocks in the arena
        assert section(without_padding(native, shape), offsets.arena, offsets.total) == section(
            without_padding(pure, shape), offsets.arena, offsets.total
        )


class Opened(Ring):
    """A dead process's ring: read as it lies, not formatted anew."""

    def __init__(self, path: Path, shape: RingShape) -> None:
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        self.words = memoryview(self.memory).cast("Q")
        self.shape, self.offsets, self.lock = shape, layout.offsets_of(shape), None
        self._entries, self._writer = {}, None
        self._reader = Reader(self)


def test_calls_in_the_air_are_the_same_bytes_and_the_same_spans(files: tuple[Path, Path], shape: RingShape) -> None:
    """Both files are read by the pure core's reader; they hold what was entered last and not left."""
    lines = []
    for path in files:
        batch = aborted_calls(Opened(path, shape), START_NS)
        assert batch.first_ticket == (shape.first_ticket + PUSHES & layout.MASK64 if batch.count else 0)
        lines.append(batch.encode(PURE.PriceTable(), "", b"").splitlines(keepends=True))
    assert lines[0] == lines[1]
    spans = [span_of(line) for line in lines[0]]
    wanted = {0: [], 1: ["first é"], 3: ["first é", "n" * 256, "call 2"]}
    assert [span["name"] for span in spans] == wanted[shape.inflight]
    assert all(span["status"] == "aborted" and span["duration_ms"] == 0 for span in spans[1:2])
    assert [span.get("kind") for span in spans] == ["agent", None, "tool"][: len(spans)]


def test_both_cores_read_the_same_calls_from_a_live_ring(shape: RingShape) -> None:
    twins = pair(shape)
    identities = [contexts(number == 3) for number in range(4)]
    for which, twin in enumerate(twins):
        make_calls(twin, [identity[which] for identity in identities])
    native, pure = (twin.recorder.ring.aborted() for twin in twins)
    assert (native.count, native.first_ticket, native.next_ticket) == (pure.count, pure.first_ticket, pure.next_ticket)
    texts = native.encode(NATIVE.PriceTable(), "", b""), pure.encode(PURE.PriceTable(), "", b"")
    assert DURATION.sub(b"", texts[0]) == DURATION.sub(b"", texts[1])
    assert native.count == min(shape.inflight, 3)


def test_both_cores_make_the_same_of_a_damaged_table(tmp_path: Path) -> None:
    """Whatever the slots hold, it becomes whole lines, or none."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, shape = random.Random(seed), RingShape(8, 4096, 4096, 32)
    offsets = layout.offsets_of(shape)
    paths = tmp_path / "native", tmp_path / "pure"
    twins = []
    for core, path in zip(CORES, paths, strict=True):
        path.write_bytes(bytes(core.region_bytes(shape)))
        with path.open("r+b") as file:
            twins.append(Twin(core, shape, file.fileno()))
    lines = 0
    for _ in range(100):
        damage = b"".join(hostile_slot(chance) for _ in range(shape.inflight))
        texts = []
        for twin, path in zip(twins, paths, strict=True):
            with path.open("r+b") as file:
                file.seek(offsets.inflight)
                file.write(damage)
            texts.append(DURATION.sub(b"", twin.recorder.ring.aborted().encode(twin.recorder.prices, "", b"")))
        assert texts[0] == texts[1]
        lines += len([span_of(line) for line in texts[0].splitlines(keepends=True)])
    assert lines > 500


def hostile_slot(chance: random.Random) -> bytes:
    """Random words, some of them at their limits."""
    words = [chance.choice((0, 1, (1 << 64) - 1, 1 << 63, chance.getrandbits(64))) for _ in range(16)]
    return struct.pack("16Q", *words)


@pytest.mark.parametrize("which", [0, 1], ids=["of native", "of pure"])
def test_a_dead_process_ring_is_read_by_the_other_core(files: tuple[Path, Path], shape: RingShape, which: int) -> None:
    dead = Opened(files[which], shape)
    header = layout.HEADER.unpack_from(dead.memory)
    assert header[:4] == (layout.MAGIC, layout.VERSION, layout.HEADER_BYTES, len(dead.memory))
    assert header[12:] == (shape.first_ticket, *OWNER[1::-1], *OWNER[2:])
    batch = dead.read(MANY, MANY)
    kept = min(PUSHES, shape.slots)
    assert batch.count == kept
    assert dead.counters()[:4] == (PUSHES, 3, kept, PUSHES - kept)
    lines = batch.encode(PURE.PriceTable(), "v", b"").splitlines(keepends=True)
    for line, number in zip(lines, range(PUSHES - kept, PUSHES), strict=True):
        span = span_of(line)
        expected = fields_of(number)
        assert (span["name"], span["chunks"], span["output_tokens"]) == (
            expected["name"],
            number,
            expected["output_tokens"],
        )
        if "attributes" in span:
            assert span["attributes"] == {"fasttrace.content_lost": True}
            continue
        assert span.get("response_id") == expected.get("response_id")
        assert span.get("tags") == expected.get("tags")
        assert span.get("output") == (json.loads(expected["output"]) if "output" in expected else None)
    assert dead.counters().content_lost < kept


MANY = 1 << 30


def test_a_file_that_was_used_before_is_formatted_anew_by_either(tmp_path: Path) -> None:
    """A worker that finds a file's lock free may take the file over: nothing of the old owner may show."""
    shape = SHAPES["many laps"]
    written = []
    for core in CORES:
        path = tmp_path / core.BACKEND
        path.write_bytes(bytes(range(256)) * (core.region_bytes(shape) // 256))
        with path.open("r+b") as file:
            ring = core.Ring(file.fileno(), shape, OWNER)
            assert ring.read(MANY, MANY).count == 0
        written.append(path.read_bytes())
    offsets = layout.offsets_of(shape)
    native, pure = written
    assert section(native, 0, offsets.strtab) == section(pure, 0, offsets.strtab)
    sequences = [
        [int.from_bytes(data[offsets.slots + 256 * slot :][:8], sys.byteorder) for slot in range(shape.slots)]
        for data in written
    ]
    assert sequences == [[0] * shape.slots] * 2


@pytest.mark.parametrize("last", range(244, 249))
def test_the_string_table_is_filled_to_its_last_byte_by_both(tmp_path: Path, last: int) -> None:
    """15 entries of 256 bytes leave 248, of which two are a length: 246 characters fit."""
    shape = SHAPES["many laps"]
    tables = []
    for core in CORES:
        path = tmp_path / core.BACKEND
        path.write_bytes(bytes(core.region_bytes(shape)))
        with path.open("r+b") as file:
            twin = Twin(core, shape, file.fileno())
            for name in (*(f"{number:0254}" for number in range(15)), "n" * last, "x"):
                assert twin.recorder.record(core.new_context(None), 0, 0, {"name": name})
            tables.append(section(path.read_bytes(), 0, shape.strtab_bytes + layout.HEADER_BYTES)[layout.HEAD :])
    assert tables[0] == tables[1]
    is_full = last in (244, 245, 246)
    used = int.from_bytes(bytes.fromhex(tables[0][layout.STRTAB_USED - layout.HEAD]), sys.byteorder)
    assert used == (4096 if is_full else 4096 - 248 + 8)


def test_lines_of_both_are_one_after_laps_of_content() -> None:
    twins = pair(SHAPES["many laps"])
    for start in range(0, PUSHES, 7):
        for number in range(start, start + 7):
            for twin, context in zip(twins, contexts(), strict=True):
                twin.recorder.record(context, START_UNIX_NS, number, fields_of(number))
        for line in same_lines(twins):
            span_of(line)
    assert twins[0].recorder.ring.counters() == twins[1].recorder.ring.counters()
