"""The contract of the two cores: limits, enumerations and the Protocols that native and pure both satisfy.

Everything here is plain data, imported by both twins and by the layers above. Nothing here runs on a call's path.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Protocol

    Value = int | str | bytes | Sequence[str]
    Use = str | Mapping[str, "Use"]

KINDS = ("llm", "embedding", "image", "audio", "moderation", "tool", "agent", "chain", "retrieval", "server", "task")
STATUSES = ("success", "error", "timeout", "cancelled", "incomplete", "aborted")
USAGE_SOURCES = ("provider", "estimated", "partial")
COST_SOURCES = ("local", "provider")


class RingShape(NamedTuple):
    """Sizes of a ring: slots and bytes of content arena (powers of two), string table, in-flight slots."""

    slots: int = 8192
    arena_bytes: int = 2 << 20
    strtab_bytes: int = 64 << 10
    inflight: int = 4096
    first_ticket: int = 0


class RingOwner(NamedTuple):
    """Who writes a ring: recovery tells a dead owner from a live one by it."""

    writer_id: bytes
    boot_id: bytes
    pid: int
    process_start: int
    created_unix_ns: int


class BatchRange(NamedTuple):
    """Tickets that the exporter has in its hands: `first_ticket` to `next_ticket` - 1, with `span_count` spans.

    Kept in the ring's header, so that whoever recovers it makes the same batch again, or passes over what is settled.
    """

    first_ticket: int
    next_ticket: int
    span_count: int
    is_settled: bool = False


class RingCounters(NamedTuple):
    """Where every ticket of a ring stands: `recorded` = `delivered` + `lost` + `pending` + what is in the ring.

    inflight_full: calls that found no place in the in-flight table; they are recorded all the same.
    """

    recorded: int
    acknowledged: int
    delivered: int
    lost: int
    busy: int
    pending: int
    content_lost: int
    content_too_large: int
    inflight_full: int


class UnusedRing(ValueError):
    """A ring file in which nothing was ever recorded: its process died before it was formatted."""


class OtherVersion(ValueError):
    """A ring file of a newer fasttrace, or of a machine with the other byte order: whole, but not for this one."""


class RecoveredCounters(NamedTuple):
    """What a dead process's ring held beyond its acknowledged ticket.

    delivered: spans read from it so far; skipped: tickets that were settled already; lost: overwritten before they were
    read; torn: tickets whose push had not returned, or had given way to one that had not; aborted: calls that were in
    the air; content_lost: spans delivered without their content, which was overwritten, damaged or no JSON.
    """

    delivered: int = 0
    skipped: int = 0
    lost: int = 0
    torn: int = 0
    aborted: int = 0
    content_lost: int = 0


class Price(NamedTuple):
    """Pico-USD per unit; `input_limit` is the most input tokens these prices hold for (0: any number)."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    input_audio: int = 0
    input_image: int = 0
    output: int = 0
    output_audio: int = 0
    web_search: int = 0
    request: int = 0
    input_limit: int = 0


class Endpoint(NamedTuple):
    """Where a client sends its calls: semconv provider, host, and the port where it is not the scheme's own."""

    provider: str
    address: str | None
    port: int | None


class Node(NamedTuple):
    """One attribute of a reply: what it is called there, the span field it gives, what is read below it.

    each: reads every element of a list. foreign: only where the endpoint is not the SDK's own provider. types: only
    where the object that has the attribute has one of these as its `type`, or as what `tag` names instead. adds: a
    count that this one is a part of and is added to; what is added to a count from one object is its value there.
    otherwise: the value of a count that the object does not have while it has others, for an API that leaves zeros out.
    A text given to `web_search_requests` is one more of them: some providers list what others count.
    The field `total_tokens` is none of the span's: input and output together, so that the output is at least what the
    input, read before, leaves of it.

    In streams only: mark: a value that is not empty is the first generated "token"; or "text", a token that is visible;
    or the "end" of what is generated. unless: an attribute beside it that, where it is true, makes a "text" a "token".
    late: the last value that was there is kept, and read when the stream ends.
    """

    name: str
    field: str | None = None
    children: tuple[Node, ...] = ()
    each: bool = False
    foreign: bool = False
    types: tuple[str, ...] = ()
    adds: str | None = None
    mark: str | None = None
    unless: str | None = None
    late: bool = False
    tag: str = "type"
    otherwise: int | None = None


class StreamSpec(NamedTuple):
    """How a streamed reply is watched, from inside the SDK's own object.

    iterator: the reply's attribute that holds its iterator, which is replaced by one that watches; None: the reply is
    the iterator, and the SDK's own code reads it. body: attribute path from the reply to the object whose
    `close()` (`aclose()` where calls are asynchronous) ends the stream early.
    chunk: read from every chunk; events: read from the chunks whose `type` this is, after that. Texts are read until
    one was found that is not empty; of counts the last is taken. `finish_reasons` are ordered by the `index` of the
    list element they are in, and `tool_calls` counted once for each `index` (or `id`) of theirs.
    """

    iterator: str | None
    body: tuple[str, ...] = ()
    chunk: tuple[Node, ...] = ()
    events: Mapping[str, tuple[Node, ...]] = {}


