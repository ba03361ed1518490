"""Both cores make the same of a dead process's file, whatever was done to it: the same verdict, the same lines.

Every bit of the header page, of a slot and of an in-flight slot is flipped, every length tried, and random damage done
by the thousand; a seed that fails is in the assertion. Lines must be JSON for a strict reader.
"""

from __future__ import annotations

import json
import random
from typing import Any
from zlib import crc32

import pytest
from dead_rings import SMALL, DeadRing, Found, everything, put_word, recover, word
from hypothesis import given
from hypothesis import strategies as st
from twins import CORES, NATIVE, PURE, examples, refuse

from fasttrace.core._api import RingShape
from fasttrace.core._pure import layout

ROUNDS = 1500
SHAPES = {
    "from 0": SMALL,
    "wrap of the sequences": SMALL._replace(first_ticket=(1 << 63) - 5),
    "wrap of the tickets": SMALL._replace(first_ticket=(1 << 64) - 5),
    "nothing in flight": RingShape(16, 8192, 8192, 0),
}


def same(data: bytes | bytearray, note: object = "") -> Found:
    """What both cores found, which is the same, and is JSON."""
    native, pure = recover(NATIVE, data), recover(PURE, data)
    assert native == pure, note
    for text in native.lines[1::2]:
        for line in text.split(b"\n")[:-1]:
            assert json.loads(line.decode(), parse_constant=refuse)["schema_version"], note
        assert not text or text.endswith(b"\n")
    return native


def spans(found: Found) -> list[dict[str, Any]]:
    return [json.loads(line) for text in found.lines[1::2] for line in text.splitlines()]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("writer", CORES, ids=["of native", "of pure"])
def test_what_a_dead_process_left_is_read_to_the_last_span(writer: Any, shape: RingShape) -> None:
    data = everything(writer, shape)
    found = same(data)
    assert found.error is None
    done, aborted = found.counters[:4], found.counters[4]
    head = shape.slots + 3
    assert sum(done) == head - 4
    assert done[1] == 2  # the settled range
    assert done[3] == 1  # the slot that was being written
    assert aborted == (2 if shape.inflight else 0)
    assert len(spans(found)) == done[0] + aborted


