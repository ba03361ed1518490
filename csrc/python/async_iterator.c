/* The watching iterator of an asynchronous stream: as the synchronous one (iterator.c), with one thing more between
 * the two: what its `__anext__` gives is awaited later, or never. That is a step: an awaitable around the one that the
 * SDK's iterator gave. It is a step of the watch from its first send until its outcome, and forwards whatever is sent
 * or thrown into it, so that cancelling, closing and the hooks of asynchronous generators work as without us.
 *
 * A step in flight holds its iterator, as the SDK's own would. When it is done the iterator keeps it, once nobody else
 * does, for the next chunk: an allocation less, and never a cycle. */
#include "iterator.h"

typedef struct stream_step stream_step;

typedef struct {
    ft_iterator head;
    stream_step *spare; /* a step that is done, or NULL */
} async_iterator;

typedef enum {
    STEP_NEW,
    STEP_STEPPING, /* of the watch */
    STEP_PASSING,  /* not of the watch */
    STEP_DONE,
} step_state;

struct stream_step {
    PyObject_HEAD
    PyObject *awaitable;         /* the SDK's */
    PyObject *steps;             /* what is sent to: the awaitable, or what it hands out; NULL until the first send */
    async_iterator *iterator; /* NULL when it is done */
    step_state state;
    bool is_close; /* aclose() */
};

/* ---- steps ---- */

static bool has_await(PyObject *object) {
    const PyAsyncMethods *methods = Py_TYPE(object)->tp_as_async;
    return methods != NULL && methods->am_await != NULL;
}

/* What `await` would step. */
static PyObject *steps_of(PyObject *awaitable) {
    if (PyCoro_CheckExact(awaitable) || !has_await(awaitable)) return Py_NewRef(awaitable);
    return (*Py_TYPE(awaitable)->tp_as_async->am_await)(awaitable);
}

/* False with an exception set. */
static bool step_begins(stream_step *step) {
    if (step->steps == NULL && (step->steps = steps_of(step->awaitable)) == NULL) return false;
    if (step->state != STEP_NEW) return true;
    ft_watch *watch = step->iterator->head.watch;
    step->state = !step->is_close && ft_watch_steps(watch) ? STEP_STEPPING : STEP_PASSING;
    return !step->is_close || ft_watch_leave(watch, false) != FT_LEAVES_INTERRUPTED;
}

static bool has_ended(const async_iterator *iterator) {
    return atomic_load_explicit(&iterator->head.watch->state, memory_order_relaxed) == FT_WATCH_ENDED;
}

/* The iterator is let go of; it keeps the step for the next chunk. */
static void retire(stream_step *step) {
    async_iterator *iterator = step->iterator;
    step->state = STEP_DONE;
    step->iterator = NULL;
    if (iterator == NULL) return;
#ifndef Py_GIL_DISABLED
    if (iterator->spare == NULL && !has_ended(iterator)) iterator->spare = (stream_step *)Py_NewRef((PyObject *)step);
#endif
    Py_DECREF(iterator);
}

/* The step gave `chunk`, or NULL with an exception set. The same, unless an interrupt must go on in its place. */
static PyObject *step_ends(stream_step *step, PyObject *chunk) {
    ft_watch *watch = step->state == STEP_STEPPING ? step->iterator->head.watch : NULL;
    if (watch != NULL && chunk == NULL) ft_watch_stopped(watch);
    if (watch != NULL && chunk != NULL && !ft_watch_stepped(watch, chunk)) Py_CLEAR(chunk);
    retire(step);
    return chunk;
}