class ContentSpec(NamedTuple):
    """How the content of a call is read where its capture is on: each gives JSON of at most `limit` bytes, or None.

    input: from what the request is read from; output: from a reply; stream: makes what puts a streamed output together.
    """

    input: Callable[[Any, int], bytes | None]
    output: Callable[[Any, int], bytes | None]
    stream: Callable[[int], StreamContent]


class CallSpec(NamedTuple):
    """How one kind of provider call is recorded: plain data, read by both twins' call driver.

    request: member of the request (keyword of the method, or key of a Router's body) → "model" (the requested model),
    "param" (scalar into request_params), "tier" (a param that names the service tier: no price list but the standard
    one is known, and a tier that the reply names counts instead), "rate" (the same for what no reply names), "stream"
    (a true value: the reply is a stream), or another such mapping for what is below it, in a mapping or an object.
    Other members are not read. always_streams: every reply is a stream.
    reply: the attributes to read; an `error_code` found there makes it an error. endpoint: attribute path from the
    bound instance to the object that names the host; `resolve(object, instance)` turns them into an Endpoint and is
    asked once per object. failure: an exception to its fields (status, error_type, error_code, ...), never raising.
    amend: called with the body of a streamed request before it is sent; only for what a setting asked for.
    """

    kind: str
    operation: str
    sdk: str
    is_async: bool
    request: Mapping[str, Use]
    reply: tuple[Node, ...]
    endpoint: tuple[str, ...]
    resolve: Callable[[object, object], Endpoint]
    failure: Callable[[BaseException], Mapping[str, Value]]
    stream: StreamSpec | None = None
    content: ContentSpec | None = None
    amend: Callable[[Any], None] | None = None
    always_streams: bool = False


class RawSpec(NamedTuple):
    """How a reply is recognised that the user parses later, or never: one whose instance dictionary has `response`.

    parsed: the attribute that holds its dictionary of what was parsed; body: the attribute of the response that holds
    the bytes once they were read.
    """

    response: str = "http_response"
    parsed: str = "_parsed_by_type"
    body: str = "_content"


class Router(NamedTuple):
    """A method that calls of many kinds go through, told apart by the request object it is given.

    routes: "{verb} {path}" → CallSpec, verb in lower case, path without the query; its last segment may be "*". A call
    that none fits passes straight through. All specs of one router share sdk, is_async, endpoint, resolve and failure.
    position, keyword: where the request object is among the arguments; verb, path: its attributes by which a route is
    found; bodies: its attributes that hold the request's members (mappings, or None), where the last that has a member
    counts. stream: the keyword of the call that is true when the reply is a stream.
    """

    routes: Mapping[str, CallSpec]
    position: int = 2
    keyword: str = "options"
    verb: str = "method"
    path: str = "url"
    bodies: tuple[str, ...] = ("json_data", "extra_json")
    stream: str = "stream"
    raw: RawSpec = RawSpec()


CURRENT: ContextVar[SpanContext | None] = ContextVar("fasttrace.span", default=None)

