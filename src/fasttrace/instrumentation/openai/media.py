"""Images, audio and moderations.

Of these only the models that are billed by tokens report a usage. Audio that is billed by its length, and images billed
by the piece, have none: their calls are recorded without tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.core._api import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fasttrace.core._api import Use

IMAGE_REQUEST: Mapping[str, Use] = {
    "model": "model",
    **dict.fromkeys(
        (
            "n",
            "size",
            "quality",
            "style",
            "background",
            "moderation",
            "input_fidelity",
            "output_format",
            "output_compression",
            "partial_images",
            "response_format",
        ),
        "param",
    ),
}
SPEECH_REQUEST: Mapping[str, Use] = {
    "model": "model",
    **dict.fromkeys(("voice", "speed", "response_format", "stream_format"), "param"),
}
TRANSCRIPTION_REQUEST: Mapping[str, Use] = {
    "model": "model",
    **dict.fromkeys(("language", "temperature", "response_format", "chunking_strategy"), "param"),
}
MODERATION_REQUEST: Mapping[str, Use] = {"model": "model"}

TOKENS = (Node("input_tokens", "input_tokens"), Node("output_tokens", "output_tokens"))
END = Node("type", mark="end")

IMAGE_REPLY = (
    Node(
        "usage",
        children=(
            *TOKENS,
            Node("input_tokens_details", children=(Node("image_tokens", "input_image_tokens"),)),
        ),
    ),
)
TRANSCRIPTION_REPLY = (
    Node(
        "usage",
        children=(*TOKENS, Node("input_token_details", children=(Node("audio_tokens", "input_audio_tokens"),))),
    ),
)
MODERATION_REPLY = (Node("model", "model_id"), Node("id", "response_id"))

_PARTIAL_IMAGE = (Node("b64_json", mark="token"),)
_IMAGE = (*_PARTIAL_IMAGE, *IMAGE_REPLY, END)
IMAGE_EVENTS: Mapping[str, tuple[Node, ...]] = {
    "image_generation.partial_image": _PARTIAL_IMAGE,
    "image_generation.completed": _IMAGE,
    "image_edit.partial_image": _PARTIAL_IMAGE,
    "image_edit.completed": _IMAGE,
}
TRANSCRIPTION_EVENTS: Mapping[str, tuple[Node, ...]] = {
    "transcript.text.delta": (Node("delta", mark="text"),),
    "transcript.text.done": (*TRANSCRIPTION_REPLY, END),
}
