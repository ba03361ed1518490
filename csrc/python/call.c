#include "call.h"

#include <string.h>

#include "fasttrace/clock.h"

/* Somebody else's wrapper (a wrapt proxy, a descriptor class) learns its instance by being bound to it. */
static PyObject *call_bound(const ft_target *target, PyObject *const *args, size_t nargsf, PyObject *names) {
    PyObject *bound = target->bind(target->original, args[0], (PyObject *)Py_TYPE(args[0]));
    if (bound == NULL) return NULL;
    PyObject *reply = PyObject_Vectorcall(bound, args + 1, (size_t)PyVectorcall_NARGS(nargsf) - 1, names);
    Py_DECREF(bound);
    return reply;
}

PyObject *ft_target_call(const ft_target *target, PyObject *const *args, size_t nargsf, PyObject *names) {
    if (target->bind != NULL && PyVectorcall_NARGS(nargsf) > 0) return call_bound(target, args, nargsf, names);
    return PyObject_Vectorcall(target->original, args, nargsf, names);
}

/* ---- what is the same from call to call ---- */

static size_t place_of(const PyObject *key) {
    uintptr_t address = (uintptr_t)key;
    return (address >> 4 ^ address >> 9) % FT_CACHED;
}

static bool is_entry_of(const ft_entry *entry, const PyObject *key, const ft_ring *ring) {
    return atomic_load_explicit(&entry->state, memory_order_acquire) == FT_ENTRY_READY && entry->key == key &&
           entry->ring == ring;
}

static bool entry_claim(ft_entry *entry) {
#ifdef Py_GIL_DISABLED
    int empty = FT_ENTRY_EMPTY;
    return atomic_compare_exchange_strong(&entry->state, &empty, FT_ENTRY_FILLING);
#else
    atomic_store_explicit(&entry->state, FT_ENTRY_FILLING, memory_order_relaxed);
    return true;
#endif
}

/* The claimed entry is filled. Letting go of the old key may run anybody's code: that comes last. */
static void entry_publish(ft_entry *entry, PyObject *key, const ft_ring *ring) {
    PyObject *old = entry->key;
    entry->key = Py_NewRef(key);
    entry->ring = ring;
    atomic_store_explicit(&entry->state, FT_ENTRY_READY, memory_order_release);
    Py_XDECREF(old);
}

/* ---- endpoints ---- */

static PyObject *endpoint_key(const ft_plan *plan, PyObject *self) {
    PyObject *object = Py_NewRef(self);
    for (Py_ssize_t i = 0; object != NULL && i < PyTuple_GET_SIZE(plan->endpoint); i++) {
        PyObject *next = PyObject_GetAttr(object, PyTuple_GET_ITEM(plan->endpoint, i));
        Py_DECREF(object);
        object = next;
    }
    return object;
}

/* Ask Python: Endpoint(provider, address, port), straight into the span. */
static bool resolve(ft_call *call, PyObject *key) {
    static const ft_field fields[] = {FT_PROVIDER, FT_SERVER_ADDRESS, FT_SERVER_PORT};
    const ft_target *target = call->target;
    PyObject *answer = PyObject_CallOneArg(target->resolve, key);
    bool fine = answer != NULL && PyTuple_Check(answer) && PyTuple_GET_SIZE(answer) == 3;
    for (int i = 0; fine && i < 3; i++) fine = ft_set_field(call->ring, &call->span, fields[i], PyTuple_GET_ITEM(answer, i));
    if (fine) {
        PyObject *provider = PyTuple_GET_ITEM(answer, 0);
        call->is_foreign = !PyUnicode_Check(provider) || PyUnicode_CompareWithASCIIString(provider, target->plan.sdk) != 0;
    }
    Py_XDECREF(answer);
    return fine;
}

static void endpoint_remember(ft_endpoint *place, const ft_call *call, PyObject *key) {
    const ft_record *record = &call->span.record;
    if (!entry_claim(&place->entry)) return;
    place->provider = record->strings[FT_STR_PROVIDER];
    place->address = record->strings[FT_STR_SERVER_ADDRESS];
    place->port = record->server_port;
    place->has_port = ft_record_has(record, FT_SERVER_PORT);
    place->is_foreign = call->is_foreign;
    entry_publish(&place->entry, key, call->ring);
}

