#include "member.h"

#include <structmember.h>

static PyObject *extra_name; /* "__pydantic_extra__" */

bool ft_member_ready(void) {
    extra_name = PyUnicode_InternFromString("__pydantic_extra__");
    return extra_name != NULL;
}

void ft_member_init(ft_member *member, PyObject *name) {
    *member = (ft_member){.name = Py_NewRef(name)};
    PyUnicode_InternInPlace(&member->name);
}

void ft_member_clear(ft_member *member) {
    Py_CLEAR(member->name);
    Py_CLEAR(member->model_type);
}

#ifdef Py_GIL_DISABLED
static bool is_model(PyObject *object, ft_member *member) {
    (void)member;
    return PyObject_HasAttr((PyObject *)Py_TYPE(object), extra_name);
}
#else
/* pydantic's models keep it in a slot of the object. */
static Py_ssize_t offset_of(PyObject *descriptor) {
    if (!Py_IS_TYPE(descriptor, &PyMemberDescr_Type)) return 0;
    const PyMemberDef *member = ((PyMemberDescrObject *)descriptor)->d_member;
    return member->type == T_OBJECT_EX ? member->offset : 0;
}

/* The class tells: a proxy of a model has the model's attributes, and not its dictionary. */
static bool is_model(PyObject *object, ft_member *member) {
    PyTypeObject *type = Py_TYPE(object);
    if (member->model_type == type) return true;
    PyObject *descriptor = PyObject_GetAttr((PyObject *)type, extra_name);
    if (descriptor == NULL) {
        PyErr_Clear();
        return false;
    }
    member->extra_offset = offset_of(descriptor);
    Py_DECREF(descriptor);
    Py_INCREF(type);
    Py_XSETREF(member->model_type, type);
    return true;
}
#endif

/* A new reference to what the model does not declare, or NULL, possibly with an exception set. */
static PyObject *extra_of(PyObject *object, const ft_member *member) {
    if (member->extra_offset == 0) return PyObject_GetAttr(object, extra_name);
    return Py_XNewRef(*(PyObject **)((char *)object + member->extra_offset));
}

/* True when that settles it: the object is a pydantic model that keeps undeclared fields, and `value` is the field or
 * NULL; or something was raised that is not ours to silence. */
static bool from_extra(PyObject *object, const ft_member *member, PyObject **value) {
    PyObject *extra = extra_of(object, member);
    if (extra == NULL) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_AttributeError)) return true;
        PyErr_Clear();
        return false;
    }
    bool is_settled = PyDict_CheckExact(extra) || extra == Py_None;
    *value = PyDict_CheckExact(extra) ? ft_dict_get(extra, member->name) : NULL;
    Py_DECREF(extra);
    return is_settled;
}

#ifdef Py_GIL_DISABLED
static PyObject *declared(PyObject *fields, ft_member *member) { return ft_dict_get(fields, member->name); }
#else
enum { HINTS_MAX = 64 };

static void learn_position(PyObject *fields, ft_member *member) {
    PyObject *key, *value;
    Py_ssize_t position = 0, here = 0;
    member->relearned++;
    while (PyDict_Next(fields, &position, &key, &value)) {
        if (key == member->name) member->hint = here;
        here = position;
    }
}

static PyObject *declared(PyObject *fields, ft_member *member) {
    PyObject *value = ft_dict_get(fields, member->name);
    if (value != NULL && member->relearned < HINTS_MAX) learn_position(fields, member);
    return value;
}
#endif

PyObject *ft_field_search(PyObject *object, PyObject *fields, ft_member *member) {
    PyObject *value = fields == NULL ? NULL : declared(fields, member);
    if (value != NULL || fields == object) return value;
    if (fields != NULL && is_model(object, member) && from_extra(object, member, &value)) return value;
    return PyObject_GetAttr(object, member->name);
}
