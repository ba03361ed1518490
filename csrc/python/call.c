#include "call.h"

#include <string.h>

#include "fasttrace/clock.h"
#include "route.h"

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
static bool resolve(ft_call *call, PyObject *key, PyObject *self) {
    static const ft_field fields[] = {FT_PROVIDER, FT_SERVER_ADDRESS, FT_SERVER_PORT};
    PyObject *asked[] = {key, self}, *answer = PyObject_Vectorcall(call->target->resolve, asked, 2, NULL);
    bool fine = answer != NULL && PyTuple_Check(answer) && PyTuple_GET_SIZE(answer) == 3;
    for (int i = 0; fine && i < 3; i++) fine = ft_set_field(call->ring, &call->span, fields[i], PyTuple_GET_ITEM(answer, i));
    if (fine) {
        PyObject *provider = PyTuple_GET_ITEM(answer, 0);
        call->is_foreign = !PyUnicode_Check(provider) || PyUnicode_CompareWithASCIIString(provider, call->route->plan.sdk) != 0;
    }
    Py_XDECREF(answer);
    return fine;
}

static void endpoint_remember(ft_endpoint *place, const ft_call *call, PyObject *key) {
    const ft_record *record = &call->span.record;
    if (!ft_entry_claim(&place->entry)) return;
    place->provider = record->strings[FT_STR_PROVIDER];
    place->address = record->strings[FT_STR_SERVER_ADDRESS];
    place->port = record->server_port;
    place->has_port = ft_record_has(record, FT_SERVER_PORT);
    place->is_foreign = call->is_foreign;
    ft_entry_publish(&place->entry, key, call->ring);
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
    PyObject *key = endpoint_key(&call->route->plan, self);
    if (key == NULL) return ft_swallow();
    ft_endpoint *place = &call->target->endpoints[ft_entry_place(key)];
    uint32_t content_length = call->span.content_length;
    bool is_known = ft_entry_is(&place->entry, key, call->ring);
    if (is_known)
        endpoint_apply(call, place);
    else if (resolve(call, key, self) && call->span.content_length == content_length) /* the string table had room */
        endpoint_remember(place, call, key);
    Py_DECREF(key);
    return is_known || ft_swallow();
}

/* ---- the request's side ---- */

/* `operation`, `request_model` and "{operation} {model}" as the span's name. */
static bool make_names(ft_call *call) {
    const ft_plan *plan = &call->route->plan;
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
    if (!ft_entry_claim(&place->entry)) return;
    place->operation = strings[FT_STR_OPERATION];
    place->name = strings[FT_STR_NAME];
    place->request_model = strings[FT_STR_REQUEST_MODEL];
    ft_entry_publish(&place->entry, call->model, call->ring);
}

