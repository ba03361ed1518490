#include "context.h"

#include <stddef.h>
#include <structmember.h>

#include "fasttrace/ids.h"

ft_context *ft_context_new(PyObject *parent) {
    ft_context *context = PyObject_New(ft_context, &ft_context_type);
    if (context == NULL) return NULL;
    context->retries = context->attempts = 0;
    context->span_id = ft_ids_next_span();
    if (parent != NULL && Py_IS_TYPE(parent, &ft_context_type)) {
        const ft_context *known = (const ft_context *)parent;
        context->trace_hi = known->trace_hi;
        context->trace_lo = known->trace_lo;
        context->parent_span_id = known->span_id;
    } else {
        context->trace_hi = ft_ids_trace_high();
        context->trace_lo = ft_ids_next();
        context->parent_span_id = 0;
    }
    return context;
}

static PyObject *get_trace_id(PyObject *self, void *closure) {
    (void)closure;
    const ft_context *context = (const ft_context *)self;
    char text[33];
    PyOS_snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)context->trace_hi,
                  (unsigned long long)context->trace_lo);
    return PyUnicode_FromStringAndSize(text, 32);
}

static PyObject *hex_id(uint64_t id) {
    char text[17];
    PyOS_snprintf(text, sizeof text, "%016llx", (unsigned long long)id);
    return PyUnicode_FromStringAndSize(text, 16);
}

static PyObject *get_span_id(PyObject *self, void *closure) {
    (void)closure;
    return hex_id(((const ft_context *)self)->span_id);
}

static PyObject *get_parent_span_id(PyObject *self, void *closure) {
    (void)closure;
    uint64_t parent = ((const ft_context *)self)->parent_span_id;
    if (parent == 0) Py_RETURN_NONE;
    return hex_id(parent);
}

static PyObject *context_repr(PyObject *self) {
    const ft_context *context = (const ft_context *)self;
    char text[64];
    PyOS_snprintf(text, sizeof text, "%016llx%016llx:%016llx", (unsigned long long)context->trace_hi,
                  (unsigned long long)context->trace_lo, (unsigned long long)context->span_id);
    return PyUnicode_FromFormat("<SpanContext %s>", text);
}

static PyGetSetDef context_getset[] = {
    {"trace_id", get_trace_id, NULL, "W3C trace id, 32 lower-case hex digits.", NULL},
    {"span_id", get_span_id, NULL, "W3C span id, 16 lower-case hex digits.", NULL},
    {"parent_span_id", get_parent_span_id, NULL, "The parent's span id, or None on a root.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef context_members[] = {
    {"retries", T_UINT, offsetof(ft_context, retries), 0, "Retries the SDK has made inside this call."},
    {"attempts", T_UINT, offsetof(ft_context, attempts), 0, "Attempts, for an SDK that only tells of each of them."},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject ft_context_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fasttrace.core._native.SpanContext",
    .tp_basicsize = sizeof(ft_context),
    .tp_dealloc = (destructor)PyObject_Free,
    .tp_repr = context_repr,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Identity of a span, and what children and retries need of it.",
    .tp_getset = context_getset,
    .tp_members = context_members,
};
