"""What of the C core the extension uses: the contract between csrc/ and Cython."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t


cdef extern from "fasttrace/region.h" nogil:
    ctypedef struct ft_header:
        uint64_t strtab_bytes, inflight_count, slot_count, arena_bytes, first_ticket
        unsigned char boot_id[16]
        unsigned char writer_id[16]
        uint64_t pid, process_start
        int64_t created_unix_ns
    ctypedef struct ft_region_shape:
        uint64_t slot_count, arena_bytes, strtab_bytes, inflight_count, first_ticket
    ctypedef struct ft_region_owner:
        unsigned char writer_id[16]
        unsigned char boot_id[16]
        uint64_t pid, process_start
        int64_t created_unix_ns
    uint64_t ft_region_bytes(const ft_region_shape *shape)
    ft_header *ft_region_create(int fd, const ft_region_shape *shape, const ft_region_owner *owner)
    ctypedef enum ft_range_state:
        FT_RANGE_OPEN, FT_RANGE_SETTLED
    enum: FT_RANGES
    void ft_region_beat(ft_header *region, int64_t now_ns)
    void ft_region_set_resource(ft_header *region, const char *members, size_t length)
    void ft_region_set_range(ft_header *region, unsigned index, ft_range_state state, uint64_t first_ticket,
                             uint64_t next_ticket, uint64_t span_count)
    void ft_region_clear_range(ft_header *region, unsigned index)

cdef extern from "fasttrace/span.h" nogil:
    enum: FT_FLAG_UNPRICED, FT_RECORD_COUNTS
    ctypedef enum ft_field:
        FT_PROVIDER, FT_MODEL_ID, FT_REQUEST_MODEL, FT_INPUT_TOKENS
    ctypedef struct ft_record:
        uint64_t present
        uint64_t *counts
        uint16_t flags
    const char **ft_field_name

cdef extern from "fasttrace/ring.h" nogil:
    ctypedef struct ft_ring:
        ft_header *header
    ctypedef struct ft_batch:
        ft_record *records
        size_t count, capacity, content_capacity
        uint64_t first_ticket, next_ticket
    ctypedef struct ft_reader_counters:
        uint64_t delivered, lost, pending, content_lost, skipped, torn
    ctypedef struct ft_reader:
        ft_reader_counters counters
    bint ft_ring_init(ft_ring *ring, ft_header *region)
    bint ft_ring_own(ft_ring *ring)
    void ft_batch_clear(ft_batch *batch)
    void ft_reader_init(ft_reader *reader, ft_ring *ring)
    bint ft_reader_read(ft_reader *reader, ft_batch *batch, size_t max_spans, size_t max_bytes, int64_t now_ns)
    void ft_reader_acknowledge(ft_reader *reader, uint64_t next_ticket)
    bint ft_inflight_read(const ft_header *region, ft_batch *batch, int64_t until_ns)

    bint ft_reader_read_dead(ft_reader *reader, ft_batch *batch, size_t max_spans, size_t max_bytes, uint64_t limit_ticket)
    void ft_reader_skip(ft_reader *reader, uint64_t next_ticket)

cdef extern from "fasttrace/recovered.h" nogil:
    ctypedef struct ft_recovered:
        ft_ring ring
        ft_reader reader
        uint64_t acknowledged, head
    ctypedef enum ft_recovered_result:
        FT_RECOVERED_OPEN, FT_RECOVERED_INVALID, FT_RECOVERED_NO_MEMORY
    ctypedef struct ft_recovered_range:
        uint64_t first_ticket, next_ticket, span_count
        bint is_settled
    ft_recovered_result ft_recovered_open(ft_recovered *recovered, const void *data, size_t size)
    void ft_recovered_close(ft_recovered *recovered)
    size_t ft_recovered_ranges(const ft_recovered *recovered, ft_recovered_range *ranges)
    size_t ft_recovered_resource(const ft_recovered *recovered, const char **members)
    bint ft_recovered_aborted(const ft_recovered *recovered, ft_batch *batch)

cdef extern from "fasttrace/price.h" nogil:
    ctypedef struct ft_price:
        uint64_t *pico_usd
        uint64_t input_limit
    ctypedef struct ft_price_table:
        pass
    ctypedef enum ft_price_answer:
        FT_PRICE_UNKNOWN, FT_PRICE_NONE, FT_PRICE_FOUND
    ft_price_table *ft_price_table_new(uint32_t capacity)
    void ft_price_table_free(ft_price_table *table)
    bint ft_price_table_put(ft_price_table *table, const char *provider, size_t provider_length, const char *model,
                            size_t model_length, const ft_price *price)
    ft_price_answer ft_price_table_find(const ft_price_table *table, const char *provider, size_t provider_length,
                                        const char *model, size_t model_length, ft_price *price)
    bint ft_price_cost(const ft_price *price, const ft_record *record, uint64_t *pico_usd)

cdef extern from "fasttrace/ndjson.h" nogil:
    ctypedef struct ft_buf:
        char *data
        size_t length, capacity
    void ft_buf_free(ft_buf *buf)
    void ft_batch_price(ft_batch *batch, ft_ring *ring, const ft_price_table *prices, const char *version, size_t length)
    bint ft_batch_text(const ft_batch *batch, const ft_header *region, size_t i, ft_field field, const char **text,
                       size_t *length)
    bint ft_ndjson_write(ft_buf *buf, const ft_batch *batch, const ft_header *region, const char *resource, size_t length)

cdef extern from "fasttrace/clock.h" nogil:
    int64_t ft_clock_monotonic_ns()
    int64_t ft_clock_unix_ns()

cdef extern from "counters.h" nogil:
    ctypedef enum ft_drop:
        FT_DROP_BUSY, FT_DROP_CONTENT_TOO_LARGE, FT_DROP_INFLIGHT_FULL
    uint64_t ft_ring_recorded(const ft_ring *ring)
    uint64_t ft_ring_acknowledged(const ft_ring *ring)
    uint64_t ft_ring_dropped(const ft_ring *ring, ft_drop reason)

cdef extern from "context.h":
    ctypedef struct ft_context:
        pass

cdef extern from "recorder.h":
    ctypedef struct ft_recorder:
        void *start
    void ft_recorder_set_ring(ft_recorder *recorder, ft_ring *ring)
    void ft_recorder_set_prices(ft_recorder *recorder, ft_price_table *prices)
    void ft_recorder_set_active(ft_recorder *recorder, bint active)
    bint ft_recorder_is_active(ft_recorder *recorder)
    void ft_recorder_set_wake_fd(ft_recorder *recorder, int fd)
    int ft_recorder_wake_fd(ft_recorder *recorder)
    uint64_t ft_recorder_unstarted(ft_recorder *recorder)
    uint64_t ft_recorder_passed_streams(ft_recorder *recorder)
    void ft_recorder_capture_input(ft_recorder *recorder, bint is_on)
    bint ft_recorder_captures_input(ft_recorder *recorder)
    void ft_recorder_capture_output(ft_recorder *recorder, bint is_on)
    bint ft_recorder_captures_output(ft_recorder *recorder)
    void ft_recorder_set_content_max(ft_recorder *recorder, uint32_t size)
    uint32_t ft_recorder_content_max(ft_recorder *recorder)
    void ft_recorder_reset_counts(ft_recorder *recorder)
    bint ft_recorder_set_price_version(ft_recorder *recorder, const char *version, size_t length)
    bint ft_recorder_record(ft_recorder *recorder, const ft_context *context, int64_t start_unix_ns,
                            uint64_t duration_ns, object fields) except? False
    int64_t ft_recorder_enter(ft_recorder *recorder, const ft_context *context, int64_t start_unix_ns, int64_t start_ns,
                              object kind, object name) except? -1
    void ft_recorder_leave(ft_recorder *recorder, int64_t place)

cdef extern from "types.h":
    bint ft_types_ready(object current, object clean, object render_param, object report) except False
    object ft_method_new(object original, object spec, object owner, ft_recorder *recorder)
    Py_ssize_t ft_streams_end(ft_recorder *recorder) except? -1
    bint ft_method_switch(object method, bint is_on) except False
    object ft_new_context(object parent)
    object ft_span_context_type()
    bint ft_is_context(object value)
