#include "watch.h"

#include "fasttrace/clock.h"

static PyObject *feed_name, *result_name; /* of a StreamContent */

/* ---- the recorder's list of open watches ---- */

static void lock(ft_recorder *recorder) {
    while (atomic_flag_test_and_set_explicit(&recorder->streams_lock, memory_order_acquire)) continue;
}
static void unlock(ft_recorder *recorder) { atomic_flag_clear_explicit(&recorder->streams_lock, memory_order_release); }

static void link_watch(ft_recorder *recorder, ft_watch *watch) {
    Py_INCREF(watch);
    lock(recorder);
    watch->previous = NULL;
    watch->next = recorder->streams;
    if (watch->next != NULL) watch->next->previous = watch;
    recorder->streams = watch;
    watch->is_linked = true;
    unlock(recorder);
}

/* Under the lock. */
static void take_out(ft_recorder *recorder, ft_watch *watch) {
    if (watch->previous == NULL)
        recorder->streams = watch->next;
    else
        watch->previous->next = watch->next;
    if (watch->next != NULL) watch->next->previous = watch->previous;
    watch->is_linked = false;
}

static void unlink_watch(ft_recorder *recorder, ft_watch *watch) {
    lock(recorder);
    bool was_linked = watch->is_linked;
    if (was_linked) take_out(recorder, watch);
    unlock(recorder);
    if (was_linked) Py_DECREF(watch);
}

/* The first of the list with the list's reference to it, or NULL. */
static ft_watch *pop_watch(ft_recorder *recorder) {
    lock(recorder);
    ft_watch *watch = recorder->streams;
    if (watch != NULL) take_out(recorder, watch);
    unlock(recorder);
    return watch;
}

Py_ssize_t ft_streams_end(ft_recorder *recorder) {
    Py_ssize_t count = 0;
    for (ft_watch *watch; (watch = pop_watch(recorder)) != NULL;) {
        ft_leaving leaving = ft_watch_leave(watch, true);
        Py_DECREF(watch);
        if (leaving == FT_LEAVES_INTERRUPTED) return -1;
        count += leaving == FT_LEAVES;
    }
    return count;
}

/* ---- its beginning ---- */

ft_watch *ft_watch_new(void) {
    ft_watch *watch = (ft_watch *)PyType_GenericAlloc(&ft_watch_type, 0);
    if (watch == NULL) return NULL;
    atomic_init(&watch->state, FT_WATCH_ENDED);
    ft_span_init(&watch->call.span);
    watch->call.place = -1;
    return watch;
}

void ft_watch_take(ft_watch *watch, ft_call *call) {
    ft_call_move(&watch->call, call);
    watch->method = Py_NewRef(watch->call.target->method);
}

void ft_watch_open(ft_watch *watch) {
    link_watch(watch->call.target->recorder, watch);
    atomic_store_explicit(&watch->state, FT_WATCH_OPEN, memory_order_release);
}

bool ft_watch_reads_chunks(ft_watch *watch) {
    const ft_route *route = watch->call.route;
    const ft_recorder *recorder = watch->call.target->recorder;
    watch->is_stream = true;
    ft_reading_init(&watch->reading);
    if (route->content_stream == NULL || !ft_recorder_captures_output((ft_recorder *)recorder)) return true;
    unsigned long limit = ft_recorder_content_max((ft_recorder *)recorder);
    watch->content = PyObject_CallFunction(route->content_stream, "k", limit);
    return watch->content != NULL || ft_report();
}

/* ---- its chunks ---- */

bool ft_watch_read(ft_watch *watch, PyObject *chunk) {
    if (!ft_reading_chunk(&watch->reading, watch->call.route->plan.stream, &watch->call, chunk)) return false;
    if (watch->content == NULL) return true;
    PyObject *done = PyObject_CallMethodOneArg(watch->content, feed_name, chunk);
    Py_XDECREF(done);
    return done != NULL || ft_report();
}

/* Somebody left while this thread was reading: the end is ours to make. */
static bool end_after_reading(ft_watch *watch, bool fine) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    atomic_store(&watch->state, FT_WATCH_ENDED);
    bool is_ended = ft_watch_end(watch, FT_ENDING_LEFT, NULL);
    if (type != NULL) PyErr_Restore(type, value, traceback);
    return fine && is_ended;
}

bool ft_watch_has_read(ft_watch *watch, bool fine) {
    return ft_watch_moves(watch, FT_WATCH_READING, FT_WATCH_OPEN) ? fine : end_after_reading(watch, fine);
}

bool ft_watch_stepped(ft_watch *watch, PyObject *chunk) {
    if (!ft_watch_moves(watch, FT_WATCH_STEPPING, FT_WATCH_READING)) return true;
    return ft_watch_has_read(watch, ft_watch_read(watch, chunk));
}