static void endpoint_apply(ft_call *call, const ft_endpoint *endpoint) {
    ft_record *record = &call->span.record;
    record->strings[FT_STR_PROVIDER] = endpoint->provider;
    record->strings[FT_STR_SERVER_ADDRESS] = endpoint->address;
    record->server_port = endpoint->port;
    if (endpoint->has_port) ft_span_mark(&call->span, FT_SERVER_PORT);
    call->is_foreign = endpoint->is_foreign;
}

static bool set_endpoint(ft_call *call, PyObject *self) {
    PyObject *key = endpoint_key(&call->target->plan, self);
    if (key == NULL) return ft_swallow();
    ft_endpoint *place = &call->target->endpoints[place_of(key)];
    uint32_t content_length = call->span.content_length;
    bool is_known = is_entry_of(&place->entry, key, call->ring);
    if (is_known)
        endpoint_apply(call, place);
    else if (resolve(call, key) && call->span.content_length == content_length) /* the string table had room */
        endpoint_remember(place, call, key);
    Py_DECREF(key);
    return is_known || ft_swallow();
}

/* ---- the request's side ---- */

/* `operation`, `request_model` and "{operation} {model}" as the span's name. */
static bool make_names(ft_call *call) {
    const ft_plan *plan = &call->target->plan;
    const char *model = "";
    size_t model_length = 0;
    PyObject *owner = NULL;
    char name[256];
    size_t length = plan->operation_length;
    memcpy(name, plan->operation, length);
    ft_ring_set_string(call->ring, &call->span, FT_STR_OPERATION, plan->operation, plan->operation_length);
    if (call->model != NULL && ft_text(call->model, ft_field_limit[FT_REQUEST_MODEL], &model, &model_length, &owner)) {
        ft_ring_set_string(call->ring, &call->span, FT_STR_REQUEST_MODEL, model, model_length);
        name[length++] = ' ';
        model_length = ft_text_clip(model, model_length, sizeof name - length);
        memcpy(name + length, model, model_length);
        length += model_length;
    }
    Py_XDECREF(owner);
    ft_ring_set_string(call->ring, &call->span, FT_STR_NAME, name, length);
    return ft_swallow();
}

/* Worth remembering unless a string found no place in the string table and went into this span's content. */
static void naming_remember(ft_naming *place, ft_call *call) {
    const uint16_t *strings = call->span.record.strings;
    if (!strings[FT_STR_OPERATION] || !strings[FT_STR_NAME] || !strings[FT_STR_REQUEST_MODEL]) return;
    if (!entry_claim(&place->entry)) return;
    place->operation = strings[FT_STR_OPERATION];
    place->name = strings[FT_STR_NAME];
    place->request_model = strings[FT_STR_REQUEST_MODEL];
    entry_publish(&place->entry, call->model, call->ring);
}

static bool set_names(ft_call *call) {
    if (call->model == NULL || !PyUnicode_CheckExact(call->model)) return make_names(call);
    ft_naming *place = &call->target->namings[place_of(call->model)];
    if (!is_entry_of(&place->entry, call->model, call->ring)) {
        if (!make_names(call)) return false;
        naming_remember(place, call);
        return true;
    }
    uint16_t *strings = call->span.record.strings;
    strings[FT_STR_OPERATION] = place->operation;
    strings[FT_STR_NAME] = place->name;
    strings[FT_STR_REQUEST_MODEL] = place->request_model;
    return true;
}

ft_call_answer ft_call_prepare(ft_call *call, ft_target *target, PyObject *const *args, Py_ssize_t positional,
                               PyObject *names) {
    call->target = target;
    call->model = call->token = NULL;
    call->context = NULL;
    call->is_foreign = false;
    call->ring = ft_recorder_ring(target->recorder);
    if (call->ring == NULL) return PyErr_Occurred() ? FT_CALL_RAISED : FT_CALL_PASSED;
    ft_span_init(&call->span);
    call->span.record.kind = target->plan.kind;
    ft_request request;
    bool fine = ft_request_read(&target->plan, args, positional, names, &call->span, &request);
    if (fine && request.is_streamed) {
        atomic_fetch_add_explicit(&target->recorder->streams, 1, memory_order_relaxed);
        ft_span_clear(&call->span);
        return FT_CALL_PASSED;
    }
    call->model = Py_XNewRef(request.model);
    if (request.has_other_tier) call->span.record.flags |= FT_FLAG_OTHER_TIER;
    if (fine && positional > 0) fine = set_endpoint(call, args[0]);
    if (fine && set_names(call)) return FT_CALL_RECORDED;
    ft_call_clear(call);
    return FT_CALL_RAISED;
}

