#include "plan.h"

#include <string.h>

#include "stream.h"

static bool text_attribute(PyObject *spec, const char *name, char *out, size_t capacity, size_t *length) {
    PyObject *value = PyObject_GetAttrString(spec, name);
    Py_ssize_t size;
    const char *text = value == NULL ? NULL : PyUnicode_AsUTF8AndSize(value, &size);
    bool fine = text != NULL && (size_t)size < capacity;
    if (fine) {
        memcpy(out, text, (size_t)size);
        *length = (size_t)size;
    } else if (text != NULL) {
        PyErr_Format(PyExc_ValueError, "CallSpec.%s is longer than %zu bytes", name, capacity - 1);
    }
    Py_XDECREF(value);
    return fine;
}

PyObject *ft_interned(PyObject *name) {
    Py_INCREF(name);
    PyUnicode_InternInPlace(&name);
    return name;
}

/* ---- the request ---- */

static bool compile_arguments(ft_arguments *arguments, PyObject *request);

static ft_argument_use use_named(const char *word) {
    return strcmp(word, "model") == 0    ? FT_ARGUMENT_MODEL
           : strcmp(word, "param") == 0  ? FT_ARGUMENT_PARAM
           : strcmp(word, "stream") == 0 ? FT_ARGUMENT_STREAM
           : strcmp(word, "tier") == 0   ? FT_ARGUMENT_TIER
           : strcmp(word, "rate") == 0   ? FT_ARGUMENT_RATE
                                         : FT_ARGUMENT_IGNORED;
}

static bool compile_argument(ft_argument *argument, PyObject *name, PyObject *use) {
    bool leads_on = !PyUnicode_Check(use);
    const char *text = PyUnicode_AsUTF8(name), *word = leads_on ? "" : PyUnicode_AsUTF8(use);
    if (word == NULL || text == NULL) return false;
    ft_member_init(&argument->member, name);
    argument->use = leads_on ? FT_ARGUMENT_BELOW : use_named(word);
    int length = PyOS_snprintf(argument->label, sizeof argument->label, "\"%s\":", text);
    argument->label_length = (size_t)length;
    if (length > 0 && argument->label_length < sizeof argument->label)
        return !leads_on || compile_arguments(&argument->below, use);
    PyErr_Format(PyExc_ValueError, "CallSpec.request: %R is too long a name", name);
    return false;
}

/* At most half full, so that a name which is not there is soon known not to be. */
static bool make_table(ft_arguments *arguments) {
    size_t size = 8;
    while (size < (size_t)arguments->count * 4) size *= 2;
    arguments->table = PyMem_Calloc(size, 1);
    if (arguments->table == NULL) return false;
    arguments->mask = size - 1;
    for (Py_ssize_t i = 0; i < arguments->count; i++) {
        size_t at = ft_arguments_place(arguments, arguments->list[i].member.name);
        if (arguments->list[i].use == FT_ARGUMENT_IGNORED) continue;
        while (arguments->table[at] != 0) at = (at + 1) & arguments->mask;
        arguments->table[at] = (uint8_t)(i + 1);
    }
    return true;
}

static bool compile_items(ft_arguments *arguments, PyObject *items) {
    Py_ssize_t count = PyList_GET_SIZE(items);
    if (count > UINT8_MAX) {
        PyErr_SetString(PyExc_ValueError, "CallSpec.request has too many members");
        return false;
    }
    arguments->list = PyMem_Calloc((size_t)count + 1, sizeof *arguments->list);
    arguments->by_text = PyDict_New();
    bool fine = arguments->list != NULL && arguments->by_text != NULL;
    for (Py_ssize_t i = 0; fine && i < count; i++) {
        PyObject *item = PyList_GET_ITEM(items, i), *position = PyLong_FromSsize_t(i);
        ft_argument *argument = &arguments->list[i];
        arguments->count = i + 1;
        fine = position != NULL && compile_argument(argument, PyTuple_GET_ITEM(item, 0), PyTuple_GET_ITEM(item, 1)) &&
               PyDict_SetItem(arguments->by_text, argument->member.name, position) == 0;
        Py_XDECREF(position);
    }
    fine = fine && make_table(arguments);
    if (!fine && !PyErr_Occurred()) PyErr_NoMemory();
    return fine;
}

static bool compile_arguments(ft_arguments *arguments, PyObject *request) {
    PyObject *items = PyMapping_Items(request);
    bool fine = items != NULL && compile_items(arguments, items);
    Py_XDECREF(items);
    return fine;
}

static void clear_arguments(ft_arguments *arguments) {
    for (Py_ssize_t i = 0; i < arguments->count; i++) {
        ft_member_clear(&arguments->list[i].member);
        clear_arguments(&arguments->list[i].below);
    }
    PyMem_Free(arguments->list);
    PyMem_Free(arguments->table);
    Py_XDECREF(arguments->by_text);
    memset(arguments, 0, sizeof *arguments);
}

/* ---- the whole ---- */

static bool compile_endpoint(ft_plan *plan, PyObject *path) {
    PyObject *names = PySequence_Tuple(path);
    if (names == NULL) return false;
    plan->endpoint = PyTuple_New(PyTuple_GET_SIZE(names));
    for (Py_ssize_t i = 0; plan->endpoint != NULL && i < PyTuple_GET_SIZE(names); i++)
        PyTuple_SET_ITEM(plan->endpoint, i, ft_interned(PyTuple_GET_ITEM(names, i)));
    Py_DECREF(names);
    return plan->endpoint != NULL;
}

static bool compile_stream(ft_plan *plan, PyObject *spec) {
    PyObject *stream = PyObject_GetAttrString(spec, "stream"), *always = PyObject_GetAttrString(spec, "always_streams");
    bool fine = stream != NULL && always != NULL;
    plan->always_streams = always == Py_True;
    if (fine && stream != Py_None) fine = (plan->stream = ft_stream_plan_compile(stream)) != NULL;
    Py_XDECREF(stream);
    Py_XDECREF(always);
    return fine;
}

static bool compile_reply(ft_plan *plan, PyObject *spec) {
    PyObject *reply = PyObject_GetAttrString(spec, "reply");
    bool fine = reply != NULL && ft_nodes_compile(reply, &plan->reply, &plan->reply_count);
    Py_XDECREF(reply);
    return fine;
}

bool ft_plan_compile(ft_plan *plan, PyObject *spec) {
    char kind[64];
    size_t kind_length;
    if (!text_attribute(spec, "kind", kind, sizeof kind, &kind_length)) return false;
    if (!text_attribute(spec, "operation", plan->operation, sizeof plan->operation, &plan->operation_length)) return false;
    if (!text_attribute(spec, "sdk", plan->sdk, sizeof plan->sdk, &plan->sdk_length)) return false;
    plan->kind = ft_code_of(FT_KIND, kind, kind_length);
    PyObject *request = PyObject_GetAttrString(spec, "request"), *endpoint = PyObject_GetAttrString(spec, "endpoint");
    bool fine = request != NULL && endpoint != NULL && compile_arguments(&plan->request, request) &&
                compile_reply(plan, spec) && compile_endpoint(plan, endpoint) && compile_stream(plan, spec);
    Py_XDECREF(request);
    Py_XDECREF(endpoint);
    return fine;
}

void ft_plan_clear(ft_plan *plan) {
    clear_arguments(&plan->request);
    ft_nodes_free(plan->reply, plan->reply_count);
    plan->reply = NULL;
    plan->reply_count = 0;
    Py_CLEAR(plan->endpoint);
    if (plan->stream != NULL) ft_stream_plan_free(plan->stream);
    plan->stream = NULL;
}
