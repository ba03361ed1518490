#include "awaitable.h"

#include <stddef.h>
#include <structmember.h>

typedef enum { AWAITABLE_NEW, AWAITABLE_RUNNING, AWAITABLE_DONE } awaitable_state;

typedef struct {
    PyObject_HEAD
    PyObject *method, *coroutine, *weak_references;
    awaitable_state state;
    _Atomic bool is_stepping;
    ft_call call;
} ft_awaitable;

/* A coroutine that runs cannot be stepped, and whoever tries does not end its call: false with CPython's own words. */
static bool step_enters(ft_awaitable *self) {
    if (!atomic_exchange(&self->is_stepping, true)) return true;
    PyErr_SetString(PyExc_ValueError, "coroutine already executing");
    return false;
}

static void step_leaves(ft_awaitable *self) { atomic_store(&self->is_stepping, false); }

/* The first step makes the span current. When that fails, the call goes on unrecorded. */
static bool step_begins(ft_awaitable *self) {
    if (self->state != AWAITABLE_NEW) return true;
    self->state = AWAITABLE_RUNNING;
    if (ft_call_start(&self->call)) return true;
    self->state = AWAITABLE_DONE;
    return ft_swallow();
}

/* The coroutine returned `reply`, which is taken over. What its caller gets: that, or what watches it; NULL when an
 * interrupt must go on in its place. */
static PyObject *returned(ft_awaitable *self, PyObject *reply) {
    if (self->state != AWAITABLE_RUNNING) return reply;
    self->state = AWAITABLE_DONE;
    return ft_call_succeed(&self->call, reply);
}

static void cancelled(ft_awaitable *self) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (self->state == AWAITABLE_RUNNING) ft_call_cancel(&self->call);
    self->state = AWAITABLE_DONE;
    PyErr_Restore(type, value, traceback);
}

/* GeneratorExit is how a coroutine is told to close, whoever tells it. */
static void raised(ft_awaitable *self) {
    if (self->state != AWAITABLE_RUNNING) return;
    if (PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
        cancelled(self);
        return;
    }
    self->state = AWAITABLE_DONE;
    ft_call_fail(&self->call);
}

static PySendResult step(ft_awaitable *self, PyObject *value, PyObject **result) {
    if (!step_begins(self)) return PYGEN_ERROR;
    PySendResult outcome = PyIter_Send(self->coroutine, value, result);
    if (outcome == PYGEN_ERROR) raised(self);
    if (outcome == PYGEN_RETURN && (*result = returned(self, *result)) == NULL) return PYGEN_ERROR;
    return outcome;
}

static PySendResult awaitable_am_send(PyObject *object, PyObject *value, PyObject **result) {
    ft_awaitable *self = (ft_awaitable *)object;
    *result = NULL;
    if (!step_enters(self)) return PYGEN_ERROR;
    PySendResult outcome = step(self, value, result);
    step_leaves(self);
    return outcome;
}

static void set_stop_iteration(PyObject *value) {
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (stop == NULL) return;
    PyErr_SetObject(PyExc_StopIteration, stop);
    Py_DECREF(stop);
}

static PyObject *awaitable_send(PyObject *self, PyObject *value) {
    PyObject *result;
    PySendResult outcome = awaitable_am_send(self, value, &result);
    if (outcome == PYGEN_RETURN) {
        set_stop_iteration(result);
        Py_CLEAR(result);
    }
    return result;
}

/* A coroutine that ends inside throw() says so by StopIteration. */
static void ended_by_throw(ft_awaitable *self) {
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        raised(self);
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *reply = ((PyStopIterationObject *)value)->value;
    if (reply == NULL) reply = Py_None;
    PyObject *given = returned(self, Py_NewRef(reply));
    if (given == reply) {
        PyErr_Restore(type, value, traceback);
    } else {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        if (given != NULL) set_stop_iteration(given);
    }
    Py_XDECREF(given);
}

