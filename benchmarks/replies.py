"""What the three providers answer, as JSON: the replies, and the chunks of a streamed one."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

QUESTION = "Name three rivers of Europe."
OPENAI: Json = {
    "id": "chatcmpl-CkU2p7vXqJm3bTzYw5LdRn8sHfGe",
    "object": "chat.completion",
    "created": 1767225600,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "The Danube, the Rhine and the Po.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 348,
        "total_tokens": 1548,
        "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 64,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    "service_tier": "default",
    "system_fingerprint": "fp_0ba0d124f1",
}
ANTHROPIC: Json = {
    "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "The Danube, the Rhine and the Po.", "citations": None}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 176,
        "output_tokens": 348,
        "cache_read_input_tokens": 1024,
        "cache_creation_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    },
}
GOOGLE: Json = {
    "responseId": "kYpWaeDyLqW6kdUPx7OQgAw",
    "modelVersion": "gemini-2.5-flash",
    "candidates": [
        {
            "index": 0,
            "content": {"role": "model", "parts": [{"text": "The Danube, the Rhine and the Po."}]},
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 1200,
        "cachedContentTokenCount": 1024,
        "candidatesTokenCount": 284,
        "thoughtsTokenCount": 64,
        "totalTokenCount": 1548,
    },
}


def openai_chunks(count: int) -> list[Json]:
    """A role, words, the end, the usage: as the API streams an answer whose usage was asked for."""
    head: Json = {key: OPENAI[key] for key in ("id", "created", "model", "service_tier", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"

    def frame(delta: Json, reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**head, "choices": [choice], "usage": None}

    words = [frame({"content": f" word{number}"}) for number in range(count - 3)]
    last = {**head, "choices": [], "usage": OPENAI["usage"]}
    return [frame({"role": "assistant", "content": "", "refusal": None}), *words, frame({}, "stop"), last]