/* ---- its end ---- */

static bool add_content(ft_watch *watch) {
    if (watch->content == NULL) return true;
    PyObject *json = PyObject_CallMethodNoArgs(watch->content, result_name);
    if (json != NULL && PyBytes_CheckExact(json))
        ft_span_add_json(&watch->call.span, FT_OUTPUT, PyBytes_AS_STRING(json), (size_t)PyBytes_GET_SIZE(json));
    Py_XDECREF(json);
    return json != NULL || ft_report();
}

/* The provider's usage is the whole one when the stream was read to its end, or to what was generated last. */
static void settle_status(ft_watch *watch, ft_ending ending) {
    ft_record *record = &watch->call.span.record;
    bool has_output = ft_record_has(record, FT_OUTPUT_TOKENS);
    bool is_complete = ending == FT_ENDING_READ || (watch->reading.has_ended && has_output);
    if (is_complete && (has_output || ft_record_has(record, FT_INPUT_TOKENS))) record->usage_source = FT_USAGE_PROVIDER;
    if (is_complete) return;
    record->usage_source = FT_USAGE_PARTIAL;
    if (record->status == FT_STATUS_SUCCESS) record->status = FT_STATUS_INCOMPLETE;
}

static void stop_clock(ft_watch *watch) {
    int64_t stopped_ns = atomic_load(&watch->stopped_ns);
    ft_call *call = &watch->call;
    if (stopped_ns == 0)
        ft_call_stop_clock(call);
    else
        call->span.record.duration_ns = (uint64_t)(stopped_ns - call->started_ns);
}

static bool settle(ft_watch *watch, ft_ending ending, PyObject *told) {
    ft_call *call = &watch->call;
    bool fine = true;
    call->span.record.status = ending == FT_ENDING_FAILED ? FT_STATUS_ERROR : FT_STATUS_SUCCESS;
    if (call->is_streamed) call->span.record.flags |= FT_FLAG_STREAM;
    if (atomic_load(&watch->is_unparsed)) ending = ft_raw_read(watch, &fine);
    if (ending == FT_ENDING_READ && told != NULL) fine = ft_raw_read_parsed(watch, told);
    if (watch->is_stream)
        fine = fine && ft_reading_settle(&watch->reading, call->route->plan.stream, call) && add_content(watch);
    settle_status(watch, ending);
    if (ending != FT_ENDING_FAILED) return fine;
    fine = fine && ft_call_read_failure(call, told);
    bool is_refused = call->span.record.chunks == 0 && ft_record_has(&call->span.record, FT_HTTP_STATUS);
    if (is_refused) call->span.record.usage_source = FT_USAGE_NONE; /* and used nothing */
    return fine;
}

/* What runs here may run anybody's code: nobody finds the watch but ended. */
static void let_go(ft_watch *watch) {
    if (watch->closer != NULL) ft_closer_take_out(watch);
    ft_call_clear(&watch->call);
    ft_reading_clear(&watch->reading);
    Py_CLEAR(watch->content);
    Py_CLEAR(watch->body);
    Py_CLEAR(watch->response);
    Py_CLEAR(watch->method);
}

bool ft_watch_end(ft_watch *watch, ft_ending ending, PyObject *told) {
    PyObject *type, *value, *traceback;
    Py_INCREF(watch);
    stop_clock(watch);
    bool fine = settle(watch, ending, told);
    PyErr_Fetch(&type, &value, &traceback); /* an interrupt, if it is not fine */
    ft_call_finish(&watch->call);
    unlink_watch(watch->call.target->recorder, watch);
    let_go(watch);
    Py_DECREF(watch);
    PyErr_Restore(type, value, traceback);
    return fine;
}

static ft_ending ending_of(PyObject *type) {
    if (type == NULL || PyErr_GivenExceptionMatches(type, PyExc_StopIteration) ||
        PyErr_GivenExceptionMatches(type, PyExc_StopAsyncIteration))
        return FT_ENDING_READ;
    return PyErr_GivenExceptionMatches(type, PyExc_GeneratorExit) ? FT_ENDING_LEFT : FT_ENDING_FAILED;
}

/* The interrupt that is set comes on top of the SDK's exception, whose references are taken. */
static void put_below(PyObject *type, PyObject *value, PyObject *traceback) {
    PyObject *interrupt_type, *interrupt, *interrupt_traceback;
    PyErr_Fetch(&interrupt_type, &interrupt, &interrupt_traceback);
    PyErr_NormalizeException(&interrupt_type, &interrupt, &interrupt_traceback);
    PyException_SetContext(interrupt, value); /* takes the reference; NULL is none */
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    PyErr_Restore(interrupt_type, interrupt, interrupt_traceback);
}

