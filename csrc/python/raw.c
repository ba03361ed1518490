/* Raw replies: the user has the response, and parses it later, in another way, twice, or never. What was parsed is
 * kept by the SDK in a dictionary of the raw reply; ours stands in its place and hears of it. The span ends when
 * something is parsed. Where nothing is, the dictionary's end is the reply's, and the body is read for us, if the user
 * let it be read. Runs on the threads that made, parse and drop the reply. */
#include <stddef.h>

#include "route.h"
#include "watch.h"

/* The dictionary of what was parsed. */
typedef struct {
    PyDictObject dict;
    ft_watch *watch;    /* NULL in a copy */
    PyObject *response; /* alive as long as the raw reply is; NULL where its body was read */
    bool is_overheard;  /* while it is read */
} parsed_dict;

static PyTypeObject parsed_type;
static PyObject *stream_path; /* ("stream",) */
static PyObject *no_arguments;

/* ---- what was not parsed ---- */

/* The bytes of a response that was read: a new reference, or NULL. */
static PyObject *body_of(PyObject *response, const ft_raw_names *names) {
    PyObject *fields = ft_fields_of(response);
    PyObject *body = fields == NULL ? NULL : ft_dict_get(fields, names->body);
    if (body != NULL && !PyBytes_CheckExact(body)) Py_CLEAR(body);
    Py_XDECREF(fields);
    return body;
}

/* Chunks that nobody saw arrive. */
static bool read_chunks(ft_watch *watch, PyObject *chunks) {
    if (watch->call.route->plan.stream == NULL || PyList_GET_SIZE(chunks) == 0) return true;
    bool fine = ft_watch_reads_chunks(watch);
    ft_reading_init_late(&watch->reading);
    for (Py_ssize_t i = 0; fine && i < PyList_GET_SIZE(chunks); i++) {
        PyObject *chunk = Py_NewRef(PyList_GET_ITEM(chunks, i));
        fine = ft_watch_read(watch, chunk);
        Py_DECREF(chunk);
    }
    return fine;
}

/* (reply, []) or (None, chunks), see core/_body.py; NULL with an exception set. */
static PyObject *decode(PyObject *body) {
    PyObject *module = PyImport_ImportModule("fasttrace.core._body");
    PyObject *decoded = module == NULL ? NULL : PyObject_CallMethod(module, "decode", "O", body);
    Py_XDECREF(module);
    if (decoded == NULL) return NULL;
    bool is_pair = PyTuple_Check(decoded) && PyTuple_GET_SIZE(decoded) == 2;
    if (is_pair && PyList_Check(PyTuple_GET_ITEM(decoded, 1))) return decoded;
    Py_DECREF(decoded);
    PyErr_SetString(PyExc_TypeError, "decode() gives a reply and a list of chunks");
    return NULL;
}

static bool read_body(ft_watch *watch, PyObject *body) {
    PyObject *decoded = decode(body);
    if (decoded == NULL) return ft_report();
    PyObject *reply = PyTuple_GET_ITEM(decoded, 0), *chunks = PyTuple_GET_ITEM(decoded, 1);
    bool fine = reply != Py_None ? ft_call_read_reply(&watch->call, reply) : read_chunks(watch, chunks);
    Py_DECREF(decoded);
    return fine;
}

/* A new reference to the body, where it was kept; NULL without an error. */
static PyObject *known_body(const ft_watch *watch) {
    PyObject *body = Py_XNewRef(watch->body), *response = body == NULL ? ft_alive(watch->response) : NULL;
    if (response != NULL) body = body_of(response, ft_router_raw(watch->call.target->router));
    Py_XDECREF(response);
    return body;
}

ft_ending ft_raw_read(ft_watch *watch, bool *fine) {
    if (watch->is_stream) return FT_ENDING_LEFT; /* what was overheard tells when it is read to its end */
    PyObject *body = known_body(watch);
    bool is_whole = body != NULL || atomic_load(&watch->was_read);
    if (body != NULL) *fine = read_body(watch, body);
    Py_XDECREF(body);
    return is_whole ? FT_ENDING_READ : FT_ENDING_LEFT;
}

