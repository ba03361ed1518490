/* How a call ends: its reply or its exception into the span, and the span into the ring. */
#include <stddef.h>
#include <string.h>

#include "call.h"
#include "fasttrace/clock.h"
#include "stream.h"

/* ---- the steps of an ending ---- */

void ft_call_stop_clock(ft_call *call) {
    call->span.record.duration_ns = (uint64_t)(ft_clock_monotonic_ns() - call->started_ns);
}

/* A coroutine may be closed in another context, or inside another span, which are left as they are. */
void ft_call_leave(ft_call *call) {
    PyObject *current = NULL;
    if (call->token == NULL) return;
    bool is_current = PyContextVar_Get(ft_python_side.current, NULL, &current) == 0 && current == (PyObject *)call->context;
    if (is_current && PyContextVar_Reset(ft_python_side.current, call->token) < 0) PyErr_Clear();
    Py_XDECREF(current);
    Py_CLEAR(call->token);
}

static void set_retries(ft_call *call) {
    unsigned attempts = call->context->attempts, retries = call->context->retries;
    if (retries == 0 && attempts > 1) retries = attempts - 1;
    if (retries == 0) return;
    call->span.record.retries = (uint16_t)(retries > UINT16_MAX ? UINT16_MAX : retries);
    ft_span_mark(&call->span, FT_RETRIES);
}

void ft_call_finish(ft_call *call) {
    set_retries(call);
    ft_recorder_finish(call->target->recorder, call->ring, &call->span);
    ft_call_give_place_back(call);
}

bool ft_call_read_reply(ft_call *call, PyObject *reply) {
    const ft_route *route = call->route;
    ft_span *span = &call->span;
    if (!ft_nodes_read(route->plan.reply, route->plan.reply_count, reply, call->is_foreign, call->ring, span)) return false;
    if (ft_record_has(&span->record, FT_INPUT_TOKENS) || ft_record_has(&span->record, FT_OUTPUT_TOKENS))
        span->record.usage_source = FT_USAGE_PROVIDER;
    if (route->content_output == NULL || !ft_recorder_captures_output(call->target->recorder)) return true;
    return ft_call_capture(call, FT_OUTPUT, route->content_output, reply);
}

bool ft_call_read_failure(ft_call *call, PyObject *exception) {
    call->span.record.status = FT_STATUS_ERROR;
    PyObject *answer = PyObject_CallOneArg(call->target->failure, exception);
    PyObject *fields = answer == NULL || PyDict_Check(answer) ? Py_XNewRef(answer) : PyDict_New();
    if (fields != NULL && (fields == answer || PyDict_Merge(fields, answer, 1) == 0))
        ft_set_fields(call->ring, &call->span, fields);
    Py_XDECREF(fields);
    Py_XDECREF(answer);
    return ft_swallow();
}

void ft_call_move(ft_call *to, ft_call *from) {
    size_t inline_content = offsetof(ft_call, span) + offsetof(ft_span, inline_content);
    memcpy(to, from, inline_content);
    if (from->span.content == from->span.inline_content) {
        to->span.content = to->span.inline_content;
        memcpy(to->span.inline_content, from->span.inline_content, from->span.content_length);
    }
    ft_span_init(&from->span);
    from->model = from->token = NULL;
    from->context = NULL;
    from->place = -1;
}

/* ---- the endings ---- */

typedef enum { UNWATCHED, WATCHED, INTERRUPTED } watching;

/* A raw reply is told by its type; of each kind of call the last one that is not raw is remembered. */
static watching watch_raw(ft_call *call, PyObject *reply) {
    _Atomic(PyTypeObject *) *plain = &call->route->plain_types[call->is_streamed];
    if (atomic_load_explicit(plain, memory_order_relaxed) == Py_TYPE(reply)) return UNWATCHED;
    if (ft_raw_watch(call, reply)) return WATCHED;
    if (PyErr_Occurred()) return INTERRUPTED;
    atomic_store_explicit(plain, Py_TYPE(reply), memory_order_relaxed);
    return UNWATCHED;
}

/* `reply` may be replaced by what watches it. */
static watching watch_stream(ft_call *call, PyObject **reply) {
    PyObject *given = call->route->plan.stream == NULL ? NULL : ft_stream_watch(call, *reply);
    if (given != NULL) {
        *reply = given;
        return WATCHED;
    }
    if (PyErr_Occurred()) return INTERRUPTED;
    atomic_fetch_add_explicit(&call->target->recorder->passed_streams, 1, memory_order_relaxed);
    return UNWATCHED;
}

static watching watch(ft_call *call, PyObject **reply) {
    watching answer = call->target->router == NULL ? UNWATCHED : watch_raw(call, *reply);
    return answer == UNWATCHED && call->is_streamed ? watch_stream(call, reply) : answer;
}

PyObject *ft_call_succeed(ft_call *call, PyObject *reply) {
    ft_call_stop_clock(call);
    ft_call_leave(call);
    watching answer = watch(call, &reply);
    if (answer == WATCHED) return reply;
    bool is_ours = call->context != NULL; /* an interrupt may have come after the call was moved away */
    call->span.record.status = FT_STATUS_SUCCESS;
    bool fine = answer == UNWATCHED && ft_call_read_reply(call, reply);
    if (is_ours) ft_call_finish(call);
    if (!fine) Py_CLEAR(reply);
    return reply;
}

void ft_call_fail(ft_call *call) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) PyException_SetTraceback(value, traceback);
    ft_call_stop_clock(call);
    ft_call_leave(call);
    if (ft_call_read_failure(call, value)) {
        ft_call_finish(call);
        PyErr_Restore(type, value, traceback);
        return;
    }
    PyObject *interrupt_type, *interrupt, *interrupt_traceback;
    PyErr_Fetch(&interrupt_type, &interrupt, &interrupt_traceback);
    PyErr_NormalizeException(&interrupt_type, &interrupt, &interrupt_traceback);
    ft_call_finish(call);
    PyException_SetContext(interrupt, value); /* takes the reference */
    Py_DECREF(type);
    Py_XDECREF(traceback);
    PyErr_Restore(interrupt_type, interrupt, interrupt_traceback);
}

void ft_call_cancel(ft_call *call) {
    ft_call_stop_clock(call);
    ft_call_leave(call);
    call->span.record.status = FT_STATUS_CANCELLED;
    ft_call_finish(call);
}
