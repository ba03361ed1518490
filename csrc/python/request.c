/* Reading the keyword arguments of a call: the model, whether it streams, and the scalars of request_params.
 * Common values are rendered here; whatever is unusual goes through core/_text.py, so that both twins write the same
 * bytes. Nothing of the arguments is kept or copied but these. */
#include <math.h>
#include <string.h>

#include "fasttrace/json.h"
#include "plan.h"

/* A parameter's string is clipped to PARAM_TEXT bytes; everything together to PARAMS bytes, which a table of 40
 * arguments cannot pass. */
enum { PARAM_TEXT = 64, PARAM_MAX = 72 + FT_JSON_STRING_MAX(PARAM_TEXT) + 1, PARAMS = 40 * PARAM_MAX };

typedef struct {
    char *at, *end;
    char start[PARAMS];
} writer;

static const ft_argument *argument_of(const ft_plan *plan, PyObject *name) {
    for (Py_ssize_t i = 0; i < plan->argument_count; i++)
        if (plan->arguments[i].name == name) return &plan->arguments[i];
    if (PyUnicode_CHECK_INTERNED(name)) return NULL;
    PyObject *position = ft_dict_get(plan->argument_index, name);
    if (position == NULL) return NULL;
    Py_ssize_t index = PyLong_AsSsize_t(position);
    Py_DECREF(position);
    return &plan->arguments[index];
}

/* The shortest decimal of at most four places, where it is exact: most temperatures and penalties. m / 10^k with both
 * below 2^53 is correctly rounded, so equality proves that these digits are what repr() prints. */
static char *simple_float(char *out, double value) {
    static const double scale[] = {10.0, 100.0, 1000.0, 10000.0};
    double size = fabs(value);
    if (!(size >= 0.001 && size < 1e9) && size != 0.0) return NULL;
    for (int places = 1; places <= 4; places++) {
        double scaled = rint(size * scale[places - 1]);
        if (scaled / scale[places - 1] != size) continue;
        if (signbit(value)) *out++ = '-';
        uint64_t digits = (uint64_t)scaled, unit = (uint64_t)scale[places - 1];
        out = ft_json_uint(out, digits / unit);
        *out++ = '.';
        uint64_t fraction = digits % unit;
        for (uint64_t place = unit / 10; place > 0; place /= 10) *out++ = (char)('0' + fraction / place % 10);
        return out;
    }
    return NULL;
}

static char *simple_int(char *out, PyObject *value) {
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0) return NULL;
    if (number < 0) *out++ = '-';
    return ft_json_uint(out, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

static char *simple_text(char *out, PyObject *value) {
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(value, &length);
    if (text == NULL) PyErr_Clear();
    return text == NULL || length > PARAM_TEXT ? NULL : ft_json_string(out, text, (size_t)length);
}

/* Straight to JSON when the value is a plain scalar of the usual size, else NULL. */
static char *render_simple(char *out, PyObject *value) {
    if (value == Py_True) return (char *)memcpy(out, "true", 4) + 4;
    if (value == Py_False) return (char *)memcpy(out, "false", 5) + 5;
    if (PyFloat_CheckExact(value)) return simple_float(out, PyFloat_AS_DOUBLE(value));
    if (PyLong_CheckExact(value)) return simple_int(out, value);
    if (PyUnicode_CheckExact(value)) return simple_text(out, value);
    return NULL;
}

static bool is_scalar(PyObject *value) {
    return PyBool_Check(value) || PyFloat_Check(value) || PyLong_Check(value) || PyUnicode_Check(value);
}

static char *render_unusual(char *out, size_t room, PyObject *value) {
    PyObject *json = PyObject_CallOneArg(ft_python_side.render_param, value);
    char *end = NULL;
    if (json != NULL && PyBytes_Check(json) && (size_t)PyBytes_GET_SIZE(json) <= room)
        end = (char *)memcpy(out, PyBytes_AS_STRING(json), (size_t)PyBytes_GET_SIZE(json)) + PyBytes_GET_SIZE(json);
    Py_XDECREF(json);
    return end;
}

static bool write_param(writer *params, const ft_argument *argument, PyObject *value) {
    if (!is_scalar(value) || params->end - params->at < PARAM_MAX) return true;
    char *out = params->at;
    *out++ = params->at == params->start ? '{' : ',';
    memcpy(out, argument->label, argument->label_length);
    out += argument->label_length;
    char *done = render_simple(out, value);
    if (done == NULL) done = render_unusual(out, FT_JSON_STRING_MAX(PARAM_TEXT), value);
    if (done != NULL) params->at = done;
    return ft_swallow();
}

/* As the SDK asks it; its "not given" is false. A value that cannot be asked is not a wish to stream. */
static bool is_true(PyObject *value) {
    int truth = value == Py_True ? 1 : PyObject_IsTrue(value);
    if (truth < 0) PyErr_Clear();
    return truth > 0;
}

static bool is_other_tier(PyObject *value) {
    if (!PyUnicode_Check(value)) return false;
    Py_ssize_t length;
    const char *tier = PyUnicode_AsUTF8AndSize(value, &length);
    if (tier == NULL) PyErr_Clear(); /* not valid Unicode, so no tier of anybody's */
    return tier == NULL || !ft_price_is_standard_tier(tier, (size_t)length);
}

bool ft_request_read(const ft_plan *plan, PyObject *const *args, Py_ssize_t positional, PyObject *names, ft_span *span,
                     ft_request *request) {
    request->model = NULL;
    request->is_streamed = request->has_other_tier = false;
    Py_ssize_t count = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    writer params;
    params.at = params.start;
    params.end = params.start + sizeof params.start - 1;
    for (Py_ssize_t i = 0; i < count; i++) {
        const ft_argument *argument = argument_of(plan, PyTuple_GET_ITEM(names, i));
        if (argument == NULL) continue;
        PyObject *value = args[positional + i];
        if (argument->use == FT_ARGUMENT_MODEL) request->model = value;
        if (argument->use == FT_ARGUMENT_STREAM) request->is_streamed = is_true(value);
        if (argument->use == FT_ARGUMENT_TIER) request->has_other_tier = is_other_tier(value);
        bool is_param = argument->use == FT_ARGUMENT_PARAM || argument->use == FT_ARGUMENT_TIER;
        if (is_param && !write_param(&params, argument, value)) return false;
    }
    if (params.at == params.start) return true;
    *params.at++ = '}';
    ft_span_add_json(span, FT_REQUEST_PARAMS, params.start, (size_t)(params.at - params.start));
    return true;
}