if TYPE_CHECKING:

    class SpanContext(Protocol):
        """Identity of a span, and what children and retries need of it. Immutable but for the two counts.

        retries: attempts after the first; attempts: for an SDK that only tells of each attempt.
        """

        retries: int
        attempts: int

        @property
        def trace_id(self) -> str: ...
        @property
        def span_id(self) -> str: ...
        @property
        def parent_span_id(self) -> str | None: ...

    class StreamContent(Protocol):
        """Puts the content of a stream together, chunk by chunk; bounded, never raising for a chunk it cannot read."""

        def feed(self, chunk: Any) -> None: ...
        def result(self) -> bytes | None: ...

    class PriceTable(Protocol):
        """(provider, model) → Price, None for a model known to have none. Bounded; `put` is False when full."""

        def __init__(self, capacity: int = 4096) -> None: ...
        def put(self, provider: str, model: str, price: Price | None) -> bool: ...
        def cost(self, provider: str, model: str, counts: Mapping[str, int]) -> int | None:
            """Pico-USD of token counts by field name; None where the price or the cost is unknown."""

    class Batch(Protocol):
        """Spans copied out of the ring, not yet acknowledged."""

        count: int
        first_ticket: int
        next_ticket: int

        def unpriced(self) -> list[tuple[str, str]]:
            """The distinct (provider, model) whose price the table did not know when they were recorded."""

        def encode(self, prices: PriceTable, price_version: str, resource: bytes) -> bytes:
            """NDJSON of the batch; `resource` is ready JSON members without braces. Native: without the GIL."""

    class Ring(Protocol):
        """A process's ring. `fd` -1: anonymous memory. Raises OSError when it cannot be mapped."""

        shape: RingShape

        def __init__(self, fd: int, shape: RingShape, owner: RingOwner) -> None: ...
        def read(self, max_spans: int, max_bytes: int) -> Batch: ...
        def acknowledge(self, next_ticket: int) -> None: ...
        def counters(self) -> RingCounters: ...
        def heartbeat(self) -> None:
            """A sign of life in the header, by the monotonic clock: until then a call in the air had run for sure."""

        def set_resource(self, resource: bytes) -> None:
            """JSON members that recovery gives each span; more than 2,048 bytes of them are left out."""

        @property
        def has_redaction(self) -> bool:
            """In the header: whether the user's own redaction is still to be applied to what is in the ring."""

        @has_redaction.setter
        def has_redaction(self, has_redaction: bool) -> None: ...
        def set_range(self, index: int, batch_range: BatchRange | None) -> None:
            """Write one of the header's 8 ranges, or clear it. One thread: the consumer's."""

        def aborted(self) -> Batch:
            """The calls that are in the air now, as spans of status `aborted`; tickets from the head on."""

    class RecoveredRing(Protocol):
        """A dead process's ring, read from a copy of its file, which may be damaged or hostile.

        `data` is the whole file; ValueError that says why it is not the ring of a process, UnusedRing where nothing was
        ever recorded in it, OtherVersion where another fasttrace reads it. Everything is bounded by the file's size.
        `ranges` are the valid ones beyond the acknowledged ticket, by first ticket; `acknowledged` is the oldest ticket
        of the last lap where the header's is beyond the head, and `resource` is empty where the header's is no JSON, or
        has members but the texts service, environment, tenant_id, workflow_id and sdk, each once. has_redaction: its
        owner's user had a redaction of their own, which is still to be applied. Tickets are compared modulo 2^64; one
        behind what was read, or beyond the head, stands for what is nearest.
        """

        shape: RingShape
        owner: RingOwner
        resource: bytes
        ranges: list[BatchRange]
        acknowledged: int
        head: int
        has_redaction: bool

        def __init__(self, data: bytes | bytearray | memoryview) -> None: ...
        def read(self, max_spans: int, max_bytes: int, until_ticket: int | None = None) -> Batch:
            """The next committed spans below `until_ticket` (default: the head); nothing unfinished is waited for. At
            the end of what there is the batch is empty and its `next_ticket` the limit."""

        def skip(self, next_ticket: int) -> None:
            """Go on from this ticket: what is before it was settled by the owner."""

        def aborted(self) -> Batch:
            """The calls that were in the air, as spans of status `aborted` that ran until the last sign of life; those
            whose span is in the ring (also below the acknowledged ticket) are left out."""

        def counters(self) -> RecoveredCounters: ...

    class Recorder(Protocol):
        """The recording path's anchor: which ring, which prices, whether recording is on.

        `start` is called by the first span of a process (and of each fork child): it must set `ring` and `wake_fd`,
        or leave `ring` None to drop and count. It never raises.
        """

        ring: Ring | None
        prices: PriceTable
        price_version: str
        active: bool
        wake_fd: int
        dropped_unstarted: int
        passed_streams: int
        capture_input: bool
        capture_output: bool
        content_max_bytes: int

        def __init__(self, start: Callable[[], None]) -> None: ...
        def reset_counts(self) -> None:
            """Start counting anew, as a fork child does."""

        def record(
            self, context: SpanContext, start_unix_ns: int, duration_ns: int, fields: Mapping[str, Value]
        ) -> bool:
            """One finished span, from Python: fields by wire name; codes as their strings, durations in ns, cost in
            pico-USD, text as str, JSON fields as bytes of ready JSON, lists as sequences of str."""

        def enter(self, context: SpanContext, start_unix_ns: int, start_ns: int, kind: str, name: str) -> int:
            """A span made by hand is in the air: its place in the in-flight table, for `leave`; -1 without one."""

        def leave(self, place: int) -> None:
            """It was recorded, or never will be. A place of another ring or process is left alone."""

    # Inside Core these names are its own attributes.
    AnyRing = Ring
    AnyRecoveredRing = RecoveredRing
    AnyRecorder = Recorder
    AnyPriceTable = PriceTable

    class Core(Protocol):
        """What `_native` and `_pure` both export."""

        BACKEND: str
        Ring: type[AnyRing]
        RecoveredRing: type[AnyRecoveredRing]
        Recorder: type[AnyRecorder]
        PriceTable: type[AnyPriceTable]

        def new_context(self, parent: SpanContext | None) -> SpanContext: ...
        def method(self, original: Callable[..., Any], spec: CallSpec | Router, recorder: AnyRecorder) -> Any: ...
        def switch(self, method: Any, is_on: bool) -> None:
            """Turn the recording of one method on or off; off, it is a plain call."""

        def end_streams(self, recorder: AnyRecorder) -> int:
            """Record every stream that is still open, as left before its end; how many there were."""

        def clock_unix_ns(self) -> int: ...
        def clock_monotonic_ns(self) -> int: ...
        def region_bytes(self, shape: RingShape) -> int:
            """Bytes a ring file of this shape needs; raises ValueError for a shape that is not valid."""

        def redact(self, text: str) -> tuple[str, int, int]:
            """`text` without its secrets (the very object where it has none), and where in `text` the last of them
            starts and ends, in characters."""
