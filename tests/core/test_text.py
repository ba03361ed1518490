"""Text and JSON of the callers: cut, cleaned, bounded and rid of secrets, whatever the values do."""

from __future__ import annotations

import enum
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fasttrace.core._text import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_JSON_CHARACTERS,
    MAX_KEYS,
    REDACTION_MARGIN,
    SECRET_PARTS,
    _translated,
    clean,
    clip,
    quote,
    redact,
    redact_within,
    render_json,
    render_param,
)

any_text = st.text(st.characters(exclude_categories=()), max_size=40)


@given(st.text(max_size=40), st.integers(0, 170))
def test_clean_is_the_longest_whole_prefix_within_the_limit(text: str, limit: int) -> None:
    prefixes = [text[:length].encode() for length in range(len(text) + 1)]
    assert clean(text, limit) == max((prefix for prefix in prefixes if len(prefix) <= limit), key=len)


@given(any_text, st.integers(0, 50))
def test_clean_is_valid_within_the_limit_whatever_the_text(text: str, limit: int) -> None:
    data = clean(text, limit)
    assert len(data) <= limit
    assert clean(data.decode(), limit) == data


@pytest.mark.parametrize(
    ("text", "limit", "data"),
    [
        ("héllo", 2, b"h"),
        ("héllo", 3, "hé".encode()),
        ("\U0001f600", 3, b""),
        ("\U0001f600", 4, "\U0001f600".encode()),
        ("a\ud800b", 5, "a\ufffdb".encode()),
        ("a\ud800b", 3, b"a"),
        ("a\ud83d\ude00", 5, "a\U0001f600".encode()),
        ("\udc00" * 3, 9, "\ufffd".encode() * 3),
        ("", 0, b""),
    ],
)
def test_clean_cuts_on_characters_and_replaces_lone_surrogates(text: str, limit: int, data: bytes) -> None:
    assert clean(text, limit) == data


def test_clean_of_a_huge_text_does_not_encode_it_whole() -> None:
    assert clean("é" * 50_000_000, 5) == "éé".encode()


def test_clip_keeps_what_fits() -> None:
    assert clip("aé€".encode(), 6) == "aé€".encode()
    assert [clip("aé€".encode(), limit) for limit in range(6)] == [b"", b"a", b"a", "aé".encode(), *["aé".encode()] * 2]


@given(any_text.map(lambda text: text.encode("utf-8", "replace").decode()))
def test_quote_is_json_and_escapes_only_what_it_must(text: str) -> None:
    quoted = quote(text)
    assert json.loads(quoted) == text
    assert not any(char < " " or char == "\x7f" for char in quoted)
    assert quoted == _translated(text)
    if not any(char < " " or char in '"\\\x7f' for char in text):
        assert quoted == f'"{text}"'


def test_quote_uses_the_short_escapes_and_lower_case_hex() -> None:
    assert quote('"\\\b\f\n\r\t\x00\x1f\x7f/é') == r'"\"\\\b\f\n\r\t\u0000\u001f\u007f/é"'


class Colour(enum.IntEnum):
    RED = 3


class Evil:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class EvilMapping(dict[str, int]):
    def __iter__(self) -> Any:
        raise RuntimeError("no keys")

    def items(self) -> Any:
        raise RuntimeError("no items")


