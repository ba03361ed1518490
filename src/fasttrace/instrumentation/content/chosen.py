"""The members of a request or reply that are content, and the ContentSpec that is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fasttrace.core._api import ContentSpec
from fasttrace.core._report import report
from fasttrace.instrumentation.content.values import get, pairs
from fasttrace.instrumentation.content.writer import rendered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from fasttrace.core._api import StreamContent

    Content = dict[str, object] | list[object]

_NOT_SENT = ("NotGiven", "Omit")


def members(source: object, names: Sequence[str]) -> dict[str, object]:
    """Those of `names` that `source` has, in this order."""
    found = {name: get(source, name) for name in names}
    return {name: value for name, value in found.items() if value is not None and type(value).__name__ not in _NOT_SENT}


def ordered(value: object, first: Sequence[str]) -> dict[str, object]:
    """The members of `value`, those named `first` before the others: one order for plain and streamed replies."""
    found = {name: item for name, item in pairs(value) or () if isinstance(name, str)}
    return {name: found[name] for name in (*(name for name in first if name in found), *found)}


def spec(
    read_input: Callable[[Any], Content | None],
    read_output: Callable[[Any], Content | None],
    stream: Callable[[int], StreamContent],
) -> ContentSpec:
    """Makers of JSON from what says which members are content; they give None where there are none, and never raise."""

    return ContentSpec(_safe(read_input), _safe(read_output), stream)


def _safe(read: Callable[[Any], Content | None]) -> Callable[[Any, int], bytes | None]:
    def read_and_render(source: Any, limit: int) -> bytes | None:
        try:
            found = read(source)
        except Exception as error:  # the code of what is read
            report(error)
            return None
        return rendered(found, limit) if found else None

    return read_and_render
