# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
"""The native core: thin classes over csrc/. The contract is core/_api.py; the theory is in csrc/README.md.

The recording path is C alone (csrc/python/). What stands here runs on the exporter thread or once per process: rings,
batches and prices as Python objects, with the copying and the encoding done without the GIL.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.errno cimport errno
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import os

from fasttrace.core import _api, _report, _text

BACKEND = "native"

ft_redact_init()
ft_types_ready(_api.CURRENT, _text.clean, _text.redacted, _text.render_param, _report.report)
SpanContext = ft_span_context_type()


cdef ft_region_shape region_shape(shape):
    cdef ft_region_shape native
    native.slot_count, native.arena_bytes = shape.slots, shape.arena_bytes
    native.strtab_bytes, native.inflight_count = shape.strtab_bytes, shape.inflight
    native.first_ticket = shape.first_ticket
    return native


def region_bytes(shape):
    """Bytes a ring file of this shape needs; ValueError for a shape that is not valid."""
    cdef ft_region_shape native = region_shape(shape)
    cdef uint64_t size = ft_region_bytes(&native)
    if size == 0:
        raise ValueError(f"not a valid ring: {shape}")
    return size


def clock_unix_ns():
    """Wall clock, nanoseconds since the epoch, to the microsecond."""
    return ft_clock_unix_ns()


def clock_monotonic_ns():
    """Monotonic clock, nanoseconds from an arbitrary start."""
    return ft_clock_monotonic_ns()


def new_context(parent):
    """A SpanContext: a child of `parent`, or a root for None."""
    return ft_new_context(parent)


def method(original, spec, Recorder recorder not None):
    """The callable that stands for `original` and records every call of it; `spec` is a CallSpec or a Router."""
    return ft_method_new(original, spec, recorder, &recorder.native)


def end_streams(Recorder recorder not None):
    """Record every stream of it that is still open, as left before its end; how many there were."""
    return ft_streams_end(&recorder.native)


def switch(method, bint is_on):
    """Turn the recording of one method on or off; off, it is a plain call."""
    ft_method_switch(method, is_on)


def redact(str text not None):
    """`text` without its secrets (the very object where it has none), and where in `text` the last of them is, its
    beginning included, in characters."""
    cdef Py_ssize_t length = PyUnicode_GET_LENGTH(text), shown = 0
    cdef int width = PyUnicode_KIND(text)
    cdef const void *characters = PyUnicode_DATA(text)
    cdef ft_secret found
    if not ft_redact_next(characters, width, length, 0, &found):
        return text, 0, 0
    pieces = []
    while True:
        pieces.append(text[shown:found.secret])
        shown = found.end
        if not ft_redact_next(characters, width, length, shown, &found):
            break
    pieces.append(text[shown:])
    return _text.REDACTED.join(pieces), found.start, found.end


# Of the last batch's memory, for the next one: what is fresh from the system costs the exporter more than the work.
cdef size_t KEPT_BYTES = 8 << 20


@cython.internal
cdef class Region:
    """What a batch is read from: the ring, and memory for the next batch."""

    cdef ft_ring *native
    cdef ft_batch spare_batch  # memory that no batch is using
    cdef ft_buf spare_text

    cdef void take_spare(self, ft_batch *batch, ft_buf *text) noexcept:
        with cython.critical_section(self):
            if batch != NULL:
                batch[0] = self.spare_batch
                memset(&self.spare_batch, 0, sizeof(ft_batch))
            if text != NULL:
                text[0] = self.spare_text
                memset(&self.spare_text, 0, sizeof(ft_buf))

    cdef void give_spare(self, ft_batch *batch, ft_buf *text) noexcept:
        """Their memory is for the next batch, or freed where that has some already, or it is more than usual."""
        with cython.critical_section(self):
            if batch != NULL and self.spare_batch.records == NULL and (
                    batch.capacity * sizeof(ft_record) + batch.content_capacity <= KEPT_BYTES):
                self.spare_batch = batch[0]
                memset(batch, 0, sizeof(ft_batch))
            if text != NULL and self.spare_text.data == NULL and text.capacity <= KEPT_BYTES:
                self.spare_text = text[0]
                memset(text, 0, sizeof(ft_buf))
        if batch != NULL:
            ft_batch_clear(batch)
        if text != NULL:
            ft_buf_free(text)

    def __dealloc__(self):
        ft_batch_clear(&self.spare_batch)
        ft_buf_free(&self.spare_text)


@cython.final
cdef class Ring(Region):
    """A process's ring over a file descriptor, or over anonymous memory for `fd` -1. Never unmapped."""

    cdef ft_reader reader
    cdef ft_reader_counters seen  # the reader's, as of its last read: for threads that ask meanwhile
    cdef readonly object shape

    def __cinit__(self, int fd, shape, owner):
        cdef ft_region_shape sizes = region_shape(shape)
        cdef ft_region_owner identity
        memcpy(identity.writer_id, <const char *><bytes>owner.writer_id, 16)
        memcpy(identity.boot_id, <const char *><bytes>owner.boot_id, 16)
        identity.pid, identity.process_start = owner.pid, owner.process_start
        identity.created_unix_ns = owner.created_unix_ns
        cdef ft_header *header
        with nogil:
            header = ft_region_create(fd, &sizes, &identity)
        if header == NULL:
            raise OSError(errno, os.strerror(errno))
        # Freed by nobody: a daemon thread may push until the process is gone.
        self.native = <ft_ring *>calloc(1, sizeof(ft_ring))
        if self.native == NULL or not ft_ring_init(self.native, header) or not ft_ring_own(self.native):
            raise MemoryError("ring")
        ft_reader_init(&self.reader, self.native)
        self.shape = shape

    def read(self, size_t max_spans, size_t max_bytes):
        """The next committed spans, copied out; at most `max_spans`, about `max_bytes` of content."""
        cdef Batch batch = Batch.__new__(Batch, self)
        cdef bint is_read
        self.take_spare(&batch.native, NULL)
        with nogil:
            is_read = ft_reader_read(&self.reader, &batch.native, max_spans, max_bytes, ft_clock_monotonic_ns())
        with cython.critical_section(self):
            self.seen = self.reader.counters
        if not is_read:
            raise MemoryError("batch")
        return batch

    def acknowledge(self, uint64_t next_ticket):
        """Every ticket below `next_ticket` is sent or spooled, but those that are pending: whoever recovers the file
        starts there, or at the oldest of them."""
        ft_reader_acknowledge(&self.reader, next_ticket)

    def counters(self):
        """Where every ticket stands: a RingCounters."""
        cdef ft_reader_counters read
        with cython.critical_section(self):
            read = self.seen
        return _api.RingCounters(
            ft_ring_recorded(self.native), ft_ring_acknowledged(self.native), read.delivered, read.lost,
            ft_ring_dropped(self.native, FT_DROP_BUSY), read.pending, read.content_lost,
            ft_ring_dropped(self.native, FT_DROP_CONTENT_TOO_LARGE), ft_ring_dropped(self.native, FT_DROP_INFLIGHT_FULL))

    def heartbeat(self):
        """A sign of life in the header: until then a call in the air had run for sure."""
        ft_region_beat(self.native.header, ft_clock_monotonic_ns())

    def set_resource(self, bytes resource not None):
        """JSON members that recovery gives each span; more than 2,048 bytes of them are left out."""
        ft_region_set_resource(self.native.header, resource, len(resource))

    @property
    def has_redaction(self):
        """Whether the user's own redaction is still to be applied to what is in here."""
        return ft_region_has_redaction(self.native.header)

    @has_redaction.setter
    def has_redaction(self, bint has_redaction):
        ft_region_set_redaction(self.native.header, has_redaction)

    def set_range(self, uint64_t index, batch_range):
        """Write one of the header's ranges, or clear it for None. One thread: the consumer's."""
        cdef uint64_t first_ticket, next_ticket, span_count
        cdef ft_range_state state
        if index >= FT_RANGES:
            raise IndexError(f"a ring has {FT_RANGES} ranges, none of number {index}")
        if batch_range is None:
            ft_region_clear_range(self.native.header, <unsigned>index)
            return
        first_ticket, next_ticket, span_count = batch_range.first_ticket, batch_range.next_ticket, batch_range.span_count
        state = FT_RANGE_SETTLED if batch_range.is_settled else FT_RANGE_OPEN
        ft_region_set_range(self.native.header, <unsigned>index, state, first_ticket, next_ticket, span_count)

    def aborted(self):
        """The calls that are in the air now, as spans of status `aborted`; tickets from the head on."""
        cdef Batch batch = Batch.__new__(Batch, self)
        cdef bint is_read
        with nogil:
            is_read = ft_inflight_read(self.native.header, &batch.native, ft_clock_monotonic_ns())
        if not is_read:
            raise MemoryError("batch")
        return batch