@pytest.mark.parametrize(
    ("value", "rendered"),
    [
        (None, b"null"),
        (True, b"true"),
        (1, b"1"),
        (Colour.RED, b"3"),
        (-(2**63), b"-9223372036854775808"),
        (2**64 - 1, b"18446744073709551615"),
        (2**64, b'"18446744073709551616"'),
        (-(2**63) - 1, b'"-9223372036854775809"'),
        (0.1, b"0.1"),
        (1e-05, b"1e-05"),
        (-0.0, b"-0.0"),
        (float("nan"), b'"NaN"'),
        (float("inf"), b'"Infinity"'),
        (float("-inf"), b'"-Infinity"'),
        ("é\ud800", '"é\ufffd"'.encode()),
        (b"bytes \xff", '"bytes \ufffd"'.encode()),
        ((1, [2, {"a": 3}]), b'[1,[2,{"a":3}]]'),
        ({1: 2, None: 3, "k" * 200: 4}, b'{"1":2,"None":3,"' + b"k" * 128 + b'":4}'),
        ({1}, b'"{1}"'),
        (Evil(), b'"<unserialisable>"'),
        ({"a": Evil(), "b": 1}, b'{"a":"<unserialisable>","b":1}'),
        (EvilMapping(a=1), b'{"a":1}'),
    ],
)
def test_values_are_rendered_by_fixed_rules(value: object, rendered: bytes) -> None:
    assert render_json(value) == rendered


def test_depth_is_bounded_and_cycles_end() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    rendered = render_json(deep)
    assert rendered == b"[" * MAX_DEPTH + b'"<truncated>"' + b"]" * MAX_DEPTH
    cycle: dict[str, Any] = {}
    cycle["a"] = cycle["b"] = cycle
    assert json.loads(render_json(cycle))["a"]["a"]["a"]
    assert len(render_json(cycle)) < 3 * MAX_JSON_CHARACTERS


def test_keys_items_and_characters_are_bounded() -> None:
    keys = json.loads(render_json({f"k{number}": number for number in range(MAX_KEYS + 5)}))
    assert len(keys) == MAX_KEYS + 1
    assert keys["<truncated>"] is True
    items = json.loads(render_json(list(range(MAX_ITEMS + 5))))
    assert items[-2:] == [MAX_ITEMS - 1, "<truncated>"]
    text = json.loads(render_json(["x" * 100_000, "y" * 100_000, 1]))
    assert text[0].endswith("x<truncated>")
    assert len(render_json(["x" * 100_000] * 50)) < MAX_JSON_CHARACTERS + 1000


def test_an_integer_of_any_size_is_text_not_an_error() -> None:
    assert json.loads(render_json(10**5000)).startswith("0x")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | any_text, st.lists, max_leaves=20))
