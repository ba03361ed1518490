#include "method.h"

#include <stddef.h>
#include <structmember.h>

#include "awaitable.h"
#include "route.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *weak_references;
    ft_target target;
} ft_method;

static PyObject *finish_plain(ft_call *call, PyObject *reply) {
    if (reply == NULL)
        ft_call_fail(call);
    else
        reply = ft_call_succeed(call, reply);
    ft_call_clear(call);
    return reply;
}

static PyObject *start_failed(ft_call *call, PyObject *const *args, size_t nargsf, PyObject *names) {
    ft_call_clear(call);
    if (!ft_swallow()) return NULL;
    return ft_target_call(call->target, args, nargsf, names);
}

static PyObject *call_plain(ft_target *target, PyObject *const *args, size_t nargsf, PyObject *names) {
    ft_call call;
    ft_call_answer answer = ft_call_prepare(&call, target, args, PyVectorcall_NARGS(nargsf), names);
    if (answer == FT_CALL_RAISED) return NULL;
    if (answer == FT_CALL_PASSED) return ft_target_call(target, args, nargsf, names);
    if (!ft_call_start(&call)) return start_failed(&call, args, nargsf, names);
    return finish_plain(&call, ft_target_call(target, args, nargsf, names));
}

static PyObject *method_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names) {
    ft_target *target = &((ft_method *)self)->target;
    if (!atomic_load_explicit(&target->recorder->active, memory_order_relaxed) ||
        !atomic_load_explicit(&target->is_on, memory_order_relaxed))
        return ft_target_call(target, args, nargsf, names);
    /* Whoever keeps a bound method may let go of the last reference to us while the call runs. */
    Py_INCREF(self);
    PyObject *reply = target->is_async ? ft_awaitable_call(self, target, args, nargsf, names)
                                       : call_plain(target, args, nargsf, names);
    Py_DECREF(self);
    return reply;
}

static PyObject *method_get(PyObject *self, PyObject *instance, PyObject *type) {
    (void)type;
    if (instance == NULL || instance == Py_None) return Py_NewRef(self);
    return PyMethod_New(self, instance);
}

/* What is not ours (signature parts, documentation, annotations, the code object) is the original's. */
static PyObject *method_getattro(PyObject *self, PyObject *name) {
    PyObject *value = PyObject_GenericGetAttr(self, name);
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) return value;
    PyErr_Clear();
    return PyObject_GetAttr(((ft_method *)self)->target.original, name);
}

static int method_setattro(PyObject *self, PyObject *name, PyObject *value) {
    return PyObject_SetAttr(((ft_method *)self)->target.original, name, value);
}

static PyObject *method_repr(PyObject *self) { return PyObject_Repr(((ft_method *)self)->target.original); }

static PyObject *from_original(PyObject *self, void *name) {
    return PyObject_GetAttrString(((ft_method *)self)->target.original, (const char *)name);
}

/* A function is pickled by name; so is what stands for it. */
static PyObject *method_reduce(PyObject *self, PyObject *unused) {
    (void)unused;
    return PyObject_GetAttrString(((ft_method *)self)->target.original, "__qualname__");
}

static int method_traverse(PyObject *self, visitproc visit, void *arg) {
    ft_target *target = &((ft_method *)self)->target;
    Py_VISIT(target->original);
    Py_VISIT(target->spec);
    Py_VISIT(target->owner);
    Py_VISIT(target->resolve);
    Py_VISIT(target->failure);
    for (int i = 0; i < FT_CACHED; i++) Py_VISIT(target->endpoints[i].entry.key);
    return ft_routes_traverse(target, visit, arg);
}

static int method_clear(PyObject *self) {
    ft_target *target = &((ft_method *)self)->target;
    Py_CLEAR(target->original);
    Py_CLEAR(target->spec);
    Py_CLEAR(target->owner);
    Py_CLEAR(target->resolve);
    Py_CLEAR(target->failure);
    for (int i = 0; i < FT_CACHED; i++) Py_CLEAR(target->endpoints[i].entry.key);
    ft_routes_clear(target);
    return 0;
}

static void method_dealloc(PyObject *self) {
    ft_method *method = (ft_method *)self;
    PyObject_GC_UnTrack(self);
    if (method->weak_references != NULL) PyObject_ClearWeakRefs(self);
    method_clear(self);
    ft_routes_free(&method->target);
    PyObject_GC_Del(self);
}

