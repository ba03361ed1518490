#include "call.h"

#include <string.h>

#include "fasttrace/clock.h"

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

static uint16_t intern(ft_ring *ring, PyObject *value, size_t limit) {
    const char *text;
    size_t length;
    PyObject *owner = NULL;
    uint16_t index = 0;
    if (value != NULL && ft_text(value, limit, &text, &length, &owner)) index = ft_strtab_intern(&ring->strtab, text, length);
    Py_XDECREF(owner);
    return index;
}

/* Ask Python: Endpoint(provider, address, port). */
static bool resolve(const ft_target *target, ft_ring *ring, PyObject *key, ft_endpoint *endpoint) {
    PyObject *answer = PyObject_CallOneArg(target->resolve, key);
    bool fine = answer != NULL && PyTuple_Check(answer) && PyTuple_GET_SIZE(answer) == 3;
    if (fine) {
        PyObject *provider = PyTuple_GET_ITEM(answer, 0), *port = PyTuple_GET_ITEM(answer, 2);
        size_t length = 0;
        const char *text = NULL;
        endpoint->provider = intern(ring, provider, ft_field_limit[FT_PROVIDER]);
        endpoint->address = intern(ring, PyTuple_GET_ITEM(answer, 1), ft_field_limit[FT_SERVER_ADDRESS]);
        endpoint->has_port = PyLong_CheckExact(port);
        endpoint->port = endpoint->has_port ? (uint16_t)PyLong_AsLong(port) : 0;
        ft_strtab_get(ring->header, endpoint->provider, &text, &length);
        endpoint->is_foreign = length != target->plan.sdk_length || memcmp(text, target->plan.sdk, length) != 0;
    }
    Py_XDECREF(answer);
    return fine;
}

static void endpoint_remember(ft_endpoint *place, const ft_endpoint *fresh, PyObject *key, const ft_ring *ring) {
    if (!entry_claim(&place->entry)) return;
    place->provider = fresh->provider;
    place->address = fresh->address;
    place->port = fresh->port;
    place->has_port = fresh->has_port;
    place->is_foreign = fresh->is_foreign;
    entry_publish(&place->entry, key, ring);
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
    ft_endpoint fresh = {0};
    bool is_known = is_entry_of(&place->entry, key, call->ring);
    if (is_known) {
        endpoint_apply(call, place);
    } else if (resolve(call->target, call->ring, key, &fresh)) {
        endpoint_apply(call, &fresh);
        endpoint_remember(place, &fresh, key, call->ring);
    }
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
    call->model = call->previous = NULL;
    call->context = NULL;
    call->is_foreign = false;
    call->ring = ft_recorder_ring(target->recorder);
    if (call->ring == NULL) return FT_CALL_PASSED;
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
    if (fine && positional > 0) fine = set_endpoint(call, args[0]);
    if (fine && set_names(call)) return FT_CALL_RECORDED;
    ft_call_clear(call);
    return FT_CALL_RAISED;
}

bool ft_call_start(ft_call *call) {
    PyObject *current = ft_python_side.current;
    if (PyContextVar_Get(current, NULL, &call->previous) < 0) return false;
    call->context = ft_context_new(call->previous);
    PyObject *token = call->context == NULL ? NULL : PyContextVar_Set(current, (PyObject *)call->context);
    if (token == NULL) return false;
    Py_DECREF(token);
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

/* Give the previous span back, if this one still is the current one: a coroutine may be closed in another context. */
static void leave(ft_call *call) {
    call->span.record.duration_ns = (uint64_t)(ft_clock_monotonic_ns() - call->started_ns);
    PyObject *current = NULL, *token = NULL;
    if (PyContextVar_Get(ft_python_side.current, NULL, &current) == 0 && current == (PyObject *)call->context)
        token = PyContextVar_Set(ft_python_side.current, call->previous == NULL ? Py_None : call->previous);
    Py_XDECREF(token);
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

void ft_call_fail(ft_call *call) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) PyException_SetTraceback(value, traceback);
    leave(call);
    call->span.record.status = FT_STATUS_ERROR;
    PyObject *fields = PyObject_CallOneArg(call->target->failure, value);
    if (fields != NULL && PyDict_CheckExact(fields)) ft_set_fields(call->ring, &call->span, fields);
    Py_XDECREF(fields);
    /* The user's exception is on its way: an interrupt that came on top of it stays behind it. */
    if (!ft_swallow()) PyErr_Clear();
    finish(call);
    PyErr_Restore(type, value, traceback);
}

void ft_call_cancel(ft_call *call) {
    leave(call);
    call->span.record.status = FT_STATUS_CANCELLED;
    finish(call);
}

void ft_call_clear(ft_call *call) {
    ft_span_clear(&call->span);
    Py_CLEAR(call->model);
    Py_CLEAR(call->previous);
    Py_CLEAR(call->context);
}
