/* The watching iterator of a synchronous stream: it stands in the SDK's object where the SDK's own iterator stood,
 * steps that one, and tells the watch what came. Runs on the threads that read the stream. */
#include "iterator.h"

#include <string.h>

ft_iterator_names ft_name_of;

/* What came of a step that the watch was told of. */
static PyObject *stepped(ft_watch *watch, PyObject *chunk) {
    if (chunk == NULL)
        ft_watch_stopped(watch);
    else if (!ft_watch_stepped(watch, chunk))
        Py_CLEAR(chunk);
    return chunk;
}

static PyObject *next_of(PyObject *inner) { return inner == Py_None ? NULL : (*Py_TYPE(inner)->tp_iternext)(inner); }

/* Give the span before this one back, if this one is current. The exception that is set stays. */
static void leave(PyObject *context, PyObject *token) {
    PyObject *type, *value, *traceback, *current = NULL;
    PyErr_Fetch(&type, &value, &traceback);
    bool is_current = PyContextVar_Get(ft_python_side.current, NULL, &current) == 0 && current == context;
    if (!is_current || PyContextVar_Reset(ft_python_side.current, token) < 0) PyErr_Clear();
    Py_XDECREF(current);
    PyErr_Restore(type, value, traceback);
}

typedef enum { BY_NEXT, BY_SEND, BY_THROW } way;

static PyObject *step_inner(PyObject *inner, way by, PyObject *sent) {
    if (by == BY_NEXT) return next_of(inner);
    if (by == BY_SEND) return PyObject_CallMethodOneArg(inner, ft_name_of.send, sent);
    PyObject *throw = PyObject_GetAttr(inner, ft_name_of.throw);
    PyObject *chunk = throw == NULL ? NULL : PyObject_Call(throw, sent, NULL);
    Py_XDECREF(throw);
    return chunk;
}

/* The request is made in here, and its retries are this span's. The watch may end meanwhile: the context is held. */
static PyObject *first_step(PyObject *inner, ft_watch *watch, way by, PyObject *sent) {
    watch->is_unrequested = false;
    PyObject *context = Py_XNewRef((PyObject *)watch->call.context);
    if (context == NULL) return step_inner(inner, by, sent); /* another thread ended it */
    PyObject *token = PyContextVar_Set(ft_python_side.current, context);
    bool fine = token != NULL || ft_swallow();
    PyObject *chunk = fine ? step_inner(inner, by, sent) : NULL;
    if (token != NULL) leave(context, token);
    Py_XDECREF(token);
    Py_DECREF(context);
    return chunk;
}

/* `sent`: the value, or the arguments of throw(). */
static PyObject *step(PyObject *object, way by, PyObject *sent) {
    PyObject *inner = ft_iterator_inner(object);
    ft_watch *watch = ((const ft_iterator *)object)->watch;
    if (!ft_watch_steps(watch)) return step_inner(inner, by, sent);
    return stepped(watch, watch->is_unrequested ? first_step(inner, watch, by, sent) : step_inner(inner, by, sent));
}

static PyObject *iterator_next(PyObject *object) { return step(object, BY_NEXT, NULL); }
static PyObject *iterator_send(PyObject *object, PyObject *value) { return step(object, BY_SEND, value); }
static PyObject *iterator_throw(PyObject *object, PyObject *args) { return step(object, BY_THROW, args); }

/* Who calls the method by its name (the SDK's own __next__ does) is spared the wrapper that a slot has. */
static PyObject *iterator_dunder_next(PyObject *object, PyObject *unused) {
    (void)unused;
    PyObject *chunk = iterator_next(object);
    if (chunk == NULL && !PyErr_Occurred()) PyErr_SetNone(PyExc_StopIteration);
    return chunk;
}

static PyObject *iterator_close(PyObject *object, PyObject *unused) {
    (void)unused;
    const ft_iterator *self = (const ft_iterator *)object;
    PyObject *type, *value, *traceback;
    ft_leaving leaving = ft_watch_leave(self->watch, false);
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *done = PyObject_CallMethodNoArgs(ft_iterator_inner(object), ft_name_of.close);
    if (leaving != FT_LEAVES_INTERRUPTED) return done;
    Py_XDECREF(done);
    PyErr_Restore(type, value, traceback);
    return NULL;
}

