"""The reading of a usual chunk as straight code, made once for each walk that stays (chunk_plan.py).

Nearly all chunks of a stream are read by one walk, the one that is left when the first text was seen, and tell nothing:
an object with a list of one object with an object, in which three members are None. Going through its entries would
cost several times the look-ups themselves; written out they are what is left. What is not as usual (an object without a
plain dictionary, a value that is there) goes the general way, so that both ways do the same. Made on the thread of the
first stream that comes so far, in about a millisecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .chunk import do, keep_late, read_each, read_object
from .reply import ELEMENTS_MAX, MISSING

if TYPE_CHECKING:
    from .chunk import Act

DEPTH_MAX = 4


def unrolled(entries: tuple[Any, ...]) -> Act:
    """What does as `read_object` with these entries."""
    code = _Code()
    code.add_object(entries, 0, 1, "None", "None")
    header = "def read(chunks, v0, entries, owner, element, outer):"
    exec("\n".join((header, *code.lines)), code.names)
    act: Act = code.names["read"]
    return act


class _Code:
    """Lines of a function, and what its names stand for. `v0`, `f0`: an object and its dictionary, by depth."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"MISSING": MISSING, "do": do, "learn": _learn, "read_object": read_object}

    def name(self, value: Any) -> str:
        """A name for a value."""
        name = f"n{len(self.names)}"
        self.names[name] = value
        return name

    def add(self, indent: int, *lines: str) -> None:
        self.lines += ["    " * indent + line for line in lines]

    def add_object(self, entries: tuple[Any, ...], depth: int, indent: int, element: str, outer: str) -> None:
        value, fields = f"v{depth}", f"f{depth}"
        self.add(
            indent,
            "try:",
            f"    {fields} = {value}.__dict__",
            "except Exception:",
            f"    {fields} = None",
            f"if type({fields}) is not dict or issubclass(type({value}), dict):",
            f"    read_object(chunks, {value}, {self.name(entries)}, None, {element}, {outer})",
            "else:",
        )
        last_class = self.name([None])
        for name, act, detail in entries:
            self.add(indent + 1, f"x = {fields}.get({name!r}, MISSING)", "if x is not None:")
            usual = (
                f"do(chunks, {value}, {fields}, {name!r}, x, {self.name(act)}, {self.name(detail)}, {element}, {outer})"
            )
            self.add(
                indent + 2,
                "if x is MISSING:",
                f"    if type({value}) is not {last_class}[0] or getattr({value}, '__pydantic_extra__', True):",
                f"        learn({last_class}, {value})",
                f"        {usual}",
            )
            self._add_value(act, detail, depth, indent + 2, element, outer, usual)

    def _add_value(self, act: Any, detail: Any, depth: int, indent: int, element: str, outer: str, usual: str) -> None:
        """A member that is there, and not None."""
        below = f"v{depth + 1}"
        if act is keep_late:
            self.add(indent, "else:", f"    chunks.lates[{detail[0]}] = {self.name(detail[1])}, x")
        elif act is read_object and depth + 1 < DEPTH_MAX:
            self.add(indent, "else:", f"    {below} = x")
            self.add_object(detail, depth + 1, indent + 1, element, outer)
        elif act is read_each and detail[0] is read_object and depth + 1 < DEPTH_MAX:
            self.add(
                indent,
                f"elif type(x) is list and len(x) <= {ELEMENTS_MAX}:",
                f"    for {below} in x:",
                f"        if {below} is not None:",
            )
            self.add_object(detail[1], depth + 1, indent + 3, below, element)
            self.add(indent, "else:", f"    {usual}")
        else:
            self.add(indent, "else:", f"    {usual}")


def _learn(last_class: list[Any], found: Any) -> None:
    """The class tells that an object is a pydantic model (reply.py); the chunks of a stream are of one class, and have
    mostly none but declared members."""
    if hasattr(type(found), "__pydantic_extra__"):
        last_class[0] = type(found)
