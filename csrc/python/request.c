/* Reading the request of a call, from its keyword arguments or its body: the model, whether it streams, and the scalars
 * of request_params. Common values are rendered here; whatever is unusual goes through core/_text.py, so that both twins
 * write the same bytes. Nothing of the request is kept or copied but these. */
#include <math.h>
#include <string.h>

#include "fasttrace/json.h"
#include "fasttrace/redact.h"
#include "plan.h"

/* A parameter's string is clipped to PARAM_TEXT bytes; everything together to PARAMS bytes, which a table of 40
 * arguments cannot pass. */
enum { PARAM_TEXT = 64, PARAM_MAX = 72 + FT_JSON_STRING_MAX(PARAM_TEXT) + 1, PARAMS = 40 * PARAM_MAX };

typedef struct {
    char *at, *end;
    char start[PARAMS];
} writer;

/* The argument of this name, or NULL: interned names are told by their address. */
static ft_argument *argument_of(const ft_arguments *arguments, PyObject *name) {
    size_t at = ft_arguments_place(arguments, name);
    for (unsigned found; (found = arguments->table[at]) != 0; at = (at + 1) & arguments->mask)
        if (arguments->list[found - 1].member.name == name) return &arguments->list[found - 1];
    if (!PyUnicode_Check(name) || PyUnicode_CHECK_INTERNED(name)) return NULL;
    PyObject *position = ft_dict_get(arguments->by_text, name);
    if (position == NULL) return NULL;
    Py_ssize_t index = PyLong_AsSsize_t(position);
    Py_DECREF(position);
    return &arguments->list[index];
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
    if (text == NULL || length > PARAM_TEXT || !ft_redact_is_clean(text, (size_t)length)) return NULL;
    return ft_json_string(out, text, (size_t)length);
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

bool ft_is_true(PyObject *value) {
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

typedef struct {
    ft_request *request;
    writer params;
} request_reading;

static void begin(request_reading *to, ft_request *request) {
    *request = (ft_request){0};
    to->request = request;
    to->params.at = to->params.start;
    to->params.end = to->params.start + sizeof to->params.start - 1;
}

static void end(request_reading *to, ft_span *span) {
    writer *params = &to->params;
    if (params->at == params->start) return;
    *params->at++ = '}';
    ft_span_add_json(span, FT_REQUEST_PARAMS, params->start, (size_t)(params->at - params->start));
}

static bool read_below(request_reading *to, ft_arguments *arguments, PyObject *object);

static bool read_special(request_reading *to, ft_argument *argument, PyObject *value) {
    switch (argument->use) {
    case FT_ARGUMENT_MODEL: Py_XSETREF(to->request->model, Py_NewRef(value)); return true;
    case FT_ARGUMENT_STREAM: to->request->is_streamed = ft_is_true(value); return true;
    case FT_ARGUMENT_TIER: to->request->has_other_tier |= is_other_tier(value); return write_param(&to->params, argument, value);
    case FT_ARGUMENT_RATE: to->request->has_other_rate |= is_other_tier(value); return write_param(&to->params, argument, value);
    case FT_ARGUMENT_BELOW: return read_below(to, &argument->below, value);
    default: return true;
    }
}

static inline bool read_member(request_reading *to, ft_argument *argument, PyObject *value) {
    if (argument->use == FT_ARGUMENT_PARAM) return write_param(&to->params, argument, value);
    return read_special(to, argument, value);
}

/* A value without members of its own has nothing to ask for. */
static bool is_leaf(PyObject *value) {
    return value == Py_None || is_scalar(value) || PyBytes_Check(value) || PyList_Check(value) || PyTuple_Check(value);
}

/* Of what is below, only what the spec names: a settings object has many members, most of them unset. */
static bool read_below(request_reading *to, ft_arguments *arguments, PyObject *object) {
    if (is_leaf(object)) return true;
    PyObject *fields = ft_fields_of(object);
    bool fine = true;
    for (Py_ssize_t i = 0; fine && i < arguments->count; i++) {
        ft_argument *argument = &arguments->list[i];
        if (argument->use == FT_ARGUMENT_IGNORED) continue;
        PyObject *value = ft_field_value(object, fields, &argument->member);
        fine = value == NULL ? ft_swallow() : value == Py_None || read_member(to, argument, value);
        Py_XDECREF(value);
    }
    Py_XDECREF(fields);
    return fine;
}

bool ft_request_read(ft_plan *plan, PyObject *const *args, Py_ssize_t positional, PyObject *names, ft_span *span,
                     ft_request *request) {
    request_reading to;
    begin(&to, request);
    Py_ssize_t count = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < count; i++) {
        ft_argument *argument = argument_of(&plan->request, PyTuple_GET_ITEM(names, i));
        if (argument != NULL && !read_member(&to, argument, args[positional + i])) return false;
    }
    end(&to, span);
    return true;
}

typedef struct {
    PyObject *const *bodies;
    int count;
} request_bodies;

static bool is_in_later(request_bodies all, int which, PyObject *name) {
    for (int i = which + 1; i < all.count; i++) {
        PyObject *value = ft_dict_get(all.bodies[i], name);
        Py_XDECREF(value);
        if (value != NULL) return true;
    }
    return false;
}

static bool read_item(request_reading *to, ft_plan *plan, request_bodies all, int which, PyObject *name, PyObject *value) {
    ft_argument *argument = argument_of(&plan->request, name);
    if (argument == NULL || is_in_later(all, which, name)) return true;
    Py_INCREF(value); /* reading it may run anybody's code */
    bool fine = read_member(to, argument, value);
    Py_DECREF(value);
    return fine;
}

static bool read_body(request_reading *to, ft_plan *plan, request_bodies all, int which) {
    PyObject *name, *value, *body = all.bodies[which];
    Py_ssize_t position = 0;
#ifdef Py_GIL_DISABLED
    body = PyDict_Copy(body); /* the caller's, who may write to it meanwhile */
    if (body == NULL) return ft_swallow();
#endif
    bool fine = true;
    while (fine && PyDict_Next(body, &position, &name, &value)) fine = read_item(to, plan, all, which, name, value);
#ifdef Py_GIL_DISABLED
    Py_DECREF(body);
#endif
    return fine;
}

bool ft_request_read_bodies(ft_plan *plan, PyObject *const *bodies, int count, ft_span *span, ft_request *request) {
    request_reading to;
    begin(&to, request);
    bool fine = true;
    for (int i = 0; fine && i < count; i++) fine = read_body(&to, plan, (request_bodies){bodies, count}, i);
    if (fine) end(&to, span);
    return fine;
}