void ft_watch_stopped(ft_watch *watch) {
    if (!ft_watch_moves(watch, FT_WATCH_STEPPING, FT_WATCH_ENDED)) return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    ft_ending ending = ending_of(type);
    if (ending == FT_ENDING_FAILED) PyErr_NormalizeException(&type, &value, &traceback);
    if (ending == FT_ENDING_FAILED && traceback != NULL) PyException_SetTraceback(value, traceback);
    if (ft_watch_end(watch, ending, ending == FT_ENDING_FAILED ? value : NULL)) {
        PyErr_Restore(type, value, traceback);
        return;
    }
    if (type != NULL) PyErr_NormalizeException(&type, &value, &traceback);
    put_below(type, value, traceback);
}

ft_leaving ft_watch_leave(ft_watch *watch, bool at_any_time) {
    while (!ft_watch_moves(watch, FT_WATCH_OPEN, FT_WATCH_ENDED)) {
        int state = atomic_load(&watch->state);
        if (state == FT_WATCH_ENDED || state == FT_WATCH_LEFT) return FT_LEAVES_NOT;
        if (!at_any_time && state != FT_WATCH_OPEN) return FT_LEAVES_NOT;
        if (ft_watch_moves(watch, FT_WATCH_READING, FT_WATCH_LEFT)) return FT_LEAVES;
        if (ft_watch_moves(watch, FT_WATCH_STEPPING, FT_WATCH_ENDED)) break;
    }
    return ft_watch_end(watch, FT_ENDING_LEFT, NULL) ? FT_LEAVES : FT_LEAVES_INTERRUPTED;
}

void ft_watch_drop(ft_watch *watch) {
    int state = atomic_load_explicit(&watch->state, memory_order_relaxed);
    if (state == FT_WATCH_ENDED || state == FT_WATCH_READING) return; /* who reads holds what it reads from */
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (ft_watch_leave(watch, true) == FT_LEAVES_INTERRUPTED) PyErr_WriteUnraisable(NULL);
    PyErr_Restore(type, value, traceback);
}

/* ---- the type ---- */

static int watch_traverse(PyObject *object, visitproc visit, void *arg) {
    ft_watch *watch = (ft_watch *)object;
    Py_VISIT(watch->method);
    Py_VISIT(watch->body);
    Py_VISIT(watch->response);
    Py_VISIT(watch->content);
    Py_VISIT(watch->call.model);
    return ft_reading_traverse(&watch->reading, visit, arg);
}

/* An open one is in the list, which the collector does not see, and is never garbage. */
static int watch_clear(PyObject *object) {
    let_go((ft_watch *)object);
    return 0;
}

static void watch_dealloc(PyObject *object) {
    PyObject_GC_UnTrack(object);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    let_go((ft_watch *)object);
    PyErr_Restore(type, value, traceback);
    PyObject_GC_Del(object);
}

/* ---- what core/_overheard.py tells it ---- */

static PyObject *watch_hear(PyObject *self, PyObject *event) {
    bool wants_more;
    return ft_raw_hear((ft_watch *)self, event, &wants_more) ? PyBool_FromLong(wants_more) : NULL;
}

static PyObject *watch_was_read(PyObject *self, PyObject *body) {
    if (!ft_raw_was_read((ft_watch *)self, body)) return NULL;
    Py_RETURN_NONE;
}

static PyObject *watch_body_failed(PyObject *self, PyObject *error) {
    if (!ft_raw_body_failed((ft_watch *)self, error)) return NULL;
    Py_RETURN_NONE;
}

/* A raw reply that is closed may still be parsed: only the time is noted. */
static PyObject *watch_body_closed(PyObject *self, PyObject *unused) {
    (void)unused;
    int64_t never = 0;
    atomic_compare_exchange_strong(&((ft_watch *)self)->stopped_ns, &never, ft_clock_monotonic_ns());
    Py_RETURN_NONE;
}

static PyObject *watch_dropped(PyObject *self, PyObject *unused) {
    (void)unused;
    ft_raw_dropped((ft_watch *)self);
    Py_RETURN_NONE;
}

static PyMethodDef watch_methods[] = {
    {"hear", watch_hear, METH_O, NULL},
    {"was_read", watch_was_read, METH_O, NULL},
    {"body_failed", watch_body_failed, METH_O, NULL},
    {"body_closed", watch_body_closed, METH_NOARGS, NULL},
    {"dropped", watch_dropped, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyTypeObject ft_watch_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fasttrace.core._native.Watch",
    .tp_basicsize = sizeof(ft_watch),
    .tp_dealloc = watch_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = watch_traverse,
    .tp_clear = watch_clear,
    .tp_methods = watch_methods,
};

bool ft_watch_ready(void) {
    feed_name = PyUnicode_InternFromString("feed");
    result_name = PyUnicode_InternFromString("result");
    return feed_name != NULL && result_name != NULL && PyType_Ready(&ft_watch_type) == 0;
}