/* ---- what both sorts say of themselves ---- */

static bool is_borrowed(PyObject *name) {
    enum { COUNT = sizeof ft_name_of / sizeof(PyObject *) };
    PyObject *names[COUNT];
    memcpy(names, &ft_name_of, sizeof names);
    for (int i = 0; i < COUNT; i++)
        if (name == names[i]) return true;
    for (int i = 0; i < COUNT && !PyUnicode_CHECK_INTERNED(name); i++)
        if (PyUnicode_Compare(name, names[i]) == 0) return true;
    return false;
}

PyObject *ft_iterator_getattro(PyObject *object, PyObject *name) {
    if (is_borrowed(name)) {
        PyObject *theirs = PyObject_GetAttr(ft_iterator_inner(object), name);
        if (theirs == NULL) return NULL;
        Py_DECREF(theirs);
    }
    PyObject *value = PyObject_GenericGetAttr(object, name);
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) return value;
    PyErr_Clear();
    return PyObject_GetAttr(ft_iterator_inner(object), name);
}

int ft_iterator_setattro(PyObject *object, PyObject *name, PyObject *value) {
    return PyObject_SetAttr(ft_iterator_inner(object), name, value);
}

PyObject *ft_iterator_repr(PyObject *object) { return PyObject_Repr(ft_iterator_inner(object)); }

static PyObject *iterator_class(PyObject *object, void *unused) {
    (void)unused;
    return Py_NewRef((PyObject *)Py_TYPE(ft_iterator_inner(object)));
}

PyGetSetDef ft_iterator_getset[] = {
    {"__class__", iterator_class, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

void ft_iterator_finalize(PyObject *object) { ft_watch_drop(((ft_iterator *)object)->watch); }

/* ---- its life ---- */

static int iterator_traverse(PyObject *object, visitproc visit, void *arg) {
    ft_iterator *self = (ft_iterator *)object;
    Py_VISIT(self->inner);
    Py_VISIT(self->watch);
    return 0;
}

static int iterator_clear(PyObject *object) {
    Py_CLEAR(((ft_iterator *)object)->inner);
    return 0;
}

static void iterator_dealloc(PyObject *object) {
    ft_iterator *self = (ft_iterator *)object;
    if (PyObject_CallFinalizerFromDealloc(object) < 0) return;
    PyObject_GC_UnTrack(object);
    if (self->weak_references != NULL) PyObject_ClearWeakRefs(object);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->watch);
    PyObject_GC_Del(object);
}

PyObject *ft_iterator_new(PyObject *inner, ft_watch *watch) {
    ft_iterator *self = PyObject_GC_New(ft_iterator, &ft_iterator_type);
    if (self == NULL) return NULL;
    self->inner = Py_NewRef(inner);
    self->watch = (ft_watch *)Py_NewRef((PyObject *)watch);
    self->weak_references = NULL;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static PyMethodDef iterator_methods[] = {
    {"__next__", iterator_dunder_next, METH_NOARGS | METH_COEXIST, NULL},
    {"close", iterator_close, METH_NOARGS, NULL},
    {"send", iterator_send, METH_O, NULL},
    {"throw", iterator_throw, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyTypeObject ft_iterator_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fasttrace.core._native.Iterator",
    .tp_basicsize = sizeof(ft_iterator),
    .tp_dealloc = iterator_dealloc,
    .tp_finalize = ft_iterator_finalize,
    .tp_repr = ft_iterator_repr,
    .tp_getattro = ft_iterator_getattro,
    .tp_setattro = ft_iterator_setattro,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = iterator_traverse,
    .tp_clear = iterator_clear,
    .tp_weaklistoffset = offsetof(ft_iterator, weak_references),
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = iterator_next,
    .tp_methods = iterator_methods,
    .tp_getset = ft_iterator_getset,
};

bool ft_iterator_ready(void) {
    const char *const texts[] = {"close", "send", "throw", "aclose", "asend", "athrow"};
    PyObject *names[sizeof texts / sizeof *texts];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if ((names[i] = PyUnicode_InternFromString(texts[i])) == NULL) return false;
    ft_name_of = (ft_iterator_names){names[0], names[1], names[2], names[3], names[4], names[5]};
    return PyType_Ready(&ft_iterator_type) == 0;
}