static PyObject *awaitable_throw(PyObject *object, PyObject *args) {
    ft_awaitable *self = (ft_awaitable *)object;
    if (!step_enters(self)) return NULL;
    PyObject *throw = PyObject_GetAttrString(self->coroutine, "throw");
    PyObject *result = throw == NULL ? NULL : PyObject_Call(throw, args, NULL);
    Py_XDECREF(throw);
    if (result == NULL) ended_by_throw(self);
    step_leaves(self);
    return result;
}

static PyObject *awaitable_close(PyObject *object, PyObject *unused) {
    (void)unused;
    ft_awaitable *self = (ft_awaitable *)object;
    if (!step_enters(self)) return NULL;
    PyObject *result = PyObject_CallMethod(self->coroutine, "close", NULL);
    if (result == NULL)
        raised(self);
    else
        cancelled(self);
    step_leaves(self);
    return result;
}

/* ---- what `await` steps ---- */

/* A coroutine is awaitable but no iterator, and people ask; so, as CPython's own, it hands out one that steps it. */
typedef struct {
    PyObject_HEAD
    PyObject *awaitable;
} awaitable_iterator;

static PyTypeObject iterator_type;

static PyObject *awaitable_await(PyObject *object) {
    if (((ft_awaitable *)object)->state == AWAITABLE_RUNNING) {
        PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
        return NULL;
    }
    awaitable_iterator *iterator = PyObject_GC_New(awaitable_iterator, &iterator_type);
    if (iterator == NULL) return NULL;
    iterator->awaitable = Py_NewRef(object);
    PyObject_GC_Track(iterator);
    return (PyObject *)iterator;
}

static PyObject *awaitable_of(PyObject *iterator) { return ((awaitable_iterator *)iterator)->awaitable; }

static PySendResult iterator_am_send(PyObject *self, PyObject *value, PyObject **result) {
    return awaitable_am_send(awaitable_of(self), value, result);
}

static PyObject *iterator_next(PyObject *self) { return awaitable_send(awaitable_of(self), Py_None); }
static PyObject *iterator_send(PyObject *self, PyObject *value) { return awaitable_send(awaitable_of(self), value); }
static PyObject *iterator_throw(PyObject *self, PyObject *args) { return awaitable_throw(awaitable_of(self), args); }
static PyObject *iterator_close(PyObject *self, PyObject *unused) { return awaitable_close(awaitable_of(self), unused); }

static int iterator_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((awaitable_iterator *)self)->awaitable);
    return 0;
}

static void iterator_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    Py_XDECREF(((awaitable_iterator *)self)->awaitable);
    PyObject_GC_Del(self);
}

static PyMethodDef iterator_methods[] = {
    {"send", iterator_send, METH_O, NULL},
    {"throw", iterator_throw, METH_VARARGS, NULL},
    {"close", iterator_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods iterator_as_async = {.am_send = iterator_am_send};

static PyTypeObject iterator_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fasttrace.core._native.AwaitableIterator",
    .tp_basicsize = sizeof(awaitable_iterator),
    .tp_dealloc = iterator_dealloc,
    .tp_as_async = &iterator_as_async,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = iterator_traverse,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = iterator_next,
    .tp_methods = iterator_methods,
};

/* ---- what it says of itself ---- */

static PyObject *awaitable_getattro(PyObject *object, PyObject *name) {
    PyObject *value = PyObject_GenericGetAttr(object, name);
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) return value;
    PyErr_Clear();
    return PyObject_GetAttr(((ft_awaitable *)object)->coroutine, name);
}

static int awaitable_setattro(PyObject *object, PyObject *name, PyObject *value) {
    return PyObject_SetAttr(((ft_awaitable *)object)->coroutine, name, value);
}

static PyObject *awaitable_repr(PyObject *object) { return PyObject_Repr(((ft_awaitable *)object)->coroutine); }

static PyObject *awaitable_class(PyObject *object, void *unused) {
    (void)unused;
    return Py_NewRef((PyObject *)Py_TYPE(((ft_awaitable *)object)->coroutine));
}