/* Where what was parsed tells nothing (a text), its body is read. */
bool ft_raw_read_parsed(ft_watch *watch, PyObject *parsed) {
    bool fine = ft_call_read_reply(&watch->call, parsed);
    PyObject *body = known_body(watch);
    if (fine && body != NULL && watch->call.span.record.strings[FT_STR_MODEL_ID] == 0) fine = read_body(watch, body);
    Py_XDECREF(body);
    return fine;
}

/* ---- what is overheard (core/_overheard.py) ---- */

/* What a function of that module gives: a new reference, or NULL with an exception set. */
static PyObject *overheard(const char *function, const char *format, PyObject *response, PyObject *watch, int is_stream) {
    PyObject *module = PyImport_ImportModule("fasttrace.core._overheard");
    PyObject *done = module == NULL ? NULL : PyObject_CallMethod(module, function, format, response, watch, is_stream);
    Py_XDECREF(module);
    return done;
}

/* Whether its body is: false for one that cannot be, possibly with an exception that must go on. */
static bool overhear(ft_watch *watch, const ft_call *call, PyObject *response) {
    bool is_stream = call->is_streamed && call->route->plan.stream != NULL;
    PyObject *done = overheard("overhear", "OOi", response, (PyObject *)watch, is_stream);
    bool is_overheard = done == Py_True;
    Py_XDECREF(done);
    if (done == NULL) ft_report();
    return is_overheard;
}

/* What is parsed is watched where it is parsed. False when an exception must go on. */
static bool stop_overhearing(ft_watch *watch) {
    PyObject *response = ft_alive(watch->response);
    PyObject *done = response == NULL ? Py_NewRef(Py_None) : overheard("leave", "O", response, NULL, 0);
    Py_XDECREF(response);
    Py_XDECREF(done);
    return done != NULL || ft_report();
}

bool ft_raw_hear(ft_watch *watch, PyObject *event, bool *wants_more) {
    *wants_more = atomic_load(&watch->is_unparsed) && atomic_load(&watch->state) != FT_WATCH_ENDED;
    if (!*wants_more || !ft_watch_moves(watch, FT_WATCH_OPEN, FT_WATCH_READING)) return true;
    bool fine = watch->is_stream || ft_watch_reads_chunks(watch);
    return ft_watch_has_read(watch, fine && ft_watch_read(watch, event));
}

bool ft_raw_was_read(ft_watch *watch, PyObject *body) {
    if (!atomic_load(&watch->is_unparsed)) return true;
    if (PyBytes_CheckExact(body) && watch->body == NULL) watch->body = Py_NewRef(body);
    atomic_store(&watch->was_read, true);
    if (!watch->is_stream || !ft_watch_moves(watch, FT_WATCH_OPEN, FT_WATCH_ENDED)) return true;
    atomic_store(&watch->is_unparsed, false);
    return ft_watch_end(watch, FT_ENDING_READ, NULL);
}

bool ft_raw_body_failed(ft_watch *watch, PyObject *error) {
    if (!ft_watch_moves(watch, FT_WATCH_OPEN, FT_WATCH_ENDED)) return true;
    atomic_store(&watch->is_unparsed, false);
    return ft_watch_end(watch, FT_ENDING_FAILED, error);
}

/* Who holds the raw reply may still parse what was read. */
void ft_raw_dropped(ft_watch *watch) {
    bool may_be_parsed = atomic_load(&watch->was_read) && atomic_load(&watch->is_held);
    if (atomic_load(&watch->is_unparsed) && !may_be_parsed) ft_watch_drop(watch);
}

/* ---- what was parsed ---- */

