"""Text of the callers, made fit for a span: cleaned, clipped, rendered as JSON, rid of secrets.

Both cores call these functions, so that their output cannot differ: whatever C does not write by itself in the common
case comes here. They run on the callers' threads, but only where something is unusual (an error, user attributes, text
that is not valid Unicode); they never raise for a value, whatever its methods do.

JSON is written by this module and not by `json`, because its rules are the wire's: control characters and DEL escaped,
everything else raw UTF-8, NaN and infinities as strings, bounded in depth, keys and bytes. `Renderer` is that writer;
the content of calls has one of its own made of it, with other bounds.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from re import Match, Pattern

MAX_DEPTH = 32
MAX_KEYS = 128
MAX_KEY_BYTES = 128
MAX_ITEMS = 1024
MAX_JSON_CHARACTERS = 65_536
MAX_HEX_CHARACTERS = 320
PARAM_TEXT_BYTES = 64
TRUNCATED = "<truncated>"
UNSERIALISABLE = "<unserialisable>"
REDACTED = "[redacted]"

_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x20), 0x7F)}
_ESCAPES.update({8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"})


def clean(text: str, limit: int) -> bytes:
    """UTF-8 of `text`, at most `limit` bytes, cut on a character boundary; each lone surrogate becomes U+FFFD."""
    if type(text) is not str:
        text = str.__str__(text)  # a subclass's methods may be anybody's code
    try:
        data = (text if len(text) <= limit else text[:limit]).encode()
    except UnicodeEncodeError:
        data = _without_surrogates(text[:limit])
    return data if len(data) <= limit else clip(data, limit)


def _without_surrogates(text: str) -> bytes:
    """UTF-16 joins the halves of a pair that were kept apart, and replaces each half that is alone."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def exact_text(value: object) -> str | None:
    """The text of a str; of a subclass too, without asking its methods. None for what is none, whatever it claims."""
    if type(value) is str:
        return value
    return str.__str__(value) if issubclass(type(value), str) else None


def clip(data: bytes, limit: int) -> bytes:
    """The longest prefix of at most `limit` bytes that does not split a UTF-8 sequence."""
    if len(data) <= limit:
        return data
    while limit > 0 and data[limit] & 0xC0 == 0x80:
        limit -= 1
    return data[:limit]


def quote(text: str) -> str:
    """`text` as a JSON string, quotes included."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    quoted = (_quote or _find_quote())(text)
    return quoted.replace("\x7f", _ESCAPES[0x7F]) if "\x7f" in quoted else quoted


_quote: Callable[[str], str] | None = None


def _find_quote() -> Callable[[str], str]:
    """The interpreter's own, which is written in C and leaves DEL as it is; found when it is first needed."""
    global _quote
    try:
        from _json import encode_basestring
    except ImportError:  # an interpreter without it
        encode_basestring = _translated
    _quote = encode_basestring
    return _quote


