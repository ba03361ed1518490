/* The watch: a call whose reply ends later, after the call's frame is gone.
 *
 * Why an object of its own. The SDK's stream must die as it would die without us: at once, where dropping its last
 * reference closes the connection, or with the cycle that it makes itself. So nothing of ours points back at it:
 *
 *     reply ──► watching iterator ──► the SDK's own iterator
 *                      │
 *                      ▼
 *                    watch ◄────── closer (an attribute of the response's stream, taken out when the watch ends)
 *
 * The watch holds the call and what was read so far, of the SDK's objects none but texts and the last usage. The
 * recorder's list of open watches holds one reference to each, given back when it ends; who sees the reply end (the
 * iterator, the closer, a finaliser, the end of the process) tells the watch.
 *
 * Which ending wins: the first. A watch is in one state, and every change of it is one atomic step:
 *
 *     OPEN ──► STEPPING ──► READING ──► OPEN        the SDK's iterator runs; the chunk it gave is read
 *        └─────────┴────────────┴──► ENDED           claimed by whoever makes this step, who then pushes the span
 *                               READING ──► LEFT     to be ended by who reads, when it has read
 *
 * A close while STEPPING is the SDK's own, which closes a response that it has read: the outcome of the step decides.
 * A step while another one runs, and every step after the end, goes straight to the SDK's iterator.
 *
 * Threads: any thread may step, close or drop a stream. Reading runs anybody's code (properties, a content reader), so
 * that the GIL may change hands in it; therefore READING is a state and not a lock, and nobody ever waits. Under the
 * GIL a step is a load and a store; without it an atomic exchange. The list's lock is held for a few instructions
 * without any call. */
#ifndef FASTTRACE_PYTHON_WATCH_H
#define FASTTRACE_PYTHON_WATCH_H

#include "call.h"
#include "chunk.h"

typedef enum { FT_WATCH_OPEN, FT_WATCH_STEPPING, FT_WATCH_READING, FT_WATCH_LEFT, FT_WATCH_ENDED } ft_watch_state;

typedef enum {
    FT_ENDING_READ,   /* to its end */
    FT_ENDING_FAILED, /* by the SDK's exception */
    FT_ENDING_LEFT,   /* before its end: closed, dropped, never read */
} ft_ending;

typedef struct ft_watch {
    PyObject_HEAD
    _Atomic int state;
    bool is_linked;                   /* in the recorder's list; under its lock, as the two below */
    struct ft_watch *next, *previous;
    bool is_stream;                   /* its chunks are read */
    bool is_unrequested;              /* the request is made by the first step, with this span current */
    _Atomic bool is_unparsed;         /* a raw reply that was not parsed yet */
    _Atomic bool was_read;            /* its body, to the end */
    _Atomic bool is_held;             /* somebody may still parse it */
    _Atomic int64_t stopped_ns;       /* monotonic: when a raw reply was read or closed; 0: it ends when it ends */
    PyObject *method;                 /* keeps the call's target */
    PyObject *body, *response;        /* of a raw reply: its bytes, or a weak reference to who may have them later */
    PyObject *content;                /* what puts the output together, or NULL */
    PyObject *closer;                 /* weak reference to what sees the stream closed, or NULL */
    ft_reading reading;
    ft_call call;
} ft_watch;

extern PyTypeObject ft_watch_type;

/* One that counts as ended until it is opened. NULL with an exception set. */
ft_watch *ft_watch_new(void);
/* The call that returned goes on here; its span is not the current one any more. */
void ft_watch_take(ft_watch *watch, ft_call *call);
void ft_watch_open(ft_watch *watch);
/* Its chunks are read from here on; a content reader is made where the output is captured. False when an exception must
 * go on. */
bool ft_watch_reads_chunks(ft_watch *watch);
/* One chunk, by who has the watch in its hands. False when an exception must go on. */
bool ft_watch_read(ft_watch *watch, PyObject *chunk);

