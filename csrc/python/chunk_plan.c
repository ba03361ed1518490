/* A StreamSpec compiled: which nodes are read as in a reply, which by a stream's own rules, and what each can still
 * tell (chunk.h). Runs once for every kind of call, when it is patched. */
#include <string.h>

#include "chunk.h"
#include "stream.h"

/* While it is compiled: `is_event` nodes have a bit each, those of all chunks one for each field. */
typedef struct {
    ft_stream_plan *plan;
    int bit_count;
    bool is_event;
} compiling;

static ft_role role_of(const ft_node *node) {
    switch (node->field) {
    case -1: return FT_ROLE_NONE;
    case FT_FINISH_REASONS: return FT_ROLE_FINISH;
    case FT_TOOL_CALLS: return FT_ROLE_TOOL;
    case FT_COST_USD:
    case FT_HTTP_STATUS:
    case FT_TOTAL_TOKENS: return FT_ROLE_NUMBER;
    default: return ft_is_count(node->field) ? FT_ROLE_NUMBER : FT_ROLE_TEXT;
    }
}

/* Whether all of it is read as in a reply: numbers, of which the last one wins. */
static bool is_plain(const ft_node *node) {
    ft_role role = role_of(node);
    bool plain = node->mark == FT_MARK_NONE && !node->late && (role == FT_ROLE_NONE || role == FT_ROLE_NUMBER);
    for (Py_ssize_t i = 0; plain && i < node->child_count; i++) plain = is_plain(&node->children[i]);
    return plain;
}

/* The plain ones first; the order among them, and among the others, stays. */
static bool part(ft_stream_nodes *nodes) {
    size_t size = (size_t)nodes->count * sizeof *nodes->nodes;
    ft_node *before = PyMem_Malloc(size + 1);
    if (before == NULL) {
        PyErr_NoMemory();
        return false;
    }
    if (size > 0) memcpy(before, nodes->nodes, size);
    Py_ssize_t at = 0;
    for (Py_ssize_t i = 0; i < nodes->count; i++)
        if (is_plain(&before[i])) nodes->nodes[at++] = before[i];
    nodes->plain_count = at;
    for (Py_ssize_t i = 0; i < nodes->count; i++)
        if (!is_plain(&before[i])) nodes->nodes[at++] = before[i];
    PyMem_Free(before);
    return true;
}

static uint64_t new_bit(compiling *to) {
    if (to->bit_count < 64) return UINT64_C(1) << to->bit_count++;
    PyErr_SetString(PyExc_ValueError, "a StreamSpec has too many texts");
    return 0;
}

static int new_value(ft_stream_plan *plan, int field) {
    if (plan->value_count < FT_STREAM_VALUES) {
        plan->text_fields[plan->value_count] = field;
        return plan->value_count++;
    }
    PyErr_SetString(PyExc_ValueError, "a StreamSpec has too many texts and late values");
    return -1;
}

/* A text's place is its field's. Its bit is closed by whoever finds it; what an event tells closes the chunks' too. */
static bool compile_text(compiling *to, ft_stream_node *special) {
    ft_stream_plan *plan = to->plan;
    int field = special->node->field, value = 0;
    while (value < plan->value_count && plan->text_fields[value] != field) value++;
    special->value = value < plan->value_count ? value : new_value(plan, field);
    uint64_t *shared = &plan->text_bits[field];
    uint64_t bit = !to->is_event && *shared != 0 ? *shared : new_bit(to);
    if (!to->is_event) *shared = bit;
    special->text = bit;
    special->wants |= bit;
    special->closes = bit | *shared;
    return special->value >= 0 && bit != 0;
}

static bool compile_late(compiling *to, ft_stream_node *special) {
    ft_stream_plan *plan = to->plan;
    special->wants |= FT_OPEN_ALWAYS; /* the last one is kept */
    special->late_value = new_value(plan, -1);
    if (special->late_value >= 0) plan->late[special->late_value] = special;
    return special->late_value >= 0;
}

static bool compile_list(compiling *to, ft_stream_nodes *nodes);

static bool compile_node(compiling *to, ft_stream_node *special, ft_node *node) {
    static const uint64_t of_mark[] = {[FT_MARK_NONE] = 0,
                                       [FT_MARK_TOKEN] = FT_OPEN_FIRST_TOKEN,
                                       [FT_MARK_TEXT] = FT_OPEN_FIRST_TEXT,
                                       [FT_MARK_END] = FT_OPEN_END};
    special->node = node;
    special->role = role_of(node);
    special->wants = special->marks = of_mark[node->mark];
    special->children.nodes = node->children;
    special->children.count = node->child_count;
    if (node->adds >= 0 || node->is_summed || node->field == FT_TOTAL_TOKENS) {
        PyErr_SetString(PyExc_ValueError, "a count that is added, added to, or a total has no mark");
        return false;
    }
    if (special->role == FT_ROLE_TEXT && !compile_text(to, special)) return false;
    if (special->role != FT_ROLE_TEXT && special->role != FT_ROLE_NONE) special->wants |= FT_OPEN_ALWAYS;
    if (node->late && !compile_late(to, special)) return false;
    if (!compile_list(to, &special->children)) return false;
    special->wants |= special->children.wants;
    return true;
}

