#include "plan.h"

#include <string.h>

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

static PyObject *interned(PyObject *name) {
    Py_INCREF(name);
    PyUnicode_InternInPlace(&name);
    return name;
}

static bool compile_argument(ft_argument *argument, PyObject *name, PyObject *use) {
    const char *word = PyUnicode_AsUTF8(use), *text = PyUnicode_AsUTF8(name);
    if (word == NULL || text == NULL) return false;
    argument->name = interned(name);
    argument->use = strcmp(word, "model") == 0    ? FT_ARGUMENT_MODEL
                    : strcmp(word, "param") == 0  ? FT_ARGUMENT_PARAM
                    : strcmp(word, "stream") == 0 ? FT_ARGUMENT_STREAM
                    : strcmp(word, "tier") == 0   ? FT_ARGUMENT_TIER
                                                  : FT_ARGUMENT_IGNORED;
    int length = PyOS_snprintf(argument->label, sizeof argument->label, "\"%s\":", text);
    argument->label_length = (size_t)length;
    if (length > 0 && argument->label_length < sizeof argument->label) return true;
    PyErr_Format(PyExc_ValueError, "CallSpec.request: %R is too long a name", name);
    return false;
}

static bool compile_request(ft_plan *plan, PyObject *request) {
    PyObject *items = PyMapping_Items(request);
    if (items == NULL) return false;
    Py_ssize_t count = PyList_GET_SIZE(items);
    plan->arguments = PyMem_Calloc((size_t)count + 1, sizeof *plan->arguments);
    plan->argument_index = PyDict_New();
    bool fine = plan->arguments != NULL && plan->argument_index != NULL;
    for (Py_ssize_t i = 0; fine && i < count; i++) {
        PyObject *item = PyList_GET_ITEM(items, i), *position = PyLong_FromSsize_t(i);
        plan->argument_count = i + 1;
        fine = position != NULL &&
               compile_argument(&plan->arguments[i], PyTuple_GET_ITEM(item, 0), PyTuple_GET_ITEM(item, 1)) &&
               PyDict_SetItem(plan->argument_index, plan->arguments[i].name, position) == 0;
        Py_XDECREF(position);
    }
    Py_DECREF(items);
    return fine;
}

static int field_named(PyObject *name) {
    const char *text = PyUnicode_AsUTF8(name);
    for (int field = 0; text != NULL && field < FT_FIELD_COUNT; field++)
        if (strcmp(ft_field_name[field], text) == 0) return field;
    if (text != NULL) PyErr_Format(PyExc_ValueError, "%R is not a span field", name);
    return -1;
}

static ft_node *compile_nodes(PyObject *nodes, Py_ssize_t *count);

static bool compile_node(ft_node *node, PyObject *source) {
    PyObject *parts = PySequence_Tuple(source); /* Node(name, field, children, each, foreign) */
    if (parts == NULL || PyTuple_GET_SIZE(parts) != 5) {
        Py_XDECREF(parts);
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a reply node has five members");
        return false;
    }
    PyObject *field = PyTuple_GET_ITEM(parts, 1);
    node->name = interned(PyTuple_GET_ITEM(parts, 0));
    node->field = field == Py_None ? -1 : field_named(field);
    node->each = PyTuple_GET_ITEM(parts, 3) == Py_True;
    node->foreign = PyTuple_GET_ITEM(parts, 4) == Py_True;
    bool fine = field == Py_None || node->field >= 0;
    if (fine) node->children = compile_nodes(PyTuple_GET_ITEM(parts, 2), &node->child_count);
    Py_DECREF(parts);
    return fine && node->children != NULL;
}

static void clear_nodes(ft_node *nodes, Py_ssize_t count) {
    for (Py_ssize_t i = 0; nodes != NULL && i < count; i++) {
        Py_XDECREF(nodes[i].name);
        clear_nodes(nodes[i].children, nodes[i].child_count);
    }
    PyMem_Free(nodes);
}

static ft_node *compile_nodes(PyObject *source, Py_ssize_t *count) {
    PyObject *items = PySequence_Tuple(source);
    if (items == NULL) return NULL;
    *count = PyTuple_GET_SIZE(items);
    ft_node *nodes = PyMem_Calloc((size_t)*count + 1, sizeof *nodes);
    bool fine = nodes != NULL;
    for (Py_ssize_t i = 0; fine && i < *count; i++) fine = compile_node(&nodes[i], PyTuple_GET_ITEM(items, i));
    Py_DECREF(items);
    if (fine) return nodes;
    clear_nodes(nodes, *count);
    *count = 0;
    return NULL;
}

static bool compile_endpoint(ft_plan *plan, PyObject *path) {
    PyObject *names = PySequence_Tuple(path);
    if (names == NULL) return false;
    plan->endpoint = PyTuple_New(PyTuple_GET_SIZE(names));
    for (Py_ssize_t i = 0; plan->endpoint != NULL && i < PyTuple_GET_SIZE(names); i++)
        PyTuple_SET_ITEM(plan->endpoint, i, interned(PyTuple_GET_ITEM(names, i)));
    Py_DECREF(names);
    return plan->endpoint != NULL;
}

bool ft_plan_compile(ft_plan *plan, PyObject *spec) {
    char kind[64];
    size_t kind_length;
    if (!text_attribute(spec, "kind", kind, sizeof kind, &kind_length)) return false;
    if (!text_attribute(spec, "operation", plan->operation, sizeof plan->operation, &plan->operation_length)) return false;
    if (!text_attribute(spec, "sdk", plan->sdk, sizeof plan->sdk, &plan->sdk_length)) return false;
    plan->kind = ft_code_of(FT_KIND, kind, kind_length);
    PyObject *request = PyObject_GetAttrString(spec, "request"), *reply = PyObject_GetAttrString(spec, "reply");
    PyObject *endpoint = PyObject_GetAttrString(spec, "endpoint");
    bool fine = request != NULL && reply != NULL && endpoint != NULL && compile_request(plan, request) &&
                (plan->reply = compile_nodes(reply, &plan->reply_count)) != NULL && compile_endpoint(plan, endpoint);
    Py_XDECREF(request);
    Py_XDECREF(reply);
    Py_XDECREF(endpoint);
    return fine;
}

void ft_plan_clear(ft_plan *plan) {
    for (Py_ssize_t i = 0; i < plan->argument_count; i++) Py_CLEAR(plan->arguments[i].name);
    PyMem_Free(plan->arguments);
    plan->arguments = NULL;
    plan->argument_count = 0;
    Py_CLEAR(plan->argument_index);
    clear_nodes(plan->reply, plan->reply_count);
    plan->reply = NULL;
    plan->reply_count = 0;
    Py_CLEAR(plan->endpoint);
}
