"""Reading the request of a call, from its keyword arguments or its body: the model, whether it streams, and the scalars
of request_params. The Python half of csrc/python/request.c. Runs on the callers' threads, once a call; nothing of the
request is kept or copied but these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._report import report
from .._text import exact_text, quote, render_param
from .layout import FLAG_OTHER_RATE, FLAG_OTHER_TIER, NUMBER
from .recorder import STANDARD_TIERS, add_json
from .reply import MISSING, fields_of, is_bare, quiet_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._api import Use

    # How a member is used: by its word, or by the uses of what is below it.
    Uses = dict[str, "str | Uses"]
    Request = tuple[Any, bool, int]  # the model, whether a stream was asked for, flags of the record

PARAMS_MAX = 256
PARAM_MAX = 128
PARAMS_ENTRY_MAX_BYTES = 1024
REQUEST_PARAMS = NUMBER["request_params"]
PLAIN_SCALARS = frozenset((str, int, float, bool))
LEAVES = (str, int, float, bytes, list, tuple)


def compiled(request: Mapping[str, Use]) -> Uses:
    """The uses of a CallSpec without those that use nothing."""
    return {name: use if isinstance(use, str) else compiled(use) for name, use in request.items() if use != "ignored"}


class Params:
    """request_params as JSON: most callers send the same few, which are remembered."""

    __slots__ = ("entries", "members")

    def __init__(self) -> None:
        self.members: dict[tuple[str, type, object], str] = {}
        self.entries: dict[str, bytes] = {}

    def read(self, uses: Uses, members: Iterable[tuple[str, Any]], params: list[str]) -> Request:
        """What the members tell; each parameter is added to `params`."""
        use_of, known = uses.get, self.members.get
        model, is_streamed, flags = None, False, 0
        for name, value in members:
            use = use_of(name)
            if use is None:
                continue
            if use == "param" or use == "tier" or use == "rate":
                if use != "param" and (exact_text(value) or "") not in STANDARD_TIERS:
                    flags |= FLAG_OTHER_TIER if use == "tier" else FLAG_OTHER_RATE
                if type(value) in PLAIN_SCALARS:
                    params.append(known((name, type(value), value)) or self._member(name, value))
                elif issubclass(type(value), (str, int, float)):
                    params += _unusual_member(name, value)
            elif use == "model":
                model = value
            elif use == "stream":
                is_streamed = is_true(value)
            elif type(use) is dict:
                below = self.read(use, _below(use, value), params)
                model = model if below[0] is None else below[0]
                is_streamed, flags = is_streamed or below[1], flags | below[2]
        return model, is_streamed, flags

    def read_bodies(self, uses: Uses, bodies: list[dict[str, Any]], params: list[str]) -> Request:
        """The same of bodies, of which the last that has a member counts."""
        items = [
            (name, value)
            for at, body in enumerate(bodies)
            for name, value in dict.items(body)
            if not any(dict.__contains__(later, name) for later in bodies[at + 1 :])
        ]
        return self.read(uses, items, params)

    def content(self, params: list[str]) -> bytearray:
        """Content that opens with the request's parameters, whose entry is remembered."""
        if not params:
            return bytearray()
        joined = ",".join(params)
        known = self.entries.get(joined)
        if known is not None:
            return bytearray(known)
        content = bytearray()
        add_json(content, REQUEST_PARAMS, f"{{{joined}}}".encode())
        if 0 < len(content) <= PARAMS_ENTRY_MAX_BYTES:
            if len(self.entries) >= PARAMS_MAX:
                self.entries.clear()
            self.entries[joined] = bytes(content)
        return content

    def _member(self, name: str, value: str | int | float) -> str:
        """`"name":value`, remembered. Not zero, which equals minus zero."""
        member = f"{quote(name)}:{(render_param(value) or b'null').decode()}"
        if value and len(member) <= PARAM_MAX and (type(value) is not str or len(value) <= PARAM_MAX):
            if len(self.members) >= PARAMS_MAX:
                self.members.clear()
            self.members[name, type(value), value] = member
        return member


def _unusual_member(name: str, value: str | int | float) -> tuple[str, ...]:
    """An enumeration's member, a number of numpy's: a method of theirs that raises costs the parameter."""
    try:
        return (f"{quote(name)}:{(render_param(value) or b'null').decode()}",)
    except Exception as error:
        report(error)
        return ()


def _below(uses: Uses, found: Any) -> list[tuple[str, Any]]:
    """Of what is below, only what the spec names: a settings object has many members, most of them unset."""
    if found is None or issubclass(type(found), LEAVES):
        return []
    fields, get = fields_of(found)
    bare: bool | None = None
    pairs = []
    for name in uses:
        value = get(name, MISSING)
        if value is None:
            continue
        if value is MISSING:
            bare = is_bare(found, fields) if bare is None else bare
            value = None if bare else quiet_value(found, name)
        if value is not None:
            pairs.append((name, value))
    return pairs


def is_true(value: Any) -> bool:
    """As the SDK asks it; its "not given" is false. A value that cannot be asked is not a wish."""
    try:
        return bool(value)
    except Exception as error:
        report(error)
        return False