@cython.final
cdef class RecoveredRing(Region):
    """A dead process's ring, read from a private copy of its file, which may be damaged or hostile.

    ValueError that says why the file is none, UnusedRing where nothing was ever recorded in it.
    """

    cdef ft_recovered recovered
    cdef uint64_t aborted_count
    cdef readonly object shape, owner
    cdef readonly bytes resource
    cdef readonly list ranges

    def __cinit__(self, data):
        cdef Py_buffer file
        cdef ft_recovered_result result
        PyObject_GetBuffer(data, &file, PyBUF_SIMPLE)
        with nogil:
            result = ft_recovered_open(&self.recovered, file.buf, <size_t>file.len)
        PyBuffer_Release(&file)
        if result == FT_RECOVERED_INVALID:
            from fasttrace.core._ring_file import fault_of
            raise fault_of(data) or ValueError("not a ring: its header contradicts itself")
        if result == FT_RECOVERED_NO_MEMORY:
            raise MemoryError("recovered ring")
        self.native = &self.recovered.ring
        self._read_header()

    cdef _read_header(self):
        cdef const ft_header *header = self.native.header
        cdef ft_recovered_range ranges[8]
        cdef const char *members = NULL
        cdef size_t i, length = ft_recovered_resource(&self.recovered, &members)
        self.resource = PyBytes_FromStringAndSize(members, length)
        if length:
            from fasttrace.core._ring_file import sound_resource
            self.resource = sound_resource(self.resource)
        self.shape = _api.RingShape(
            header.slot_count, header.arena_bytes, header.strtab_bytes, header.inflight_count, header.first_ticket)
        self.owner = _api.RingOwner(
            PyBytes_FromStringAndSize(<const char *>header.writer_id, 16),
            PyBytes_FromStringAndSize(<const char *>header.boot_id, 16),
            header.pid, header.process_start, header.created_unix_ns)
        self.ranges = []
        for i in range(ft_recovered_ranges(&self.recovered, ranges)):
            self.ranges.append(_api.BatchRange(
                ranges[i].first_ticket, ranges[i].next_ticket, ranges[i].span_count, bool(ranges[i].is_settled)))

    def __dealloc__(self):
        ft_recovered_close(&self.recovered)

    @property
    def has_redaction(self):
        """Whether its owner's user had a redaction that is still to be applied."""
        return ft_region_has_redaction(self.native.header)

    @property
    def acknowledged(self):
        return self.recovered.acknowledged

    @property
    def head(self):
        return self.recovered.head

    def read(self, size_t max_spans, size_t max_bytes, until_ticket=None):
        """The next whole spans below `until_ticket`, else the head; nothing unfinished is waited for."""
        cdef Batch batch = Batch.__new__(Batch, self)
        cdef uint64_t limit = self.recovered.head if until_ticket is None else until_ticket
        cdef bint is_read
        self.take_spare(&batch.native, NULL)
        with nogil:
            is_read = ft_reader_read_dead(&self.recovered.reader, &batch.native, max_spans, max_bytes, limit)
        if not is_read:
            raise MemoryError("batch")
        return batch

    def skip(self, uint64_t next_ticket):
        """Go on from this ticket: what is before it was settled by the owner."""
        ft_reader_skip(&self.recovered.reader, next_ticket)

    def aborted(self):
        """The calls that were in the air, as spans of status `aborted`; tickets from the head on."""
        cdef Batch batch = Batch.__new__(Batch, self)
        cdef bint is_read
        with nogil:
            is_read = ft_recovered_aborted(&self.recovered, &batch.native)
        if not is_read:
            raise MemoryError("batch")
        self.aborted_count = batch.native.count
        return batch

    def counters(self):
        """Where the tickets from `acknowledged` on stand: a RecoveredCounters."""
        cdef ft_reader_counters read = self.recovered.reader.counters
        return _api.RecoveredCounters(
            read.delivered, read.skipped, read.lost, read.torn, self.aborted_count, read.content_lost)


