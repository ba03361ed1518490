/* What stands in a response's stream in the place of its `close` (`aclose`), as an attribute of that one object: it
 * tells the watch, and calls what was there. It holds the object that holds it: a weak reference would be gone by the
 * time when the collector, which takes a stream together with its generator, has that generator close the response. So
 * that the object dies at once where nothing else keeps it, the watch has the closer taken out again when it ends, and
 * until then knows it weakly. Runs on the threads that close streams. */
#include <stddef.h>

#include "fasttrace/clock.h"
#include "watch.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *owner, *name; /* whose attribute it is */
    PyObject *known;        /* what was there; NULL once the collector took it */
    ft_watch *watch;
    PyObject *weak_references;
} closer;

/* A raw reply that is closed may still be parsed: only the time is noted. */
static ft_leaving tell(ft_watch *watch) {
    if (!atomic_load(&watch->is_unparsed)) return ft_watch_leave(watch, false);
    int64_t never = 0;
    atomic_compare_exchange_strong(&watch->stopped_ns, &never, ft_clock_monotonic_ns());
    return FT_LEAVES_NOT;
}

static PyObject *call_known(const closer *self, PyObject *const *args, size_t nargsf, PyObject *names) {
    if (self->known == NULL) Py_RETURN_NONE;
    PyObject *known = Py_NewRef(self->known);
    PyObject *result = PyObject_Vectorcall(known, args, nargsf, names);
    Py_DECREF(known);
    return result;
}

/* Telling the watch may take this one out, and nobody else needs to hold it. */
static PyObject *closer_vectorcall(PyObject *object, PyObject *const *args, size_t nargsf, PyObject *names) {
    const closer *self = (const closer *)object;
    PyObject *type, *value, *traceback;
    Py_INCREF(object);
    ft_leaving leaving = tell(self->watch);
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *result = call_known(self, args, nargsf, names);
    if (leaving == FT_LEAVES_INTERRUPTED) {
        Py_CLEAR(result);
        PyErr_Restore(type, value, traceback);
    }
    Py_DECREF(object);
    return result;
}

/* The rest (name, documentation, what kind of function it is) is told by what it stands for. */
static PyObject *closer_getattro(PyObject *object, PyObject *name) {
    PyObject *value = PyObject_GenericGetAttr(object, name);
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) return value;
    PyErr_Clear();
    PyObject *known = ((closer *)object)->known;
    return PyObject_GetAttr(known == NULL ? Py_None : known, name);
}

static int closer_traverse(PyObject *object, visitproc visit, void *arg) {
    closer *self = (closer *)object;
    Py_VISIT(self->owner);
    Py_VISIT(self->known);
    Py_VISIT(self->watch);
    return 0;
}

static int closer_clear(PyObject *object) {
    Py_CLEAR(((closer *)object)->owner);
    Py_CLEAR(((closer *)object)->known);
    return 0;
}

static void closer_dealloc(PyObject *object) {
    closer *self = (closer *)object;
    PyObject_GC_UnTrack(object);
    if (self->weak_references != NULL) PyObject_ClearWeakRefs(object);
    closer_clear(object);
    Py_CLEAR(self->name);
    Py_CLEAR(self->watch);
    PyObject_GC_Del(object);
}

PyTypeObject ft_closer_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fasttrace.core._native.Closer",
    .tp_basicsize = sizeof(closer),
    .tp_dealloc = closer_dealloc,
    .tp_vectorcall_offset = offsetof(closer, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_getattro = closer_getattro,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_traverse = closer_traverse,
    .tp_clear = closer_clear,
    .tp_weaklistoffset = offsetof(closer, weak_references),
};

/* Takes `known`. */
static PyObject *closer_new(PyObject *owner, PyObject *name, PyObject *known, ft_watch *watch) {
    closer *self = PyObject_GC_New(closer, &ft_closer_type);
    if (self == NULL) {
        Py_DECREF(known);
        return NULL;
    }
    self->vectorcall = closer_vectorcall;
    self->owner = Py_NewRef(owner);
    self->name = Py_NewRef(name);
    self->known = known;
    self->watch = (ft_watch *)Py_NewRef((PyObject *)watch);
    self->weak_references = NULL;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* An object that takes no attribute says so by these. */
static bool goes_without(void) {
    if (!PyErr_Occurred()) return true;
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) return ft_swallow();
    PyErr_Clear();
    return true;
}

bool ft_closer_set(PyObject *owner, PyObject *name, ft_watch *watch) {
    PyObject *known = PyObject_GetAttr(owner, name);
    PyObject *self = known == NULL ? NULL : closer_new(owner, name, known, watch);
    if (self != NULL && PyObject_SetAttr(owner, name, self) == 0) watch->closer = PyWeakref_NewRef(self, NULL);
    Py_XDECREF(self);
    return goes_without();
}

/* What was there is put back, unless somebody else has put something there since. */
static void put_back(const closer *self) {
    PyObject *present = PyObject_GetAttr(self->owner, self->name);
    bool is_own = PyMethod_Check(self->known) && PyMethod_GET_SELF(self->known) == self->owner; /* of its class */
    if (present == (const PyObject *)self) PyObject_SetAttr(self->owner, self->name, is_own ? NULL : self->known);
    Py_XDECREF(present);
    PyErr_Clear();
}

void ft_closer_take_out(ft_watch *watch) {
    PyObject *self = ft_alive(watch->closer);
    if (self != NULL && ((const closer *)self)->known != NULL) put_back((const closer *)self);
    Py_XDECREF(self);
    Py_CLEAR(watch->closer);
}

bool ft_closer_ready(void) { return PyType_Ready(&ft_closer_type) == 0; }
