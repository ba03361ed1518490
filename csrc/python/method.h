/* The callable that replaces a provider method: a plain C type with vectorcall and the method-descriptor flag, so that
 * a call costs neither a frame nor an argument tuple. It is indistinguishable from the function it stands for by
 * signature, name, documentation, type checks and pickling; whatever it does not know itself it asks the original.
 *
 * One call, whoever makes it (see call.h): read the request, become the current span, call, read the reply or the
 * exception, price, push. Nothing of ours reaches the caller but an interrupt that arrived meanwhile. */
#ifndef FASTTRACE_PYTHON_METHOD_H
#define FASTTRACE_PYTHON_METHOD_H

#include "call.h"

extern PyTypeObject ft_method_type;

/* `owner` keeps `recorder` alive. */
PyObject *ft_method_new(PyObject *original, PyObject *spec, PyObject *owner, ft_recorder *recorder);

/* Whether this method records; TypeError for anything but a method. */
bool ft_method_switch(PyObject *method, bool is_on);

#endif