@cython.final
cdef class Batch:
    """Spans copied out of the ring, not yet acknowledged."""

    cdef ft_batch native
    cdef Region ring

    def __cinit__(self, Region ring not None):
        self.ring = ring

    def __dealloc__(self):
        if self.ring is None:  # the collector was here
            ft_batch_clear(&self.native)
        else:
            self.ring.give_spare(&self.native, NULL)

    @property
    def count(self):
        return self.native.count

    @property
    def first_ticket(self):
        return self.native.first_ticket

    @property
    def next_ticket(self):
        return self.native.next_ticket

    cdef str text_of(self, size_t i, ft_field field):
        cdef const char *text = NULL
        cdef size_t length = 0
        if not ft_batch_text(&self.native, self.ring.native.header, i, field, &text, &length):
            return ""
        return text[:length].decode("utf-8", "replace")

    def unpriced(self):
        """The distinct (provider, model) whose price the table did not know when they were recorded."""
        cdef size_t i
        found = {}
        for i in range(self.native.count):
            if not self.native.records[i].flags & FT_FLAG_UNPRICED:
                continue
            provider = self.text_of(i, FT_PROVIDER)
            for model in (self.text_of(i, FT_MODEL_ID), self.text_of(i, FT_REQUEST_MODEL)):
                if model:
                    found[provider, model] = None
        return list(found)

    def encode(self, PriceTable prices not None, str price_version, bytes resource):
        """NDJSON of the batch, written without the GIL; `resource` is ready JSON members without braces."""
        cdef bytes version = price_version.encode()
        cdef const char *version_text = version
        cdef size_t version_length = len(version)
        cdef const char *members = resource
        cdef size_t members_length = len(resource)
        cdef ft_buf buf
        cdef bint is_written
        self.ring.take_spare(NULL, &buf)
        buf.length = 0
        with nogil:
            ft_batch_price(&self.native, self.ring.native, prices.native, version_text, version_length)
            is_written = ft_ndjson_write(&buf, &self.native, self.ring.native.header, members, members_length)
        try:
            if not is_written:
                raise MemoryError("NDJSON")
            return PyBytes_FromStringAndSize(buf.data, buf.length)
        finally:
            self.ring.give_spare(NULL, &buf)