def _translated(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def render_json(value: object) -> bytes:
    """JSON of a user's value: str, bool, int, float, None, lists and dicts of them; anything else by its str().

    Secrets in its texts and keys are "[redacted]", and so is the text of a member that is named for one.
    Bounded: 32 levels, 128 keys an object, 1,024 items an array, 65,536 characters in all; what passes a bound is
    "<truncated>". A value that cannot be turned into text is "<unserialisable>". Integers beyond 64 bits, NaN and
    infinities become strings.
    """
    return clean(Renderer(MAX_JSON_CHARACTERS).render(value, 0), 8 * MAX_JSON_CHARACTERS)


def render_param(value: object) -> bytes | None:
    """JSON of a request parameter, None where it is not a scalar. Strings are rid of secrets and cut at 64 bytes."""
    text = exact_text(value)
    if text is not None:
        return quote(redacted(text, PARAM_TEXT_BYTES).decode()).encode()
    return _number(value).encode() if isinstance(value, (bool, int, float)) else None


def _number(value: bool | int | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        value = int.__int__(value)
        digits = repr(value) if value.bit_length() <= 64 else ""
        return digits if digits and -(1 << 63) <= value < 1 << 64 else _large_integer(value)
    value = float.__float__(value)
    if value != value:
        return '"NaN"'
    if value in (float("inf"), float("-inf")):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    return repr(value)


def _large_integer(value: int) -> str:
    """Beyond what decimal digits are good for (and newer Pythons refuse to print) hexadecimal, and cut."""
    return f'"{value:d}"' if value.bit_length() <= 1024 else f'"{hex(value)[:MAX_HEX_CHARACTERS]}"'


class Renderer:
    """One value on its way to JSON; `room` is how many characters may still be written."""

    __slots__ = ("room",)

    def __init__(self, room: int) -> None:
        self.room = room

    def render(self, value: object, depth: int) -> str:
        try:
            return self._of_any(value, depth)
        except Exception:  # the value's own methods raised: the output says so
            return self._spend(quote(UNSERIALISABLE))

    def _of_any(self, value: object, depth: int) -> str:
        if value is None:
            return self._spend("null")
        text = exact_text(value)
        if text is not None:
            return self._text(text)
        if isinstance(value, (bool, int, float)):
            return self._spend(_number(value))
        if self.room <= 0 or (depth >= MAX_DEPTH and isinstance(value, (dict, list, tuple))):
            return self._past_bounds(value)
        if isinstance(value, dict):
            return self._object(dict.items(value), depth)
        if isinstance(value, (list, tuple)):
            return self._array(value, depth)
        return self._other(value, depth)

    def _past_bounds(self, value: object) -> str:
        return self._spend(quote(TRUNCATED))

    def _other(self, value: object, depth: int) -> str:
        return self._text(value.decode("utf-8", "replace") if isinstance(value, bytes) else _text_of(value))

    def _spend(self, text: str) -> str:
        self.room -= len(text) + 1
        return text

    def _redacted(self, text: str, limit: int) -> str:
        """What was read and is not written is spent too: reading it took its time."""
        redacted = redact_within(text, limit)
        self.room -= max(min(len(text), limit) - len(redacted), 0)
        return redacted

    def _text(self, text: str) -> str:
        """A cut string says that it was cut."""
        limit = max(self.room, 0)
        cut = TRUNCATED if len(text) > limit else ""
        return self._spend(quote(valid(self._redacted(text, limit)) + cut))

    def _object(self, items: Collection[tuple[object, object]], depth: int) -> str:
        members: list[str] = []
        for key, value in list(islice(items, MAX_KEYS + 1)):  # at once: another thread may add a key
            if len(members) == MAX_KEYS or self.room <= 0:
                members.append(f'"{TRUNCATED}":true')
                break
            name = self._redacted(_text_of(key), MAX_KEY_BYTES)
            member = self._spend(quote(clean(name, MAX_KEY_BYTES).decode()))
            shown = REDACTED if folded(key) in SECRET_NAMES and isinstance(value, (str, bytes)) else value
            members.append(f"{member}:{self.render(shown, depth + 1)}")
        return "{" + ",".join(members) + "}"

    def _array(self, values: Collection[object], depth: int) -> str:
        items: list[str] = []
        for value in values:
            if len(items) == MAX_ITEMS or self.room <= 0:
                items.append(quote(TRUNCATED))
                break
            items.append(self.render(value, depth + 1))
        return "[" + ",".join(items) + "]"


def _text_of(value: object) -> str:
    text = exact_text(value)
    return text if text is not None else str.__str__(str(value))


def valid(text: str) -> str:
    """`text` with each lone surrogate as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _without_surrogates(text).decode()
    return text


# Members whose text is a secret whatever it looks like. Without case, hyphens and underscores: `X-API-Key` is
# `x_api_key`, `accessToken` is `access_token`.
SECRET_NAMES = frozenset(
    ("accesstoken", "apikey", "apikeystring", "authorization", "authorizationtoken", "authtoken", "bearertoken")
    + ("clientsecret", "idtoken", "password", "privatekey", "proxyauthorization", "refreshtoken", "secretkey")
    + ("xapikey", "xgoogapikey")
)
LONGEST_NAME = 64
FOLDED_MAX = 1024
_folded: dict[str, str] = {}


def folded(key: object) -> str:
    """A member's name as it stands in SECRET_NAMES; "" for what is none."""
    text = exact_text(key)
    if text is None or len(text) > LONGEST_NAME:
        return ""
    found = _folded.get(text)
    if found is None:
        found = text.lower().replace("-", "").replace("_", "")
        if len(_folded) < FOLDED_MAX:
            _folded[text] = found
    return found


# The secrets, known by their own shape, not by the words around them. csrc/src/redact.c is the same by hand, and a test
# holds the two together. Each sort: (how it begins, what may not stand before that, what follows; texts of which one is
# there wherever it is). A beginning opens with a character as it is, which the expression's engine skips to, and has
# one length; a group is what must not be shown where that is not all. No beginning is read over twice: what follows
# stops before the next one, or is of a bounded length.
_NO_WORD = "A-Za-z0-9_-"  # `risk-averse` has no key
# Letters and digits before a beginning that are none of a word: the end of an escape (JSON within a string, a `repr`,
# percent-encoding, once or twice) or of a terminal's colour. By their length, for a look-behind has but one.
_COLOUR_MAX = 16
_ESCAPED = {2: r"\\[abefnrtv0]", 3: "%[0-9A-Fa-f]{2}", 4: r"\\x[0-9A-Fa-f]{2}", 5: "%25[0-9A-Fa-f]{2}"}
_ESCAPED[6] = r"\\u[0-9A-Fa-f]{4}"
# What looks like a key where words stand as well (`sk-container-id-1` is markup, `pplx-70b-chat` a model): a piece
# between hyphens of six characters with three digits, or of sixteen that are not lower case alone. The others' own
# beginnings are no words, and anything but lower case will do.
_PIECE = "A-Za-z0-9_"
_LONG = rf"(?=[a-z_]{{0,63}}[A-Z0-9])[{_PIECE}]{{16}}"
_LIKE_A_KEY = rf"(?:(?=[{_PIECE}*]{{6}})(?:[A-Za-z_]{{0,64}}[0-9*]){{3}}|{_LONG})"
_KEY = rf"(?=(?:[{_PIECE}*]{{0,64}}[-.]){{0,8}}{_LIKE_A_KEY})[A-Za-z0-9_\-*.]{{8,}}"
_OWN = r"(?=[a-z_\-.]{0,64}[A-Z0-9*])[A-Za-z0-9_\-*.]{8,}"
_NO_NAME = r"(?=[a-z]{0,64}[A-Z0-9*])[A-Za-z0-9*]"  # `sk_test_case_12` is a function's
_AWS = r"(?=[A-Z]{0,15}[0-9])[A-Z0-9]{16,}"
# Name and value: `api_key=`, `"accessToken": "`, `x-api-key=b'`.
_OF = r"""["'\\]{0,4}\s{0,4}(?:[:=]|%3[AD])\s{0,4}(?:b["'\\]{1,4}|["'\\]{0,4})"""
_VALUE = r"((?=[A-Za-z_\-.~+/=%]{0,64}[0-9*])[A-Za-z0-9_\-.~+/=%*]{8,})"
_PROSE_VALUE = r"((?=[A-Za-z_\-.~+/=%]{0,64}[0-9*])(?=[0-9_\-.~+/=%*]{0,64}[A-Za-z])[A-Za-z0-9_\-.~+/=%*]{16,})"
_KEY_WORD = "(?:[kK]ey|KEY)"
_API_KEY = f"(?:[_-]?{_KEY_WORD}{_OF}{_VALUE}| {_KEY_WORD}{_OF}{_PROSE_VALUE})"
# Tokens and keys are many things (`cost_per_token`, `sort_key`): of access, refresh, session, security, bearer, secret.
_OF_ACCESS = "ccess|fresh|ssion|urity|earer|ecret"


def _behind_a_word(ends: str) -> str:
    words = (f"{_OF_ACCESS}|{_OF_ACCESS.upper()}", "uth|UTH", "bscription|BSCRIPTION")
    return "(?:" + "|".join(f"(?<=(?:{word}){ends})" for word in words) + ")"


_NAMED = f"(?:{_behind_a_word('[_-]')}(?:[tT]oken|TOKEN|{_KEY_WORD})|[sS]ecret|SECRET){_OF}{_VALUE}"
_PRIVATE_KEY = "[A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----"
# Behind `Bearer` and `Basic` words stand as well, unless they are a header's: two digits (or signs that stand for
# some) in eight characters, or sixteen as in a key; base64 that is padded, or whole and long.
_BLANKS = r"(?:[ \t]|%20|\\t){1,8}"
_BEARER = "(?:[bB]earer|BEARER)"
_MORE = f"(?:{_BEARER}{_BLANKS}){{0,4}}"
_TOKEN = rf"{_BLANKS}({_MORE}(?=(?:[A-Za-z._~+/-]{{0,64}}[0-9=*]){{2}}|{_LONG})[A-Za-z0-9._~+/=*-]{{8,}})"
_PADDED = r"(?=[a-z+/]{0,64}[A-Z0-9])[A-Za-z0-9+/]{6,}={1,2}"
_BASIC = rf"{_BLANKS}((?:{_PADDED}|(?=[A-Za-z+/]{{0,64}}[0-9])(?:[A-Za-z0-9+/]{{4}}){{4,}})(?![A-Za-z0-9+/=]))"
_HEADER = (
    rf"{_OF}(?:{_BEARER}|[bB]asic|BASIC|[tT]oken){_BLANKS}({_MORE}(?!{_BEARER}{_BLANKS})[A-Za-z0-9._~+/=*-]{{4,}})"
)
# A password ends at the last @ of the authority; where that has none it is not encoded, and ends at the first. A port
# is none (`http://h:80/a@b`), and what has a slash only where the scheme is not the web's (`http://HOST:PORT/a@b`).
_USER = r"""[^\s/@:"'?#\[]*:(?![0-9]{1,5}[/?#\\,)\]>])"""
_PASSWORD = r"""(?:[^\s/?#"']+|[^\s/@"']+)(?=@)"""
_WITH_SLASH = r"""(?!/)[^\s@"'{}<>]{1,128}(?=@)"""
_SECRETS = (
    ("-----BEGIN ", "", rf"{_PRIVATE_KEY}[\s\S]*?(?:-----END {_PRIVATE_KEY}|\Z)", ("-----BEGIN ",)),
    ("sk-", _NO_WORD, _KEY, ("sk-",)),
    ("sk_(?:live|test)_", _NO_WORD, _NO_NAME + "{8,}", ("sk_live_", "sk_test_")),
    ("rk_(?:live|test)_", _NO_WORD, _NO_NAME + "{8,}", ("rk_live_", "rk_test_")),
    ("gsk_", _NO_WORD, _NO_NAME + "{16,}", ("gsk_",)),
    ("xai-", _NO_WORD, _KEY, ("xai-",)),
    ("xapp-", _NO_WORD, _OWN, ("xapp-",)),
    ("xox[abeoprs]-", _NO_WORD, _OWN, ("xox",)),
    ("pplx-", _NO_WORD, _KEY, ("pplx-",)),
    ("nvapi-", _NO_WORD, _OWN, ("nvapi-",)),
    ("glpat-", _NO_WORD, _OWN, ("glpat-",)),
    ("AIza", _NO_WORD, r"[A-Za-z0-9_-]{20,}", ("AIza",)),
    (r"ya29\.", _NO_WORD, r"[A-Za-z0-9_-]{20,}", ("ya29.",)),
    ("hf_", _NO_WORD, r"[A-Za-z0-9]{20,}", ("hf_",)),
    ("A(?:KI|SI)A", "A-Za-z0-9", _AWS, ("AKIA", "ASIA")),
    ("gh[oprsu]_", _NO_WORD, r"[A-Za-z0-9_]{16,}", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    ("github_pat_", _NO_WORD, r"[A-Za-z0-9_]{16,}", ("github_pat_",)),
    ("eyJ", _NO_WORD, r"[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)?", ("eyJ",)),
    ("B(?:earer|EARER)", "", _TOKEN, ("earer", "EARER")),
    ("bearer", "", _TOKEN, ()),
    ("B(?:asic|ASIC)", "", _BASIC, ("asic", "ASIC")),
    ("basic", "", _BASIC, ()),
    ("rization", "", _HEADER, ("rization",)),
    ("RIZATION", "", _HEADER, ("RIZATION",)),
    ("api", "", _API_KEY, ("key", "Key", "KEY")),
    ("A(?:pi|PI)", "", _API_KEY, ()),
    ("_", "", _NAMED, ("token", "Token", "TOKEN", "secret", "Secret", "SECRET")),
    ("-", "", _NAMED, ()),
    ("Token", "", _behind_a_word("Token") + _OF + _VALUE, ()),
    ("Key", "", _behind_a_word("Key") + _OF + _VALUE, ()),
    ("Secret", "", f"(?<=[a-z]Secret){_OF}{_VALUE}", ()),
    (r"\?key=", "", _VALUE, ()),
    ("&key=", "", _VALUE, ()),
    ("://", "", rf"({_USER}{_PASSWORD}|(?<!http://)(?<!https://){_USER}{_WITH_SLASH})", ("://",)),
    (";base64,", "", r"([A-Za-z0-9+/=_-]{64,})", (";base64,",)),  # no secret, but nothing to read either: a file
)
SECRET_PARTS = tuple(part for _, _, _, parts in _SECRETS for part in parts)
SHORTEST_SECRET = len("://:a@")
REDACTION_MARGIN = 1024
_secrets: Pattern[str] | None = None
_is_harmless: Callable[[str], Match[str] | None] | None = None


def _find_harmless() -> Callable[[str], Match[str] | None]:
    """Finds words and ids that no secret can be in, in one step: most texts of a call are such. Any other sort of
    secret has a character that an id has not."""
    global _is_harmless
    import re

    begins = "|".join(begins for begins, not_before, _, _ in _SECRETS if not_before)
    within = "|".join(begins for begins, not_before, _, _ in _SECRETS if not_before and not_before != _NO_WORD)
    _is_harmless = re.compile(f"(?!{begins})[A-Za-z0-9]*(?:[_-]+(?!{within})[A-Za-z0-9]*)*").fullmatch
    return _is_harmless


def _compile_secrets() -> Pattern[str]:
    """One alternative a sort: the expression engine skips to their first characters."""
    import re

    return re.compile(
        "|".join(begins + _stands_alone(begins, not_before) + rest for begins, not_before, rest, _ in _SECRETS),
        re.ASCII,
    )


def _stands_alone(begins: str, not_before: str) -> str:
    """Behind the beginning: what is not before it, or is an escape's."""
    if not not_before:
        return ""
    colours = {count + 2: rf"\[[0-9;]{{{count}}}[mK]" for count in range(_COLOUR_MAX + 1)}
    escapes = (f"(?<=(?:{_ESCAPED.get(size, colour)}|{colour}){begins})" for size, colour in colours.items())
    return f"(?:(?<![{not_before}]{begins})|{'|'.join(escapes)})"


def redact_by_expression(text: str) -> tuple[str, int, int]:
    """The pure core's `redact`: `text` (the very object where it has none) without its secrets, and where in `text` the
    last of them is, its beginning included."""
    global _secrets
    for part in SECRET_PARTS:
        if part in text:
            break
    else:
        return text, 0, 0
    if _secrets is None:
        _secrets = _compile_secrets()
    start = end = 0

    def replaced(secret: Match[str]) -> str:
        nonlocal start, end
        start, end = secret.span()
        shown = secret.start(secret.lastindex or 0) - start
        return secret.group()[:shown] + REDACTED

    redacted = _secrets.sub(replaced, text)
    return (redacted, start, end) if end else (text, 0, 0)


# The chosen core's `redact`, once there is one (core/__init__).
_redact: Callable[[str], tuple[str, int, int]] = redact_by_expression


def use_redact(of_core: Callable[[str], tuple[str, int, int]]) -> None:
    """Have secrets found by a core's own `redact`: in every text of this process that comes through here."""
    global _redact
    _redact = of_core


def redact(text: str) -> str:
    """`text` with API keys, bearer tokens, JWTs, passwords in URLs, private keys and the payload of data: URLs replaced
    by "[redacted]".
    """
    return text if len(text) < SHORTEST_SECRET else _redact(text)[0]


def redacted(text: str, limit: int) -> bytes:
    """UTF-8 of `text` without its secrets, at most `limit` bytes: the only way in which a text gets into a span."""
    if len(text) <= limit and text.isascii() and (_is_harmless or _find_harmless())(text):
        return text.encode()
    return clean(redact_within(text, limit), limit)


def redact_within(text: str, limit: int, *, is_cut: bool = False) -> str:
    """The first `limit` characters of `text`, redacted, at the cost of no more than that.

    A margin behind them is read too: a secret is known for one there, although the limit cuts it. What is left of the
    margin itself goes, because nothing tells where a secret ends that is cut by its end; but not what stands for a
    secret that began before it. It goes too from a text which is itself the beginning of a longer one (`is_cut`).
    """
    if len(text) <= limit + REDACTION_MARGIN and not is_cut:
        return redact(text)[:limit]
    text = text[: limit + REDACTION_MARGIN]
    margin = max(len(text) - REDACTION_MARGIN, 0)
    redacted, start, end = _redact(text)
    return redacted[: len(redacted) - len(text) + max(margin, end if start < margin else 0)][:limit]
