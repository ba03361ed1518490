"""The scanner of secrets in C and the expression of the pure core: the same secrets, at the same places."""

from __future__ import annotations

import os
import pathlib
import re
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twins import CORES, NATIVE, PURE, SHAPE, START_UNIX_NS, Pairs, Twin, examples, record, same_lines

from fasttrace.core._text import _SECRETS, SECRET_PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

BEARERS = ("Bearer ", "bearer ", "BEARER ", "Bearer  ", "bearer\t", "BEARER%20", "Bearer\\t")
BASICS = ("Basic ", "basic ", "BASIC ", "Basic\t ", "basic%20")
HEADERS = (
    "rization: Bearer ",
    "RIZATION=BASIC ",
    "rization': b'bearer ",
    "rization%3DToken ",
    "rization: Bearer bearer ",
)
KEYS = ("sk-", "sk_live_", "sk_test_", "rk_live_", "rk_test_", "gsk_", "xai-", "xapp-", "pplx-", "nvapi-", "glpat-")
SLACKS = tuple(f"xox{kind}-" for kind in "abeoprs")
GITHUBS = tuple(f"gh{kind}_" for kind in "oprsu")
PAIRS = (
    "api_key",
    "api-key",
    "apikey",
    "apiKey",
    "API_KEY",
    "API-Key",
    "Api-Key",
    "ApiKey",
    "API-KEY",
    "ApiKEY",
    "API_key",
    "api key",
    "API key",
)
NAMED = (
    "access_token",
    "ACCESS-TOKEN",
    "client_secret",
    "X-Auth-Token",
    "secret_access_key",
    "SECRET_ACCESS_KEY",
    "_token",
)
NAMED += (
    "Ocp-Apim-Subscription-Key",
    "subscription-key",
    "accessToken",
    "clientSecret",
    "SecretAccessKey",
    "-key",
    "Token",
)
NAMED += ("refresh_Token", "-Secret", "_SECRET", "Key", "Secret", "sort_key", "perToken", "_auth-KEY", "bearer_secret")
OTHERS = ("-----BEGIN ", "AIza", "ya29.", "hf_", "AKIA", "ASIA", "github_pat_", "eyJ")
SIGNS = ("?key=", "&key=", "://", ";base64,")
MARKERS = (*BEARERS, *BASICS, *HEADERS, *KEYS, *SLACKS, *GITHUBS, *PAIRS, *OTHERS, *SIGNS)
TRIED = (*MARKERS, *NAMED)
HEADINGS = (
    "PRIVATE KEY-----",
    "PGP PRIVATE KEY BLOCK-----",
    "PRIVATE KEY BLOCK BLOCK-----",
    "RSA PRIVATE KEY-----",
    "A" * 32 + "PRIVATE KEY-----",
    "A" * 33 + "PRIVATE KEY-----",
)
HEADINGS += ("A" * 32 + "PRIVATE KEY BLOCK-----", "A" * 33 + "PRIVATE KEY BLOCK-----")
URLS = (
    "http://",
    "https://",
    "x://u:",
    "http://u:",
    "https://u:",
    "://:80/",
    "://h:443?",
    "://h:12345,",
    "@",
    "@h",
    "@h/a@",
)
ENDS = ("-----END ", "-----END PRIVATE KEY-----", "-----END EC PRIVATE KEY-----", "-----", "PRIVATE KEY")
SEPARATORS = (
    "=",
    ":",
    " = ",
    '": "',
    "': '",
    '\\": \\"',
    "     =",
    "=    ",
    "=     ",
    '"""=',
    "==",
    "=: ",
    "=b'",
    "=b",
    "%3D",
    "%3a",
    "=''''",
    '"""":',
    "=b'''''",
)
EDGES = tuple(" \t\n\r\f\v/@:\"'\\.,;&?#=_-*~+%<>[]\x1c\x85\xa0\0") + ("é", "ſ", "K", "İ", "語", "😀", "\ud800")
ESCAPES = (
    r"\n",
    r"\0",
    r"\q",
    r"\u0020",
    r"\u002g",
    r"\x1b",
    "%3D",
    "%3g",
    "%253D",
    "%2520",
    "\x1b[m",
    "\x1b[31m",
    "[1;3K",
)
ESCAPES += ("[" + "1" * 16 + "m", "[" + "1" * 17 + "m", r"\u001b[0m", "[x1m", "m", "K", "\\", "%", "%2", "n", "b")
CLASSES = ("abc", "aB1", "abc12-", "A1", "ab/", "Ab=", "XYZ", "0123456789", "AZaz09", "A-_z", "a*b", "+/=", "a.b", "~%")


def near(marker: str) -> st.SearchStrategy[str]:
    """The marker with one character of it gone, changed or doubled, or in another case."""
    places = st.integers(0, len(marker) - 1)
    return st.one_of(
        places.map(lambda at: marker[:at] + marker[at + 1 :]),
        places.map(lambda at: marker[:at] + "K" + marker[at + 1 :]),
        places.map(lambda at: marker[:at] + marker[at] + marker[at:]),
        st.just(marker.swapcase()),
    )


