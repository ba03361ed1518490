#include "route.h"

#include <string.h>

typedef struct {
    ft_entry entry; /* key: the path */
    PyObject *verb;
    ft_route *route;
} found_route;

/* "post /chat/completions": the text is the UTF-8 of `owner`. */
typedef struct {
    PyObject *owner;
    const char *text;
    size_t length;
} route_text;

struct ft_router {
    Py_ssize_t position;
    PyObject *keyword, *stream; /* interned */
    ft_member verb, path, bodies[FT_BODIES_MAX];
    int body_count;
    ft_raw_names raw;
    route_text *texts; /* one for each of the target's routes */
    found_route found[FT_CACHED];
};

const ft_raw_names *ft_router_raw(const ft_router *router) { return &router->raw; }

/* ---- making them ---- */

/* None becomes NULL. False with an exception set. */
static bool optional_attribute(PyObject *object, const char *name, PyObject **value) {
    *value = PyObject_GetAttrString(object, name);
    if (*value == Py_None) Py_CLEAR(*value);
    return !PyErr_Occurred();
}

static bool compile_content(ft_route *route, PyObject *spec) {
    PyObject *content;
    if (!optional_attribute(spec, "content", &content)) return false;
    if (content == NULL) return true;
    bool fine = optional_attribute(content, "input", &route->content_input) &&
                optional_attribute(content, "output", &route->content_output) &&
                optional_attribute(content, "stream", &route->content_stream);
    Py_DECREF(content);
    return fine;
}

static bool compile_route(ft_route *route, PyObject *spec) {
    return ft_plan_compile(&route->plan, spec) && compile_content(route, spec) &&
           optional_attribute(spec, "amend", &route->amend);
}

static bool make_routes(ft_target *target, Py_ssize_t count) {
    target->routes = PyMem_Calloc((size_t)count + 1, sizeof *target->routes);
    if (target->routes != NULL) return true;
    PyErr_NoMemory();
    return false;
}

/* An attribute that is a str, interned; NULL with an exception set. */
static PyObject *name_attribute(PyObject *object, const char *name) {
    PyObject *value = PyObject_GetAttrString(object, name);
    if (value != NULL && !PyUnicode_CheckExact(value)) {
        PyErr_Format(PyExc_TypeError, "Router.%s is not a str: %R", name, value);
        Py_CLEAR(value);
    }
    if (value != NULL) PyUnicode_InternInPlace(&value);
    return value;
}

static bool member_attribute(ft_member *member, PyObject *object, const char *name) {
    PyObject *value = name_attribute(object, name);
    if (value == NULL) return false;
    ft_member_init(member, value);
    Py_DECREF(value);
    return true;
}

static bool compile_bodies(ft_router *router, PyObject *source) {
    PyObject *attribute = PyObject_GetAttrString(source, "bodies");
    PyObject *names = attribute == NULL ? NULL : PySequence_Tuple(attribute);
    Py_XDECREF(attribute);
    if (names == NULL) return false;
    bool fine = PyTuple_GET_SIZE(names) <= FT_BODIES_MAX;
    for (Py_ssize_t i = 0; fine && i < PyTuple_GET_SIZE(names); i++) fine = PyUnicode_CheckExact(PyTuple_GET_ITEM(names, i));
    for (Py_ssize_t i = 0; fine && i < PyTuple_GET_SIZE(names); i++)
        ft_member_init(&router->bodies[router->body_count++], PyTuple_GET_ITEM(names, i));
    if (!fine) PyErr_Format(PyExc_ValueError, "Router.bodies: at most %d names: %R", FT_BODIES_MAX, names);
    Py_DECREF(names);
    return fine;
}

static bool compile_raw(ft_router *router, PyObject *source) {
    PyObject *raw = PyObject_GetAttrString(source, "raw");
    bool fine = raw != NULL && (router->raw.response = name_attribute(raw, "response")) != NULL &&
                (router->raw.parsed = name_attribute(raw, "parsed")) != NULL &&
                (router->raw.body = name_attribute(raw, "body")) != NULL;
    Py_XDECREF(raw);
    return fine;
}

static bool compile_arguments(ft_router *router, PyObject *source) {
    PyObject *position = PyObject_GetAttrString(source, "position");
    router->position = position == NULL ? -1 : PyLong_AsSsize_t(position);
    Py_XDECREF(position);
    return !PyErr_Occurred() && (router->keyword = name_attribute(source, "keyword")) != NULL &&
           (router->stream = name_attribute(source, "stream")) != NULL && member_attribute(&router->verb, source, "verb") &&
           member_attribute(&router->path, source, "path");
}

static bool compile_text(route_text *text, PyObject *name) {
    Py_ssize_t length;
    text->text = PyUnicode_AsUTF8AndSize(name, &length);
    if (text->text == NULL) return false;
    text->owner = Py_NewRef(name);
    text->length = (size_t)length;
    return true;
}