static bool compile_list(compiling *to, ft_stream_nodes *nodes) {
    if (!part(nodes)) return false;
    if (nodes->plain_count > 0) nodes->wants = FT_OPEN_ALWAYS;
    nodes->special = PyMem_Calloc((size_t)(nodes->count - nodes->plain_count) + 1, sizeof *nodes->special);
    if (nodes->special == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (Py_ssize_t i = nodes->plain_count; i < nodes->count; i++) {
        ft_stream_node *special = &nodes->special[nodes->special_count++];
        if (!compile_node(to, special, &nodes->nodes[i])) return false;
        nodes->wants |= special->wants;
    }
    return true;
}

static void free_special(ft_stream_nodes *nodes) {
    for (Py_ssize_t i = 0; i < nodes->special_count; i++) free_special(&nodes->special[i].children);
    PyMem_Free(nodes->special);
}

/* The nodes of a chunk, or of an event. */
static bool compile_nodes(compiling *to, ft_stream_nodes *nodes, PyObject *source) {
    return ft_nodes_compile(source, &nodes->nodes, &nodes->count) && compile_list(to, nodes);
}

static void free_nodes(ft_stream_nodes *nodes) {
    free_special(nodes);
    ft_nodes_free(nodes->nodes, nodes->count);
}

static bool compile_events(compiling *to, PyObject *source) {
    ft_stream_plan *plan = to->plan;
    PyObject *items = PyMapping_Items(source);
    if (items == NULL) return false;
    to->is_event = true;
    Py_ssize_t count = PyList_GET_SIZE(items);
    plan->events = PyMem_Calloc((size_t)count + 1, sizeof *plan->events);
    bool fine = plan->events != NULL;
    for (Py_ssize_t i = 0; fine && i < count; i++) {
        PyObject *item = PyList_GET_ITEM(items, i);
        ft_stream_event *event = &plan->events[plan->event_count++];
        event->type = ft_interned(PyTuple_GET_ITEM(item, 0));
        fine = compile_nodes(to, &event->nodes, PyTuple_GET_ITEM(item, 1));
    }
    Py_DECREF(items);
    if (!fine && !PyErr_Occurred()) PyErr_NoMemory();
    return fine;
}

/* A tuple of interned names. */
static PyObject *compile_path(PyObject *source) {
    PyObject *names = PySequence_Tuple(source);
    Py_ssize_t count = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    PyObject *path = names == NULL ? NULL : PyTuple_New(count);
    for (Py_ssize_t i = 0; path != NULL && i < count; i++)
        PyTuple_SET_ITEM(path, i, ft_interned(PyTuple_GET_ITEM(names, i)));
    Py_XDECREF(names);
    return path;
}

static bool init_member(ft_member *member, const char *text) {
    PyObject *name = PyUnicode_InternFromString(text);
    if (name != NULL) ft_member_init(member, name);
    Py_XDECREF(name);
    return name != NULL;
}

static bool compile_parts(ft_stream_plan *plan, PyObject *parts) {
    compiling to = {plan, FT_OPEN_TEXTS, false};
    PyObject *iterator = PyTuple_GET_ITEM(parts, 0);
    plan->iterator = iterator == Py_None ? NULL : ft_interned(iterator);
    plan->body = compile_path(PyTuple_GET_ITEM(parts, 1));
    return plan->body != NULL && init_member(&plan->type, "type") && init_member(&plan->index, "index") &&
           init_member(&plan->id, "id") && compile_nodes(&to, &plan->chunk, PyTuple_GET_ITEM(parts, 2)) &&
           compile_events(&to, PyTuple_GET_ITEM(parts, 3));
}

ft_stream_plan *ft_stream_plan_compile(PyObject *spec) {
    PyObject *parts = PySequence_Tuple(spec); /* StreamSpec(iterator, body, chunk, events) */
    bool fine = parts != NULL && PyTuple_GET_SIZE(parts) == 4;
    if (parts != NULL && !fine) PyErr_SetString(PyExc_ValueError, "a StreamSpec has four members");
    ft_stream_plan *plan = fine ? PyMem_Calloc(1, sizeof *plan) : NULL;
    if (fine && plan == NULL) PyErr_NoMemory();
    if (plan != NULL && !compile_parts(plan, parts)) {
        ft_stream_plan_free(plan);
        plan = NULL;
    }
    Py_XDECREF(parts);
    return plan;
}

void ft_stream_plan_free(ft_stream_plan *plan) {
    if (plan == NULL) return;
    for (Py_ssize_t i = 0; i < plan->event_count; i++) {
        Py_XDECREF(plan->events[i].type);
        free_nodes(&plan->events[i].nodes);
    }
    PyMem_Free(plan->events);
    free_nodes(&plan->chunk);
    ft_member_clear(&plan->type);
    ft_member_clear(&plan->index);
    ft_member_clear(&plan->id);
    Py_XDECREF(plan->iterator);
    Py_XDECREF(plan->body);
    PyMem_Free(plan);
}
