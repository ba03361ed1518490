/* From a reply to its watch: which part of the SDK's object is replaced by what watches it (watch.h says why). Runs
 * once for every streamed call, on the thread that made it. */
#include "stream.h"

#include "watch.h"

static PyObject *close_name, *aclose_name;

PyObject *ft_alive(PyObject *reference) {
    if (reference == NULL || !PyWeakref_Check(reference)) return Py_XNewRef(reference);
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *object = NULL;
    if (PyWeakref_GetRef(reference, &object) < 0) PyErr_Clear();
    return object;
#else
    PyObject *object = PyWeakref_GetObject(reference);
    return object == NULL || object == Py_None ? NULL : Py_NewRef(object);
#endif
}

/* NULL for what is no iterator of the sort that such a call gives, or with an exception set. */
static PyObject *around(PyObject *inner, ft_watch *watch, bool is_async) {
    const PyAsyncMethods *methods = Py_TYPE(inner)->tp_as_async;
    if (is_async) return methods == NULL || methods->am_anext == NULL ? NULL : ft_async_iterator_new(inner, watch);
    return PyIter_Check(inner) ? ft_iterator_new(inner, watch) : NULL;
}

PyObject *ft_stream_attach(ft_watch *watch, const ft_target *target, const ft_stream_plan *plan, PyObject *reply) {
    PyObject *inner = plan->iterator == NULL ? Py_NewRef(reply) : PyObject_GetAttr(reply, plan->iterator);
    PyObject *iterator = inner == NULL ? NULL : around(inner, watch, target->is_async);
    Py_XDECREF(inner);
    if (plan->iterator == NULL && iterator != NULL) return iterator;
    bool is_set = iterator != NULL && PyObject_SetAttr(reply, plan->iterator, iterator) == 0;
    Py_XDECREF(iterator);
    if (is_set) return Py_NewRef(reply);
    ft_swallow(); /* or it goes on */
    return NULL;
}

bool ft_stream_see_closed(ft_watch *watch, const ft_target *target, PyObject *object, PyObject *body) {
    PyObject *closed = Py_NewRef(object);
    for (Py_ssize_t i = 0; closed != NULL && i < PyTuple_GET_SIZE(body); i++)
        Py_SETREF(closed, PyObject_GetAttr(closed, PyTuple_GET_ITEM(body, i)));
    PyObject *name = target->is_async ? aclose_name : close_name;
    bool fine = closed == NULL ? ft_swallow() : ft_closer_set(closed, name, watch);
    Py_XDECREF(closed);
    return fine;
}

/* The reply that is watched, or NULL; the watch is not open yet. */
static PyObject *watched(ft_watch *watch, const ft_call *call, PyObject *reply) {
    const ft_stream_plan *plan = call->route->plan.stream;
    PyObject *given = ft_stream_attach(watch, call->target, plan, reply);
    if (given == NULL || PyTuple_GET_SIZE(plan->body) == 0) return given;
    if (ft_stream_see_closed(watch, call->target, reply, plan->body)) return given;
    Py_DECREF(given);
    return NULL;
}

PyObject *ft_stream_watch(ft_call *call, PyObject *reply) {
    ft_watch *watch = ft_watch_new();
    PyObject *given = watch == NULL ? NULL : watched(watch, call, reply);
    if (watch == NULL) ft_swallow();
    if (given != NULL) {
        watch->is_unrequested = call->route->plan.stream->iterator == NULL && !call->target->is_async;
        ft_watch_take(watch, call);
        bool fine = ft_watch_reads_chunks(watch);
        ft_watch_open(watch);
        Py_DECREF(fine ? reply : given);
        if (!fine) given = NULL;
    }
    Py_XDECREF(watch);
    return given;
}

bool ft_stream_ready(void) {
    close_name = PyUnicode_InternFromString("close");
    aclose_name = PyUnicode_InternFromString("aclose");
    return close_name != NULL && aclose_name != NULL && ft_watch_ready() && ft_iterator_ready() &&
           ft_async_iterator_ready() && ft_closer_ready() && ft_raw_ready();
}
