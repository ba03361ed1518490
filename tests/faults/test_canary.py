"""Secrets planted wherever an application can have them, and looked for wherever fasttrace keeps or sends anything.

Real SDKs against a provider on the loopback interface, content capture and the DEBUG log on, the collector first gone
and then there; the process is killed in the end, and its ring read. A control that is no secret is planted beside them
and found by the same search in every sink, and without redaction the search finds every secret that is read at all.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fasttrace
from fasttrace.core._text import redact

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from collector import Collector, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLICATION = Path(__file__).with_name("canary.py")
CONTROL = "control-that-is-no-secret"
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnopqrstuvwxyz"
DIGITS = "23456789"
SHAPES = (
    *("sk-proj-{}", "sk-ant-api03-{}", "sk-{}", "gsk_{}", "xai-{}", "pplx-{}", "nvapi-{}", "glpat-{}", "hf_{}"),
    *("AIza{}", "ghp_{}", "github_pat_{}", "sk_live_{}", "ya29.{}", "xoxb-{}", "eyJ{}.eyJ{}.{}", "api_key={}"),
    *("Bearer  {}", "Authorization: Bearer\t{}", "access_token={}", '"clientSecret": "{}"', "x-api-key=b'{}'"),
    *("redis://:p@{}@host", "API key: {}"),
)
# A name, or what the code names, is the key alone: signs would not stand there.
PLAIN = ("gsk_{}", "hf_{}", "ghp_{}", "sk_live_{}", "AIza{}")
BARE = frozenset(
    ("api_key=", "default_headers", "environment", "base URL password", "base URL ?key=", "anthropic api_key=")
    + ("google api_key=", "extra_headers", "function name", "file name", "exception class", "exception text")
    + ("nested attribute", "401 code", "tool name", "requested model", "user=", "metadata", "tag")
)
# What stands before a key, and is no word.
BEFORE = ("", "", "\\n", "\\t", "\\u0020", "\\u001b[31m", "\x1b[1;31m", "%3D", "%20", "%253D", "\n", "(", "'")
PLACES = (
    *("api_key=", "default_headers", "tool description", "requested model", "prompt", "user=", "metadata"),
    *("extra_headers", "service tier", "request parameter", "environment", "base URL password", "base URL ?key="),
    *("anthropic api_key=", "anthropic prompt", "anthropic system", "google api_key=", "google prompt"),
    *("repr of an object", "exception attribute that raises", "exception attribute", "function name", "file name"),
    *("exception class", "exception text", "attribute", "attribute key", "attribute in a list", "nested attribute"),
    *("attribute of bytes", "private key", "late attribute", "span name", "tag", "session_id", "user_id", "goal"),
    *("capsule_id", "provider", "server_address", "401 body", "401 code"),
)
# Without a shape of their own: the user's `redact=` takes them out, on the exporter thread. The ring has them until
# then, and a log at DEBUG, which stays here, has the text of an exception.
HOOKED = ("hooked attribute", "hooked prompt", "hooked exception")
BEFORE_THE_HOOK = frozenset(("ring", "ring of a killed process", "everything on disk", "log", "stderr"))
IN_REPLIES = (
    *("reply text", "tool arguments", "tool name", "response id", "answering model", "finish reason", "refusal"),
    *("stream chunks", "stream response id", "anthropic reply", "anthropic tool input", "anthropic stream chunks"),
    *("google reply", "google response id"),
)


def random_part(rng: random.Random) -> str:
    """Some begin with a letter, some with a digit, some have all their digits late or only few."""
    letters, digits = "".join(rng.choices(LETTERS, k=28)), "".join(rng.choices(DIGITS, k=rng.randint(3, 12)))
    shapes = (
        digits + letters,
        letters[:20] + digits + letters[20:],
        "".join(rng.sample(letters + digits, k=len(letters + digits))),
    )
    return rng.choice(shapes)[:31].ljust(31, rng.choice(DIGITS))


def secrets(rng: random.Random) -> dict[str, str]:
    """A secret a place: each shape in its turn, behind one escape or another."""
    made: dict[str, str] = {}
    turn = rng.randrange(len(SHAPES))
    for number, place in enumerate((*PLACES, *IN_REPLIES)):
        if place in BARE:
            made[place] = PLAIN[(turn + number) % len(PLAIN)].replace("{}", random_part(rng))
        else:
            shape = SHAPES[(turn + number) % len(SHAPES)]
            made[place] = rng.choice(BEFORE) + shape.replace("{}", random_part(rng))
    made["function name"] = "gsk_" + random_part(rng)
    made["private key"] = f"-----BEGIN PRIVATE KEY-----\n{random_part(rng)}\n-----END PRIVATE KEY-----"
    made.update({place: f"hunter {random_part(rng)}" for place in HOOKED})
    return made


def halves(secret: str) -> list[bytes]:
    """What no sink may have: also not a piece of it."""
    body = max(re.findall("[A-Za-z0-9]{31}", secret), key=len)
    return [body[-24:-12].encode(), body[-12:].encode()]


class Search:
    """The same for the secrets and for the control."""

    def __init__(self, planted: dict[str, str]) -> None:
        self.planted = planted
        self.sinks: list[str] = []
        self.hits: list[tuple[str, str]] = []

    def look(self, sink: str, data: bytes) -> None:
        assert CONTROL.encode() in data, f"the control is not in {sink}: the search proves nothing there"
        self.sinks.append(sink)
        self.hits += [(place, sink) for place, secret in self.planted.items() if any(h in data for h in halves(secret))]


def script(provider: Any, known: dict[str, str]) -> None:
    """The answers of one round of the application, in the order of its calls."""
    call = {"name": known["tool name"], "arguments": json.dumps({"token": known["tool arguments"]})}
    message = {
        "role": "assistant",
        "content": f"{CONTROL} use {known['reply text']} for it",
        "refusal": known["refusal"],
        "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    reply = {
        "id": known["response id"],
        "object": "chat.completion",
        "created": 1,
        "model": known["answering model"],
        "choices": [{"index": 0, "message": message, "finish_reason": known["finish reason"]}],
        "usage": usage,
    }
    provider.answer(reply)
    text = known["stream chunks"]
    pieces = [f"{CONTROL} ", text[:3], text[3:11], text[11:], " there"]
    chunk = {"id": known["stream response id"], "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    deltas = [{"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces]
    provider.stream([*({**chunk, "choices": [delta]} for delta in deltas), "[DONE]"])
    refused = f"{CONTROL} Incorrect API key provided: {known['401 body']}."
    provider.answer({"error": {"message": refused, "type": "x", "param": None, "code": known["401 code"]}}, 401)
    provider.answer({**reply, "id": "chatcmpl-1", "model": "gpt-4o"})
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {"key": known["anthropic tool input"]}}
    said = {"type": "text", "text": f"{CONTROL} {known['anthropic reply']}"}
    counts = {"input_tokens": 3, "output_tokens": 4}
    whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "usage": counts}
    provider.answer({**whole, "content": [said, block], "stop_reason": "tool_use", "stop_sequence": None})
    text = known["anthropic stream chunks"]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None, "stop_sequence": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in (f"{CONTROL} ", text[:5], text[5:])
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": counts},
        {"type": "message_stop"},
    ]
    provider.stream([(event["type"], event) for event in events])
    provider.answer(
        {
            "responseId": known["google response id"],
            "modelVersion": "gemini-2.5-flash",
            "candidates": [
                {"index": 0, "content": {"role": "model", "parts": [{"text": f"{CONTROL} {known['google reply']}"}]}}
            ],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7},
        }
    )


class Application:
    def __init__(
        self, backend: str, home: Path, collector_port: int, provider: Any, known: dict[str, str], is_redacting: bool
    ) -> None:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("FASTTRACE_", "OPENAI_"))
        }
        settings = {
            "PURE": "1" if backend == "pure" else "0",
            "AUTO_INSTRUMENT": "false",
            "COLLECTOR_URL": f"http://127.0.0.1:{collector_port}",
            "CAPTURE_CONTENT": "true",
            "COMPRESSION": "none",
            "LOG_LEVEL": "DEBUG",
            "MAX_RETRIES": "0",
            "FLUSH_INTERVAL": "3600",
            "SERVICE_NAME": f"{CONTROL} {known['tag']}",
            "RING_DIR": str(home / "ring"),
            "STATE_DIR": str(home / "state"),
        }
        source = str(Path(fasttrace.__file__).parent.parent)
        self.stderr = home / "stderr"
        with self.stderr.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(APPLICATION)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={
                    **inherited,
                    "PYTHONPATH": source,
                    **{f"FASTTRACE_{name}": text for name, text in settings.items()},
                },
            )
        given = {"port": provider.port, "secrets": known, "control": CONTROL, "log": str(home / "log")}
        given["is_redacting"] = is_redacting
        self.tell(json.dumps(given))

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def do(self, act: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        self.tell(act)
        line = self.process.stdout.readline()
        assert line, self.stderr.read_text()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that refuses until somebody listens there."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    yield port


def data_of(directory: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def strings_of(ring: bytes) -> bytes:
    """The string table of a ring file, by the offsets in its header."""
    from fasttrace.core._pure import layout

    strtab, size = layout.HEADER.unpack_from(ring)[4:6]
    return ring[strtab : strtab + size]


# What fasttrace does not read at all, wherever it goes.
UNREAD = frozenset(
    ("api_key=", "anthropic api_key=", "google api_key=", "environment", "default_headers", "extra_headers")
    + ("base URL ?key=", "user=", "metadata")
)


def searched(backend: str, provider: Any, port: int, home: Path, is_redacting: bool = True) -> Search:
    """Three rounds of the application: into the spool, to the collector (which refuses one batch), and killed."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    known = secrets(random.Random(seed))
    search = Search(known)
    application = Application(backend, home, port, provider, known, is_redacting)
    try:
        script(provider, known)
        planted = set(application.do("everything")["planted"]) | set(IN_REPLIES)
        assert planted == set(known)
        ring = Path(application.do("flush")["ring"])
        search.look("ring", ring.read_bytes())
        search.look("string table", strings_of(ring.read_bytes()))
        search.look("spool", data_of(home / "state" / "spool"))
        with Collector(port) as collector:
            script(provider, known)
            application.do("everything")
            collector.rule = lambda lines: Reply(400 if any(b'"failing"' in line for line in lines) else 200)
            application.do("flush")
            collector.rule = lambda lines: Reply()
            application.do("flush")
            search.look("wire", b"\n".join(batch.body for batch in collector.batches))
            heads = "\n".join(f"{name}: {text}" for batch in collector.batches for name, text in batch.headers.items())
            search.look("request headers", f"{heads}\n{CONTROL}".encode())
        search.look("rejected", data_of(home / "state" / "spool" / "rejected"))
        search.look("repr and pickle", "\n".join(application.do("show")["shown"]).encode())
        script(provider, known)
        application.do("everything")
    finally:
        application.kill()
    search.look("ring of a killed process", data_of(home / "ring"))
    search.look("log", (home / "log").read_bytes())
    search.look("stderr", application.stderr.read_bytes())
    search.look("everything on disk", data_of(home))
    before_hook = sum(place in HOOKED for place, _ in search.hits)
    found = f"{len(search.hits) - before_hook} hits of secrets, {before_hook} of what only the hook knows"
    print(f"canary [{backend}]: {len(known)} places x {len(search.sinks)} sinks, {found}")
    return search


