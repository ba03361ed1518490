"""The content of the Responses API: the request's items and tools, the output's items.

A stream says most things three times: as deltas, as the finished item, and as the finished response. The last one that
came is what counts: deltas for an item that was not finished, else the item, and the response's own output if it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fasttrace.instrumentation.content.chosen import members, spec
from fasttrace.instrumentation.content.gathered import Collector
from fasttrace.instrumentation.content.values import Text, elements, get, get_index, get_text

if TYPE_CHECKING:
    from typing import Any

    from fasttrace.core._api import ContentSpec

INPUT = ("instructions", "input", "prompt", "tools", "text")
ENDS = ("response.completed", "response.incomplete", "response.failed")


class Delta(NamedTuple):
    """Where a delta goes: a member of the item, or of the element of its list that the event names by `position`."""

    member: str
    listed: str = ""
    position: str = ""


DELTAS = {
    "response.output_text.delta": Delta("text", "content", "content_index"),
    "response.refusal.delta": Delta("refusal", "content", "content_index"),
    "response.reasoning_text.delta": Delta("text", "content", "content_index"),
    "response.reasoning_summary_text.delta": Delta("text", "summary", "summary_index"),
    "response.function_call_arguments.delta": Delta("arguments"),
    "response.mcp_call_arguments.delta": Delta("arguments"),
    "response.custom_tool_call_input.delta": Delta("input"),
    "response.code_interpreter_call_code.delta": Delta("code"),
}
PARTS = {
    "response.content_part.added": Delta("part", "content", "content_index"),
    "response.reasoning_summary_part.added": Delta("part", "summary", "summary_index"),
}


def responses_content() -> ContentSpec:
    """Input: instructions, input, prompt, tools, text (the output's format). Output: the list of output items."""
    return spec(lambda source: members(source, INPUT), _output, ResponsesStream)


def _output(reply: object) -> list[object]:
    return list(elements(get(reply, "output")) or ())


class _Item:
    """One output item as far as it is known, and how much room it took."""

    __slots__ = ("content", "room")

    def __init__(self) -> None:
        self.content: dict[str, Any] = {}
        self.room = 0


class ResponsesStream(Collector):
    """Output items, from deltas until they are there whole."""

    __slots__ = ("items", "response")

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.items: dict[int, _Item] = {}
        self.response: object = None

    def _feed(self, chunk: Any) -> None:
        kind = get_text(chunk, "type")
        if kind in ENDS:
            self.response = get(chunk, "response")
            return
        is_item = kind in ("response.output_item.added", "response.output_item.done")
        if not is_item and kind not in DELTAS and kind not in PARTS:
            return
        item = self.gathered.at(self.items, get_index(chunk, "output_index"), _Item)
        if item is None:
            return
        room = self.gathered.room
        if is_item:
            self._replace(item, get(chunk, "item"))
        elif kind in PARTS:
            self._part(item.content, PARTS[kind], chunk)
        else:
            self._delta(item.content, DELTAS[kind], chunk)
        item.room += room - self.gathered.room

    def _replace(self, item: _Item, found: object) -> None:
        """The item as it is now takes the room of what was known of it."""
        self.gathered.room += item.room
        taken = self.gathered.take(found)
        item.content = taken if isinstance(taken, dict) else {}

    def _part(self, content: dict[str, Any], where: Delta, chunk: object) -> None:
        parts = content.setdefault(where.listed, [])
        if get_index(chunk, where.position) == len(parts):
            parts.append(self.gathered.take(get(chunk, where.member)))

    def _delta(self, content: dict[str, Any], where: Delta, chunk: object) -> None:
        if where.listed:
            parts = content.setdefault(where.listed, [])
            index = get_index(chunk, where.position)
            if index == len(parts):
                parts.append({})
            if not 0 <= index < len(parts):
                return
            content = parts[index]
        text = content.get(where.member)
        if type(text) is not Text:
            content[where.member] = text = self.gathered.text("")
        self.gathered.add(text, get_text(chunk, "delta"))

    def _result(self) -> list[object]:
        found = _output(self.response)
        if found:
            self.gathered.left_out = 0
            return found
        return [self.items[index].content for index in sorted(self.items)]