static int awaitable_traverse(PyObject *object, visitproc visit, void *arg) {
    ft_awaitable *self = (ft_awaitable *)object;
    Py_VISIT(self->method);
    Py_VISIT(self->coroutine);
    Py_VISIT(self->call.model);
    Py_VISIT(self->call.token);
    return 0;
}

static int awaitable_clear(PyObject *object) {
    ft_awaitable *self = (ft_awaitable *)object;
    Py_CLEAR(self->coroutine);
    return 0;
}

/* An unfinished coroutine dropped on the floor is closed by its own deallocation; its span ends as cancelled. */
static void awaitable_dealloc(PyObject *object) {
    ft_awaitable *self = (ft_awaitable *)object;
    PyObject_GC_UnTrack(object);
    if (self->weak_references != NULL) PyObject_ClearWeakRefs(object);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Py_CLEAR(self->coroutine);
    cancelled(self);
    PyErr_Restore(type, value, traceback);
    ft_call_clear(&self->call);
    Py_CLEAR(self->method);
    PyObject_GC_Del(object);
}

static PyObject *wrap(PyObject *method, PyObject *coroutine, ft_awaitable *self) {
    self->method = Py_NewRef(method);
    self->coroutine = coroutine;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static bool is_coroutine(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    return type->tp_as_async != NULL && type->tp_as_async->am_send != NULL;
}

static ft_awaitable *awaitable_new(void) {
    ft_awaitable *self = PyObject_GC_New(ft_awaitable, &ft_awaitable_type);
    if (self == NULL) return NULL;
    self->method = self->coroutine = self->weak_references = NULL;
    self->state = AWAITABLE_NEW;
    atomic_init(&self->is_stepping, false);
    return self;
}

/* The original gave no coroutine: it raised at once, or it is somebody's stand-in. The call is over either way. */
static PyObject *without_coroutine(ft_awaitable *self, PyObject *reply) {
    bool is_started = ft_call_start(&self->call);
    if (is_started && reply == NULL) ft_call_fail(&self->call);
    if (is_started && reply != NULL) reply = ft_call_succeed(&self->call, reply);
    if (!is_started && !ft_swallow()) Py_CLEAR(reply);
    return reply;
}

PyObject *ft_awaitable_call(PyObject *method, ft_target *target, PyObject *const *args, size_t nargsf, PyObject *names) {
    ft_awaitable *self = awaitable_new();
    if (self == NULL) return NULL;
    ft_call_answer answer = ft_call_prepare(&self->call, target, args, PyVectorcall_NARGS(nargsf), names);
    if (answer != FT_CALL_RECORDED) {
        PyObject_GC_Del(self);
        return answer == FT_CALL_RAISED ? NULL : ft_target_call(target, args, nargsf, names);
    }
    PyObject *coroutine = ft_target_call(target, args, nargsf, names);
    if (coroutine != NULL && is_coroutine(coroutine)) return wrap(method, coroutine, self);
    coroutine = without_coroutine(self, coroutine);
    Py_DECREF(self);
    return coroutine;
}

static PyMethodDef awaitable_methods[] = {
    {"send", awaitable_send, METH_O, NULL},
    {"throw", awaitable_throw, METH_VARARGS, NULL},
    {"close", awaitable_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef awaitable_getset[] = {
    {"__class__", awaitable_class, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyAsyncMethods awaitable_as_async = {.am_await = awaitable_await, .am_send = awaitable_am_send};

PyTypeObject ft_awaitable_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fasttrace.core._native.Awaitable",
    .tp_basicsize = sizeof(ft_awaitable),
    .tp_dealloc = awaitable_dealloc,
    .tp_as_async = &awaitable_as_async,
    .tp_repr = awaitable_repr,
    .tp_getattro = awaitable_getattro,
    .tp_setattro = awaitable_setattro,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = awaitable_traverse,
    .tp_clear = awaitable_clear,
    .tp_weaklistoffset = offsetof(ft_awaitable, weak_references),
    .tp_methods = awaitable_methods,
    .tp_getset = awaitable_getset,
};

bool ft_awaitable_ready(void) { return PyType_Ready(&ft_awaitable_type) == 0 && PyType_Ready(&iterator_type) == 0; }
