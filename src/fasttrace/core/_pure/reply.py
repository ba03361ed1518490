"""Reading a reply: which attributes give which fields, and how they are found. The Python half of csrc/python/reply.c.

A reply's nodes (core/_api.py) are compiled to setters once per method: to set an object is to read what is below it.
Runs on the callers' threads, once a call; an attribute that cannot be read costs a log line and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._report import report
from .layout import COUNTS, NUMBER, PRESENT
from .recorder import SETTERS, set_reported_cost

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._api import Node
    from .recorder import Setter
    from .ring import Ring

ELEMENTS_MAX = 1024  # choices of one reply
USUAL_COUNTS_END = 1 << 30  # one digit of a Python integer, quick to compare; others take the setter's way

Reading = tuple[str, "int | None", int, "Setter", Any]
_MISSING = object()


def readings(nodes: tuple[Node, ...], is_foreign: bool) -> tuple[Reading, ...]:
    return tuple(_reading(node, is_foreign) for node in nodes if is_foreign or not node.foreign)


def _reading(node: Node, is_foreign: bool) -> Reading:
    """A Node with its field's setter at hand: name, presence bit of a count, place, setter, detail. To set an object is
    to read what is below it."""
    setter: Setter = read_fields
    at, detail = 0, readings(node.children, is_foreign)
    if node.field is not None:
        setter, at, detail = SETTERS[node.field]
    if node.field == "cost_usd":
        setter = set_reported_cost
    if node.each:
        return node.name, None, at, _read_each, (setter, detail)
    bit = 1 << NUMBER[node.field] if node.field in COUNTS else None
    return node.name, bit, at, setter, detail


def read_fields(
    ring: Ring, values: list[int], content: bytearray, _: int, readings: tuple[Reading, ...], found: Any
) -> None:
    """pydantic keeps a model's fields in the instance dictionary: that is asked first, then the attribute. Counts are
    most of what is read: the usual ones are set without a call."""
    try:
        fields = found if issubclass(type(found), dict) else found.__dict__
    except Exception as error:
        fields = _without_fields(error)
    if type(fields) is dict:
        get: Callable[..., Any] = fields.get
    else:
        fields, get = _unusual(fields)
    present = 0
    for name, bit, at, setter, detail in readings:
        try:
            value = get(name)
            if value is None:
                if fields is found or get(name, _MISSING) is None:
                    continue
                value = _undeclared(found, fields, name)
                if value is None:
                    continue
            if bit is not None and type(value) is int and 0 <= value < USUAL_COUNTS_END:
                values[at] = value
                present |= bit
            else:
                setter(ring, values, content, at, detail, value)
        except AttributeError:
            continue
        except Exception as error:
            report(error)
    if present:
        values[PRESENT] |= present


def _read_each(
    ring: Ring, values: list[int], content: bytearray, at: int, of_one: tuple[Setter, Any], elements: Any
) -> None:
    if not issubclass(type(elements), (list, tuple)):
        return
    setter, detail = of_one
    for element in elements[:ELEMENTS_MAX]:
        if element is not None:
            setter(ring, values, content, at, detail, element)


def _without_fields(error: Exception) -> Any:
    """An object without a dictionary is one of many; one that fails to say is worth a line."""
    if not isinstance(error, AttributeError):
        report(error)
    return None


def _unusual(fields: Any) -> tuple[Any, Callable[..., Any]]:
    """A subclass of dict, asked by a dictionary's own rule; None, which has nothing, for what is no dictionary."""
    if issubclass(type(fields), dict):
        return fields, dict.get.__get__(fields)
    return None, lambda name, missing=None: missing


def _undeclared(found: Any, fields: Any, name: str) -> Any:
    """What a pydantic model does not declare is in __pydantic_extra__; other objects are asked for the attribute. The
    class tells: a proxy of a model has the model's attributes, and not its dictionary."""
    if fields is not None and hasattr(type(found), "__pydantic_extra__"):
        try:
            extra = found.__pydantic_extra__
        except AttributeError:
            pass
        else:
            if extra is None or type(extra) is dict:
                return None if extra is None else extra.get(name)
    return getattr(found, name)
