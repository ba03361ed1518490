"""Which kind of call it is, and what is the same for every call of one kind. The Python half of csrc/python/route.c.

A method that calls of one kind go through has one route; a Router's are told apart by verb and path of the request
object. Runs on the callers' threads, once a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._text import clean, clip, exact_text
from .chunk_plan import StreamPlan
from .inflight import tail_of
from .layout import CLIP_BYTES, EMPTY_RECORD
from .recorder import set_field
from .reply import MISSING, quiet_value, reader
from .request import compiled

if TYPE_CHECKING:
    from .._api import CallSpec, Endpoint, Router
    from .inflight import Tail
    from .ring import Ring

TEMPLATES_MAX = 512
MODEL_MAX = 256
FOUND_MAX = 256
PATH_MAX_CHARACTERS = 256


class Route:
    """One kind of call: its CallSpec made ready."""

    __slots__ = ("_plans", "content", "plain_type", "readers", "spec", "stream", "uses")

    def __init__(self, spec: CallSpec) -> None:
        self.spec = spec
        self.uses = compiled(spec.request)
        self.readers = tuple(reader(spec.reply, is_foreign) for is_foreign in (False, True))
        self.stream = spec.stream
        self.content = spec.content
        self.plain_type: type | None = None  # the last type of a reply that was no raw one
        self._plans: list[StreamPlan | None] = [None, None]

    def plan(self, is_foreign: bool) -> StreamPlan:
        """How its streams' chunks are read, made when the first is."""
        plan = self._plans[is_foreign]
        if plan is None:
            chunk, events = ((), {}) if self.stream is None else (self.stream.chunk, self.stream.events)
            plan = self._plans[is_foreign] = StreamPlan(chunk, events, is_foreign)
        return plan

    def template(
        self, ring: Ring, endpoint: Endpoint | None, model: Any, content: bytearray
    ) -> tuple[list[int], tuple[Tail, Tail]]:
        """A copy of the record with everything that is known before the call, and the tails of its in-flight slot."""
        if model is not None and type(model) is not str:
            model = exact_text(model)
        key = (self, endpoint, model)
        known = ring.templates.get(key)
        if known is not None:
            return known[0][:], known[1]
        values = EMPTY_RECORD[:]
        before = len(content)
        self._fill(ring, values, content, endpoint, model)
        tails = tail_of(values, False), tail_of(values, True)
        if len(content) == before and len(model or "") <= MODEL_MAX:  # the string table had room for all of it
            if len(ring.templates) >= TEMPLATES_MAX:
                ring.templates.clear()
            ring.templates[key] = values[:], tails
        return values, tails

    def _fill(self, ring: Ring, values: list[int], content: bytearray, endpoint: Endpoint | None, model: Any) -> None:
        spec = self.spec
        fields: dict[str, Any] = {"kind": spec.kind, "operation": spec.operation, "name": spec.operation}
        if model is not None:
            requested = clean(model, CLIP_BYTES["request_model"])
            fields["request_model"] = requested.decode()
            name = f"{spec.operation} ".encode() + requested
            fields["name"] = clip(name, CLIP_BYTES["name"]).decode()
        if endpoint is not None:
            fields.update(provider=endpoint.provider, server_address=endpoint.address, server_port=endpoint.port)
        for name_, value in fields.items():
            set_field(ring, values, content, name_, value)


class Routes:
    """The routes of a Router, and how a call's is found; misses are remembered too."""

    __slots__ = ("_bodies", "_by_text", "_found", "_keyword", "_path", "_position", "_verb", "raw", "stream")

    def __init__(self, router: Router) -> None:
        if not router.routes:
            raise ValueError("a Router without routes")
        self.raw, self.stream = router.raw, router.stream
        self._position, self._keyword = router.position, router.keyword
        self._verb, self._path, self._bodies = router.verb, router.path, router.bodies
        self._by_text = {text: Route(spec) for text, spec in router.routes.items()}
        self._found: dict[tuple[str, str], Route | None] = {}

    def find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Route | None, list[dict[str, Any]]]:
        """The call's route, None where none fits, and what holds its members, in the order in which it counts."""
        request = args[self._position] if len(args) > self._position else kwargs.get(self._keyword)
        try:
            get = request.__dict__.get
            verb, path = get(self._verb), get(self._path)
        except AttributeError:
            get, verb, path = None, None, None
        if type(verb) is not str or type(path) is not str:
            get, verb, path = None, *(exact_text(quiet_value(request, name)) for name in (self._verb, self._path))
            if verb is None or path is None:
                return None, []
        route: Any = self._found.get((verb, path), MISSING)
        if route is MISSING:
            route = self._search(verb, path)
        if route is None:
            return None, []
        bodies: list[dict[str, Any]] = []
        for name in self._bodies:
            body = MISSING if get is None else get(name, MISSING)
            if body is MISSING:
                body = quiet_value(request, name)
            if body is not None and issubclass(type(body), dict):
                bodies.append(body)  # type: ignore[arg-type]
        return route, bodies

    def _search(self, verb: str, path: str) -> Route | None:
        name = path.partition("?")[0]
        route = self._by_text.get(f"{verb.lower()} {name}")
        if route is None and "/" in name:
            route = self._by_text.get(f"{verb.lower()} {name.rpartition('/')[0]}/*")
        if len(path) <= PATH_MAX_CHARACTERS and len(verb) <= PATH_MAX_CHARACTERS:
            if len(self._found) >= FOUND_MAX:
                self._found.clear()
            self._found[verb, path] = route
        return route
