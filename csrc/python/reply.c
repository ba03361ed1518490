/* Reading a reply. pydantic keeps a model's fields in the instance dictionary, so that is asked first: a third of the
 * cost of an attribute, and nobody's code runs. What the model does not declare (a gateway's own cost) is in
 * __pydantic_extra__. Objects that are not pydantic models are asked for the attribute; mappings for the key. */
#include "plan.h"

enum { MAX_ELEMENTS = 1024 }; /* choices of one reply */

static PyObject *extra_name; /* "__pydantic_extra__" */

bool ft_reply_ready(void) {
    extra_name = PyUnicode_InternFromString("__pydantic_extra__");
    return extra_name != NULL;
}

/* A new reference to the dictionary that holds the object's fields, or NULL. */
static PyObject *fields_of(PyObject *object) {
    if (PyDict_Check(object)) return Py_NewRef(object);
#ifdef Py_GIL_DISABLED
    PyObject *fields = PyObject_GenericGetDict(object, NULL);
    if (fields == NULL) PyErr_Clear();
    return fields;
#else
    PyObject **slot = _PyObject_GetDictPtr(object);
    return slot == NULL ? NULL : Py_XNewRef(*slot);
#endif
}

/* The class tells: a proxy of a model has the model's attributes, and not its dictionary. */
static bool is_model(PyObject *object, ft_node *node) {
#ifdef Py_GIL_DISABLED
    (void)node;
    return PyObject_HasAttr((PyObject *)Py_TYPE(object), extra_name);
#else
    if (node->model_type == Py_TYPE(object)) return true;
    if (!PyObject_HasAttr((PyObject *)Py_TYPE(object), extra_name)) return false;
    node->model_type = Py_TYPE(object);
    return true;
#endif
}

/* True when that settles it: the object is a pydantic model that keeps undeclared fields, and `value` is the field or
 * NULL; or something was raised that is not ours to silence. */
static bool from_extra(PyObject *object, PyObject *name, PyObject **value) {
    PyObject *extra = PyObject_GetAttr(object, extra_name);
    if (extra == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError)) return true;
    if (extra == NULL) {
        PyErr_Clear();
        return false;
    }
    bool is_settled = PyDict_CheckExact(extra) || extra == Py_None;
    *value = PyDict_CheckExact(extra) ? ft_dict_get(extra, name) : NULL;
    Py_DECREF(extra);
    return is_settled;
}

#ifdef Py_GIL_DISABLED
static PyObject *declared(PyObject *fields, ft_node *node) { return ft_dict_get(fields, node->name); }
#else
enum { HINTS_MAX = 64 };

static void learn_position(PyObject *fields, ft_node *node) {
    PyObject *key, *value;
    Py_ssize_t position = 0, here = 0;
    node->relearned++;
    while (PyDict_Next(fields, &position, &key, &value)) {
        if (key == node->name) node->hint = here;
        here = position;
    }
}

/* By position first: a reply's class has its fields in one order, and looking where the field was the last time costs
 * a third of a look-up. The GIL keeps the dictionary as it is meanwhile. */
static PyObject *declared(PyObject *fields, ft_node *node) {
    PyObject *key, *value;
    Py_ssize_t position = node->hint;
    if (PyDict_Next(fields, &position, &key, &value) && key == node->name) return Py_NewRef(value);
    value = ft_dict_get(fields, node->name);
    if (value != NULL && node->relearned < HINTS_MAX) learn_position(fields, node);
    return value;
}
#endif

/* A new reference to the field, or NULL, possibly with an exception set. */
static PyObject *field_value(PyObject *object, PyObject *fields, ft_node *node) {
    PyObject *name = node->name, *value = fields == NULL ? NULL : declared(fields, node);
    if (value != NULL || fields == object) return value;
    if (fields != NULL && is_model(object, node) && from_extra(object, name, &value)) return value;
    return PyObject_GetAttr(object, name);
}

typedef struct {
    ft_ring *ring;
    ft_span *span;
    bool is_foreign;
} reading;

static bool read_nodes(const reading *to, PyObject *object, ft_node *nodes, Py_ssize_t count);

static bool read_value(const reading *to, PyObject *value, ft_node *node) {
    if (value == Py_None) return true;
    if (node->field == FT_COST_USD) {
        ft_set_reported_cost(to->span, value);
        return true;
    }
    if (node->field >= 0) return ft_set_field(to->ring, to->span, (ft_field)node->field, value);
    return read_nodes(to, value, node->children, node->child_count);
}

static bool read_each(const reading *to, PyObject *list, ft_node *node) {
    if (!PyList_Check(list) && !PyTuple_Check(list)) return true;
    Py_ssize_t size = PySequence_Fast_GET_SIZE(list);
    for (Py_ssize_t i = 0; i < size && i < MAX_ELEMENTS; i++) {
        PyObject *element = PySequence_GetItem(list, i);
        bool fine = element == NULL ? ft_swallow() : read_value(to, element, node);
        Py_XDECREF(element);
        if (!fine) return false;
    }
    return true;
}

static bool read_node(const reading *to, PyObject *object, PyObject *fields, ft_node *node) {
    if (node->foreign && !to->is_foreign) return true;
    PyObject *value = field_value(object, fields, node);
    if (value == NULL) return ft_swallow();
    bool fine = node->each ? read_each(to, value, node) : read_value(to, value, node);
    Py_DECREF(value);
    return fine;
}

static bool read_nodes(const reading *to, PyObject *object, ft_node *nodes, Py_ssize_t count) {
    PyObject *fields = fields_of(object);
    bool fine = true;
    for (Py_ssize_t i = 0; fine && i < count; i++) fine = read_node(to, object, fields, &nodes[i]);
    Py_XDECREF(fields);
    return fine;
}

bool ft_reply_read(const ft_plan *plan, PyObject *reply, bool is_foreign, ft_ring *ring, ft_span *span) {
    if (reply == Py_None) return true;
    reading to = {ring, span, is_foreign};
    if (!read_nodes(&to, reply, plan->reply, plan->reply_count)) return false;
    if (ft_record_has(&span->record, FT_INPUT_TOKENS) || ft_record_has(&span->record, FT_OUTPUT_TOKENS))
        span->record.usage_source = FT_USAGE_PROVIDER;
    return true;
}
