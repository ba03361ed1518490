"""The Gemini API as the loopback provider speaks it: generateContent and streamGenerateContent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .dialect import Refusal, reply_words, server_sent, tokens

if TYPE_CHECKING:
    from .dialect import Asked
    from .server import Json

METHODS = (":generateContent", ":streamGenerateContent")
STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
}
THOUGHTS = 48


def model_of(path: str) -> str:
    """`/v1beta/models/gemini-2.5-flash:generateContent` asks gemini-2.5-flash."""
    return path.rpartition("/")[2].partition(":")[0]


def answer(asked: Asked) -> Json:
    if not asked.path.endswith(METHODS):
        raise Refusal(404, None, f"Not found: {asked.path}")
    request = asked.request
    parts, reason = _parts(request)
    system = request.get("systemInstruction") or ""
    used = tokens(system) + tokens(request["contents"])
    candidate = tokens(json.dumps(parts))
    usage = {
        "promptTokenCount": used,
        "candidatesTokenCount": candidate,
        "thoughtsTokenCount": THOUGHTS,
        "totalTokenCount": used + candidate + THOUGHTS,
    }
    cached = asked.cached_tokens(json.dumps(system))
    return {
        "responseId": f"loopback{asked.number:08d}",
        "modelVersion": asked.model,
        "candidates": [{"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": reason}],
        "usageMetadata": {**usage, **({"cachedContentTokenCount": cached} if cached else {})},
    }


def refused(refusal: Refusal) -> Json:
    name = STATUS_NAMES.get(refusal.status, "UNKNOWN")
    return {"error": {"code": refusal.status, "message": str(refusal), "status": name}}


def _parts(request: Json) -> tuple[list[Json], str]:
    tools = request.get("tools")
    if tools:
        name = tools[0]["functionDeclarations"][0]["name"]
        return [{"functionCall": {"name": name, "args": {"order": "A-1042"}}}], "STOP"
    text, is_cut = reply_words((request.get("generationConfig") or {}).get("maxOutputTokens"))
    return [{"text": text}], "MAX_TOKENS" if is_cut else "STOP"


def events(reply: Json, request: Json) -> bytes:
    """The same answer as a stream: every frame has the usage so far, the last one all of it."""
    (candidate,), usage = reply["candidates"], reply["usageMetadata"]
    (part,) = candidate["content"]["parts"]
    parts = [{"text": f"{word} "} for word in part["text"].split()] if "text" in part else [part]
    frames = []
    for number, piece in enumerate(parts, 1):
        is_last = number == len(parts)
        shown = {"index": 0, "content": {"role": "model", "parts": [piece]}}
        counted = usage if is_last else {**usage, "candidatesTokenCount": number}
        end = {"finishReason": candidate["finishReason"]} if is_last else {}
        frames.append({**reply, "candidates": [{**shown, **end}], "usageMetadata": counted})
    return b"".join(server_sent(frame) for frame in frames)