runs = st.builds(
    lambda characters, count: (characters * count)[:count],
    st.sampled_from(CLASSES),
    st.sampled_from((1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 19, 20, 21, 30, 63, 64, 65, 66, 70)),
)
markers = st.sampled_from(TRIED)
pieces = st.one_of(
    markers,
    markers,
    markers.flatmap(near),
    runs,
    runs,
    st.sampled_from(EDGES),
    st.sampled_from(ESCAPES),
    st.sampled_from(HEADINGS),
    st.sampled_from(URLS),
    st.sampled_from(ENDS),
    st.sampled_from(SEPARATORS),
    st.sampled_from(SECRET_PARTS),
    st.text(max_size=3),
)
texts = st.lists(pieces, max_size=12).map("".join)
secret_like = st.builds(
    lambda before, marker, separator, run, after: before + marker + separator + run + after,
    st.one_of(st.sampled_from(("", *EDGES, "a", "7", "-", "_")), st.sampled_from(ESCAPES)),
    markers,
    st.sampled_from(("", "", *SEPARATORS, *HEADINGS)),
    runs,
    st.sampled_from(("", *EDGES, *ENDS, ".a.b", ":p@h")),
)


def same(text: str) -> tuple[str, int, int]:
    native, pure = NATIVE.redact(text), PURE.redact(text)
    assert native == pure, repr(text)
    assert (native[0] is text) == (pure[0] is text) == (native[2] == 0)
    return native


@examples(3000)
@given(text=texts)
def test_both_find_the_same(text: str) -> None:
    same(text)


@examples(3000)
@given(parts=st.lists(secret_like, min_size=1, max_size=3))
def test_both_find_the_same_in_what_looks_like_secrets(parts: Sequence[str]) -> None:
    same("".join(parts))


@examples(300)
@given(text=texts, wide=st.sampled_from(("", "é", "語", "😀")))
def test_both_find_the_same_wherever_a_limit_cuts(text: str, wide: str) -> None:
    for limit in range(len(text) + 1):
        same(wide + text[:limit])


@pytest.mark.parametrize("wide", ["", "é", "語", "😀"])
def test_each_marker_is_known_in_every_width(wide: str) -> None:
    """The widths of Python's texts are three scanners."""
    follows = {"-----BEGIN ": "PRIVATE KEY-----x", "eyJ": "abcd.x", "://": "u:p@"}
    for marker in MARKERS:
        follow = ("=" if marker in PAIRS or marker in NAMED else "") + follows.get(marker, "0123456789ABCDEF" * 5)
        text = f"{wide} {marker}{follow}"
        redacted, start, end = same(text)
        assert "[redacted]" in redacted and start == len(wide) + 1 and end >= len(text) - 1


def test_every_sort_of_the_expression_is_tried_here() -> None:
    for begins, *_ in _SECRETS:
        assert any(re.search(begins, marker) for marker in TRIED), begins
    for marker in MARKERS:
        assert any(re.match(begins, marker) for begins, *_ in _SECRETS), marker
        assert any(part in f"{marker}=" for part in SECRET_PARTS), marker


@pytest.mark.parametrize("core", CORES)
def test_what_is_no_text_is_refused(core: object) -> None:
    with pytest.raises(TypeError):
        core.redact(b"sk-0123456789abcdef")  # type: ignore[attr-defined]


SECRET = "sk-" + "proj-0123456789abcdefghij"
STRINGS = ("operation", "name", "provider", "model_id", "request_model", "server_address", "error_type", "error_code")
CONTENT = ("service_tier", "response_id", "session_id", "user_id", "goal", "capsule_id")
LISTS = ("finish_reasons", "tool_calls", "tags")
pairs = Pairs()


@examples(400)
@given(
    name=st.sampled_from((*STRINGS, *CONTENT, *LISTS)),
    parts=st.lists(st.one_of(secret_like, st.just("é" * 200), st.just("x " * 150)), min_size=1, max_size=4),
)
def test_both_write_the_same_of_a_text_with_secrets(name: str, parts: list[str]) -> None:
    twins = pairs.next()
    record(twins, {"model_id": "m", "request_model": "r", name: parts if name in LISTS else "".join(parts)})
    same_lines(twins)


@pytest.mark.parametrize("name", [*STRINGS, *CONTENT, *LISTS])
@pytest.mark.parametrize("before", ["", "é ", "x " * 28, "x " * 120, "\ud800 "])
def test_no_text_takes_a_secret_into_the_ring(name: str, before: str) -> None:
    """Not even the beginning of one that the field's limit cuts, nor into the string table."""
    for core in CORES:
        with tempfile.TemporaryFile() as file:
            os.truncate(file.fileno(), core.region_bytes(SHAPE))
            twin = Twin(core, SHAPE, file.fileno())
            assert twin.recorder.record(
                core.new_context(None), START_UNIX_NS, 1, {"goal": "findable", name: before + SECRET}
            )
            data = pathlib.Path(f"/proc/self/fd/{file.fileno()}").read_bytes()
        assert b"0123" not in data and (name == "goal" or b"findable" in data)


def test_what_is_known_of_an_exception_was_looked_through_before() -> None:
    """Its texts are long, and nobody but trace/failure.py writes them."""
    twins = pairs.next()
    record(twins, {"error_message": SECRET, "error_stack": SECRET})
    (line,) = same_lines(twins)
    assert line.count(SECRET.encode()) == 2
