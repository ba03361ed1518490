/* A CallSpec (core/_api.py) compiled for C: which members of a request and which attributes of its reply become which
 * span fields. Built once per kind of call, read-only afterwards but for the hints of its members. */
#ifndef FASTTRACE_PYTHON_PLAN_H
#define FASTTRACE_PYTHON_PLAN_H

#include "node.h"

typedef enum {
    FT_ARGUMENT_IGNORED,
    FT_ARGUMENT_MODEL,
    FT_ARGUMENT_PARAM,
    FT_ARGUMENT_STREAM,
    FT_ARGUMENT_TIER,
    FT_ARGUMENT_RATE,
    FT_ARGUMENT_BELOW
} ft_argument_use;

struct ft_argument;

/* The members of a request, or of an object in it, found by the identity of their interned names, or by text. */
typedef struct {
    struct ft_argument *list;
    Py_ssize_t count;
    uint8_t *table;   /* open addressing by the name's address: position in the list + 1, 0 for none */
    size_t mask;      /* of the table */
    PyObject *by_text; /* dict: name to position, for names that are not interned */
} ft_arguments;

static inline size_t ft_arguments_place(const ft_arguments *arguments, const PyObject *name) {
    uintptr_t address = (uintptr_t)name;
    return (size_t)(address >> 4 ^ address >> 12) & arguments->mask;
}

typedef struct ft_argument {
    ft_member member;
    ft_argument_use use;
    char label[72]; /* ready JSON: "temperature": */
    size_t label_length;
    ft_arguments below; /* of FT_ARGUMENT_BELOW */
} ft_argument;

typedef struct {
    uint8_t kind;
    char operation[128];
    size_t operation_length;
    char sdk[64];
    size_t sdk_length;
    ft_arguments request;
    ft_node *reply;
    Py_ssize_t reply_count;
    PyObject *endpoint; /* tuple of interned attribute names */
    bool always_streams;
    struct ft_stream_plan *stream; /* stream.h; NULL for a spec without */
} ft_plan;

bool ft_plan_compile(ft_plan *plan, PyObject *spec);
void ft_plan_clear(ft_plan *plan);

/* A new reference to the interned str. */
PyObject *ft_interned(PyObject *name);

/* ---- the request ---- */

/* As the SDK asks it; its "not given" is false. A value that cannot be asked is not a wish. */
bool ft_is_true(PyObject *value);

typedef struct {
    PyObject *model; /* strong, or NULL */
    bool is_streamed;
    bool has_other_tier; /* a service tier was asked for that the price list is not for */
    bool has_other_rate; /* the same, whatever tier the reply names */
} ft_request;

/* Read the keyword arguments, or dictionaries, where the last that has a member counts; scalars go to request_params.
 * False when an exception must go on; `request` is set in any case. */
bool ft_request_read(ft_plan *plan, PyObject *const *args, Py_ssize_t positional, PyObject *names, ft_span *span,
                     ft_request *request);
bool ft_request_read_bodies(ft_plan *plan, PyObject *const *bodies, int count, ft_span *span, ft_request *request);

#endif