@pytest.mark.skipif(sys.platform == "win32", reason="the ring of a killed process is not kept there")
def test_no_secret_is_anywhere(core: Any, provider: Any, free_port: int, tmp_path: Path) -> None:
    hits = searched(core.BACKEND, provider, free_port, tmp_path).hits
    assert {place for place, sink in hits if sink == "ring of a killed process"} == set(HOOKED)
    assert [hit for hit in hits if hit[0] not in HOOKED or hit[1] not in BEFORE_THE_HOOK] == []


@pytest.mark.skipif(sys.platform == "win32", reason="the ring of a killed process is not kept there")
def test_without_redaction_the_same_search_finds_them(provider: Any, free_port: int, tmp_path: Path) -> None:
    """Every place that is read reaches a sink, and every sink but the headers of a request gets something."""
    search = searched("pure", provider, free_port, tmp_path, is_redacting=False)
    assert {place for place, _ in search.hits} == set(search.planted) - UNREAD
    assert {sink for _, sink in search.hits} == set(search.sinks) - {"request headers"}


def test_the_search_finds_what_is_there() -> None:
    known = secrets(random.Random(1))
    assert {place for place, secret in known.items() if redact(secret) == secret} == set(HOOKED)
    for place, secret in known.items():
        search = Search(known)
        search.look("a sink", f"{CONTROL} {secret}".encode())
        assert search.hits == [(place, "a sink")], place
    assert len(known) >= 30