static bool set_names(ft_call *call) {
    if (call->model == NULL || !PyUnicode_CheckExact(call->model)) return make_names(call);
    ft_naming *place = &call->route->namings[ft_entry_place(call->model)];
    if (!ft_entry_is(&place->entry, call->model, call->ring)) {
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

/* ---- the start ---- */

bool ft_call_capture(ft_call *call, ft_field field, PyObject *reader, PyObject *source) {
    uint32_t limit = ft_recorder_content_max(call->target->recorder);
    PyObject *bytes = PyObject_CallFunction(reader, "OI", source, (unsigned)limit);
    if (bytes != NULL) ft_set_field(call->ring, &call->span, field, bytes);
    Py_XDECREF(bytes);
    return ft_report();
}

static PyObject *arguments_dict(PyObject *const *args, Py_ssize_t positional, PyObject *names) {
    PyObject *source = PyDict_New();
    Py_ssize_t count = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; source != NULL && i < count; i++)
        if (PyDict_SetItem(source, PyTuple_GET_ITEM(names, i), args[positional + i]) < 0) Py_CLEAR(source);
    return source;
}

/* The same of both ways to pass a request: where it is, and what was read from it. */
typedef struct {
    PyObject *const *args;
    Py_ssize_t positional;
    PyObject *names;
    ft_routed routed;
    ft_request request;
} asked;

static bool capture_input(ft_call *call, asked *what) {
    PyObject *reader = call->route->content_input, *source;
    if (call->target->router == NULL)
        source = arguments_dict(what->args, what->positional, what->names);
    else if (what->routed.body_count > 0)
        source = Py_NewRef(what->routed.bodies[0]);
    else
        return true;
    bool fine = source == NULL ? ft_swallow() : ft_call_capture(call, FT_INPUT, reader, source);
    Py_XDECREF(source);
    return fine;
}

static bool amend(ft_call *call, PyObject *body) {
    Py_XDECREF(PyObject_CallOneArg(call->route->amend, body));
    return ft_report();
}

static bool read_request(ft_call *call, asked *what) {
    ft_route *route = call->route;
    ft_routed *routed = &what->routed;
    bool fine;
    if (call->target->router == NULL)
        fine = ft_request_read(&route->plan, what->args, what->positional, what->names, &call->span, &what->request);
    else
        fine = ft_request_read_bodies(&route->plan, routed->bodies, routed->body_count, &call->span, &what->request);
    call->model = what->request.model; /* takes it over */
    call->is_streamed = route->plan.always_streams ||
                        (call->target->router == NULL ? what->request.is_streamed : routed->is_streamed);
    if (call->is_streamed) call->span.record.flags |= FT_FLAG_STREAM;
    if (what->request.has_other_tier) call->span.record.flags |= FT_FLAG_OTHER_TIER;
    if (what->request.has_other_rate) call->span.record.flags |= FT_FLAG_OTHER_RATE;
    return fine;
}

static bool read_call(ft_call *call, asked *what) {
    bool is_captured = call->route->content_input != NULL && ft_recorder_captures_input(call->target->recorder);
    bool is_amended = call->route->amend != NULL && what->routed.body_count > 0;
    return read_request(call, what) && (what->positional == 0 || set_endpoint(call, what->args[0])) && set_names(call) &&
           (!is_captured || capture_input(call, what)) &&
           (!is_amended || !call->is_streamed || amend(call, what->routed.bodies[0]));
}

static ft_call_answer prepare(ft_call *call, ft_target *target, asked *what) {
    call->target = target;
    call->model = call->token = NULL;
    call->context = NULL;
    call->place = -1;
    call->is_foreign = false;
    call->ring = ft_recorder_ring(target->recorder);
    if (call->ring == NULL) return PyErr_Occurred() ? FT_CALL_RAISED : FT_CALL_PASSED;
    ft_span_init(&call->span);
    call->span.record.kind = call->route->plan.kind;
    if (read_call(call, what)) return FT_CALL_RECORDED;
    ft_call_clear(call);
    return FT_CALL_RAISED;
}

ft_call_answer ft_call_prepare(ft_call *call, ft_target *target, PyObject *const *args, Py_ssize_t positional,
                               PyObject *names) {
    asked what;
    what.args = args;
    what.positional = positional;
    what.names = names;
    what.routed.body_count = 0;
    what.routed.route = target->routes;
    if (target->router != NULL && !ft_router_find(target, args, positional, names, &what.routed)) {
        ft_routed_clear(&what.routed);
        return FT_CALL_RAISED;
    }
    call->route = what.routed.route;
    ft_call_answer answer = call->route == NULL ? FT_CALL_PASSED : prepare(call, target, &what);
    ft_routed_clear(&what.routed);
    return answer;
}

bool ft_call_enter(ft_call *call) {
    Py_XSETREF(call->token, PyContextVar_Set(ft_python_side.current, (PyObject *)call->context));
    return call->token != NULL;
}

/* From here on a crash shows it. */
static void take_place(ft_call *call) {
    const ft_record *record = &call->span.record;
    const uint16_t *strings = record->strings;
    ft_inflight_call shown = {
        .trace_hi = record->trace_hi,
        .trace_lo = record->trace_lo,
        .span_id = record->span_id,
        .parent_span_id = record->parent_span_id,
        .start_unix_ns = record->start_unix_ns,
        .start_ns = call->started_ns,
        .strings = {strings[FT_STR_OPERATION], strings[FT_STR_NAME], strings[FT_STR_PROVIDER],
                    strings[FT_STR_REQUEST_MODEL], strings[FT_STR_SERVER_ADDRESS]},
        .server_port = record->server_port,
        .kind = record->kind,
        .is_stream = call->is_streamed,
    };
    call->place = ft_inflight_enter(call->ring, &shown);
}

bool ft_call_start(ft_call *call) {
    PyObject *parent;
    if (PyContextVar_Get(ft_python_side.current, NULL, &parent) < 0) return false;
    call->context = ft_context_new(parent);
    Py_XDECREF(parent);
    if (call->context == NULL || !ft_call_enter(call)) return false;
    ft_record *record = &call->span.record;
    record->trace_hi = call->context->trace_hi;
    record->trace_lo = call->context->trace_lo;
    record->span_id = call->context->span_id;
    record->parent_span_id = call->context->parent_span_id;
    record->start_unix_ns = ft_clock_unix_ns();
    call->started_ns = ft_clock_monotonic_ns();
    take_place(call);
    return true;
}

void ft_call_give_place_back(ft_call *call) {
    if (call->place < 0) return;
    ft_inflight_leave(call->ring, call->place);
    call->place = -1;
}

void ft_call_clear(ft_call *call) {
    ft_call_give_place_back(call);
    ft_span_clear(&call->span);
    Py_CLEAR(call->model);
    Py_CLEAR(call->token);
    Py_CLEAR(call->context);
}
