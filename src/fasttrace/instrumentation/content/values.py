"""What a request or reply is made of, read without a method of its own: dicts, models, dataclasses, protobuf messages.

Content may be anything a user or an SDK puts there. Whatever has named parts gives them as pairs; whatever is none of
text, number, list or such an object is only told by its name: its `str()` may be of any size, its iterator may be
somebody's generator, and a file that is read here is not there for the SDK. Runs on the callers' threads, only while
content is captured.
"""

from __future__ import annotations

import os
from enum import Enum
from io import IOBase
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from fasttrace.core._text import exact_text, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Pairs = list[tuple[object, object]]
    PairsOf = Callable[[Any, int], "Pairs"]

KINDS_MAX = 1024
NAME_BYTES = 256
PAIRS_MAX = 1 << 20
SIZE_STEPS = 4096
# What the SDKs' parsing adds to a reply is what its text says already.
_ADDED_BY_SDK = frozenset(("parsed", "parsed_arguments", "parsed_output"))
_MODEL_MARKS = ("__pydantic_fields_set__", "__fields_set__", "__dataclass_fields__")
_FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType)
_PLAIN_IN_TEXT = frozenset(("datetime", "uuid", "decimal"))


def _of_dict(value: Any, most: int) -> Pairs:
    return list(islice(dict.items(value), most))  # at once: another thread may add a key


def _of_model(value: Any, most: int) -> Pairs:
    """Fields and what else came with them; None is a field that was not sent."""
    extra = getattr(value, "__pydantic_extra__", None)
    found = _of_dict(value.__dict__, most)
    if extra:
        found += _of_dict(extra, most)
    return [pair for pair in found if not _is_internal(pair[0])]


def _is_internal(name: object) -> bool:
    return type(name) is str and (name in _ADDED_BY_SDK or name.startswith("_"))


def _of_proto(value: Any, most: int) -> Pairs:
    """The fields that are set, by their names; an enumeration's values by theirs."""
    if value.DESCRIPTOR.full_name == "google.protobuf.Struct":
        return [(name, _of_proto_value(item)) for name, item in islice(value.fields.items(), most)]
    return [(field.name, _of_proto_field(field, item)) for field, item in value.ListFields()[:most]]


def _of_proto_field(field: Any, value: Any) -> object:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(islice(value.items(), PAIRS_MAX))
    names = field.enum_type.values_by_number if field.enum_type is not None else None
    if not isinstance(value, (str, bytes, bool, int, float)) and not hasattr(value, "DESCRIPTOR"):
        return [names[item].name for item in value] if names else list(islice(value, PAIRS_MAX))
    return names[value].name if names and value in names else value


def _of_proto_value(value: Any) -> object:
    """A google.protobuf.Value is what it holds."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return [_of_proto_value(item) for item in islice(value.list_value.values, PAIRS_MAX)]
    return None if kind in (None, "null_value") else getattr(value, kind)


def _of_proto_plus(value: Any, most: int) -> Pairs:
    return _of_proto(value.__dict__["_pb"], most)


_pairs_of: dict[type, PairsOf | None] = {dict: _of_dict, SimpleNamespace: _of_model}


def _reader(kind: type) -> PairsOf | None:
    if kind in _pairs_of:
        return _pairs_of[kind]
    if len(_pairs_of) >= KINDS_MAX:
        return _find_reader(kind)
    _pairs_of[kind] = found = _find_reader(kind)
    return found


def _find_reader(kind: type) -> PairsOf | None:
    if issubclass(kind, dict):
        return _of_dict
    own = [name for base in type.__dict__["__mro__"].__get__(kind) for name in base.__dict__]
    if any(mark in own for mark in _MODEL_MARKS):
        return _of_model
    if "DESCRIPTOR" in own and hasattr(kind, "ListFields"):
        return _of_proto
    return _of_proto_plus if type(kind).__module__ == "proto.message" else None


def pairs(value: object, most: int = PAIRS_MAX) -> Pairs | None:
    """The named parts of `value` but for those that are None, `most` of them; None for what has no such parts."""
    read = _reader(type(value))
    return None if read is None else [pair for pair in read(value, most) if pair[1] is not None]


def elements(value: object) -> Iterator[object] | None:
    """The elements of a list or tuple, or of a protobuf message's list; None for anything else."""
    kind = type(value)
    if issubclass(kind, list):
        return list.__iter__(value)  # type: ignore[arg-type]
    if issubclass(kind, tuple):
        return tuple.__iter__(value)  # type: ignore[arg-type]
    return iter(value) if is_proto_list(kind) else None  # type: ignore[call-overload]