@cython.final
cdef class PriceTable:
    """(provider, model) to Price, None for a model known to have none. Bounded; `put` is False when full."""

    cdef ft_price_table *native

    def __cinit__(self, uint32_t capacity=4096):
        self.native = ft_price_table_new(capacity)
        if self.native == NULL:
            raise MemoryError("price table")

    def __dealloc__(self):
        if self.native != NULL:
            ft_price_table_free(self.native)

    def put(self, str provider, str model, price):
        """Add or replace. One thread at a time."""
        cdef bytes provider_text = provider.encode("utf-8", "replace"), model_text = model.encode("utf-8", "replace")
        cdef ft_price native
        cdef size_t part
        if price is None:
            return ft_price_table_put(self.native, provider_text, len(provider_text), model_text, len(model_text), NULL)
        *parts, native.input_limit = price
        for part, amount in enumerate(parts):
            native.pico_usd[part] = amount
        return ft_price_table_put(self.native, provider_text, len(provider_text), model_text, len(model_text), &native)

    def cost(self, str provider, str model, counts):
        """Pico-USD of token counts by field name; None where the price or the cost is unknown."""
        cdef bytes provider_text = provider.encode("utf-8", "replace"), model_text = model.encode("utf-8", "replace")
        cdef ft_price price
        cdef ft_record record
        cdef uint64_t pico_usd = 0
        cdef int part
        if ft_price_table_find(self.native, provider_text, len(provider_text), model_text, len(model_text),
                               &price) != FT_PRICE_FOUND:
            return None
        memset(&record, 0, sizeof(record))
        for part in range(FT_RECORD_COUNTS):
            amount = counts.get(ft_field_name[FT_INPUT_TOKENS + part].decode())
            if amount is not None:
                record.counts[part] = amount
                record.present |= <uint64_t>1 << (FT_INPUT_TOKENS + part)
        return pico_usd if ft_price_cost(&price, &record, &pico_usd) else None


