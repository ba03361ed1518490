/* Looking an attribute up in the objects of an SDK. pydantic keeps a model's fields in the instance dictionary, so that
 * is asked first: a third of the cost of an attribute, and nobody's code runs. What the model does not declare (a
 * gateway's own cost) is in __pydantic_extra__. Objects that are not pydantic models are asked for the attribute;
 * mappings for the key. Runs on the callers' threads. */
#ifndef FASTTRACE_PYTHON_MEMBER_H
#define FASTTRACE_PYTHON_MEMBER_H

#include "values.h"

/* One name that is looked up again and again, and where it was found the last time. */
typedef struct {
    PyObject *name;           /* interned, owned; NULL: there is none */
    Py_ssize_t hint;          /* its position in the last dictionary: objects of one class have one order */
    PyTypeObject *model_type; /* the last class seen that is a pydantic model, owned */
    Py_ssize_t extra_offset;  /* where its instances keep what is undeclared; 0: ask them */
    int relearned;            /* how often the hint was wrong; past a bound it is left alone */
} ft_member;

/* `name` must be a str; takes no reference. */
void ft_member_init(ft_member *member, PyObject *name);
void ft_member_clear(ft_member *member);
bool ft_member_ready(void); /* once, at import */

/* What ft_field_value does when the hint was wrong. */
PyObject *ft_field_search(PyObject *object, PyObject *fields, ft_member *member);

/* A new reference to the dictionary that holds the object's fields (a dict is its own), or NULL. */
static inline PyObject *ft_fields_of(PyObject *object) {
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

/* A new reference to the member of `object`, or NULL, possibly with an exception set (see ft_swallow). `fields` is what
 * ft_fields_of gave for it, or NULL. By position first: looking where the field was the last time costs a third of a
 * look-up. The GIL keeps the dictionary as it is meanwhile. */
static inline PyObject *ft_field_value(PyObject *object, PyObject *fields, ft_member *member) {
#ifndef Py_GIL_DISABLED
    PyObject *key, *value;
    Py_ssize_t position = member->hint;
    if (fields != NULL && PyDict_Next(fields, &position, &key, &value) && key == member->name) return Py_NewRef(value);
#endif
    return ft_field_search(object, fields, member);
}

#endif