/* NULL for what calls the same unbound, with its instance first: functions, and types that promise so. */
static descrgetfunc binding_of(PyObject *original) {
    PyTypeObject *type = Py_TYPE(original);
    bool is_plain = PyFunction_Check(original) || PyType_HasFeature(type, Py_TPFLAGS_METHOD_DESCRIPTOR);
    return is_plain ? NULL : type->tp_descr_get;
}

/* The first of a Router's specs stands for all in what they share. */
static PyObject *first_spec(PyObject *spec) {
    PyObject *routes = PyObject_GetAttrString(spec, "routes");
    if (routes == NULL) return ft_swallow() ? Py_NewRef(spec) : NULL;
    PyObject *specs = PyMapping_Values(routes);
    PyObject *first = specs == NULL || PyList_GET_SIZE(specs) == 0 ? NULL : Py_NewRef(PyList_GET_ITEM(specs, 0));
    if (first == NULL && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a Router without routes");
    Py_XDECREF(specs);
    Py_DECREF(routes);
    return first;
}

static bool fill_target(ft_target *target, PyObject *spec) {
    PyObject *first = first_spec(spec), *is_async = first == NULL ? NULL : PyObject_GetAttrString(first, "is_async");
    if (is_async != NULL) {
        target->is_async = is_async == Py_True;
        target->resolve = PyObject_GetAttrString(first, "resolve");
        target->failure = PyObject_GetAttrString(first, "failure");
    }
    Py_XDECREF(is_async);
    Py_XDECREF(first);
    return target->resolve != NULL && target->failure != NULL && ft_routes_compile(target, spec);
}

PyObject *ft_method_new(PyObject *original, PyObject *spec, PyObject *owner, ft_recorder *recorder) {
    ft_method *method = PyObject_GC_New(ft_method, &ft_method_type);
    if (method == NULL) return NULL;
    method->vectorcall = method_vectorcall;
    method->weak_references = NULL;
    ft_target *target = &method->target;
    memset(target, 0, sizeof *target);
    target->method = (PyObject *)method;
    target->original = Py_NewRef(original);
    target->spec = Py_NewRef(spec);
    target->owner = Py_NewRef(owner);
    target->bind = binding_of(original);
    target->recorder = recorder;
    atomic_init(&target->is_on, true);
    bool fine = fill_target(target, spec);
    PyObject_GC_Track(method);
    if (fine) return (PyObject *)method;
    Py_DECREF(method);
    return NULL;
}

bool ft_method_switch(PyObject *method, bool is_on) {
    if (!Py_IS_TYPE(method, &ft_method_type)) {
        PyErr_Format(PyExc_TypeError, "%R is not a recording method", method);
        return false;
    }
    atomic_store(&((ft_method *)method)->target.is_on, is_on);
    return true;
}

static PyMemberDef method_members[] = {
    {"__wrapped__", T_OBJECT, offsetof(ft_method, target.original), READONLY, "The provider's own function."},
    {NULL, 0, 0, 0, NULL},
};

/* These exist on every type, so they never reach method_getattro's fall-back. */
static PyGetSetDef method_getset[] = {
    {"__class__", from_original, NULL, NULL, "__class__"},
    {"__doc__", from_original, NULL, NULL, "__doc__"},
    {"__module__", from_original, NULL, NULL, "__module__"},
    {"__dict__", from_original, NULL, NULL, "__dict__"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef method_methods[] = {
    {"__reduce__", method_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyTypeObject ft_method_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "fasttrace.core._native.Method",
    .tp_basicsize = sizeof(ft_method),
    .tp_dealloc = method_dealloc,
    .tp_vectorcall_offset = offsetof(ft_method, vectorcall),
    .tp_repr = method_repr,
    .tp_call = PyVectorcall_Call,
    .tp_getattro = method_getattro,
    .tp_setattro = method_setattro,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_traverse = method_traverse,
    .tp_clear = method_clear,
    .tp_weaklistoffset = offsetof(ft_method, weak_references),
    .tp_methods = method_methods,
    .tp_members = method_members,
    .tp_getset = method_getset,
    .tp_descr_get = method_get,
};