@cython.final
cdef class Recorder:
    """The recording path's anchor: which ring, which prices, whether recording is on."""

    cdef ft_recorder native
    cdef object _start, _ring, _prices
    cdef str _price_version

    def __cinit__(self, start):
        self._start = start
        self.native.start = <void *>start
        self._price_version = ""
        ft_recorder_set_content_max(&self.native, 64 << 10)
        ft_recorder_set_wake_fd(&self.native, -1)
        ft_recorder_set_active(&self.native, True)
        self.prices = PriceTable()

    @property
    def ring(self):
        return self._ring

    @ring.setter
    def ring(self, ring):
        cdef Ring known = ring
        with cython.critical_section(self):
            ft_recorder_set_ring(&self.native, NULL if known is None else known.native)
            self._ring = ring

    @property
    def prices(self):
        return self._prices

    @prices.setter
    def prices(self, PriceTable prices not None):
        # A call may still be reading the table it replaces: that one is kept for good.
        with cython.critical_section(self):
            if self._prices is not None:
                Py_INCREF(self._prices)
            self._prices = prices
            ft_recorder_set_prices(&self.native, prices.native)

    @property
    def price_version(self):
        return self._price_version

    @price_version.setter
    def price_version(self, str version):
        cdef bytes text = version.encode()
        if not ft_recorder_set_price_version(&self.native, text, len(text)):
            raise ValueError(f"price version longer than 128 bytes: {version!r}")
        self._price_version = version

    @property
    def active(self):
        return ft_recorder_is_active(&self.native)

    @active.setter
    def active(self, bint active):
        ft_recorder_set_active(&self.native, active)

    @property
    def wake_fd(self):
        return ft_recorder_wake_fd(&self.native)

    @wake_fd.setter
    def wake_fd(self, int fd):
        ft_recorder_set_wake_fd(&self.native, fd)

    @property
    def dropped_unstarted(self):
        return ft_recorder_unstarted(&self.native)

    @property
    def passed_streams(self):
        return ft_recorder_passed_streams(&self.native)

    @property
    def capture_input(self):
        return ft_recorder_captures_input(&self.native)

    @capture_input.setter
    def capture_input(self, bint is_on):
        ft_recorder_capture_input(&self.native, is_on)

    @property
    def capture_output(self):
        return ft_recorder_captures_output(&self.native)

    @capture_output.setter
    def capture_output(self, bint is_on):
        ft_recorder_capture_output(&self.native, is_on)

    @property
    def content_max_bytes(self):
        return ft_recorder_content_max(&self.native)

    @content_max_bytes.setter
    def content_max_bytes(self, uint32_t size):
        ft_recorder_set_content_max(&self.native, size)

    def reset_counts(self):
        """Start counting anew, as a fork child does."""
        ft_recorder_reset_counts(&self.native)

    def record(self, context, int64_t start_unix_ns, uint64_t duration_ns, fields not None):
        """One finished span from Python; fields by wire name (see core/_api.py). False when it was dropped."""
        if not ft_is_context(context):
            raise TypeError("record() takes a SpanContext of the native core")
        members = fields if isinstance(fields, dict) else dict(fields)
        return ft_recorder_record(&self.native, <const ft_context *><void *>context, start_unix_ns, duration_ns, members)

    def enter(self, context, int64_t start_unix_ns, int64_t start_ns, kind, name):
        """A span made by hand is in the air: its place in the in-flight table, for `leave`; -1 without one."""
        if not ft_is_context(context):
            raise TypeError("enter() takes a SpanContext of the native core")
        return ft_recorder_enter(&self.native, <const ft_context *><void *>context, start_unix_ns, start_ns, kind, name)

    def leave(self, int64_t place):
        """It was recorded, or never will be. A place of another ring or process is left alone."""
        ft_recorder_leave(&self.native, place)
