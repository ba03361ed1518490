/* Finding the kind of a call that goes through a method which calls of many kinds go through (core/_api.py: Router): by
 * the identity of the request's path and verb, which are literals in the SDK's source, and only then by their text.
 * Runs on the callers' threads, once a call. */
#ifndef FASTTRACE_PYTHON_ROUTE_H
#define FASTTRACE_PYTHON_ROUTE_H

#include "call.h"

/* Interned attribute names, by which a raw reply is told (core/_api.py: RawSpec). */
typedef struct {
    PyObject *response, *parsed, *body;
} ft_raw_names;

enum { FT_BODIES_MAX = 4 };

/* What a call's request was found to be. */
typedef struct {
    ft_route *route;                 /* NULL: no route fits */
    PyObject *bodies[FT_BODIES_MAX]; /* strong, each a dict */
    int body_count;
    bool is_streamed;
} ft_routed;

/* Give `target` its routes, one for a CallSpec, and its router for a Router. False with an exception set; what was made
 * is the target's to clear. */
bool ft_routes_compile(ft_target *target, PyObject *spec);
int ft_routes_traverse(ft_target *target, visitproc visit, void *arg);
void ft_routes_clear(ft_target *target); /* references only: calls may still run */
void ft_routes_free(ft_target *target);

/* False when an exception must go on. Bodies are read only where a route was found. */
bool ft_router_find(ft_target *target, PyObject *const *args, Py_ssize_t positional, PyObject *names, ft_routed *routed);
void ft_routed_clear(ft_routed *routed);

const ft_raw_names *ft_router_raw(const ft_router *router);

#endif
