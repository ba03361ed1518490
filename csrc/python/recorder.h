/* What every instrumented call of a process shares: which ring, which prices, whether recording is on. The Cython
 * class Recorder owns one and outlives every method that points at it. The exporter thread writes `ring`, `wake_fd`
 * and the price table; calls read them. */
#ifndef FASTTRACE_PYTHON_RECORDER_H
#define FASTTRACE_PYTHON_RECORDER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "context.h"
#include "fasttrace/price.h"
#include "fasttrace/ring.h"

enum { FT_PRICE_VERSION_MAX = 128 };

typedef struct {
    _Atomic(ft_ring *) ring; /* NULL until the first span; never freed, a daemon thread may still push */
    _Atomic(ft_price_table *) prices;
    _Atomic int wake_fd;
    _Atomic bool active;
    _Atomic uint64_t unstarted;      /* spans that found no ring and could not get one */
    _Atomic uint64_t passed_streams; /* streamed calls that ended with their reply, because nobody watches it */
    _Atomic bool capture_input, capture_output;
    _Atomic uint32_t content_max_bytes; /* of either */
    struct ft_watch *streams; /* the open ones (stream.h), under the lock */
    atomic_flag streams_lock;
    PyObject *start;          /* called with no arguments by the first span of a process */
    char price_version[FT_PRICE_VERSION_MAX];
    size_t price_version_length;
    _Atomic uint64_t price_version_index; /* in the ring of the upper 48 bits (its address), the lower 16 */
} ft_recorder;

/* For Cython, which knows no atomics. */
static inline void ft_recorder_set_ring(ft_recorder *recorder, ft_ring *ring) {
    atomic_store_explicit(&recorder->ring, ring, memory_order_release);
}
static inline void ft_recorder_set_prices(ft_recorder *recorder, ft_price_table *prices) {
    atomic_store_explicit(&recorder->prices, prices, memory_order_release);
}
static inline void ft_recorder_set_active(ft_recorder *recorder, bool active) { atomic_store(&recorder->active, active); }
static inline bool ft_recorder_is_active(ft_recorder *recorder) { return atomic_load(&recorder->active); }
static inline void ft_recorder_set_wake_fd(ft_recorder *recorder, int fd) { atomic_store(&recorder->wake_fd, fd); }
static inline int ft_recorder_wake_fd(ft_recorder *recorder) { return atomic_load(&recorder->wake_fd); }
static inline uint64_t ft_recorder_unstarted(ft_recorder *recorder) { return atomic_load(&recorder->unstarted); }
static inline uint64_t ft_recorder_passed_streams(ft_recorder *recorder) { return atomic_load(&recorder->passed_streams); }
static inline void ft_recorder_capture_input(ft_recorder *recorder, bool is_on) { atomic_store(&recorder->capture_input, is_on); }
static inline bool ft_recorder_captures_input(ft_recorder *recorder) {
    return atomic_load_explicit(&recorder->capture_input, memory_order_relaxed);
}
static inline void ft_recorder_capture_output(ft_recorder *recorder, bool is_on) {
    atomic_store(&recorder->capture_output, is_on);
}
static inline bool ft_recorder_captures_output(ft_recorder *recorder) {
    return atomic_load_explicit(&recorder->capture_output, memory_order_relaxed);
}
static inline void ft_recorder_set_content_max(ft_recorder *recorder, uint32_t bytes) {
    atomic_store(&recorder->content_max_bytes, bytes);
}
static inline uint32_t ft_recorder_content_max(ft_recorder *recorder) { return atomic_load(&recorder->content_max_bytes); }
static inline void ft_recorder_reset_counts(ft_recorder *recorder) {
    atomic_store(&recorder->unstarted, 0);
    atomic_store(&recorder->passed_streams, 0);
}
bool ft_recorder_set_price_version(ft_recorder *recorder, const char *version, size_t length);

/* The ring of this process, started or restarted after a fork; NULL (counted) when there is none, or when an exception
 * that is not ours to silence (an interrupt, a worker's time limit) arrived while it was started, and is set. */
ft_ring *ft_recorder_ring(ft_recorder *recorder);
/* Settle the models, price (or flag for the exporter thread), push, wake the exporter each quarter lap. False when the
 * span was dropped: counted by the ring, or here when its ring is no longer this process's. */
bool ft_recorder_finish(ft_recorder *recorder, ft_ring *ring, ft_span *span);
/* A span made by hand is in the air: its place, with the ring's number, for ft_recorder_leave; -1 where there is none.
 * -1 with an exception that is not ours to silence. */
int64_t ft_recorder_enter(ft_recorder *recorder, const ft_context *context, int64_t start_unix_ns, int64_t start_ns,
                          PyObject *kind, PyObject *name);
/* A place of another ring, or of another process, is left alone. */
void ft_recorder_leave(ft_recorder *recorder, int64_t place);
/* One finished span from Python; `fields` is a dict by wire name. False when dropped, or with an exception that is not
 * ours to silence. */
bool ft_recorder_record(ft_recorder *recorder, const ft_context *context, int64_t start_unix_ns, uint64_t duration_ns,
                        PyObject *fields);

#endif
