"""Reading a reply: which attributes give which fields, and how they are found. The Python half of csrc/python/reply.c.

A reply's nodes (core/_api.py) are compiled to setters once per kind of call: to set an object is to read what is below
it. Runs on the callers' threads, once a call; an attribute that cannot be read costs a log line and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .._report import report
from .._text import exact_text
from .layout import COUNTS, MASK64, NUMBER, PRESENT, STATUS
from .price import HAS_INPUT
from .recorder import ERROR, SETTERS, set_reported_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._api import Node
    from .recorder import Setter
    from .ring import Ring

ELEMENTS_MAX = 1024  # choices of one reply
USUAL_COUNTS_END = 1 << 30  # one digit of a Python integer, quick to compare; others take the setter's way
MISSING = object()
INPUT_AT = SETTERS["input_tokens"][1]

Reading = tuple[str, "int | None", int, "Setter", Any]
# Of an object whose nodes ask for its type, add to each other or know a value for what is not there: types, tag, that
# value, counts that a value is added to, whether each element of a list is, the name, and the reading, None for a node
# that does no more.
Mixed = tuple[tuple[str, ...], str, "Otherwise | None", tuple[str, ...], bool, str, "tuple[Setter, int, Any] | None"]


class Otherwise(NamedTuple):
    """The value of a count that an object does not have, while it has one of these others."""

    value: int
    others: tuple[str, ...]

    def applies(self, found: Any) -> bool:
        return any(type(quiet_value(found, name)) is int for name in self.others)


def otherwise_of(node: Node, nodes: Sequence[Node]) -> Otherwise | None:
    """What holds for `node` among the nodes of one object."""
    if node.otherwise is None:
        return None
    counts = [one for one in nodes if (one.adds is not None or one.field in COUNTS) and not one.types]
    return Otherwise(node.otherwise, tuple(one.name for one in counts))


def reader(nodes: Sequence[Node], is_foreign: bool) -> tuple[Setter, tuple[Any, ...]]:
    """What reads an object by these nodes: a setter, and its detail."""
    kept = [node for node in nodes if (is_foreign or not node.foreign) and _tells(node)]
    if any(node.types or node.adds or node.otherwise is not None for node in kept):
        sums = frozenset(node.adds for node in kept)
        return read_mixed, tuple(_mixed(node, kept, sums, is_foreign) for node in kept)
    return read_fields, tuple(_reading(node, is_foreign) for node in kept)


def _tells(node: Node) -> bool:
    """A mark tells something of a stream only."""
    return node.field is not None or node.adds is not None or any(_tells(child) for child in node.children)


def _reading(node: Node, is_foreign: bool) -> Reading:
    """A Node with its field's setter at hand: name, presence bit of a count, place, setter, detail. To set an object is
    to read what is below it."""
    if node.field is None:
        (setter, detail), at = reader(node.children, is_foreign), 0
    else:
        setter, at, detail = setter_of(node.field)
    if node.each:
        return node.name, None, at, _read_each, (setter, detail)
    bit = 1 << NUMBER[node.field] if node.field in COUNTS else None
    return node.name, bit, at, setter, detail


def setter_of(field: str) -> tuple[Setter, int, Any]:
    """How a field is set that was found in a reply."""
    if field == "total_tokens":
        return _set_total, 0, None
    setter, at, detail = SETTERS[field]
    if field == "cost_usd":
        return set_reported_cost, at, detail
    return (_set_error_code if field == "error_code" else setter), at, detail


def _set_total(ring: Ring, values: list[int], content: bytearray, _: int, __: None, value: Any) -> None:
    """A provider that leaves out an output of zero, or reasoning that it counts apart, tells the whole of it here."""
    if not values[PRESENT] & HAS_INPUT or type(value) is not int or value > MASK64:
        return
    setter, at, bit = SETTERS["output_tokens"]
    rest = value - values[INPUT_AT]
    if rest >= 0 and (not values[PRESENT] & bit or rest > values[at]):
        setter(ring, values, content, at, bit, rest)


def _set_error_code(ring: Ring, values: list[int], content: bytearray, at: int, number: Any, value: Any) -> None:
    if exact_text(value):
        values[STATUS] = ERROR
    SETTERS["error_code"][0](ring, values, content, at, number, value)


def _mixed(node: Node, nodes: Sequence[Node], sums: frozenset[str | None], is_foreign: bool) -> Mixed:
    is_summed = node.field in sums and node.field is not None
    added = (node.adds, node.field if is_summed else None)
    way: tuple[Setter, int, Any] | None = None
    if node.children or (node.field is not None and not is_summed):
        _, _, at, setter, detail = _reading(node._replace(field=None) if is_summed else node, is_foreign)
        way = setter, at, detail
    summed = tuple(field for field in added if field is not None)
    return node.types, node.tag, otherwise_of(node, nodes), summed, node.each, node.name, way


def read_fields(
    ring: Ring, values: list[int], content: bytearray, _: int, readings: tuple[Reading, ...], found: Any
) -> None:
    """pydantic keeps a model's fields in the instance dictionary: that is asked first, then the attribute. Counts are
    most of what is read: the usual ones are set without a call."""
    try:
        fields = found if issubclass(type(found), dict) else found.__dict__
    except Exception as error:
        fields = without_fields(error)
    if type(fields) is dict:
        get: Callable[..., Any] = fields.get
    else:
        fields, get = unusual(fields)
    present, bare = 0, None
    for name, bit, at, setter, detail in readings:
        try:
            value = get(name, MISSING)
            if value is None:
                continue
            if value is MISSING:
                if bare is None:
                    bare = is_bare(found, fields)
                if bare:
                    continue
                value = undeclared(found, fields, name)
                if value is None:
                    continue
            if bit is not None and type(value) is int and 0 <= value < USUAL_COUNTS_END:
                values[at] = value
                present |= bit
            else:
                values[PRESENT] |= present  # a total asks what is there
                setter(ring, values, content, at, detail, value)
        except AttributeError:
            continue
        except Exception as error:
            report(error)
    if present:
        values[PRESENT] |= present


def read_mixed(
    ring: Ring, values: list[int], content: bytearray, _: int, entries: tuple[Mixed, ...], found: Any
) -> None:
    """As `read_fields`, for an object whose nodes ask for its type, add to each other or know a value for what is not
    there."""
    fields, get = fields_of(found)
    seen, kind = "", None
    sums: dict[str, int] = {}
    bare: bool | None = None
    for types, tag, otherwise, added, is_each, name, way in entries:
        try:
            if types:
                if tag != seen:
                    seen, kind = tag, exact_text(quiet_value(found, tag))
                if kind not in types:
                    continue
            value = get(name, MISSING)
            if value is MISSING:
                if bare is None:
                    bare = is_bare(found, fields)
                value = None if bare else quiet_undeclared(found, fields, name)
            if value is None:
                if otherwise is None or not otherwise.applies(found):
                    continue
                value = otherwise.value
            if added:
                add_up(sums, added, value, is_each)
            if way is not None:
                setter, at, detail = way
                setter(ring, values, content, at, detail, value)
        except Exception as error:
            report(error)
    for field, total in sums.items():
        setter, at, detail = SETTERS[field]
        setter(ring, values, content, at, detail, total)


def add_up(sums: dict[str, int], fields: tuple[str, ...], value: Any, is_each: bool) -> None:
    """A sum beyond 64 bits is no count: its setter leaves it out."""
    for part in elements_of(value) if is_each else (value,):
        if type(part) is int and 0 <= part <= MASK64:
            for field in fields:
                sums[field] = sums.get(field, 0) + part


def elements_of(value: Any) -> Sequence[Any]:
    """The elements of a list that are read; none of what is no list."""
    if not issubclass(type(value), (list, tuple)):
        return ()
    elements: Sequence[Any] = value[:ELEMENTS_MAX]
    return elements


def _read_each(
    ring: Ring, values: list[int], content: bytearray, at: int, of_one: tuple[Setter, Any], elements: Any
) -> None:
    setter, detail = of_one
    if type(elements) is not list or len(elements) > ELEMENTS_MAX:
        elements = elements_of(elements)
    for element in elements:
        if element is not None:
            setter(ring, values, content, at, detail, element)


# ---- finding one attribute ----


def value_of(found: Any, name: str) -> Any:
    """The attribute, found as the reply's are; None where it is None or not there. Raises what the object raises."""
    fields, get = fields_of(found)
    value = get(name, MISSING)
    if value is not MISSING:
        return value
    return None if fields is found else undeclared(found, fields, name)


