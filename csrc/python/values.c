#include "values.h"

#include <math.h>
#include <string.h>

#include "fasttrace/redact.h"

enum { REDACTION_MARGIN = 1024 }; /* as in core/_text.py */

ft_python ft_python_side;

PyObject *ft_dict_get(PyObject *dict, PyObject *key) {
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *value;
    if (PyDict_GetItemRef(dict, key, &value) < 0) PyErr_Clear();
    return value;
#else
    PyObject *value = PyDict_GetItemWithError(dict, key);
    if (value == NULL) PyErr_Clear();
    Py_XINCREF(value);
    return value;
#endif
}

bool ft_swallow(void) {
    if (!PyErr_Occurred()) return true;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return ft_report();
    PyErr_Clear();
    return true;
}

bool ft_report(void) {
    if (!PyErr_Occurred()) return true;
    if (!PyErr_ExceptionMatches(PyExc_Exception)) return false;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) PyException_SetTraceback(value, traceback);
    PyObject *done = PyObject_CallOneArg(ft_python_side.report, value);
    Py_XDECREF(done);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    if (done == NULL && !PyErr_ExceptionMatches(PyExc_Exception)) return false;
    PyErr_Clear();
    return true;
}

/* As far as Python would read it: what of a secret is behind the limit tells that there is one. A long text that is not
 * ASCII is Python's, which counts in characters. */
static bool is_harmless(PyObject *value, const char *utf8, size_t size, size_t limit) {
    size_t read = limit + REDACTION_MARGIN;
    if (size > limit && !PyUnicode_IS_ASCII(value)) return false;
    return ft_redact_is_clean(utf8, size < read ? size : read);
}

static const char *utf8_of(PyObject *value, size_t *size) {
    Py_ssize_t length = 0;
    const char *utf8 = PyUnicode_AsUTF8AndSize(value, &length);
    if (utf8 == NULL) PyErr_Clear();
    *size = (size_t)length;
    return utf8;
}

/* What Python makes of it. */
static bool text_anew(PyObject *value, PyObject *make, size_t limit, const char **text, size_t *length,
                      PyObject **owner) {
    PyObject *plain = PyUnicode_FromObject(value); /* the text itself: a subclass's methods may be anybody's code */
    if (plain == NULL) return false;
    *owner = PyObject_CallFunction(make, "Nn", plain, (Py_ssize_t)limit);
    if (*owner == NULL || !PyBytes_Check(*owner)) return false;
    *text = PyBytes_AS_STRING(*owner);
    *length = (size_t)PyBytes_GET_SIZE(*owner);
    return true;
}

bool ft_text(PyObject *value, size_t limit, const char **text, size_t *length, PyObject **owner) {
    *owner = NULL;
    if (!PyUnicode_Check(value)) return false;
    *text = utf8_of(value, length);
    if (*text == NULL || !is_harmless(value, *text, *length, limit))
        return text_anew(value, ft_python_side.redacted, limit, text, length, owner);
    *length = ft_text_clip(*text, *length, limit);
    return true;
}

/* What trace/failure.py says of an exception, in which it has looked for secrets. */
static bool text_redacted(PyObject *value, size_t limit, const char **text, size_t *length, PyObject **owner) {
    *owner = NULL;
    if (!PyUnicode_Check(value)) return false;
    *text = utf8_of(value, length);
    if (*text == NULL) return text_anew(value, ft_python_side.clean, limit, text, length, owner);
    *length = ft_text_clip(*text, *length, limit);
    return true;
}

static int record_string(ft_field field) {
    switch (field) {
    case FT_OPERATION: return FT_STR_OPERATION;
    case FT_NAME: return FT_STR_NAME;
    case FT_PROVIDER: return FT_STR_PROVIDER;
    case FT_MODEL_ID: return FT_STR_MODEL_ID;
    case FT_REQUEST_MODEL: return FT_STR_REQUEST_MODEL;
    case FT_SERVER_ADDRESS: return FT_STR_SERVER_ADDRESS;
    case FT_ERROR_TYPE: return FT_STR_ERROR_TYPE;
    case FT_ERROR_CODE: return FT_STR_ERROR_CODE;
    case FT_SERVICE_TIER: return FT_STR_SERVICE_TIER;
    case FT_PRICE_VERSION: return FT_STR_PRICE_VERSION;
    default: return -1;
    }
}