static PySendResult step_am_send(PyObject *object, PyObject *value, PyObject **result) {
    stream_step *step = (stream_step *)object;
    *result = NULL;
    PySendResult outcome = step_begins(step) ? PyIter_Send(step->steps, value, result) : PYGEN_ERROR;
    if (outcome == PYGEN_NEXT || step->state == STEP_DONE) return outcome;
    *result = step_ends(step, *result);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static void set_stop_iteration(PyObject *value) {
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (stop != NULL) PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
}

static PyObject *step_send(PyObject *object, PyObject *value) {
    PyObject *result;
    if (step_am_send(object, value, &result) == PYGEN_RETURN) {
        set_stop_iteration(result);
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *step_next(PyObject *object) { return step_send(object, Py_None); }

/* An awaitable that ends inside throw() says so by StopIteration. */
static void ended_by_throw(stream_step *step) {
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        step_ends(step, NULL);
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *chunk = Py_XNewRef(((PyStopIterationObject *)value)->value);
    chunk = step_ends(step, chunk == NULL ? Py_NewRef(Py_None) : chunk);
    if (chunk != NULL) {
        Py_DECREF(chunk);
        PyErr_Restore(type, value, traceback);
        return;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

static PyObject *step_throw(PyObject *object, PyObject *args) {
    stream_step *step = (stream_step *)object;
    Py_INCREF(object);
    PyObject *throw = step_begins(step) ? PyObject_GetAttr(step->steps, ft_name_of.throw) : NULL;
    PyObject *result = throw == NULL ? NULL : PyObject_Call(throw, args, NULL);
    Py_XDECREF(throw);
    if (result == NULL && step->state != STEP_DONE) ended_by_throw(step);
    Py_DECREF(object);
    return result;
}

/* Given up, in the middle or before it began. */
static bool step_given_up(stream_step *step) {
    ft_watch *watch = step->state == STEP_STEPPING ? step->iterator->head.watch : NULL;
    bool fine = watch == NULL || ft_watch_leave(watch, true) != FT_LEAVES_INTERRUPTED;
    if (step->state != STEP_DONE) retire(step);
    return fine;
}

static PyObject *step_close(PyObject *object, PyObject *unused) {
    (void)unused;
    stream_step *step = (stream_step *)object;
    Py_INCREF(object);
    PyObject *done = PyObject_CallMethodNoArgs(step->steps != NULL ? step->steps : step->awaitable, ft_name_of.close);
    if (done != NULL && !step_given_up(step)) Py_CLEAR(done);
    if (done == NULL && step->state != STEP_DONE) step_ends(step, NULL);
    Py_DECREF(object);
    return done;
}

static PyObject *step_getattro(PyObject *object, PyObject *name) {
    PyObject *value = PyObject_GenericGetAttr(object, name);
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) return value;
    PyErr_Clear();
    return PyObject_GetAttr(((stream_step *)object)->awaitable, name);
}

static PyObject *step_repr(PyObject *object) { return PyObject_Repr(((stream_step *)object)->awaitable); }

static PyObject *step_class(PyObject *object, void *unused) {
    (void)unused;
    return Py_NewRef((PyObject *)Py_TYPE(((stream_step *)object)->awaitable));
}

static int step_traverse(PyObject *object, visitproc visit, void *arg) {
    stream_step *step = (stream_step *)object;
    Py_VISIT(step->awaitable);
    Py_VISIT(step->steps);
    Py_VISIT((PyObject *)step->iterator);
    return 0;
}

static int step_clear(PyObject *object) {
    Py_CLEAR(((stream_step *)object)->steps);
    return 0;
}

/* In flight and dropped: nobody will ever send to it again. */
static void step_finalize(PyObject *object) {
    const stream_step *step = (const stream_step *)object;
    if (step->state == STEP_STEPPING) ft_watch_drop(step->iterator->head.watch);
}

static void step_dealloc(PyObject *object) {
    stream_step *step = (stream_step *)object;
    if (PyObject_CallFinalizerFromDealloc(object) < 0) return;
    PyObject_GC_UnTrack(object);
    Py_CLEAR(step->steps);
    Py_CLEAR(step->awaitable);
    Py_CLEAR(step->iterator);
    PyObject_GC_Del(object);
}

/* The one that the iterator kept, if nobody else has it. */
static stream_step *spare_step(async_iterator *iterator) {
    stream_step *step = iterator->spare;
    if (step == NULL || Py_REFCNT((PyObject *)step) != 1) return NULL;
    iterator->spare = NULL;
    return step;
}

static stream_step *new_step(void) {
    stream_step *step = PyObject_GC_New(stream_step, &ft_step_type);
    if (step == NULL) return NULL;
    step->awaitable = step->steps = NULL;
    step->iterator = NULL;
    PyObject_GC_Track(step);
    return step;
}

/* A step around an awaitable of the SDK's iterator, whose reference is taken. NULL stays NULL; what cannot be awaited
 * is handed on to whoever says so. */
static PyObject *step_around(async_iterator *iterator, PyObject *awaitable, bool is_close) {
    if (awaitable == NULL || !(has_await(awaitable) || PyGen_CheckExact(awaitable))) return awaitable;
    stream_step *step = spare_step(iterator);
    if (step == NULL && (step = new_step()) == NULL) {
        Py_DECREF(awaitable);
        return NULL;
    }
    step->state = STEP_NEW;
    step->is_close = is_close;
    step->iterator = (async_iterator *)Py_NewRef((PyObject *)iterator);
    Py_CLEAR(step->steps);
    Py_XSETREF(step->awaitable, awaitable);
    return (PyObject *)step;
}

static PyMethodDef step_methods[] = {
    {"send", step_send, METH_O, NULL},
    {"throw", step_throw, METH_VARARGS, NULL},
    {"close", step_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef step_getset[] = {
    {"__class__", step_class, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyAsyncMethods step_as_async = {.am_await = PyObject_SelfIter, .am_send = step_am_send};

PyTypeObject ft_step_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fasttrace.core._native.Step",
    .tp_basicsize = sizeof(stream_step),
    .tp_dealloc = step_dealloc,
    .tp_finalize = step_finalize,
    .tp_as_async = &step_as_async,
    .tp_repr = step_repr,
    .tp_getattro = step_getattro,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = step_traverse,
    .tp_clear = step_clear,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = step_next,
    .tp_methods = step_methods,
    .tp_getset = step_getset,
};

/* ---- the iterator ---- */

static PyObject *iterator_anext(PyObject *object) {
    async_iterator *self = (async_iterator *)object;
    if (self->head.inner == NULL) return PyErr_Format(PyExc_StopAsyncIteration, "");
    PyObject *awaitable = (*Py_TYPE(self->head.inner)->tp_as_async->am_anext)(self->head.inner);
    if (awaitable != NULL) return has_ended(self) ? awaitable : step_around(self, awaitable, false);
    if (ft_watch_steps(self->head.watch)) ft_watch_stopped(self->head.watch);
    return NULL;
}

/* Who calls the method by its name (the SDK's own __anext__ does) is spared the wrapper that a slot has. */
static PyObject *iterator_dunder_anext(PyObject *object, PyObject *unused) {
    (void)unused;
    return iterator_anext(object);
}

static PyObject *iterator_asend(PyObject *object, PyObject *value) {
    PyObject *awaitable = PyObject_CallMethodOneArg(ft_iterator_inner(object), ft_name_of.asend, value);
    return step_around((async_iterator *)object, awaitable, false);
}

static PyObject *iterator_athrow(PyObject *object, PyObject *args) {
    PyObject *athrow = PyObject_GetAttr(ft_iterator_inner(object), ft_name_of.athrow);
    PyObject *awaitable = athrow == NULL ? NULL : PyObject_Call(athrow, args, NULL);
    Py_XDECREF(athrow);
    return step_around((async_iterator *)object, awaitable, false);
}

static PyObject *iterator_aclose(PyObject *object, PyObject *unused) {
    (void)unused;
    PyObject *awaitable = PyObject_CallMethodNoArgs(ft_iterator_inner(object), ft_name_of.aclose);
    return step_around((async_iterator *)object, awaitable, true);
}

static int iterator_traverse(PyObject *object, visitproc visit, void *arg) {
    async_iterator *self = (async_iterator *)object;
    Py_VISIT(self->head.inner);
    Py_VISIT(self->head.watch);
    Py_VISIT((PyObject *)self->spare);
    return 0;
}

static int iterator_clear(PyObject *object) {
    async_iterator *self = (async_iterator *)object;
    Py_CLEAR(self->head.inner);
    Py_CLEAR(self->spare);
    return 0;
}

static void iterator_dealloc(PyObject *object) {
    async_iterator *self = (async_iterator *)object;
    if (PyObject_CallFinalizerFromDealloc(object) < 0) return;
    PyObject_GC_UnTrack(object);
    if (self->head.weak_references != NULL) PyObject_ClearWeakRefs(object);
    Py_CLEAR(self->spare);
    Py_CLEAR(self->head.inner);
    Py_CLEAR(self->head.watch);
    PyObject_GC_Del(object);
}

PyObject *ft_async_iterator_new(PyObject *inner, ft_watch *watch) {
    async_iterator *self = PyObject_GC_New(async_iterator, &ft_async_iterator_type);
    if (self == NULL) return NULL;
    self->head.inner = Py_NewRef(inner);
    self->head.watch = (ft_watch *)Py_NewRef((PyObject *)watch);
    self->spare = NULL;
    self->head.weak_references = NULL;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static PyMethodDef iterator_methods[] = {
    {"__anext__", iterator_dunder_anext, METH_NOARGS | METH_COEXIST, NULL},
    {"aclose", iterator_aclose, METH_NOARGS, NULL},
    {"asend", iterator_asend, METH_O, NULL},
    {"athrow", iterator_athrow, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods iterator_as_async = {.am_aiter = PyObject_SelfIter, .am_anext = iterator_anext};

PyTypeObject ft_async_iterator_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fasttrace.core._native.AsyncIterator",
    .tp_basicsize = sizeof(async_iterator),
    .tp_dealloc = iterator_dealloc,
    .tp_finalize = ft_iterator_finalize,
    .tp_as_async = &iterator_as_async,
    .tp_repr = ft_iterator_repr,
    .tp_getattro = ft_iterator_getattro,
    .tp_setattro = ft_iterator_setattro,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = iterator_traverse,
    .tp_clear = iterator_clear,
    .tp_weaklistoffset = offsetof(async_iterator, head.weak_references),
    .tp_methods = iterator_methods,
    .tp_getset = ft_iterator_getset,
};

bool ft_async_iterator_ready(void) {
    return PyType_Ready(&ft_async_iterator_type) == 0 && PyType_Ready(&ft_step_type) == 0;
}
