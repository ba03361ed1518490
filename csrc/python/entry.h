/* What is the same from call to call, by the identity of an object that the caller passes (a client's base URL, the
 * model's name, a request's path): small direct-mapped caches with a strong reference to each key, valid for one ring's
 * string indices. An entry is filled while `state` says so. Under the GIL a newcomer takes a place over; without it an
 * entry once ready stays for good, so that readers need no lock, and who finds no place does the work again. */
#ifndef FASTTRACE_PYTHON_ENTRY_H
#define FASTTRACE_PYTHON_ENTRY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "fasttrace/ring.h"

typedef enum { FT_ENTRY_EMPTY, FT_ENTRY_FILLING, FT_ENTRY_READY } ft_entry_state;
typedef struct {
    _Atomic int state;
    PyObject *key;
    const ft_ring *ring; /* NULL where no string's index is kept */
} ft_entry;

enum { FT_CACHED = 16 };

static inline size_t ft_entry_place(const PyObject *key) {
    uintptr_t address = (uintptr_t)key;
    return (address >> 4 ^ address >> 9) % FT_CACHED;
}

static inline bool ft_entry_is(const ft_entry *entry, const PyObject *key, const ft_ring *ring) {
    return atomic_load_explicit(&entry->state, memory_order_acquire) == FT_ENTRY_READY && entry->key == key &&
           entry->ring == ring;
}

static inline bool ft_entry_claim(ft_entry *entry) {
#ifdef Py_GIL_DISABLED
    int empty = FT_ENTRY_EMPTY;
    return atomic_compare_exchange_strong(&entry->state, &empty, FT_ENTRY_FILLING);
#else
    atomic_store_explicit(&entry->state, FT_ENTRY_FILLING, memory_order_relaxed);
    return true;
#endif
}

/* The claimed entry is filled. Letting go of the old key may run anybody's code: that comes last. */
static inline void ft_entry_publish(ft_entry *entry, PyObject *key, const ft_ring *ring) {
    PyObject *old = entry->key;
    entry->key = Py_NewRef(key);
    entry->ring = ring;
    atomic_store_explicit(&entry->state, FT_ENTRY_READY, memory_order_release);
    Py_XDECREF(old);
}

#endif
