/* One recorded call, from its arguments to its span. Lives on the stack of a plain call, in the awaitable of an
 * asynchronous one, in the watch of a stream (stream.h). Order: ft_call_prepare (arguments at hand), ft_call_start
 * (clocks, current span, place in the in-flight table), then exactly one of ft_call_succeed, ft_call_fail,
 * ft_call_cancel; ft_call_clear at the end in any case. */
#ifndef FASTTRACE_PYTHON_CALL_H
#define FASTTRACE_PYTHON_CALL_H

#include "context.h"
#include "entry.h"
#include "plan.h"

typedef struct {
    ft_entry entry; /* key: what names the host */
    uint16_t provider, address, port;
    bool has_port, is_foreign;
} ft_endpoint;

typedef struct {
    ft_entry entry; /* key: the requested model */
    uint16_t operation, name, request_model;
} ft_naming;

/* What of a CallSpec (core/_api.py) is the same for every call of its kind. */
typedef struct ft_route {
    ft_plan plan;
    PyObject *content_input, *content_output, *content_stream, *amend; /* NULL where the spec has none */
    _Atomic(PyTypeObject *) plain_types[2]; /* of a plain and of a streamed call: the last reply's that was not raw */
    ft_naming namings[FT_CACHED];
} ft_route;

/* How a route is found for a call (core/_api.py: Router); NULL in a target that has one route for all. */
typedef struct ft_router ft_router;

typedef struct {
    PyObject *method; /* borrowed: the object that this is part of; who outlives a call's frame keeps a reference to it */
    PyObject *original, *spec, *owner, *resolve, *failure;
    ft_recorder *recorder;
    _Atomic bool is_on; /* off: the SDK is not instrumented (any more), calls go straight through */
    bool is_async;
    descrgetfunc bind; /* NULL: the original takes its instance as the first argument, as functions do */
    ft_route *routes;
    Py_ssize_t route_count;
    ft_router *router;
    ft_endpoint endpoints[FT_CACHED];
} ft_target;

typedef struct {
    ft_target *target; /* borrowed: the method outlives its calls */
    ft_route *route;   /* of the target */
    ft_ring *ring;
    PyObject *model; /* requested model, strong, or NULL */
    ft_context *context;
    PyObject *token; /* gives the span before this one back */
    int64_t started_ns;
    int32_t place; /* in the ring's in-flight table, from the start to the end; -1: none */
    bool is_foreign, is_streamed;
    ft_span span;
} ft_call;

typedef enum { FT_CALL_RECORDED, FT_CALL_PASSED, FT_CALL_RAISED } ft_call_answer;

/* Call what the method stands for. */
PyObject *ft_target_call(const ft_target *target, PyObject *const *args, size_t nargsf, PyObject *names);

/* PASSED: this call is not recorded (off, no route, no ring): call the original. RAISED: an exception must go on. */
ft_call_answer ft_call_prepare(ft_call *call, ft_target *target, PyObject *const *args, Py_ssize_t positional,
                               PyObject *names);
bool ft_call_start(ft_call *call);
/* The end of a call whose original returned. Takes `reply` over and returns what the caller gets: that object, or what
 * watches it; NULL when an exception of others must go on. A reply that is read later has moved the call away. */
PyObject *ft_call_succeed(ft_call *call, PyObject *reply);
void ft_call_fail(ft_call *call); /* reads the exception that is set; it stays, or an interrupt comes on top of it */
void ft_call_cancel(ft_call *call);
void ft_call_clear(ft_call *call);
void ft_call_give_place_back(ft_call *call); /* a crash does not show it any more */

/* ---- the steps of an ending, for replies that end later (stream.h) ---- */

/* Move a call that was started to another place; `from` is left empty (its context is NULL) and may be cleared. */
void ft_call_move(ft_call *to, ft_call *from);
/* Become the current span, again. False with an exception set. */
bool ft_call_enter(ft_call *call);
/* The time since the start becomes the duration. */
void ft_call_stop_clock(ft_call *call);
/* Give the span before this one back, if this one is current. A call that was left already stays as it is; one whose
 * reply is watched was left before that. */
void ft_call_leave(ft_call *call);
/* What the exception tells, into the span; status error, or what it says. False when an interrupt must go on (it is
 * set). */
bool ft_call_read_failure(ft_call *call, PyObject *exception);
/* The reply's nodes into the span, usage_source, its content where that is captured. The status is set before: a reply
 * that tells an error changes it. False when an interrupt must go on. */
bool ft_call_read_reply(ft_call *call, PyObject *reply);
/* Bytes of JSON that `reader(source, limit)` gives become `field`; what it raises is reported. False when an interrupt
 * must go on. */
bool ft_call_capture(ft_call *call, ft_field field, PyObject *reader, PyObject *source);
/* Push the span, with its retries; usage_source and status are settled before. The call is not in the air any more. */
void ft_call_finish(ft_call *call);

#endif