static bool set_text(ft_ring *ring, ft_span *span, ft_field field, PyObject *value) {
    const char *text;
    size_t length;
    PyObject *owner;
    int which = record_string(field);
    bool is_redacted = field == FT_ERROR_MESSAGE || field == FT_ERROR_STACK;
    if ((is_redacted ? text_redacted : ft_text)(value, ft_field_limit[field], &text, &length, &owner)) {
        if (which >= 0)
            ft_ring_set_string(ring, span, (ft_record_string)which, text, length);
        else
            ft_span_add_text(span, field, text, length);
    }
    Py_XDECREF(owner);
    return ft_swallow();
}

/* Any list or tuple of str; a lone str is a list of one. */
static bool set_texts(ft_ring *ring, ft_span *span, ft_field field, PyObject *value) {
    if (PyUnicode_Check(value)) return set_text(ring, span, field, value);
    if (!PyList_Check(value) && !PyTuple_Check(value)) return true;
    PyObject *items = PySequence_Tuple(value);
    if (items == NULL) return ft_swallow();
    bool fine = true;
    for (Py_ssize_t i = 0; fine && i < PyTuple_GET_SIZE(items); i++)
        fine = set_text(ring, span, field, PyTuple_GET_ITEM(items, i));
    Py_DECREF(items);
    return fine;
}

bool ft_unsigned_of(PyObject *value, uint64_t *number) {
    if (!PyLong_CheckExact(value)) return false;
    *number = PyLong_AsUnsignedLongLong(value);
    if (*number != UINT64_MAX || !PyErr_Occurred()) return true;
    PyErr_Clear();
    return false;
}

void ft_set_number(ft_span *span, ft_field field, uint64_t number) {
    ft_record *record = &span->record;
    switch (field) {
    case FT_FIRST_CHUNK_MS:
    case FT_FIRST_TOKEN_MS:
    case FT_FIRST_TEXT_MS: record->first_ns[field - FT_FIRST_CHUNK_MS] = number; break;
    case FT_CHUNKS: record->chunks = number; break;
    case FT_HTTP_STATUS:
    case FT_RETRIES:
    case FT_SERVER_PORT:
        if (number > UINT16_MAX) return;
        *(field == FT_RETRIES ? &record->retries : field == FT_HTTP_STATUS ? &record->http_status : &record->server_port) =
            (uint16_t)number;
        break;
    case FT_COST_USD: record->cost_pico_usd = number; break;
    default:
        record->counts[field - FT_INPUT_TOKENS] = number;
        if (number == 0 && field > FT_OUTPUT_TOKENS) { /* a part of nothing is not written, even where it was something */
            record->present &= ~(UINT64_C(1) << field);
            return;
        }
    }
    ft_span_mark(span, field);
}

/* A cost in USD that the reply itself reports becomes pico-USD. Within 2^53 pico-USD (9,007 USD) the product is exact
 * to the last digit a float of that size can tell. */
static void set_cost_usd(ft_span *span, double usd) {
    if (!(usd >= 0.0 && usd < 9007.0)) return;
    span->record.cost_source = FT_COST_PROVIDER;
    ft_set_number(span, FT_COST_USD, (uint64_t)llrint(usd * 1e12));
}

void ft_set_reported_cost(ft_span *span, PyObject *value) {
    uint64_t usd;
    if (PyFloat_CheckExact(value))
        set_cost_usd(span, PyFloat_AS_DOUBLE(value));
    else if (ft_unsigned_of(value, &usd))
        set_cost_usd(span, (double)usd);
}

uint8_t ft_code_of(ft_field field, const char *name, size_t length) {
#define X(code, wire) wire,
    static const char *const kinds[] = {FT_KINDS(X)}, *const statuses[] = {FT_STATUSES(X)};
    static const char *const usage_sources[] = {FT_USAGE_SOURCES(X)}, *const cost_sources[] = {FT_COST_SOURCES(X)};
#undef X
    const char *const *names = kinds;
    size_t count = sizeof kinds / sizeof *kinds;
    if (field == FT_STATUS) names = statuses, count = sizeof statuses / sizeof *statuses;
    if (field == FT_USAGE_SOURCE) names = usage_sources, count = sizeof usage_sources / sizeof *usage_sources;
    if (field == FT_COST_SOURCE) names = cost_sources, count = sizeof cost_sources / sizeof *cost_sources;
    for (size_t i = 0; i < count; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) return (uint8_t)(i + 1);
    return 0;
}

