#include "node.h"

#include <string.h>

/* name, field, children, each, foreign, types, adds, mark, unless, late, tag, otherwise */
enum { NODE_PARTS = 12 };

/* -1 for None, and for what is no field, with an exception set. */
static int field_named(PyObject *name) {
    if (name == Py_None) return -1;
    const char *text = PyUnicode_AsUTF8(name);
    for (int field = 0; text != NULL && field < FT_FIELD_COUNT; field++)
        if (strcmp(ft_field_name[field], text) == 0) return field;
    if (text != NULL && strcmp(text, "total_tokens") == 0) return FT_TOTAL_TOKENS;
    if (text != NULL) PyErr_Format(PyExc_ValueError, "%R is not a span field", name);
    return -1;
}

static ft_mark mark_named(PyObject *name) {
    static const char *const names[] = {[FT_MARK_TOKEN] = "token", [FT_MARK_TEXT] = "text", [FT_MARK_END] = "end"};
    const char *text = name == Py_None ? NULL : PyUnicode_AsUTF8(name);
    if (text == NULL) return FT_MARK_NONE;
    for (ft_mark mark = FT_MARK_TOKEN; mark <= FT_MARK_END; mark++)
        if (strcmp(names[mark], text) == 0) return mark;
    PyErr_Format(PyExc_ValueError, "%R is not a mark", name);
    return FT_MARK_NONE;
}

/* A tuple of interned str; NULL for an empty one, and with an exception set for what is none. */
static PyObject *types_of(PyObject *source) {
    PyObject *names = PySequence_Tuple(source);
    if (names == NULL) return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    PyObject *types = count == 0 ? NULL : PyTuple_New(count);
    for (Py_ssize_t i = 0; types != NULL && i < count; i++) {
        PyObject *name = Py_NewRef(PyTuple_GET_ITEM(names, i));
        if (PyUnicode_CheckExact(name))
            PyUnicode_InternInPlace(&name);
        else
            PyErr_Format(PyExc_TypeError, "%R is not the name of a type", name);
        PyTuple_SET_ITEM(types, i, name);
    }
    Py_DECREF(names);
    return types;
}

/* The parts are borrowed by name; False with an exception set. */
static bool fill_node(ft_node *node, PyObject *parts) {
    PyObject *name = PyTuple_GET_ITEM(parts, 0), *adds = PyTuple_GET_ITEM(parts, 6), *unless = PyTuple_GET_ITEM(parts, 8);
    PyObject *tag = PyTuple_GET_ITEM(parts, 10), *otherwise = PyTuple_GET_ITEM(parts, 11);
    bool is_named = PyUnicode_CheckExact(name) && PyUnicode_CheckExact(tag);
    if (!is_named || (unless != Py_None && !PyUnicode_CheckExact(unless))) {
        PyErr_Format(PyExc_TypeError, "%R: a node's names are str", parts);
        return false;
    }
    ft_member_init(&node->member, name);
    ft_member_init(&node->tag, tag);
    if (otherwise != Py_None) node->otherwise = Py_NewRef(otherwise);
    if (unless != Py_None) ft_member_init(&node->unless, unless);
    node->field = field_named(PyTuple_GET_ITEM(parts, 1));
    node->adds = PyErr_Occurred() ? -1 : field_named(adds);
    node->each = PyTuple_GET_ITEM(parts, 3) == Py_True;
    node->foreign = PyTuple_GET_ITEM(parts, 4) == Py_True;
    node->late = PyTuple_GET_ITEM(parts, 9) == Py_True;
    if (!PyErr_Occurred()) node->types = types_of(PyTuple_GET_ITEM(parts, 5));
    if (!PyErr_Occurred()) node->mark = mark_named(PyTuple_GET_ITEM(parts, 7));
    if (!PyErr_Occurred() && node->adds >= 0 && !ft_is_count(node->adds))
        PyErr_Format(PyExc_ValueError, "%R is not a count that can be added to", adds);
    return !PyErr_Occurred() && ft_nodes_compile(PyTuple_GET_ITEM(parts, 2), &node->children, &node->child_count);
}

static bool compile_node(ft_node *node, PyObject *source) {
    PyObject *parts = PySequence_Tuple(source);
    bool fine = parts != NULL && PyTuple_GET_SIZE(parts) == NODE_PARTS;
    if (parts != NULL && !fine) PyErr_Format(PyExc_ValueError, "a reply node has %d members", NODE_PARTS);
    fine = fine && fill_node(node, parts);
    Py_XDECREF(parts);
    return fine;
}

/* What is to be known of a node before it is read: a node beside it may add to its field. */
static void settle_node(ft_node *node, const ft_node *nodes, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++)
        if (nodes[i].adds >= 0 && nodes[i].adds == node->field) node->is_summed = true;
    node->is_conditional = node->foreign || node->types != NULL;
    node->is_unusual = node->is_summed || node->adds >= 0 || node->field == FT_COST_USD ||
                       node->field == FT_ERROR_CODE || node->field == FT_TOTAL_TOKENS;
}

bool ft_nodes_compile(PyObject *source, ft_node **nodes, Py_ssize_t *count) {
    *nodes = NULL;
    *count = 0;
    PyObject *items = PySequence_Tuple(source);
    if (items == NULL) return false;
    Py_ssize_t size = PyTuple_GET_SIZE(items);
    ft_node *made = PyMem_Calloc((size_t)size + 1, sizeof *made);
    if (made == NULL) PyErr_NoMemory();
    bool fine = made != NULL;
    for (Py_ssize_t i = 0; fine && i < size; i++) fine = compile_node(&made[i], PyTuple_GET_ITEM(items, i));
    Py_DECREF(items);
    if (!fine) {
        ft_nodes_free(made, size);
        return false;
    }
    for (Py_ssize_t i = 0; i < size; i++) settle_node(&made[i], made, size);
    *nodes = made;
    *count = size;
    return true;
}

void ft_nodes_free(ft_node *nodes, Py_ssize_t count) {
    for (Py_ssize_t i = 0; nodes != NULL && i < count; i++) {
        ft_member_clear(&nodes[i].member);
        ft_member_clear(&nodes[i].unless);
        ft_member_clear(&nodes[i].tag);
        Py_CLEAR(nodes[i].otherwise);
        Py_CLEAR(nodes[i].types);
        ft_nodes_free(nodes[i].children, nodes[i].child_count);
    }
    PyMem_Free(nodes);
}
