/* What an instrumented asynchronous method returns: an awaitable around the SDK's own coroutine. It forwards send,
 * throw and close, and answers every other question (type, frame, name) as that coroutine, so that asyncio, anyio and
 * inspect see the coroutine they would have seen. The span starts with the first step, in the task that runs it, and
 * ends with the last; a coroutine that is never awaited makes no span, as it makes no request. */
#ifndef FASTTRACE_PYTHON_AWAITABLE_H
#define FASTTRACE_PYTHON_AWAITABLE_H

#include "call.h"

extern PyTypeObject ft_awaitable_type;

bool ft_awaitable_ready(void); /* once, at import */

/* Call the original and wrap the coroutine it gives; `method` is kept alive. Something else than a coroutine is
 * returned as it is, its call recorded as ended. */
PyObject *ft_awaitable_call(PyObject *method, ft_target *target, PyObject *const *args, size_t nargsf, PyObject *names);

#endif