static void set_code(ft_span *span, ft_field field, PyObject *value) {
    Py_ssize_t length;
    if (!PyUnicode_Check(value)) return;
    const char *name = PyUnicode_AsUTF8AndSize(value, &length);
    if (name == NULL) PyErr_Clear();
    uint8_t code = name == NULL ? 0 : ft_code_of(field, name, (size_t)length);
    ft_record *record = &span->record;
    *(field == FT_KIND ? &record->kind
      : field == FT_STATUS       ? &record->status
      : field == FT_USAGE_SOURCE ? &record->usage_source
                                 : &record->cost_source) = code;
}

bool ft_set_field(ft_ring *ring, ft_span *span, ft_field field, PyObject *value) {
    uint64_t number;
    if (field == FT_WEB_SEARCH_REQUESTS && PyUnicode_Check(value)) { /* one more: some list what others count */
        ft_set_number(span, field, span->record.counts[FT_WEB_SEARCH_REQUESTS - FT_INPUT_TOKENS] + 1);
        return true;
    }
    switch (field) {
    case FT_KIND:
    case FT_STATUS:
    case FT_USAGE_SOURCE:
    case FT_COST_SOURCE: set_code(span, field, value); return true;
    case FT_FINISH_REASONS:
    case FT_TOOL_CALLS:
    case FT_TAGS: return set_texts(ring, span, field, value);
    case FT_STREAM:
        if (value == Py_True) span->record.flags |= FT_FLAG_STREAM;
        return true;
    case FT_REQUEST_PARAMS:
    case FT_ATTRIBUTES:
    case FT_EVENTS:
    case FT_INPUT:
    case FT_OUTPUT:
        if (PyBytes_CheckExact(value))
            ft_span_add_json(span, field, PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value));
        return true;
    case FT_COST_USD:
        if (PyFloat_CheckExact(value)) {
            set_cost_usd(span, PyFloat_AS_DOUBLE(value));
            return true;
        } /* fall through */
    case FT_SERVER_PORT:
    case FT_FIRST_CHUNK_MS:
    case FT_FIRST_TOKEN_MS:
    case FT_FIRST_TEXT_MS:
    case FT_CHUNKS:
    case FT_HTTP_STATUS:
    case FT_RETRIES:
    case FT_INPUT_TOKENS:
    case FT_OUTPUT_TOKENS:
    case FT_CACHE_READ_TOKENS:
    case FT_CACHE_WRITE_TOKENS:
    case FT_CACHE_WRITE_1H_TOKENS:
    case FT_REASONING_TOKENS:
    case FT_INPUT_AUDIO_TOKENS:
    case FT_OUTPUT_AUDIO_TOKENS:
    case FT_INPUT_IMAGE_TOKENS:
    case FT_WEB_SEARCH_REQUESTS:
        if (ft_unsigned_of(value, &number)) ft_set_number(span, field, number);
        return true;
    case FT_SERVICE:
    case FT_ENVIRONMENT:
    case FT_TENANT_ID:
    case FT_WORKFLOW_ID:
    case FT_SDK: return true; /* the process's, not a span's */
    default: return set_text(ring, span, field, value);
    }
}

/* FT_FIELD_COUNT for a name that is no field. */
static ft_field field_named(PyObject *name) {
    int field = 0;
    if (!PyUnicode_Check(name)) return FT_FIELD_COUNT;
    while (field < FT_FIELD_COUNT && PyUnicode_CompareWithASCIIString(name, ft_field_name[field]) != 0) field++;
    return (ft_field)field;
}

bool ft_set_fields(ft_ring *ring, ft_span *span, PyObject *fields) {
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(fields, &position, &key, &value)) {
        ft_field field = field_named(key);
        if (field == FT_FIELD_COUNT) continue;
        Py_INCREF(value); /* reading a list may run anybody's code */
        bool fine = ft_set_field(ring, span, field, value);
        Py_DECREF(value);
        if (!fine) return false;
    }
    return true;
}
