"""The content of chat and text completions, as the openai package and everything compatible with it have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.core._text import exact_text
from fasttrace.instrumentation.content.chosen import members, ordered, spec
from fasttrace.instrumentation.content.gathered import Collector, in_order
from fasttrace.instrumentation.content.media import Payload
from fasttrace.instrumentation.content.values import elements, get, get_index, get_list, get_text, pairs

if TYPE_CHECKING:
    from typing import Any

    from fasttrace.core._api import ContentSpec

CHAT_INPUT = ("messages", "tools", "functions", "response_format", "prediction")
TEXT_INPUT = ("prompt", "suffix")
MESSAGE = (
    *("role", "content", "refusal", "reasoning_content", "reasoning"),
    *("function_call", "tool_calls", "annotations", "audio"),
)


def chat_content() -> ContentSpec:
    """Input: messages, tools, functions, response_format, prediction. Output: a list of {index, message,
    finish_reason}.
    """
    return spec(lambda source: members(source, CHAT_INPUT), _chat_output, ChatStream)


def text_completion_content() -> ContentSpec:
    """Input: prompt, suffix. Output: a list of index, text, finish_reason."""
    return spec(lambda source: members(source, TEXT_INPUT), _text_output, TextStream)


def _chat_output(reply: object) -> list[object]:
    return [
        members(choice, ("index",))
        | {"message": ordered(get(choice, "message"), MESSAGE)}
        | members(choice, ("finish_reason",))
        for choice in get_list(reply, "choices")
    ]


def _text_output(reply: object) -> list[object]:
    return [members(choice, ("index", "text", "finish_reason")) for choice in get_list(reply, "choices")]


class _Choice:
    """One choice on its way: its message so far, and the tool calls of it that may still grow."""

    __slots__ = ("audio", "calls", "finish_reason", "growing", "message")

    def __init__(self) -> None:
        self.message: dict[str, object] = {}
        self.audio: Payload | None = None
        self.calls: list[dict[str, object]] = []
        self.growing: dict[object, tuple[str, dict[str, object]]] = {}
        self.finish_reason: object = None

    def call(self, element: object, *, has_room: bool) -> dict[str, object] | None:
        """The tool call that an element belongs to: the one at its index, unless it has an id of its own."""
        index, name = get(element, "index"), get_text(element, "id")
        known = self.growing.get(index)
        if known is None or (name and name != known[0]) or (index is None and not name and _names_tool(element)):
            if not has_room:
                return None
            known = name, {}
            self.growing[index] = known
            self.calls.append(known[1])
        return known[1]

    def content(self, index: int) -> dict[str, object]:
        message = dict(self.message)
        if self.audio is not None:
            message["audio"] = {**self._audio_members(), "data": self.audio.told()}
        if self.calls:
            message["tool_calls"] = self.calls
        found: dict[str, object] = {"index": index, "message": ordered(message, MESSAGE)}
        return found if self.finish_reason is None else {**found, "finish_reason": self.finish_reason}

    def _audio_members(self) -> dict[str, object]:
        found = self.message.get("audio")
        return found if isinstance(found, dict) else {}


def _names_tool(element: object) -> bool:
    return bool(get_text(get(element, "function"), "name") or get_text(get(element, "custom"), "name"))


class ChatStream(Collector):
    """Deltas of choices, put together to what their messages would have been."""

    __slots__ = ("choices",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.choices: dict[int, _Choice] = {}

    def _feed(self, chunk: Any) -> None:
        for element in get_list(chunk, "choices"):
            choice = self.gathered.at(self.choices, get_index(element), _Choice)
            if choice is None:
                self.gathered.leave_out(element)
                continue
            for name, value in pairs(get(element, "delta")) or ():
                self._member(choice, name, value)
            reason = exact_text(get(element, "finish_reason"))
            if reason:
                choice.finish_reason = self.gathered.text(reason)

    def _member(self, choice: _Choice, name: object, value: object) -> None:
        if name == "tool_calls":
            for element in elements(value) or ():
                self._tool_call(choice, element)
        elif name == "audio":
            self._audio(choice, value)
        elif type(name) is str:
            self.gathered.merge_member(choice.message, name, value)

    def _tool_call(self, choice: _Choice, element: object) -> None:
        found = {name: item for name, item in pairs(element) or () if name != "index"}
        call = choice.call(element, has_room=self.gathered.room > 0)
        if call is None:
            self.gathered.leave_out(found)
            return
        self.gathered.room -= 1
        self.gathered.merge(call, found)

    def _audio(self, choice: _Choice, value: object) -> None:
        found = {name: item for name, item in pairs(value) or () if name != "data"}
        self.gathered.merge_member(choice.message, "audio", found)
        data = get_text(value, "data")
        if data:
            choice.audio = choice.audio or Payload()
            choice.audio.add(data)

    def _result(self) -> list[object]:
        return [self.choices[index].content(index) for index in sorted(self.choices)]


class TextStream(Collector):
    """Texts of choices, joined."""

    __slots__ = ("choices",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.choices: dict[int, dict[str, Any]] = {}

    def _feed(self, chunk: Any) -> None:
        for element in get_list(chunk, "choices"):
            index = get_index(element)
            choice = self.gathered.at(self.choices, index, dict)
            if choice is None:
                self.gathered.leave_out(element)
                continue
            if not choice:
                choice.update(index=index, text=self.gathered.text(""))
            self.gathered.add(choice["text"], get_text(element, "text"))
            reason = exact_text(get(element, "finish_reason"))
            if reason:
                choice["finish_reason"] = self.gathered.text(reason)

    def _result(self) -> list[object]:
        return in_order(self.choices)
