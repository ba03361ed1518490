"""The content of Google's models: contents, system instruction and tools, the reply's candidates.

Of google-genai the request is keyword arguments, of the older google-generativeai too, or the message that it sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.instrumentation.content.chosen import members, spec
from fasttrace.instrumentation.content.gathered import Collector, in_order
from fasttrace.instrumentation.content.values import Text, elements, get, get_index, get_list, pairs

if TYPE_CHECKING:
    from typing import Any

    from fasttrace.core._api import ContentSpec

CONFIG_INPUT = ("system_instruction", "systemInstruction")
CONFIG_MORE = ("tools", "response_schema", "responseSchema", "response_json_schema", "responseJsonSchema")
INPUT = ("system_instruction", "contents", "tools")
CANDIDATE = ("index", "content", "finish_reason", "finish_message")
GROWS = frozenset(("text", "thought"))


def generate_content_content() -> ContentSpec:
    """Input: system_instruction, contents, tools, response_schema. Output: the list of candidates, each with index,
    content, finish_reason.
    """
    return spec(_input, _output, CandidatesStream)


def legacy_generate_content_content() -> ContentSpec:
    """As of google-genai, read from keyword arguments or from a `request` message."""
    return spec(_legacy_input, _output, CandidatesStream)


def _input(source: object) -> dict[str, object]:
    config = get(source, "config")
    return members(config, CONFIG_INPUT) | members(source, ("contents",)) | members(config, CONFIG_MORE)


def _legacy_input(source: object) -> dict[str, object]:
    request = get(source, "request")
    found = dict(pairs(source if request is None else request) or ())
    return members(found, INPUT)


def _candidate(value: object) -> dict[str, object]:
    """By its pairs, because a protobuf message names the values of its enumerations only there."""
    return members(dict(pairs(value) or ()), CANDIDATE)


def _output(reply: object) -> list[object]:
    return [_candidate(candidate) for candidate in get_list(reply, "candidates")]


class CandidatesStream(Collector):
    """Parts of candidates: text of one sort that follows itself is one part, every other part is one for itself."""

    __slots__ = ("candidates",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.candidates: dict[int, dict[str, Any]] = {}

    def _feed(self, chunk: Any) -> None:
        for element in get_list(chunk, "candidates"):
            candidate = self.gathered.at(self.candidates, get_index(element), dict)
            if candidate is None:
                self.gathered.leave_out(element)
                continue
            found = _candidate(element)
            content = found.pop("content", None)
            for name, value in found.items():
                candidate[name] = self.gathered.take(value)
            if content is not None:
                self._content(candidate.setdefault("content", {}), content)

    def _content(self, content: dict[str, Any], delta: object) -> None:
        for name, value in pairs(delta) or ():
            if name == "parts":
                parts = content.setdefault("parts", [])
                for part in elements(value) or ():
                    self._part(parts, part)
            elif name == "role" and "role" not in content:
                content["role"] = self.gathered.take(value)

    def _part(self, parts: list[Any], part: object) -> None:
        found = dict(pairs(part) or ())
        last = parts[-1] if parts else None
        is_more = (
            "text" in found
            and isinstance(last, dict)
            and last.keys() <= GROWS
            and type(last.get("text")) is Text
            and bool(last.get("thought")) == bool(found.get("thought"))
        )
        if last is not None and is_more:
            found.pop("thought", None)
            self.gathered.merge(last, found)
        else:
            parts.append(self.gathered.take(part))

    def _result(self) -> list[object]:
        return [members(candidate, CANDIDATE) for candidate in in_order(self.candidates)]
