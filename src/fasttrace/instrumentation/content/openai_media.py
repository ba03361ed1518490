"""The content of embeddings, images, audio and moderations. Vectors are no content; payloads are told, not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.core._text import exact_text
from fasttrace.instrumentation.content.chosen import members, spec
from fasttrace.instrumentation.content.gathered import Collector
from fasttrace.instrumentation.content.media import Payload
from fasttrace.instrumentation.content.values import get, get_text

if TYPE_CHECKING:
    from typing import Any

    from fasttrace.core._api import ContentSpec

EMBEDDINGS_INPUT = ("input", "contents", "content", "title")
MEDIA_INPUT = ("prompt", "input", "instructions", "image", "mask", "file", "reference_images")
MEDIA_OUTPUT = ("text", "data", "results", "generated_images")


def embeddings_content() -> ContentSpec:
    """Input: what is embedded. Output: none."""
    return spec(lambda source: members(source, EMBEDDINGS_INPUT), lambda reply: None, MediaStream)


def media_content() -> ContentSpec:
    """Images, audio, moderations. Input: prompt, input, instructions, image, mask, file. Output: text, data, results;
    for a reply that is a file what stands for it.
    """
    return spec(lambda source: members(source, MEDIA_INPUT), _output, MediaStream)


def _output(reply: object) -> dict[str, object] | None:
    text = exact_text(reply)
    if text is not None:
        return {"text": text}
    body = get(get(reply, "response"), "_content")
    return {"data": body} if type(body) is bytes else members(reply, MEDIA_OUTPUT)


class MediaStream(Collector):
    """A transcript by its deltas, an image by its last version, speech by what its pieces are together."""

    __slots__ = ("found", "speech", "transcript")

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.found: dict[str, object] = {}
        self.speech: Payload | None = None
        self.transcript = self.gathered.text("")

    def _feed(self, chunk: Any) -> None:
        kind = get_text(chunk, "type")
        if kind == "transcript.text.delta":
            self.gathered.add(self.transcript, get_text(chunk, "delta"))
        elif kind in ("image_generation.completed", "image_edit.completed"):
            image = get_text(chunk, "b64_json")
            self.found = {"data": [{"b64_json": self.gathered.media.of_base64(image)}]}
        elif kind == "speech.audio.delta":
            self.speech = self.speech or Payload()
            self.speech.add(get_text(chunk, "audio"))

    def _result(self) -> dict[str, object]:
        if self.speech is not None:
            return {"data": self.speech.told()}
        return {"text": self.transcript} if self.transcript.pieces else self.found
