/* Everything csrc/python/ gives to the Cython module. */
#ifndef FASTTRACE_PYTHON_TYPES_H
#define FASTTRACE_PYTHON_TYPES_H

#include "context.h"
#include "method.h"
#include "recorder.h"
#include "stream.h"

/* Ready the static types and keep the shared Python slow paths. False with an exception set. */
bool ft_types_ready(PyObject *current, PyObject *clean, PyObject *redacted, PyObject *render_param, PyObject *report);

static inline PyObject *ft_new_context(PyObject *parent) { return (PyObject *)ft_context_new(parent); }
static inline PyObject *ft_span_context_type(void) { return Py_NewRef((PyObject *)&ft_context_type); }
static inline bool ft_is_context(PyObject *value) { return Py_IS_TYPE(value, &ft_context_type); }

#endif