static inline bool ft_watch_moves(ft_watch *watch, int from, int to) {
#ifdef Py_GIL_DISABLED
    return atomic_compare_exchange_strong(&watch->state, &from, to);
#else
    if (atomic_load_explicit(&watch->state, memory_order_relaxed) != from) return false;
    atomic_store_explicit(&watch->state, to, memory_order_relaxed);
    return true;
#endif
}

/* The SDK's iterator is about to be stepped; false: not for us. */
static inline bool ft_watch_steps(ft_watch *watch) { return ft_watch_moves(watch, FT_WATCH_OPEN, FT_WATCH_STEPPING); }
/* The step gave a chunk. False when an exception that is set must go on in its place. */
bool ft_watch_stepped(ft_watch *watch, PyObject *chunk);
/* The step ended the stream: the exception that is set says how, none is the end of an iterator. The exception stays,
 * or an interrupt comes on top of it. */
void ft_watch_stopped(ft_watch *watch);

/* An exception that is set while `leaving` says INTERRUPTED must go on. */
typedef enum { FT_LEAVES_NOT, FT_LEAVES, FT_LEAVES_INTERRUPTED } ft_leaving;
/* Left before its end, unless it has ended; `at_any_time`: even in the middle of a step. */
ft_leaving ft_watch_leave(ft_watch *watch, bool at_any_time);
/* The same for finalisers, which can tell nobody; an exception that is set stays as it is. */
void ft_watch_drop(ft_watch *watch);

/* For who has claimed the watch: settle its span and push it. `told`: the exception of FAILED, the reply of READ where
 * that is no stream, else NULL. False when an interrupt must go on. */
bool ft_watch_end(ft_watch *watch, ft_ending ending, PyObject *told);
/* The watch was READING, and is OPEN again, or ended if somebody left meanwhile. `fine` unless an exception is set that
 * must go on; so it gives back. */
bool ft_watch_has_read(ft_watch *watch, bool fine);
bool ft_watch_ready(void);

/* ---- the iterators that watch (iterator.c, async_iterator.c), and what sees a stream closed (closer.c) ---- */

extern PyTypeObject ft_iterator_type, ft_async_iterator_type, ft_step_type, ft_closer_type;

/* A watching iterator around `inner`; NULL with an exception set. */
PyObject *ft_iterator_new(PyObject *inner, ft_watch *watch);
PyObject *ft_async_iterator_new(PyObject *inner, ft_watch *watch);
bool ft_iterator_ready(void);
bool ft_async_iterator_ready(void);

/* See `owner` closed by its own method of that name. An object that cannot be seen is left alone; false when an
 * exception must go on. */
bool ft_closer_set(PyObject *owner, PyObject *name, ft_watch *watch);
void ft_closer_take_out(ft_watch *watch);
bool ft_closer_ready(void);

/* A new reference to the object that a weak one, or a strong one, stands for; NULL without an error. */
PyObject *ft_alive(PyObject *reference);

/* The watching iterator in the place of the one that `reply` has, or in the reply's own place. A new reference to what
 * the caller gets; NULL when it is no stream that the spec knows, possibly with an exception that must go on. */
PyObject *ft_stream_attach(ft_watch *watch, const ft_target *target, const ft_stream_plan *plan, PyObject *reply);
/* See what is at the path `body` from `object` closed early. False when an exception must go on. */
bool ft_stream_see_closed(ft_watch *watch, const ft_target *target, PyObject *object, PyObject *body);

/* ---- raw replies (raw.c) ---- */

/* A raw reply is left unparsed: what there is of its body is read. Gives the ending that this makes of it, and whether
 * an exception must go on (`fine` is false). */
ft_ending ft_raw_read(ft_watch *watch, bool *fine);
/* The user parsed it. False when an exception must go on. */
bool ft_raw_read_parsed(ft_watch *watch, PyObject *parsed);
/* What core/_overheard.py tells of a raw reply's body. False when an exception must go on. */
bool ft_raw_hear(ft_watch *watch, PyObject *event, bool *wants_more);
bool ft_raw_was_read(ft_watch *watch, PyObject *body);
bool ft_raw_body_failed(ft_watch *watch, PyObject *error);
void ft_raw_dropped(ft_watch *watch);
bool ft_raw_ready(void);

#endif