def is_proto_list(kind: type) -> bool:
    name = getattr(kind, "__module__", None)
    return name == "proto.marshal.collections.repeated" or (
        type(name) is str and name.startswith("google.") and kind.__name__.startswith("Repeated")
    )


def get(value: object, name: str) -> Any:
    """The part of that name, of a dict or an object; None where there is none."""
    if isinstance(value, dict):
        return dict.get(value, name)
    own = getattr(value, "__dict__", None)
    if type(own) is dict and name in own:
        return own[name]
    return getattr(value, name, None)


def get_list(value: object, name: str) -> Iterator[object]:
    """The elements of the list of that name; none where there is no list."""
    found = elements(get(value, name))
    return iter(()) if found is None else found


def get_text(value: object, name: str) -> str:
    """The text of that name; empty where there is none."""
    return exact_text(get(value, name)) or ""


def get_index(value: object, name: str = "index") -> int:
    """The whole number of that name; 0 where there is none."""
    found = get(value, name)
    return int.__int__(found) if isinstance(found, int) else 0


def told(value: object) -> object:
    """What stands for a value that has no form in JSON: a file's name, a function's, the class of anything else."""
    kind = type(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, os.PathLike) or issubclass(kind, IOBase):
        return {"type": "file", "name": _file_name(value)}
    if kind in _FUNCTIONS:
        return {"type": "function", "name": _clipped(getattr(value, "__name__", ""))}
    if kind.__module__ in _PLAIN_IN_TEXT:
        return str(value)
    if issubclass(kind, type):
        return f"<{_clipped(type.__dict__['__qualname__'].__get__(value))}>"
    return f"<{_clipped(kind.__qualname__)}>"


def _file_name(value: Any) -> str:
    name = os.fspath(value) if isinstance(value, os.PathLike) else getattr(value, "name", "")
    return _clipped(os.path.basename(name)) if isinstance(name, (str, bytes)) else ""


def _clipped(name: object) -> str:
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else exact_text(name) or ""
    return redacted(text, NAME_BYTES).decode()


class Text:
    """A text that came in pieces; `omitted` is how many characters came after them that were not kept."""

    __slots__ = ("omitted", "pieces")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.omitted = 0

    def joined(self) -> str:
        """The text as far as it was kept."""
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""


class Size:
    """How much there is of what is left out: the characters of its texts, and one for each other value.

    Bounded: after the first few thousand values, each further one counts as one, a list or an object as many as it has.
    """

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = SIZE_STEPS

    def of(self, value: object) -> int:
        try:
            return self._of_any(value)
        except Exception:  # the value's own code raised: there is a value, and no more to say of it
            return 1

    def _of_any(self, value: object) -> int:
        self.steps -= 1
        if type(value) is Text:
            return sum(map(len, value.pieces)) + value.omitted
        text = exact_text(value)
        if text is not None:
            return len(text)
        if isinstance(value, dict):
            return self.of_rest((item for _, item in dict.items(value)), dict.__len__(value))
        found = elements(value)
        if found is not None:
            return self.of_rest(found, len(value))  # type: ignore[arg-type]
        if self.steps <= 0:
            return 1
        parts = pairs(value)
        return 1 if parts is None else self.of_rest((item for _, item in parts), len(parts))

    def of_rest(self, values: Iterable[object], count: int) -> int:
        """Of the `count` values that are left of an iterator."""
        total = 0
        for value in values if self.steps > 0 else ():
            total += self.of(value)
            count -= 1
            if self.steps <= 0:
                break
        return total + max(count, 0)
