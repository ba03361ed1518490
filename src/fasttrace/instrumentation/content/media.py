"""Images, audio and files in content: told by type, size and digest, never by what they hold.

A payload is recognised where the providers put one: raw bytes, a `data:` URL, a member like `b64_json`, `data` beside
a media type, base64 where a URL is expected. It becomes {"type", "bytes", "sha256"}: the media type, where nothing
names it by the payload's first bytes; the size of the decoded bytes; the digest of these, so that an image is the same
in whichever form it was sent.

Decoding and hashing 1 MiB takes two to five milliseconds. So the payloads of one field share a budget, in the order in
which they come: a payload that is larger than what is left of it goes without `sha256`, and its size is worked out
from the length of its text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.core._text import exact_text, redacted

if TYPE_CHECKING:
    from fasttrace.instrumentation.content.values import Pairs

HASHED_MAX_BYTES = 4 << 20
HEAD_CHARACTERS = 256
TYPE_BYTES = 64
UNKNOWN_TYPE = "application/octet-stream"
BASE64_MARK = ";base64,"

BARE_LEAST_CHARACTERS = 64
SCHEME = "data:"

# Members whose text or bytes are a payload wherever they are; `data` and `result` only beside or inside of what says
# so; those that are a URL, if they are base64 instead.
_EMBEDS = frozenset(("image_embeds", "audio_embeds", "video_embeds", "prompt_embeds"))
_PAYLOADS = _EMBEDS | frozenset(
    ("b64_json", "file_data", "partial_image_b64", "image_bytes", "imageBytes", "video_bytes", "videoBytes")
)
_MAYBE = frozenset(("data", "result"))
_URLS = frozenset(("image_url", "audio_url", "video_url", "url"))
_INLINE = frozenset(("inline_data", "inlineData"))
_TYPE_NAMES = ("media_type", "mime_type", "mimeType")
_SIGNATURES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF", "application/pdf"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
)


def is_data_url(text: str) -> bool:
    return _payload_start(text) > 0


def _payload_start(text: str) -> int:
    """Where the base64 of a `data:` URL begins, 0 for what is none; scheme and mark have no case."""
    if text[:1] not in "dD" and not text[:1].isspace():
        return 0
    head = text[:HEAD_CHARACTERS].replace("\u0130", "?").lower()  # the one letter that two stand for in lower case
    at = head.find(BASE64_MARK) if head.lstrip().startswith(SCHEME) else -1
    return at + len(BASE64_MARK) if at > 0 else 0


def decoded_bytes(text: str, start: int = 0) -> int:
    """How many bytes base64 stands for."""
    return (len(text) - start) * 3 // 4 - text.count("=", max(start, len(text) - 2))


def _type_of(head: bytes) -> str:
    if head[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12], UNKNOWN_TYPE)
    return next((name for signature, name in _SIGNATURES if head.startswith(signature)), UNKNOWN_TYPE)


def _decode(text: str) -> bytes:
    """Base64 of either alphabet, padded or not. ValueError for what is none."""
    from binascii import a2b_base64

    if "-" in text or "_" in text:
        text = text.replace("-", "+").replace("_", "/")
    return a2b_base64(text + "==")


def _is_base64(text: str) -> bool:
    """By its first characters: whoever calls has found it where a payload stands."""
    return text[:64].replace("+", "").replace("/", "").replace("-", "").replace("_", "").rstrip("=\r\n").isalnum()


class Media:
    """What stands for the payloads of one field; remembers them, because a field may be written twice.

    `remembers` False: for a stream, whose payloads must not be kept.
    """

    __slots__ = ("_known", "_remembers", "_room")

    def __init__(self, *, remembers: bool = True) -> None:
        self._known: dict[tuple[int, str], tuple[object, dict[str, object]]] = {}
        self._remembers = remembers
        self._room = HASHED_MAX_BYTES

    def _remember(self, payload: object, kind: str, found: dict[str, object]) -> dict[str, object]:
        if self._remembers:
            self._known[id(payload), kind] = payload, found
        return found

    def of_bytes(self, data: bytes | bytearray | memoryview, kind: str = "") -> dict[str, object]:
        known = self._known.get((id(data), kind))
        if known is not None:
            return known[1]
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        found: dict[str, object] = {"type": kind or _type_of(bytes(data[:16])), "bytes": size}
        if size <= self._room:
            found["sha256"] = self._digest(data, size)
        return self._remember(data, kind, found)

    def of_base64(self, text: str, kind: str = "", start: int = 0) -> dict[str, object]:
        known = self._known.get((id(text), kind))
        if known is not None:
            return known[1]
        found: dict[str, object] = {"type": kind or UNKNOWN_TYPE, "bytes": decoded_bytes(text, start)}
        try:
            if not kind:
                found["type"] = _type_of(_decode(text[start : start + 64]))
            if decoded_bytes(text, start) <= self._room:
                data = _decode(text[start:])
                found["bytes"], found["sha256"] = len(data), self._digest(data, len(data))
        except ValueError:  # no base64 after all: its length is all there is to tell
            found["bytes"] = len(text) - start
        return self._remember(text, kind, found)

    def of_data_url(self, text: str) -> dict[str, object]:
        start = _payload_start(text)
        kind = text[: start - len(BASE64_MARK)].lstrip()[len(SCHEME) :].partition(";")[0]
        return self.of_base64(text, redacted(kind, TYPE_BYTES).decode(), start)

    def of_member(self, name: object, value: object, siblings: Pairs, within: object = "") -> dict[str, object] | None:
        """What stands for a member's value where that is a payload, by its name, the members beside it, and the name
        of the member that they are in.
        """
        if type(name) is not str:
            return None
        is_embeds = type(within) is str and within in _EMBEDS
        if not is_embeds and name not in _PAYLOADS and name not in _MAYBE and name not in _URLS:
            return None
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.of_bytes(value, _named_type(dict(siblings)))
        text = exact_text(value)
        if not text or is_data_url(text):
            return None
        if name in _URLS and not (len(text) >= BARE_LEAST_CHARACTERS and _is_base64(text)):
            return None
        beside = dict(siblings)
        if is_embeds and "bytes" in beside:  # what stands for one already
            return None
        is_inline = name == "data" and type(within) is str and within in _INLINE
        if name in _MAYBE and not ((is_embeds or is_inline or _is_payload(name, beside)) and _is_base64(text)):
            return None
        return self.of_base64(text, _named_type(beside))

    def _digest(self, data: bytes | bytearray | memoryview, size: int) -> str:
        from hashlib import sha256

        self._room -= size
        return sha256(data).hexdigest()


class Payload:
    """A payload that comes in pieces of base64, each of them whole by itself; `room` is how much of it is hashed."""

    __slots__ = ("_digest", "_head", "_room", "_size")

    def __init__(self) -> None:
        from hashlib import sha256

        self._digest = sha256()
        self._head = b""
        self._room = HASHED_MAX_BYTES
        self._size = 0

    def add(self, text: str) -> None:
        """The next piece. ValueError for what is no base64."""
        size = decoded_bytes(text)
        self._size += size
        self._room -= size
        if self._room >= 0:
            data = _decode(text)
            self._head = self._head or data[:16]
            self._digest.update(data)

    def told(self) -> dict[str, object]:
        found: dict[str, object] = {"type": _type_of(self._head), "bytes": self._size}
        if self._room >= 0:
            found["sha256"] = self._digest.hexdigest()
        return found


def _is_payload(name: str, beside: dict[object, object]) -> bool:
    kind = exact_text(beside.get("type"))
    if name == "result":
        return kind == "image_generation_call"
    if kind in ("text", "text/plain"):
        return False
    return (
        kind in ("base64", "audio")
        or "format" in beside
        or "transcript" in beside
        or "expires_at" in beside
        or any(type_name in beside for type_name in _TYPE_NAMES)
    )


def _named_type(beside: dict[object, object]) -> str:
    for name in _TYPE_NAMES:
        text = exact_text(beside.get(name))
        if text:
            return redacted(text, TYPE_BYTES).decode()
    for name, prefix in (("format", "audio/"), ("output_format", "image/")):
        text = exact_text(beside.get(name))
        if text:
            return redacted(prefix + text, TYPE_BYTES).decode()
    return ""