def test_whatever_is_rendered_is_json_and_utf_8(value: object) -> None:
    json.loads(render_json({"value": value}).decode(), parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize(
    ("value", "rendered"),
    [
        (0.7, b"0.7"),
        (True, b"true"),
        (2**70, b'"1180591620717411303424"'),
        ("x" * 100, b'"' + b"x" * 64 + b'"'),
        ("\ud800", '"\ufffd"'.encode()),
        (None, None),
        ([1], None),
        ({"a": 1}, None),
        (Evil(), None),
    ],
)
def test_request_parameters_are_scalars_only(value: object, rendered: bytes | None) -> None:
    assert render_param(value) == rendered


# Put together here, so that nobody who scans the repository for keys finds one.
ANTHROPIC_KEY = "-".join(("sk", "ant", "api03", "AbC1_" * 8))
GOOGLE_KEY = "AI" + "za" + "SyA-1234567890abcdefghijklmnopqrstu"
AWS_KEY = "AK" + "IA" + "IOSFODNN7EXAMPLE"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIE+abc/=\n-----END RSA PRIVATE KEY-----"
PAYLOAD = "QUJ/+0-_" * 20
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Incorrect API key provided: sk-proj-abc123DEF456.", "Incorrect API key provided: [redacted]"),
        (f"key={ANTHROPIC_KEY} end", "key=[redacted] end"),
        ("sk-abcd1234****wxyz", "[redacted]"),
        ("Bearer sk-abcd1234****wxyz", "Bearer [redacted]"),
        ("Authorization: Bearer bearer abcdef", "Authorization: Bearer [redacted]"),
        ("AUTHORIZATION: BEARER abcdef", "AUTHORIZATION: BEARER [redacted]"),
        ("remote: gh" + "p_" + "16C7e42F292c6912E7", "remote: [redacted]"),
        ("://:p@", "://[redacted]@"),
        (f"?key={GOOGLE_KEY}&x=1", "?key=[redacted]&x=1"),
        (AWS_KEY, "[redacted]"),
        ("gsk_abcdefgh12345678 xai-abcdefgh12345678", "[redacted] [redacted]"),
        ("Authorization: Bearer abc.def-123=", "Authorization: Bearer [redacted]"),
        ("authorization: bearer abcdef", "authorization: bearer [redacted]"),
        (f"token {JWT} end", "token [redacted] end"),
        ("postgres://user:p4ss@host/db", "postgres://[redacted]@host/db"),
        (f"a\n{PEM}\nb", "a\n[redacted]\nb"),
        (PEM[:-40], "[redacted]"),
        (f"![cat](data:image/png;base64,{PAYLOAD}=) here", "![cat](data:image/png;base64,[redacted]) here"),
        (f";base64,{AWS_KEY}{PAYLOAD} {AWS_KEY}", ";base64,[redacted] [redacted]"),
        ("keys: sk-svcacct-A1b2C3d4, hf_" + "aB3" * 11, "keys: [redacted], [redacted]"),
        ("pay with sk_" + "live_51H8abcdefXYZ or rk_" + "test_51H8abcdefXYZ", "pay with [redacted] or [redacted]"),
        ("slack xox" + "b-123456789012-abcDEF, app xapp-1-A2B3C4", "slack [redacted], app [redacted]"),
        ("token ya29." + "a0AfH6SMBx-2_" * 3, "token [redacted]"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: Basic [redacted]"),
        ("GET /v1?key=hunter2hunter2&alt=sse", "GET /v1?key=[redacted]&alt=sse"),
        ("POST /v1?a=1&api_key=hunter2hunter2 failed", "POST /v1?a=1&api_key=[redacted] failed"),
        ("{'x-api-key': 'hunter2hunter2', 'a': 1}", "{'x-api-key': '[redacted]', 'a': 1}"),
        ('{\\"apiKey\\": \\"hunter2hunter2\\"}', '{\\"apiKey\\": \\"[redacted]\\"}'),
        ("OPENAI_API_KEY=hunter2hunter2", "OPENAI_API_KEY=[redacted]"),
        ("redis://:p@ssw0rd123@h", "redis://[redacted]@h"),
        ("redis://:p@ss@h/0?a=b@c", "redis://[redacted]@h/0?a=b@c"),
        ("postgres://app:aB3/xyz==@db", "postgres://[redacted]@db"),
        ("https://bob:p#s?s@host/a@b", "https://[redacted]@host/a@b"),
        ("curl -H 'Bearer  abc123def456'", "curl -H 'Bearer  [redacted]'"),
        ("Bearer\tabc123def456", "Bearer\t[redacted]"),
        ("auth=Bearer%20abc123def456&a=1", "auth=Bearer%20[redacted]&a=1"),
        ("Bearer s3cret-t0ken", "Bearer [redacted]"),
        ("Bearer aBcDeFgHiJkLmNoPqRsT", "Bearer [redacted]"),
        ("{'Authorization': 'Bearer  tok1'}", "{'Authorization': 'Bearer  [redacted]'}"),
        ("proxy-authorization: Basic YTpi", "proxy-authorization: Basic [redacted]"),
        ("Basic dXNlcjpwYXNzd29yZA==", "Basic [redacted]"),
        (PEM.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"), "[redacted]"),
        ("access_token=hunter2hunter2", "access_token=[redacted]"),
        ("client_secret=hunter2hunter2&a=1", "client_secret=[redacted]&a=1"),
        ('"refresh_token": "hunter2hunter2"', '"refresh_token": "[redacted]"'),
        ('"accessToken":"hunter2hunter2"', '"accessToken":"[redacted]"'),
        ("aws_secret_access_key = hunter2/HUNTER+2", "aws_secret_access_key = [redacted]"),
        ("Ocp-Apim-Subscription-Key: hunter2hunter2", "Ocp-Apim-Subscription-Key: [redacted]"),
        ("?subscription-key=hunter2hunter2", "?subscription-key=[redacted]"),
        (
            "{'x-api-key': b'hunter2hunter2'} x-api-key=b'hunter2hunter2'",
            "{'x-api-key': b'[redacted]'} x-api-key=b'[redacted]'",
        ),
        ("my API key: hunter2hunter2hunter2, thanks", "my API key: [redacted], thanks"),
        ("glpat-" + "aB_dE-fGhIjKlMnOpQrS", "[redacted]"),
        ("sk-" + "aBcDeFgHiJkLmNoPqRsTuVwX", "[redacted]"),
    ],
)
def test_secrets_are_redacted(text: str, redacted: str) -> None:
    assert redact(text) == redacted


# What may stand before a key and is no word: escapes of JSON and of `repr`, of URLs, of terminals.
ESCAPES = (
    *(r"\n", r"\t", r"\r", r"\b", r"\f", r"\v", r"\u0020", r"\u001b[31m", r"\x1b[0m", r"\033[1;31m", r"\xa0", r"\\n"),
    *("%3D", "%20", "%3d", "%0A", "%253D", "\x1b[31m", "\x1b[m", "\x1b[38;2;255;255;255m", "\x1b[K", "[0m", "&amp;"),
)
NO_ESCAPES = ("n", r"\na", r"\q", "%3", "%3G", "3D", "u0020", r"\u002", "[31", "31m", "[" + "1" * 17 + "m", "é\\na")
ALONE = ("sk-proj-abc123DEF456ghi7", "gsk_abcdefgh12345678", GOOGLE_KEY, AWS_KEY, JWT, "hf_" + "aB3" * 11)


@pytest.mark.parametrize("key", ALONE)
def test_a_key_behind_an_escape_is_redacted(key: str) -> None:
    for escape in ESCAPES:
        assert redact(f"{escape}{key} end") == f"{escape}[redacted] end", escape
        assert redact(f"a{escape}{key}") == f"a{escape}[redacted]", escape
    for before in NO_ESCAPES:
        assert redact(f"{before}{key}").startswith(f"{before}{key[:20]}"), before


@pytest.mark.parametrize("key", ALONE)
def test_a_key_in_json_and_in_a_repr_is_redacted(key: str) -> None:
    for before in "\n\t\r\b\f\x1b\x7f é":
        text = f"first{before}{key}"
        for told in (json.dumps(text), json.dumps(json.dumps(text)), repr(text), repr(text.encode()), ascii(text)):
            assert key not in redact(told), told


@pytest.mark.parametrize(
    "text",
    [
        "Rate limit reached for gpt-4o in organization org-abc on tokens per min",
        "the task-force asked risk-averse disk-intensive questions",
        "https://api.openai.com:443/v1/chat/completions",
        "mailto:someone@example.com at 12:30",
        'File "/usr/lib/python3.11/site-packages/openai/_base_client.py", line 1045, in request',
        "Bearer of bad news",
        "No module named sk-learn-contrib",
        "data:image/png;base64,iVBORw0KGgo=",
        "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz0123 resp_68a1b2c3d4e5f607 msg_01AbCdEfGhIjKlMnOpQrStUv",
        "gpt-4o-mini-2024-07-18 claude-sonnet-4-5-20250929 models/gemini-2.5-flash-lite ft:gpt-4o:org:x:9abcDEF1",
        "4f1c2d3e-5a6b-7c8d-9e0f-112233445566 sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "The api_key client option must be set, or the OPENAI_API_KEY environment variable",
        "client = OpenAI(api_key=settings.api_key, base_url=url)",
        "Basic information about a bearer: none",
        "hf_hub_download(repo_id='a/b') in hf_transfer; ghost_writer; sk_learn; asterisk-based asia-pacific",
        "a?monkey=0123456789&turkey=0123456789",
        "----- BEGIN PRIVATE KEY -----",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----",
        '<div id="sk-container-id-1" class="sk-top-container"><div class="sk-estimator sk-toggleable sk-item-12">',
        '<input class="sk-toggleable__control sk-hidden--visually" id="sk-estimator-id-123" type="checkbox" checked>',
        "sk-circle12 sk-cube-grid-9 sk-learn-1.5.2 xai-grok-2-1212 pplx-7b-online pplx-70b-chat-alpha",
        "gsk_gl_shader_op_2d() sk_test_case_12() rk_test_runge_kutta_4() gsk_transform_to_2d_components",
        "ASIAPACIFICREGIONAL ASIAPACIFICREGIONALOFFICES2024 AKIAISNOKEYATALLTHATWEKNOWOF1",
        "http://localhost:3000?email=bob@example.com",
        "http://localhost:3000/users?email=bob@example.com&a=1",
        "http://host:80/path@x https://host:8443#a@b https://HOST:PORT/a@b http://{host}:{port}/users/@me",
        "http://[::1]:8080/path@x file://C:/Users/bob@work [a](http://localhost:3000),bob@example.com",
        "https://example.com?email=bob:x@example.com https://example.com/a:b@c",
        r"serving at http://localhost:8000\nwrite to bob@example.com",
        "cost_per_token=0.00000015, sort_key: 2024-01-01T00, eos_token='<|endoftext|>', total_tokens: 123456789",
        "API key: none. API key: see https://example.com/keys-2024. api key: required-since-version",
        "The API key: a guide to 12345678 of them",
        "Bearer $OPENAI_API_KEY, Bearer {token}, Bearer <your token>, Authorization: Bearer ${KEY}",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


# Of authorization, in words: none of them has a token.
SENTENCES = """
Use a bearer token for authentication
The Bearer must present this document at the border
bearer bonds are illegal in many countries since 1982
Basic HTML5/CSS3 knowledge is required
Basic authentication is deprecated, bearer authentication is not
Bearer authentication (also called token authentication) is an HTTP scheme
The bearer of this ring shall be king
A bearer instrument is payable to its holder
the cup-bearer brought wine, and the standard-bearer followed
Basic understanding of mathematics and programming
basic/intermediate/advanced courses start in 2025
Basic training takes 12 weeks, basic pay is 2,500 a month
Visual Basic 6 and Basic programming in 1985
Bearer tokens are described in RFC 6750
Bearer RFC6750 tokens, Basic RFC7617 credentials
a Bearer credential/token must not be logged
The Bearer authentication-scheme was standardised in 2012
Bearer: none, Basic: none
load-bearer walls; bearer shares; bearer cheques
bearer-token-authentication is the name of the module
Basic input/output system, basic/advanced mode
Basic arithmetic: 1+1=2
Set the header to Bearer followed by the token
Bearer certificates were abolished on 2015-06-26
The pall bearers, six of them, waited
Basic research costs 100000000 a year
basic principles: responsibility, accountability, transparency
Basic responsibilities/expectations of employees
Bearer authorisation, Basic authorisation, Digest authorisation
Basic Javascript/TypeScript, basic React18 and Vue3
Basic Internationalization and localization
basic telecommunication/electrification infrastructure
Basic C++17/C++20 features
Basic setting=1 and basic option= 2
The bearer respectfully requests safe passage
Bearer's signature, bearer's name, bearer (m/f)
bearer plants can be found in the mountains
Every ring-bearer is between four and eight
Basic Law of 1949, Basic Law Article 23
basic needs, basic income, basic rights
Basic A1/A2 level German course
basic_auth and bearer_auth are both helpers
HTTPBasic and HTTPBearer are classes of FastAPI
Basic or Bearer? Use Bearer where you can
Bearer.Token, Basic.Auth and Digest.Auth
Bearer token, bearer token, BEARER TOKEN
BASIC INFORMATION ABOUT BEARER SECURITIES
Basic/Bearer/Digest/Negotiate/NTLM
bearer authentication. basic authentication. nothing else.
Bearer ... and Basic --- are placeholders
The bearer-to-be considered his options carefully
Bearer asynchronously/synchronously refreshed
""".strip().splitlines()


def test_sentences_about_authorization_stay() -> None:
    assert len(SENTENCES) >= 50
    assert [redact(sentence) for sentence in SENTENCES] == SENTENCES


TOKENS = (
    *("sk-", "sk-proj-", "sk-svcacct-", "sk_live_", "sk_test_", "rk_live_", "rk_test_", "gsk_", "xai-", "xapp-"),
    *("xoxb-", "xoxp-", "pplx-", "nvapi-", "glpat-", "ya29.", "hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    *("github_pat_", "Bearer ", "bearer ", "BEARER ", "Basic ", "BASIC ", "?key=", "&key="),
    *("api_key=", "x-api-key: ", "apiKey=", "API_KEY='", "Api-Key: "),
    *(
        "access_token=",
        "AUTH_TOKEN=",
        "client_secret=",
        "CLIENT_SECRET=",
        "authorization: token ",
        "AUTHORIZATION: Basic ",
    ),
    *("X-Auth-Token: ", "accessToken=", "clientSecret=", "subscription-key="),
)
DATA = f";base64,{PAYLOAD}"
PREFIXED = [prefix + "0123456789abcdefghij" for prefix in TOKENS]


def test_every_secret_has_a_text_by_which_it_is_looked_for() -> None:
    found: set[str] = set()
    for text in (ANTHROPIC_KEY, GOOGLE_KEY, AWS_KEY, "ASIA" + AWS_KEY[4:], PEM, JWT, DATA, "://u:p4ss@", *PREFIXED):
        assert redact(text) != text
        parts = [part for part in SECRET_PARTS if part in text]
        assert parts, text
        found.update(parts)
    assert found == set(SECRET_PARTS)


@pytest.mark.parametrize("key", [ANTHROPIC_KEY, GOOGLE_KEY, AWS_KEY, "://user:p4ss@host", DATA, *PREFIXED])
def test_a_secret_that_a_limit_cuts_is_redacted(key: str) -> None:
    text = f"before {key} after {'x' * 3000}"
    for limit in range(len(f"before {key} after")):
        within = redact_within(text, limit)
        assert len(within) <= limit
        assert redact(text).startswith(within)


def test_what_the_end_of_the_margin_cuts_is_left_out() -> None:
    """A key that is redacted makes room for text from the margin, which may end within another key."""
    long_key = PEM[:40] + "x" * 1000 + PEM[-30:]
    for cut in range(1, len(ANTHROPIC_KEY)):
        filler = "x" * (2000 + REDACTION_MARGIN - len(long_key) - cut - 2)
        within = redact_within(f"{long_key} {filler} {ANTHROPIC_KEY} {filler}", 2000)
        assert within == "[redacted] " + filler[: len(within) - 11]
    assert redact_within("é" * 10_000_000, 5) == "é" * 5


@pytest.mark.parametrize("secret", [PEM[:40] + "x" * 5000, ";base64," + "QUJD" * 5000])
def test_a_secret_longer_than_the_margin_leaves_what_is_before_it(secret: str) -> None:
    assert redact_within(f"before {secret} after", 1000) == f"before {redact(secret)}"
    assert redact_within(f"before {secret}", 1000, is_cut=True) == f"before {redact(secret)}"


def test_what_is_known_to_be_cut_loses_the_margin_at_its_end() -> None:
    text = "x" * 3000 + " " + ANTHROPIC_KEY[:6]
    assert redact_within(text, 5000, is_cut=True) == text[:-REDACTION_MARGIN]
    assert redact_within(text[-100:], 5000, is_cut=True) == ""
    assert redact_within(text, 5000) == text


def test_texts_and_keys_of_json_are_rid_of_secrets() -> None:
    value = {
        "a": [ANTHROPIC_KEY, {"url": "https://u:p4ss@host/"}],
        ANTHROPIC_KEY: JWT.encode(),
        "k" * 120 + " " + AWS_KEY: 1,
    }
    assert json.loads(render_json(value)) == {
        "a": ["[redacted]", {"url": "https://[redacted]@host/"}],
        "[redacted]": "[redacted]",
        "k" * 120 + " [redact": 1,
    }


def test_the_text_of_a_member_that_is_named_for_a_secret_is_redacted() -> None:
    value = {"api_key": "hunter2", "X-Api-Key": b"hunter2", "clientSecret": "hunter2", "key": "k", "password": 3}
    shown = {
        "api_key": "[redacted]",
        "X-Api-Key": "[redacted]",
        "clientSecret": "[redacted]",
        "key": "k",
        "password": 3,
    }
    assert json.loads(render_json({"a": [value]})) == {"a": [shown]}


def test_what_redaction_reads_is_bounded_like_what_is_written() -> None:
    rendered = json.loads(render_json([PEM[:40] + "x" * 30_000] * 10))
    assert rendered[:2] == ["[redacted]", "[redacted]"]
    assert rendered[-1] == "<truncated>"
    assert len(rendered) <= 5


def test_the_methods_of_a_text_are_not_asked() -> None:
    class Text(str):
        def __contains__(self, part: object) -> bool:
            return False

        def __format__(self, spec: str) -> str:
            return "formatted"

    assert render_json({Text("k"): Text(ANTHROPIC_KEY)}) == b'{"k":"[redacted]"}'


def test_a_key_added_meanwhile_does_not_cost_the_others() -> None:
    attributes: dict[str, object] = {}

    class Adds:
        def __str__(self) -> str:
            attributes["late"] = 2
            return "value"

    attributes.update(first=Adds(), second=1)
    assert render_json(attributes) == b'{"first":"value","second":1}'


# What is quadratic takes minutes and hours for this: the time limit is there to end that.
HOSTILE = """
from fasttrace.core import core
from fasttrace.core._text import SECRET_PARTS
redact = core.redact
parts = ["-----BEGIN PRIVATE KE", "-----BEGIN PRIVATE KEY-----END ", ".sk-a", ".gsk_.", " AIzaA", ".AKIAA", ".eyJaaaa."]
parts += ["eyJaaaa.a", "Bearer a.", "Bearer ", "://a", "://a:a", "://a:", " ghp_", "-", " A", "api_key=", "?key=a"]
parts += ["sk-a-a-", "sk-aaaaaaaaaaaaaaaa-", "xai-a", "Bearer%20", "Bearer\\t a", "Basic aaaa1", "Basic " + "a" * 5000]
parts += ["access_token=", "access_token=a", "_secret='a", "-key", "rization: Bearer a", "rization: ", "API key: a1"]
parts += ["x://a:b", "x://a:b@", "x://a@", "http://a:b?", "x://1:1,", "[1;1;1;1;1msk-a", "%25", "\\u0000sk-a", "[1111m"]
parts += ["x://a:" + "@b" * 5000 + " ", "x://a:" + "a" * 127 + "/", "Secret=a", "accessToken=a"]
parts += ["api_key", "-----BEGIN ", "sk-", "basic a", "-----END ", "-----BEGIN PRIVATE KEY----- -----END A"]
for part in parts:
    redact(part * (400_000 // len(part)))
for form in ("{0}", ".{0}a", " {0}A ", ".{0}aaaa.", "{0}a:", "{0}KEY-----{0}"):
    for part in SECRET_PARTS:
        redact("://" + form.format(part) * 10_000)
print(core.BACKEND)
"""


def test_redaction_of_hostile_text_is_linear(core: Any) -> None:
    environ = {**os.environ, "FASTTRACE_PURE": "1" if core.BACKEND == "pure" else "0"}
    done = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=60, env=environ)
    assert (done.stdout, done.stderr) == (f"{core.BACKEND}\n", "")


def test_long_text_without_a_secret_stays() -> None:
    text = "eyJ" * 50_000 + "://" * 50_000 + "a:" * 50_000 + "-----BEGIN PRIVATE KE" * 5_000
    assert redact(text) == text
