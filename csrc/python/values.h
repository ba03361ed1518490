/* Python values to span fields. Exact types only: a mock's attribute is not a number, a subclass's str() may run
 * anybody's code. What is odd is left out; text that is not valid Unicode is cleaned by core/_text.py. */
#ifndef FASTTRACE_PYTHON_VALUES_H
#define FASTTRACE_PYTHON_VALUES_H

#include "recorder.h"

/* Borrowed names of the shared Python slow paths, set once at import by the Cython module. */
typedef struct {
    PyObject *clean;        /* clean(text, limit) -> bytes, core/_text.py */
    PyObject *redacted;     /* redacted(text, limit) -> bytes, core/_text.py */
    PyObject *render_param; /* render_param(value) -> bytes | None, core/_text.py */
    PyObject *report;       /* report(exception): one rate-limited log line */
    PyObject *current;      /* the ContextVar */
} ft_python;
extern ft_python ft_python_side;

/* A new reference to dict[key], or NULL without an error. */
PyObject *ft_dict_get(PyObject *dict, PyObject *key);

/* Deal with an exception raised while something was being read for us: AttributeError is silence, any Exception is
 * one log line; KeyboardInterrupt and its kind are not ours, they stay set and false comes back. */
bool ft_swallow(void);
/* The same, where an AttributeError too is worth its log line. */
bool ft_report(void);

/* UTF-8 of a str without its secrets, at most `limit` bytes: the only way in which a text gets into a span. `owner`
 * receives a new reference that keeps the bytes alive when they had to be made anew, else NULL. False when `value` is not
 * a str. */
bool ft_text(PyObject *value, size_t limit, const char **text, size_t *length, PyObject **owner);

/* The cost that a reply itself reports: USD, an integer too. */
void ft_set_reported_cost(ft_span *span, PyObject *value);
/* A count, or another number of the record. */
void ft_set_number(ft_span *span, ft_field field, uint64_t number);
/* False for what is no int (exactly), or none that 64 bits hold. */
bool ft_unsigned_of(PyObject *value, uint64_t *number);
/* One field of a span from a Python value; false when an exception must go on (see ft_swallow). A value that does not
 * fit the field is left out. Accepts every field but ids, clocks and MODEL_ID/REQUEST_MODEL pairing. */
bool ft_set_field(ft_ring *ring, ft_span *span, ft_field field, PyObject *value);

/* Every item of a dict by wire name; a name that is no field is left out. */
bool ft_set_fields(ft_ring *ring, ft_span *span, PyObject *fields);

/* Code of an enumerated field by its wire name, 0 if there is none. */
uint8_t ft_code_of(ft_field field, const char *name, size_t length);

#endif