def quiet_value(found: Any, name: str) -> Any:
    """The same, with a log line for what the object raises."""
    try:
        return value_of(found, name)
    except AttributeError:
        return None
    except Exception as error:
        report(error)
        return None


def fields_of(found: Any) -> tuple[Any, Callable[..., Any]]:
    """The dictionary that holds an object's fields (None: it has none), and how it is asked; a dict is its own."""
    try:
        fields = found if issubclass(type(found), dict) else found.__dict__
    except Exception as error:
        fields = without_fields(error)
    return (fields, fields.get) if type(fields) is dict else unusual(fields)


def without_fields(error: Exception) -> Any:
    """An object without a dictionary is one of many; one that fails to say is worth a line."""
    if not isinstance(error, AttributeError):
        report(error)
    return None


def unusual(fields: Any) -> tuple[Any, Callable[..., Any]]:
    """A subclass of dict, asked by a dictionary's own rule; None, which has nothing, for what is no dictionary."""
    if issubclass(type(fields), dict):
        return fields, dict.get.__get__(fields)
    return None, lambda name, missing=None: missing


def is_bare(found: Any, fields: Any) -> bool:
    """Whether what is not in the object's dictionary is not there at all, as `undeclared` would find out each time."""
    if fields is found:
        return True
    if fields is None or not hasattr(type(found), "__pydantic_extra__"):
        return False
    try:
        extra = found.__pydantic_extra__
    except AttributeError:
        return False
    return extra is None or (type(extra) is dict and not extra)


def undeclared(found: Any, fields: Any, name: str) -> Any:
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


def quiet_undeclared(found: Any, fields: Any, name: str) -> Any:
    """The same, None for what is not there, and with a log line for what the object raises."""
    try:
        return undeclared(found, fields, name)
    except AttributeError:
        return None
    except Exception as error:
        report(error)
        return None
