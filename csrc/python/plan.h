/* A CallSpec (core/_api.py) compiled for C: which keyword arguments of a call and which attributes of its reply become
 * which span fields. Built once per patched method, read-only afterwards. */
#ifndef FASTTRACE_PYTHON_PLAN_H
#define FASTTRACE_PYTHON_PLAN_H

#include "values.h"

typedef enum { FT_ARGUMENT_IGNORED, FT_ARGUMENT_MODEL, FT_ARGUMENT_PARAM, FT_ARGUMENT_STREAM, FT_ARGUMENT_TIER } ft_argument_use;

typedef struct {
    PyObject *name; /* interned */
    ft_argument_use use;
    char label[72]; /* ready JSON: "temperature": */
    size_t label_length;
} ft_argument;

typedef struct ft_node {
    PyObject *name; /* interned */
    int field;      /* ft_field, or -1 for a node that only leads on */
    bool each;      /* read every element of a list */
    bool foreign;   /* read only where the endpoint is not the SDK's own provider */
    Py_ssize_t hint; /* where the name stood in the last dictionary: replies of one class have one order */
    PyTypeObject *model_type; /* the last class seen that is a pydantic model: compared, never followed */
    int relearned;   /* how often the hint was wrong; past HINTS_MAX it is left alone */
    struct ft_node *children;
    Py_ssize_t child_count;
} ft_node;

typedef struct {
    uint8_t kind;
    char operation[128];
    size_t operation_length;
    char sdk[64];
    size_t sdk_length;
    ft_argument *arguments;
    Py_ssize_t argument_count;
    PyObject *argument_index; /* dict: name to position, for names that are not interned */
    ft_node *reply;
    Py_ssize_t reply_count;
    PyObject *endpoint; /* tuple of interned attribute names */
} ft_plan;

bool ft_plan_compile(ft_plan *plan, PyObject *spec);
void ft_plan_clear(ft_plan *plan);

/* ---- the request ---- */
typedef struct {
    PyObject *model; /* borrowed from the arguments */
    bool is_streamed;
    bool has_other_tier; /* a service tier was asked for that the price list is not for */
} ft_request;
/* Read the keyword arguments; scalars go to request_params. False when an exception must go on. */
bool ft_request_read(const ft_plan *plan, PyObject *const *args, Py_ssize_t positional, PyObject *names, ft_span *span,
                     ft_request *request);

/* ---- the reply ---- */
bool ft_reply_ready(void); /* once, at import */
/* Read the reply's attributes into the span. False when an exception must go on. */
bool ft_reply_read(const ft_plan *plan, PyObject *reply, bool is_foreign, ft_ring *ring, ft_span *span);

#endif
