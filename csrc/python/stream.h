/* A reply that ends later: a stream, or a raw response that is parsed when the user likes. The call moves from its
 * frame into a watch, an object of its own that holds nothing of the SDK's; whoever sees the reply end tells the
 * watch. */
#ifndef FASTTRACE_PYTHON_STREAM_H
#define FASTTRACE_PYTHON_STREAM_H

#include "call.h"

/* A StreamSpec (core/_api.py) compiled for C. */
typedef struct ft_stream_plan ft_stream_plan;
/* NULL with an exception set when the spec cannot be used. `spec` is a StreamSpec. */
ft_stream_plan *ft_stream_plan_compile(PyObject *spec);
void ft_stream_plan_free(ft_stream_plan *plan);

/* Watch a streamed reply. Takes `reply` over and returns what the caller gets: the reply with its iterator replaced, or
 * the watching iterator itself; moves `call` away. NULL when the reply is no stream that the spec knows: then
 * `reply` and `call` are as they were. NULL with an exception set when one must go on: `reply` is as it was, `call` may
 * have been moved away. */
PyObject *ft_stream_watch(ft_call *call, PyObject *reply);

/* Watch a raw reply: moves `call` away when true. False when it is not one, or with an exception set when one must go
 * on: then `call` may have been moved away. */
bool ft_raw_watch(ft_call *call, PyObject *reply);

/* End every open watch of this recorder as left before its end; how many there were, or -1 with an exception set when
 * one must go on (the streams behind it stay open). */
Py_ssize_t ft_streams_end(ft_recorder *recorder);

bool ft_stream_ready(void); /* once, at import */

#endif
