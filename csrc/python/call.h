/* One recorded call, from its arguments to its span. Lives on the stack of a plain call, in the awaitable of an
 * asynchronous one. Order: ft_call_prepare (arguments at hand), ft_call_start (clocks, current span), then exactly one
 * of ft_call_succeed, ft_call_fail, ft_call_cancel; ft_call_clear at the end in any case. */
#ifndef FASTTRACE_PYTHON_CALL_H
#define FASTTRACE_PYTHON_CALL_H

#include "context.h"
#include "plan.h"

/* What is the same from call to call, by the identity of an object that the caller passes (a client's base URL, the
 * model's name): small direct-mapped caches with a strong reference to each key, valid for one ring's string indices.
 * An entry is filled while `state` says so. Under the GIL a newcomer takes a place over; without it an entry once ready
 * stays for good, so that readers need no lock, and who finds no place does the work again. */
typedef enum { FT_ENTRY_EMPTY, FT_ENTRY_FILLING, FT_ENTRY_READY } ft_entry_state;
typedef struct {
    _Atomic int state;
    PyObject *key;
    const ft_ring *ring;
} ft_entry;

typedef struct {
    ft_entry entry; /* key: what names the host */
    uint16_t provider, address, port;
    bool has_port, is_foreign;
} ft_endpoint;

typedef struct {
    ft_entry entry; /* key: the requested model */
    uint16_t operation, name, request_model;
} ft_naming;

enum { FT_CACHED = 16 };

typedef struct {
    PyObject *original, *spec, *owner, *resolve, *failure;
    ft_recorder *recorder;
    _Atomic bool is_on; /* off: the SDK is not instrumented (any more), calls go straight through */
    bool is_async;
    descrgetfunc bind; /* NULL: the original takes its instance as the first argument, as functions do */
    ft_plan plan;
    ft_endpoint endpoints[FT_CACHED];
    ft_naming namings[FT_CACHED];
} ft_target;

typedef struct {
    ft_target *target; /* borrowed: the method outlives its calls */
    ft_ring *ring;
    PyObject *model; /* requested model, strong, or NULL */
    ft_context *context;
    PyObject *token; /* gives the span before this one back */
    int64_t started_ns;
    bool is_foreign;
    ft_span span;
} ft_call;

typedef enum { FT_CALL_RECORDED, FT_CALL_PASSED, FT_CALL_RAISED } ft_call_answer;

/* Call what the method stands for. */
PyObject *ft_target_call(const ft_target *target, PyObject *const *args, size_t nargsf, PyObject *names);

/* PASSED: this call is not recorded (off, streamed, no ring): call the original. RAISED: an exception must go on. */
ft_call_answer ft_call_prepare(ft_call *call, ft_target *target, PyObject *const *args, Py_ssize_t positional,
                               PyObject *names);
bool ft_call_start(ft_call *call);
/* Each takes the call off the current span and pushes its span. False when an exception of others must go on. */
bool ft_call_succeed(ft_call *call, PyObject *reply);
void ft_call_fail(ft_call *call); /* reads the exception that is set; it stays, or an interrupt comes on top of it */
void ft_call_cancel(ft_call *call);
void ft_call_clear(ft_call *call);

#endif