/* A stream goes on under the same watch; false when an exception must go on. */
static bool goes_on(ft_watch *watch, PyObject *parsed, bool *is_stream) {
    const ft_stream_plan *plan = watch->call.route->plan.stream;
    bool may_stream = watch->call.is_streamed && plan != NULL && plan->iterator != NULL;
    PyObject *given = may_stream ? ft_stream_attach(watch, watch->call.target, plan, parsed) : NULL;
    *is_stream = given != NULL;
    Py_XDECREF(given);
    if (!*is_stream) return !PyErr_Occurred();
    atomic_store(&watch->stopped_ns, 0);
    return ft_watch_reads_chunks(watch);
}

/* False when an exception must go on. */
static bool hear(ft_watch *watch, PyObject *parsed) {
    bool is_stream = false;
    if (!ft_watch_moves(watch, FT_WATCH_OPEN, FT_WATCH_READING)) return true;
    bool fine = stop_overhearing(watch) && goes_on(watch, parsed, &is_stream);
    if (fine || is_stream) atomic_store(&watch->is_unparsed, false);
    if (!fine || is_stream) return ft_watch_has_read(watch, fine);
    atomic_store(&watch->state, FT_WATCH_ENDED);
    return ft_watch_end(watch, FT_ENDING_READ, parsed);
}

static int parsed_set(PyObject *self, PyObject *key, PyObject *parsed) {
    if (PyDict_Type.tp_as_mapping->mp_ass_subscript(self, key, parsed) < 0) return -1;
    ft_watch *watch = ((parsed_dict *)self)->watch;
    if (parsed == NULL || watch == NULL || !atomic_load(&watch->is_unparsed)) return 0;
    return hear(watch, parsed) ? 0 : -1;
}

/* ---- the dictionary ---- */

/* Weak references to what the collector takes are gone by now, so the watch gets the response itself. */
static void parsed_finalize(PyObject *self) {
    parsed_dict *parsed = (parsed_dict *)self;
    ft_watch *watch = parsed->watch;
    if (watch == NULL || !atomic_load(&watch->is_unparsed)) return;
    atomic_store(&watch->is_held, false);
    if (parsed->is_overheard && !atomic_load(&watch->was_read)) return; /* who reads the body ends it */
    if (!ft_watch_moves(watch, FT_WATCH_OPEN, FT_WATCH_READING)) return;
    Py_XINCREF(parsed->response);
    Py_XSETREF(watch->response, parsed->response);
    if (!ft_watch_has_read(watch, true)) PyErr_WriteUnraisable(NULL);
    ft_watch_drop(watch);
}

static int parsed_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((parsed_dict *)self)->watch);
    Py_VISIT(((parsed_dict *)self)->response);
    return PyDict_Type.tp_traverse(self, visit, arg);
}

static int parsed_clear(PyObject *self) {
    Py_CLEAR(((parsed_dict *)self)->response);
    return PyDict_Type.tp_clear(self);
}

static void parsed_dealloc(PyObject *self) {
    if (PyObject_CallFinalizerFromDealloc(self) < 0) return;
    PyObject_GC_UnTrack(self);
    Py_CLEAR(((parsed_dict *)self)->watch);
    Py_CLEAR(((parsed_dict *)self)->response);
    PyDict_Type.tp_dealloc(self);
}

/* A copy, and what is pickled, is a plain dictionary. */
static PyObject *parsed_reduce(PyObject *self, PyObject *unused) {
    (void)unused;
    PyObject *copy = PyDict_Copy(self);
    return copy == NULL ? NULL : Py_BuildValue("O(N)", &PyDict_Type, copy);
}

static PyObject *parsed_new(PyObject *known, ft_watch *watch, PyObject *response, bool is_overheard) {
    PyObject *self = PyDict_Type.tp_new(&parsed_type, no_arguments, NULL);
    if (self == NULL) return NULL;
    ((parsed_dict *)self)->watch = (ft_watch *)Py_NewRef((PyObject *)watch);
    ((parsed_dict *)self)->response = Py_XNewRef(response);
    ((parsed_dict *)self)->is_overheard = is_overheard;
    if (PyDict_Update(self, known) < 0) Py_CLEAR(self);
    return self;
}

