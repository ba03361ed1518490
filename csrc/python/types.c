#include "types.h"

#include "awaitable.h"

/* inspect, asyncio and anyio ask for the abstract class where the concrete one does not answer. */
static bool register_coroutine(void) {
    PyObject *abc = PyImport_ImportModule("_collections_abc");
    PyObject *coroutine = abc == NULL ? NULL : PyObject_GetAttrString(abc, "Coroutine");
    PyObject *done = coroutine == NULL ? NULL : PyObject_CallMethod(coroutine, "register", "O", &ft_awaitable_type);
    Py_XDECREF(abc);
    Py_XDECREF(coroutine);
    Py_XDECREF(done);
    return done != NULL;
}

bool ft_types_ready(PyObject *current, PyObject *clean, PyObject *redacted, PyObject *render_param, PyObject *report) {
    ft_python_side.current = Py_NewRef(current);
    ft_python_side.clean = Py_NewRef(clean);
    ft_python_side.redacted = Py_NewRef(redacted);
    ft_python_side.render_param = Py_NewRef(render_param);
    ft_python_side.report = Py_NewRef(report);
    return PyType_Ready(&ft_context_type) == 0 && PyType_Ready(&ft_method_type) == 0 &&
           ft_awaitable_ready() && ft_member_ready() && ft_stream_ready() && register_coroutine();
}
