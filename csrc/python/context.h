/* SpanContext: the identity of a running span, the value of the one ContextVar that makes parents and children. */
#ifndef FASTTRACE_PYTHON_CONTEXT_H
#define FASTTRACE_PYTHON_CONTEXT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

typedef struct {
    PyObject_HEAD
    uint64_t trace_hi, trace_lo, span_id, parent_span_id;
    unsigned int retries;  /* counted by the SDK's retry seam while the span is current */
    unsigned int attempts; /* the same, where only attempts can be counted */
} ft_context;

extern PyTypeObject ft_context_type;

/* A child of `parent`, or a new root when it is not a context. */
ft_context *ft_context_new(PyObject *parent);

#endif