static PyMethodDef parsed_methods[] = {
    {"__reduce_ex__", parsed_reduce, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMappingMethods parsed_as_mapping = {.mp_ass_subscript = parsed_set};

static PyTypeObject parsed_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fasttrace.core._native.Parsed",
    .tp_basicsize = sizeof(parsed_dict),
    .tp_dealloc = parsed_dealloc,
    .tp_finalize = parsed_finalize,
    .tp_as_mapping = &parsed_as_mapping,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = parsed_traverse,
    .tp_clear = parsed_clear,
    .tp_methods = parsed_methods,
};

/* ---- the reply ---- */

/* Hear of what is parsed. False where there is no such dictionary, possibly with an exception that must go on. */
static bool set_parsed(PyObject *reply, const ft_raw_names *names, ft_watch *watch, PyObject *response,
                       bool is_overheard) {
    PyObject *known = PyObject_GetAttr(reply, names->parsed);
    bool is_usual = known != NULL && PyDict_CheckExact(known);
    PyObject *ours = is_usual ? parsed_new(known, watch, response, is_overheard) : NULL;
    bool is_set = ours != NULL && PyObject_SetAttr(reply, names->parsed, ours) == 0;
    Py_XDECREF(known);
    Py_XDECREF(ours);
    if (!is_set) ft_swallow();
    return is_set;
}

/* There is no other moment to read a reply that nobody can be heard parsing. */
static bool end_unheard(ft_watch *watch) {
    atomic_store(&watch->is_unparsed, watch->body != NULL);
    return !ft_watch_moves(watch, FT_WATCH_OPEN, FT_WATCH_ENDED) || ft_watch_end(watch, FT_ENDING_READ, NULL);
}

static bool watch_response(ft_watch *watch, ft_call *call, PyObject *reply, PyObject *response) {
    const ft_raw_names *names = ft_router_raw(call->target->router);
    watch->body = body_of(response, names);
    bool is_read = watch->body != NULL;
    atomic_store(&watch->is_held, true);
    atomic_store(&watch->was_read, is_read);
    if (!is_read && (watch->response = PyWeakref_NewRef(response, NULL)) == NULL) PyErr_Clear();
    bool is_overheard = !is_read && overhear(watch, call, response);
    if (PyErr_Occurred()) return false;
    bool is_unseen = !is_read && !is_overheard;
    if (is_unseen && !ft_stream_see_closed(watch, call->target, response, stream_path)) return false;
    bool is_heard = set_parsed(reply, names, watch, is_read ? NULL : response, is_overheard);
    if (PyErr_Occurred()) return false;
    if (!is_heard && !stop_overhearing(watch)) return false;
    ft_watch_take(watch, call);
    const ft_call *taken = &watch->call;
    if (is_read) atomic_store(&watch->stopped_ns, taken->started_ns + (int64_t)taken->span.record.duration_ns);
    atomic_store(&watch->is_unparsed, true);
    ft_watch_open(watch);
    return is_heard || end_unheard(watch);
}

/* A new reference to the response of a raw reply; NULL for any other. */
static PyObject *response_of(const ft_call *call, PyObject *reply) {
    if (PyDict_Check(reply)) return NULL;
    PyObject *fields = ft_fields_of(reply);
    PyObject *response = fields == NULL ? NULL : ft_dict_get(fields, ft_router_raw(call->target->router)->response);
    Py_XDECREF(fields);
    return response;
}

bool ft_raw_watch(ft_call *call, PyObject *reply) {
    PyObject *response = response_of(call, reply);
    if (response == NULL) return false;
    ft_watch *watch = ft_watch_new();
    bool is_watched = watch != NULL && watch_response(watch, call, reply, response);
    if (watch == NULL) ft_swallow();
    Py_XDECREF(watch);
    Py_DECREF(response);
    return is_watched;
}

bool ft_raw_ready(void) {
    parsed_type.tp_base = &PyDict_Type;
    stream_path = Py_BuildValue("(N)", PyUnicode_InternFromString("stream"));
    no_arguments = PyTuple_New(0);
    return stream_path != NULL && no_arguments != NULL && PyType_Ready(&parsed_type) == 0;
}
