/* A Node of a CallSpec (core/_api.py) compiled for C, and reading an object by a list of them. Built once per patched
 * method, read-only afterwards but for the hints of its members. */
#ifndef FASTTRACE_PYTHON_NODE_H
#define FASTTRACE_PYTHON_NODE_H

#include "member.h"

/* No field: input and output together, of which the output is what the input leaves. */
enum { FT_TOTAL_TOKENS = FT_FIELD_COUNT };

typedef enum { FT_MARK_NONE, FT_MARK_TOKEN, FT_MARK_TEXT, FT_MARK_END } ft_mark;

typedef struct ft_node {
    ft_member member;
    int field; /* ft_field, or -1 for a node that gives none */
    int adds;  /* the count (ft_field) that this one is added to, or -1 */
    bool each;      /* read every element of a list */
    bool foreign;   /* read only where the endpoint is not the SDK's own provider */
    bool is_summed; /* a node beside it adds to this one's field */
    bool late;      /* in streams: kept, and read at the end */
    bool is_conditional; /* foreign, or of some types only */
    bool is_unusual;     /* not just a field to set, or an object to read */
    ft_mark mark;   /* in streams */
    ft_member unless; /* in streams: beside the member; its name is NULL where there is none */
    PyObject *types;  /* tuple of interned str: what the object's own tag may be; NULL: anything */
    ft_member tag;    /* beside the member: "type", or what else tells objects apart */
    PyObject *otherwise; /* the int that is read where only other counts are there, or NULL */
    struct ft_node *children;
    Py_ssize_t child_count;
} ft_node;

/* `source` is a sequence of Node; false with an exception set, and nothing to free. */
bool ft_nodes_compile(PyObject *source, ft_node **nodes, Py_ssize_t *count);
void ft_nodes_free(ft_node *nodes, Py_ssize_t count);

/* Read the object's members into the span, with what its nodes add to each other. An `error_code` found makes the
 * status an error. Marks and `late` are not looked at. False when an exception must go on. */
bool ft_nodes_read(ft_node *nodes, Py_ssize_t count, PyObject *object, bool is_foreign, ft_ring *ring, ft_span *span);

/* Whether `type` (a new reference or NULL, as ft_field_value gives it; not consumed) is one of `types`. */
bool ft_type_is_among(PyObject *type, PyObject *types);

static inline bool ft_is_count(int field) { return field >= FT_INPUT_TOKENS && field <= FT_WEB_SEARCH_REQUESTS; }


enum { FT_ELEMENTS_MAX = 1024 }; /* of one list, choices of one reply */

#endif
