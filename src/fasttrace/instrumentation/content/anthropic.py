"""The content of Anthropic's messages: the request's system prompt, messages and tools, the reply's content blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.instrumentation.content.chosen import members, spec
from fasttrace.instrumentation.content.gathered import Collector, in_order
from fasttrace.instrumentation.content.values import Text, elements, get, get_index, get_text

if TYPE_CHECKING:
    from typing import Any

    from fasttrace.core._api import ContentSpec

INPUT = ("system", "messages", "tools")
# Kind of delta → the block's member that it makes longer.
TEXT_DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
    "compaction_delta": ("content", "content"),
    "input_json_delta": ("partial_json", "input"),
}


def messages_content() -> ContentSpec:
    """Input: system, messages, tools. Output: the list of content blocks."""
    return spec(lambda source: members(source, INPUT), _output, MessagesStream)


def _output(reply: object) -> list[object]:
    return list(elements(get(reply, "content")) or ())


class MessagesStream(Collector):
    """Content blocks by their deltas. A tool's input is what its JSON says, if that came whole, else the text of it."""

    __slots__ = ("blocks",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.blocks: dict[int, dict[str, Any]] = {}

    def _feed(self, chunk: Any) -> None:
        kind = get_text(chunk, "type")
        if kind not in ("content_block_start", "content_block_delta"):
            return
        block = self.gathered.at(self.blocks, get_index(chunk), dict)
        if block is None:
            self.gathered.leave_out(chunk)
        elif kind == "content_block_start":
            taken = self.gathered.take(get(chunk, "content_block"))
            block.update(taken if isinstance(taken, dict) else {})
        else:
            self._delta(block, get(chunk, "delta"))

    def _delta(self, block: dict[str, Any], delta: object) -> None:
        kind = get_text(delta, "type")
        if kind == "citations_delta":
            self.gathered.merge_member(block, "citations", [get(delta, "citation")])
            return
        source, member = TEXT_DELTAS.get(kind, ("", ""))
        piece = get_text(delta, source)
        if not piece:
            return
        if type(block.get(member)) is not Text:
            block[member] = self.gathered.text("")
        self.gathered.add(block[member], piece)

    def _result(self) -> list[object]:
        for block in self.blocks.values():
            text = block.get("input")
            if type(text) is Text and not text.omitted:
                block["input"] = _parsed(text)
        return in_order(self.blocks)


def _parsed(text: Text) -> object:
    import json

    try:
        return json.loads(text.joined())
    except (ValueError, RecursionError):
        return text