@pytest.mark.parametrize("where", ["identity", "counters", "ranges", "slot", "inflight", "strtab", "content"])
def test_every_bit_flipped_gives_one_verdict(where: str) -> None:
    data = everything(NATIVE)
    offsets = layout.offsets_of(SMALL)
    slot = offsets.slots + 256 * (8 % SMALL.slots)
    bits = {
        "identity": range(8 * 160),
        "counters": [8 * at + bit for at in range(256, 1024, 128) for bit in range(64)],
        "ranges": range(8 * 1024, 8 * (1288 + 40)),
        "slot": range(8 * slot, 8 * (slot + 256)),
        "inflight": range(8 * offsets.inflight, 8 * (offsets.inflight + 128)),
        "strtab": range(8 * offsets.strtab, 8 * (offsets.strtab + 64)),
        "content": range(8 * offsets.arena, 8 * (offsets.arena + 256)),
    }
    for bit in bits[where]:
        data[bit // 8] ^= 1 << bit % 8
        same(data, f"bit {bit % 8} of byte {bit // 8}")
        data[bit // 8] ^= 1 << bit % 8


def test_ranges_of_every_length_give_one_verdict() -> None:
    """Settled ones may be longer than a lap, open ones not."""
    shape = SHAPES["wrap of the tickets"]
    dead = DeadRing(PURE, shape)
    for _ in range(3 * shape.slots):
        dead.record(kind="llm")
    data, kept = dead.file(), set()
    for state in (layout.RANGE_OPEN, layout.RANGE_SETTLED):
        for tickets in range(3 * shape.slots + 3):
            for place, value in enumerate((state, shape.first_ticket + 1, shape.first_ticket + 1 + tickets, 0)):
                put_word(data, 8 * (layout.RANGES + place), value)
            (ranges,) = same(data, f"state {state}, {tickets} tickets").header[3:4]
            kept |= {(found.is_settled, tickets) for found in ranges}
    assert kept == {(False, n) for n in range(1, shape.slots + 1)} | {(True, n) for n in range(1, 3 * shape.slots)}


def test_every_length_gives_one_verdict() -> None:
    data = bytes(everything(NATIVE))
    lengths = {*range(700), *range(4000, 4200), *range(0, len(data), 97), *range(len(data) - 300, len(data))}
    for length in lengths:
        assert same(data[:length], length).error is not None
    assert same(data + b"\0").error is not None
    assert same(data).error is None


def damaged(data: bytearray, source: random.Random, shape: RingShape) -> bytearray:
    """A few words of lies, where lies are interesting: counters, sequences, positions, lengths, tags, or anywhere."""
    offsets = layout.offsets_of(shape)
    lies = (0, 1, 7, 8, 9, 15, 4095, 4096, (1 << 63) - 1, 1 << 63, layout.MASK64, layout.MASK64 - 1, shape.first_ticket)
    slot = offsets.slots + 256 * source.randrange(shape.slots)
    words = (layout.HEAD, layout.ACKED, layout.ARENA_HEAD, layout.STRTAB_USED, layout.ALIVE, layout.RESOURCE_LENGTH)
    for _ in range(source.randint(1, 6)):
        at = source.choice(
            (
                8 * source.choice(words),
                8 * (layout.RANGES + source.randrange(32)),
                slot + 8 * source.randrange(32),
                slot + 8 * 27,
                offsets.inflight + 8 * source.randrange(shape.inflight * 16 or 1),
                offsets.arena + 8 * source.randrange(64),
                8 * source.randrange(len(data) // 8),
            )
        )
        old = word(data, at)
        value = source.choice((source.choice(lies), old + source.choice((-2, -1, 1, 2, 8)), source.getrandbits(64)))
        put_word(data, at, value)
    if source.random() < 0.3:
        at = source.randrange(len(data))
        data[at : at + 16] = source.randbytes(len(data[at : at + 16]))
    return data


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_random_damage_gives_one_verdict(shape: RingShape) -> None:
    seed = random.SystemRandom().getrandbits(32)
    source = random.Random(seed)
    whole = everything(source.choice(CORES), shape)
    errors = 0
    for round_number in range(ROUNDS):
        found = same(damaged(bytearray(whole), source, shape), f"seed {seed}, round {round_number}")
        errors += found.error is not None
    assert errors < ROUNDS // 2, f"seed {seed}: most files are refused, the reader is hardly tried"


# ---- text and JSON in content ----

JSON_EDGES = (
    *(b"{}", b"[]", b" {} ", b"{ }", b"[ ]", b'{"a":1}', b'{"a" : [ 1 , 2 ] }', b'{"a":1,"a":2}', b'{"":null}'),
    *(b"1", b"-0", b"-", b"01", b"1.", b".5", b"1e", b"1e+", b"1E-05", b"1.5e300", b"1e999", b"+1", b"0x1", b"1 2"),
    *(b"true", b"True", b"tru", b"null", b"nul", b"false", b"NaN", b"Infinity", b"-Infinity", b"nan"),
    *(b'"', b'""', b'"a', b'a"', b'"\\"', b'"\\""', b'"\\x"', b'"\\u12"', b'"\\u12G4"', b'"\\uD834\\uDD1E"'),
    *(b'"\\ud800"', b'"\\udc00"', b'"\\ud800x\\udc00"', b'"\\udc00\\ud800"', b'"\\ud800\\ud800\\udc00"'),
    *(b'"\\\\ud800"', b'"\\\\\\ud800"', b'"\\ud800\\n"', b'"\\ud800\\\\udc00"', b'"\\uDBFF\\uDFFF"', b'"\\u d80"'),
    *(b'"\x1f"', b'"\t"', b'"\n"', b'"\r"', b'"\x00"', b'"\x7f"', b"[1,\n2]", b"[1,\t2]", b"{}\n", b"\n{}", b"\x0b1"),
    *(b"[1,]", b"[,1]", b'{"a":1,}', b'{"a"}', b'{"a":}', b"{1:2}", b"{'a':1}", b"[1", b"]", b"}", b"[}", b"{]"),
    *(b"", b" ", b"\xef\xbb\xbf{}", b'"\xc0\x80"', b'"\xe0\x80\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"'),
    *(b'"\xf0\x9f\x98\x80"', b'"\xf5\x80\x80\x80"', b'"\xff"', b'"\xc3"', b'"\xe2\x82"', b'"\xed\x9f\xbf"'),
    *(b"[" * 128 + b"]" * 128, b"[" * 129 + b"]" * 129, b'{"a":' * 128 + b"1" + b"}" * 128, b'{"a":' * 129 + b"1"),
    *(b"[" * 127 + b'"[[[[{{"' + b"]" * 127, b"[" * 128 + b'"]"' + b"]" * 128, b"[[]," * 200 + b"[]" + b"]" * 200),
    *(b"\xe2\x80\xa8", b"[" * 2000, b"[" + b"[]," * 500 + b"{}]", b'"' + b"\\\\" * 1000 + b'"', b"9" * 256, b"9" * 257),
    *(b"-1." + b"5" * 254, b"[" + b"1e" + b"5" * 254 + b"]"),
)


def strict(data: bytes, kind: type = object) -> bool:
    """The rules, said once more: `json` for what JSON is, and a walk for the rest."""
    if any(byte < 0x20 for byte in data):
        return False
    try:
        value = json.loads(data.decode(), parse_constant=refuse, parse_int=short, parse_float=short)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate has no UTF-8
    except (ValueError, AssertionError, RecursionError):
        return False
    return isinstance(value, kind) and depth_of(value) <= 128


def short(digits: str) -> int:
    if len(digits) > 256:
        raise ValueError(digits)
    return len(digits)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


KINDS = {"request_params": dict, "attributes": dict, "events": list, "input": object, "output": object}


def verdicts(field: str, samples: list[bytes]) -> list[bool]:
    """Which samples, each the content of a record, did a recovered ring keep?"""
    slots = 1 << (len(samples) - 1).bit_length() + 1
    shape = RingShape(slots=slots, arena_bytes=1 << 20, strtab_bytes=4096, inflight=0)
    dead = DeadRing(NATIVE, shape)
    for sample in samples:
        dead.record(**{field: sample, "response_id": "r"})
    found = same(dead.file())
    assert found.counters[0] == len(samples)
    kept = [span.get("attributes") != {"fasttrace.content_lost": True} for span in spans(found)]
    assert [("response_id" in span) for span in spans(found)] == kept
    assert kept.count(False) == found.counters[5]
    return kept


@pytest.mark.parametrize("field", KINDS)
def test_content_that_is_no_json_of_its_field_is_lost(field: str) -> None:
    samples = [sample for sample in JSON_EDGES if sample]
    wanted = [strict(sample, KINDS[field]) for sample in samples]
    assert {True, False} == set(wanted)
    for sample, kept, is_wanted in zip(samples, verdicts(field, samples), wanted, strict=True):
        assert kept == is_wanted, sample[:80]


PIECES = [*'{}[],:" \\', '"a":', "\\u", "d800", "dc00", "\\n", "1", "-", ".5", "e3", "null", "true", "é", "\x7f"]
SCALARS = st.none() | st.text() | st.floats(allow_nan=False)


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), min_size=1, max_size=60))
@examples(60)
def test_json_by_pieces_is_judged_as_by_a_strict_parser(texts: list[str]) -> None:
    samples = [text.encode() for text in texts if text]
    if samples:
        assert verdicts("input", samples) == [strict(sample) for sample in samples]


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
@examples(60)
def test_valid_json_is_kept(value: Any) -> None:
    sample = json.dumps(value, ensure_ascii=False)
    try:
        data = sample.encode()
    except UnicodeEncodeError:
        data = json.dumps(value).encode()
    assert verdicts("output", [data]) == [strict(data)]