bool ft_call_start(ft_call *call) {
    PyObject *current = ft_python_side.current, *parent;
    if (PyContextVar_Get(current, NULL, &parent) < 0) return false;
    call->context = ft_context_new(parent);
    Py_XDECREF(parent);
    call->token = call->context == NULL ? NULL : PyContextVar_Set(current, (PyObject *)call->context);
    if (call->token == NULL) return false;
    ft_record *record = &call->span.record;
    record->trace_hi = call->context->trace_hi;
    record->trace_lo = call->context->trace_lo;
    record->span_id = call->context->span_id;
    record->parent_span_id = call->context->parent_span_id;
    record->start_unix_ns = ft_clock_unix_ns();
    call->started_ns = ft_clock_monotonic_ns();
    return true;
}

/* ---- the ending ---- */

/* Give the span before this one back, if this one still is the current one: a coroutine may be closed in another
 * context, or inside another span, which are left as they are. */
static void leave(ft_call *call) {
    call->span.record.duration_ns = (uint64_t)(ft_clock_monotonic_ns() - call->started_ns);
    PyObject *current = NULL;
    bool is_current = PyContextVar_Get(ft_python_side.current, NULL, &current) == 0 && current == (PyObject *)call->context;
    if (is_current && PyContextVar_Reset(ft_python_side.current, call->token) < 0) PyErr_Clear();
    Py_XDECREF(current);
    if (call->context->retries > 0) {
        call->span.record.retries = (uint16_t)(call->context->retries > UINT16_MAX ? UINT16_MAX : call->context->retries);
        ft_span_mark(&call->span, FT_RETRIES);
    }
}

static void finish(ft_call *call) { ft_recorder_finish(call->target->recorder, call->ring, &call->span); }

bool ft_call_succeed(ft_call *call, PyObject *reply) {
    leave(call);
    call->span.record.status = FT_STATUS_SUCCESS;
    bool fine = ft_reply_read(&call->target->plan, reply, call->is_foreign, call->ring, &call->span);
    finish(call);
    return fine;
}

/* What the exception tells, into the span. False when an interrupt must go on. */
static bool read_failure(ft_call *call, PyObject *exception) {
    PyObject *answer = PyObject_CallOneArg(call->target->failure, exception);
    PyObject *fields = answer == NULL || PyDict_Check(answer) ? Py_XNewRef(answer) : PyDict_New();
    if (fields != NULL && (fields == answer || PyDict_Merge(fields, answer, 1) == 0))
        ft_set_fields(call->ring, &call->span, fields);
    Py_XDECREF(fields);
    Py_XDECREF(answer);
    return ft_swallow();
}

void ft_call_fail(ft_call *call) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) PyException_SetTraceback(value, traceback);
    leave(call);
    call->span.record.status = FT_STATUS_ERROR;
    if (read_failure(call, value)) {
        finish(call);
        PyErr_Restore(type, value, traceback);
        return;
    }
    PyObject *interrupt_type, *interrupt, *interrupt_traceback;
    PyErr_Fetch(&interrupt_type, &interrupt, &interrupt_traceback);
    PyErr_NormalizeException(&interrupt_type, &interrupt, &interrupt_traceback);
    finish(call);
    PyException_SetContext(interrupt, value); /* takes the reference */
    Py_DECREF(type);
    Py_XDECREF(traceback);
    PyErr_Restore(interrupt_type, interrupt, interrupt_traceback);
}

void ft_call_cancel(ft_call *call) {
    leave(call);
    call->span.record.status = FT_STATUS_CANCELLED;
    finish(call);
}

void ft_call_clear(ft_call *call) {
    ft_span_clear(&call->span);
    Py_CLEAR(call->model);
    Py_CLEAR(call->token);
    Py_CLEAR(call->context);
}