static bool compile_routes(ft_target *target, PyObject *routes) {
    PyObject *items = PyMapping_Items(routes);
    if (items == NULL) return false;
    Py_ssize_t count = PyList_GET_SIZE(items);
    bool fine = count > 0 && make_routes(target, count);
    if (fine) fine = (target->router->texts = PyMem_Calloc((size_t)count, sizeof *target->router->texts)) != NULL;
    for (Py_ssize_t i = 0; fine && i < count; i++) {
        PyObject *item = PyList_GET_ITEM(items, i);
        target->route_count = i + 1;
        fine = compile_text(&target->router->texts[i], PyTuple_GET_ITEM(item, 0)) &&
               compile_route(&target->routes[i], PyTuple_GET_ITEM(item, 1));
    }
    Py_DECREF(items);
    if (!fine && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a Router without routes");
    return fine;
}

static bool compile_router(ft_target *target, PyObject *source, PyObject *routes) {
    target->router = PyMem_Calloc(1, sizeof *target->router);
    if (target->router == NULL) PyErr_NoMemory();
    return target->router != NULL && compile_arguments(target->router, source) && compile_bodies(target->router, source) &&
           compile_raw(target->router, source) && compile_routes(target, routes);
}

bool ft_routes_compile(ft_target *target, PyObject *spec) {
    PyObject *routes = PyObject_GetAttrString(spec, "routes");
    if (routes != NULL) {
        bool fine = compile_router(target, spec, routes);
        Py_DECREF(routes);
        return fine;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return false;
    PyErr_Clear();
    if (!make_routes(target, 1)) return false;
    target->route_count = 1;
    return compile_route(target->routes, spec);
}

/* ---- letting go of them ---- */

int ft_routes_traverse(ft_target *target, visitproc visit, void *arg) {
    for (Py_ssize_t i = 0; i < target->route_count; i++) {
        ft_route *route = &target->routes[i];
        Py_VISIT(route->content_input);
        Py_VISIT(route->content_output);
        Py_VISIT(route->content_stream);
        Py_VISIT(route->amend);
        for (int j = 0; j < FT_CACHED; j++) Py_VISIT(route->namings[j].entry.key);
    }
    for (int i = 0; target->router != NULL && i < FT_CACHED; i++) {
        Py_VISIT(target->router->found[i].entry.key);
        Py_VISIT(target->router->found[i].verb);
    }
    return 0;
}

void ft_routes_clear(ft_target *target) {
    for (Py_ssize_t i = 0; i < target->route_count; i++) {
        ft_route *route = &target->routes[i];
        Py_CLEAR(route->content_input);
        Py_CLEAR(route->content_output);
        Py_CLEAR(route->content_stream);
        Py_CLEAR(route->amend);
        for (int j = 0; j < FT_CACHED; j++) Py_CLEAR(route->namings[j].entry.key);
    }
    for (int i = 0; target->router != NULL && i < FT_CACHED; i++) {
        Py_CLEAR(target->router->found[i].entry.key);
        Py_CLEAR(target->router->found[i].verb);
    }
}

static void free_router(ft_router *router, Py_ssize_t route_count) {
    Py_CLEAR(router->keyword);
    Py_CLEAR(router->stream);
    Py_CLEAR(router->raw.response);
    Py_CLEAR(router->raw.parsed);
    Py_CLEAR(router->raw.body);
    ft_member_clear(&router->verb);
    ft_member_clear(&router->path);
    for (int i = 0; i < router->body_count; i++) ft_member_clear(&router->bodies[i]);
    for (Py_ssize_t i = 0; router->texts != NULL && i < route_count; i++) Py_CLEAR(router->texts[i].owner);
    PyMem_Free(router->texts);
    PyMem_Free(router);
}

void ft_routes_free(ft_target *target) {
    ft_routes_clear(target);
    if (target->router != NULL) free_router(target->router, target->route_count);
    for (Py_ssize_t i = 0; i < target->route_count; i++) ft_plan_clear(&target->routes[i].plan);
    PyMem_Free(target->routes);
}

/* ---- finding one ---- */

/* The argument that was passed under this name, borrowed, or NULL. */
static PyObject *keyword_argument(PyObject *const *args, Py_ssize_t positional, PyObject *names, PyObject *name) {
    Py_ssize_t count = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *given = PyTuple_GET_ITEM(names, i);
        if (given == name) return args[positional + i];
        if (!PyUnicode_CHECK_INTERNED(given) && PyUnicode_Compare(given, name) == 0) return args[positional + i];
    }
    return NULL;
}

static bool is_verb(const char *lower, const char *verb, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (lower[i] != (verb[i] >= 'A' && verb[i] <= 'Z' ? verb[i] - 'A' + 'a' : verb[i])) return false;
    return true;
}

typedef struct {
    const char *verb, *path;
    size_t verb_length, path_length; /* of the path what has to be the same */
    bool is_any_segment;             /* then comes "*" */
} wanted;

static bool text_fits(const route_text *route, const wanted *what) {
    size_t path_at = what->verb_length + 1, path_end = path_at + what->path_length;
    return route->length == path_end + what->is_any_segment && route->text[what->verb_length] == ' ' &&
           is_verb(route->text, what->verb, what->verb_length) &&
           memcmp(route->text + path_at, what->path, what->path_length) == 0 &&
           (!what->is_any_segment || route->text[path_end] == '*');
}

static ft_route *fitting(const ft_target *target, const wanted *what) {
    for (Py_ssize_t i = 0; i < target->route_count; i++)
        if (text_fits(&target->router->texts[i], what)) return &target->routes[i];
    return NULL;
}

/* `is_literal`: the whole path is a route's, as it is in the SDK's source. */
static ft_route *find_by_text(const ft_target *target, PyObject *verb, PyObject *path, bool *is_literal) {
    Py_ssize_t verb_length, path_length;
    wanted what = {.is_any_segment = false};
    *is_literal = false;
    if (!PyUnicode_Check(verb) || !PyUnicode_Check(path)) return NULL;
    if ((what.verb = PyUnicode_AsUTF8AndSize(verb, &verb_length)) == NULL) return NULL;
    if ((what.path = PyUnicode_AsUTF8AndSize(path, &path_length)) == NULL) return NULL;
    what.verb_length = (size_t)verb_length;
    const char *query = memchr(what.path, '?', (size_t)path_length);
    what.path_length = query == NULL ? (size_t)path_length : (size_t)(query - what.path);
    ft_route *route = fitting(target, &what);
    *is_literal = route != NULL;
    if (route != NULL) return route;
    while (what.path_length > 0 && what.path[what.path_length - 1] != '/') what.path_length--;
    what.is_any_segment = true;
    return what.path_length > 0 ? fitting(target, &what) : NULL;
}

static void remember(found_route *place, PyObject *verb, PyObject *path, ft_route *route) {
    if (!ft_entry_claim(&place->entry)) return;
    PyObject *old = place->verb;
    place->verb = Py_NewRef(verb);
    place->route = route;
    ft_entry_publish(&place->entry, path, NULL);
    Py_XDECREF(old);
}

/* NULL without an exception where none fits. */
static ft_route *find(ft_target *target, PyObject *verb, PyObject *path) {
    found_route *place = &target->router->found[ft_entry_place(path)];
    if (ft_entry_is(&place->entry, path, NULL) && place->verb == verb) return place->route;
    bool is_literal;
    ft_route *route = find_by_text(target, verb, path, &is_literal);
    if (is_literal) remember(place, verb, path, route);
    return route;
}

static bool read_bodies(ft_router *router, PyObject *request, PyObject *fields, ft_routed *routed) {
    for (int i = 0; i < router->body_count; i++) {
        PyObject *body = ft_field_value(request, fields, &router->bodies[i]);
        if (body == NULL && !ft_swallow()) return false;
        if (body != NULL && PyDict_Check(body))
            routed->bodies[routed->body_count++] = body;
        else
            Py_XDECREF(body);
    }
    return true;
}

/* The request object's route and bodies. */
static bool find_for(ft_target *target, PyObject *request, PyObject *fields, ft_routed *routed) {
    PyObject *path = ft_field_value(request, fields, &target->router->path);
    PyObject *verb = path == NULL ? NULL : ft_field_value(request, fields, &target->router->verb);
    if (verb != NULL) routed->route = find(target, verb, path);
    Py_XDECREF(path);
    Py_XDECREF(verb);
    if (routed->route == NULL) return ft_swallow();
    return read_bodies(target->router, request, fields, routed);
}

bool ft_router_find(ft_target *target, PyObject *const *args, Py_ssize_t positional, PyObject *names, ft_routed *routed) {
    ft_router *router = target->router;
    routed->route = NULL;
    routed->body_count = 0;
    routed->is_streamed = false;
    PyObject *request = positional > router->position ? args[router->position]
                                                      : keyword_argument(args, positional, names, router->keyword);
    if (request == NULL) return true;
    PyObject *fields = ft_fields_of(request);
    bool fine = find_for(target, request, fields, routed);
    Py_XDECREF(fields);
    if (routed->route == NULL) return fine;
    PyObject *stream = keyword_argument(args, positional, names, router->stream);
    routed->is_streamed = stream != NULL && ft_is_true(stream);
    return fine;
}

void ft_routed_clear(ft_routed *routed) {
    while (routed->body_count > 0) Py_DECREF(routed->bodies[--routed->body_count]);
}