def test_content_named_by_every_slot_is_not_copied_for_ever() -> None:
    """One block of half the arena, named by each of 16 slots: four arenas of it are looked at, and no more."""
    dead = DeadRing(NATIVE, SMALL._replace(slots=16))
    dead.record(output=b'"%s"' % (b"x" * 2032))
    for _ in range(15):
        dead.record()
    data, slot = dead.file(), dead.offsets.slots + 8
    whole = layout.RECORD.unpack_from(data, slot)
    assert whole[layout.CONTENT_LENGTH] == 2042
    for at in range(slot + 256, slot + 16 * 256, 256):
        values = layout.RECORD.unpack_from(data, at)
        layout.RECORD.pack_into(data, at, *values[: layout.CONTENT_POSITION], *whole[layout.CONTENT_POSITION :])
    found = same(data)
    assert ["output" in span for span in spans(found)] == [True] * 8 + [False] * 8
    assert found.counters[5] == 8


def test_hostile_texts_become_valid_json_in_both() -> None:
    """The writer's own clipping is gone round: the bytes are put into the file."""
    dead = DeadRing(NATIVE, SMALL)
    texts = [b"\xff\xfe", b"\x00\x01", b"\xed\xa0\x80", b'"\\\n', b"\xf0\x9f\x98", b"\xc0\x80%s", b"%d%%\x7f"]
    for _ in texts:
        dead.record(name="x" * 7, response_id="y" * 7, tags=["z" * 7])
    data = dead.file()
    offsets = layout.offsets_of(SMALL)
    for number, text in enumerate(texts):
        slot = offsets.slots + 256 * number
        values = list(layout.RECORD.unpack_from(data, slot + 8))
        start = offsets.arena + values[layout.CONTENT_POSITION] % SMALL.arena_bytes
        content = data[start : start + values[layout.CONTENT_LENGTH]]
        for mark in (b"y" * 7, b"z" * 7):
            content = content.replace(mark, text.ljust(7, b"."))
        data[start : start + len(content)] = content
        values[layout.CONTENT_CRC] = crc32(content)
        layout.RECORD.pack_into(data, slot + 8, *values)
    at = data.index(b"x" * 7, offsets.strtab)
    for text in texts:
        data[at : at + 7] = text.ljust(7, b".")
        found = spans(same(data))
        assert [span["response_id"] for span in found] == [
            other.ljust(7, b".").decode("utf-8", "replace") for other in texts
        ]
        assert {span["name"] for span in found} == {text.ljust(7, b".").decode("utf-8", "replace")}
