/* What the two watching iterators have in common: what they hold, and that to everybody who asks they are the iterator
 * that they stand around. */
#ifndef FASTTRACE_PYTHON_ITERATOR_H
#define FASTTRACE_PYTHON_ITERATOR_H

#include <stddef.h>

#include "watch.h"

/* The beginning of both. */
typedef struct {
    PyObject_HEAD
    PyObject *inner; /* the SDK's; NULL once the collector took it */
    ft_watch *watch;
    PyObject *weak_references;
} ft_iterator;

/* The SDK's iterator: borrowed, and None once the collector took it. */
static inline PyObject *ft_iterator_inner(PyObject *object) {
    PyObject *inner = ((ft_iterator *)object)->inner;
    return inner == NULL ? Py_None : inner;
}

/* Slots of both types. The methods of ours are there where the SDK's iterator has them. */
PyObject *ft_iterator_getattro(PyObject *object, PyObject *name);
int ft_iterator_setattro(PyObject *object, PyObject *name, PyObject *value);
PyObject *ft_iterator_repr(PyObject *object);
void ft_iterator_finalize(PyObject *object);
extern PyGetSetDef ft_iterator_getset[];

/* Interned names of methods. */
typedef struct {
    PyObject *close, *send, *throw, *aclose, *asend, *athrow;
} ft_iterator_names;
extern ft_iterator_names ft_name_of;

#endif
