/* Reading a reply by its nodes. An object that cannot be read costs a log line and nothing else. */
#include "node.h"

/* What the nodes of one object add to each other, by count. */
typedef struct {
    uint64_t values[FT_RECORD_COUNTS];
    unsigned present, overflowed; /* one bit each */
} sums;

typedef struct {
    ft_ring *ring;
    ft_span *span;
    bool is_foreign;
} reading;

static bool read_nodes(const reading *to, PyObject *object, ft_node *nodes, Py_ssize_t count);

bool ft_type_is_among(PyObject *type, PyObject *types) {
    if (type == NULL || !PyUnicode_Check(type)) return false;
    Py_ssize_t count = PyTuple_GET_SIZE(types);
    for (Py_ssize_t i = 0; i < count; i++)
        if (PyTuple_GET_ITEM(types, i) == type) return true;
    for (Py_ssize_t i = 0; i < count; i++)
        if (PyUnicode_Compare(PyTuple_GET_ITEM(types, i), type) == 0) return true;
    return false;
}

static void add(sums *to, int field, PyObject *value) {
    uint64_t number;
    if (!ft_unsigned_of(value, &number)) return;
    int at = field - FT_INPUT_TOKENS;
    unsigned bit = 1u << at;
    uint64_t before = to->present & bit ? to->values[at] : 0;
    if (number > UINT64_MAX - before) to->overflowed |= bit;
    to->values[at] = before + number;
    to->present |= bit;
}

static void set_sums(const reading *to, const sums *found) {
    for (int at = 0; at < FT_RECORD_COUNTS; at++)
        if ((found->present & ~found->overflowed) >> at & 1)
            ft_set_number(to->span, (ft_field)(FT_INPUT_TOKENS + at), found->values[at]);
}

/* A provider that leaves out an output of zero, or reasoning that it counts apart, tells the whole of it here. */
static void set_total(ft_span *span, PyObject *value) {
    const ft_record *record = &span->record;
    const uint64_t *input = &record->counts[0], *output = &record->counts[FT_OUTPUT_TOKENS - FT_INPUT_TOKENS];
    uint64_t total;
    if (!ft_record_has(record, FT_INPUT_TOKENS) || !ft_unsigned_of(value, &total) || total < *input) return;
    if (!ft_record_has(record, FT_OUTPUT_TOKENS) || total - *input > *output)
        ft_set_number(span, FT_OUTPUT_TOKENS, total - *input);
}

static bool read_unusual(const reading *to, PyObject *value, ft_node *node, sums *found) {
    if (node->adds >= 0) add(found, node->adds, value);
    if (node->is_summed) add(found, node->field, value);
    if (node->is_summed || node->field < 0)
        return node->child_count == 0 || read_nodes(to, value, node->children, node->child_count);
    if (node->field == FT_COST_USD) {
        ft_set_reported_cost(to->span, value);
        return true;
    }
    if (node->field == FT_TOTAL_TOKENS) {
        set_total(to->span, value);
        return true;
    }
    if (node->field == FT_ERROR_CODE && PyUnicode_Check(value) && PyUnicode_GetLength(value) > 0)
        to->span->record.status = FT_STATUS_ERROR;
    return ft_set_field(to->ring, to->span, (ft_field)node->field, value);
}

static inline bool read_value(const reading *to, PyObject *value, ft_node *node, sums *found) {
    if (value == Py_None) return true;
    if (node->is_unusual) return read_unusual(to, value, node, found);
    if (node->field >= 0) return ft_set_field(to->ring, to->span, (ft_field)node->field, value);
    return read_nodes(to, value, node->children, node->child_count);
}

static bool read_each(const reading *to, PyObject *list, ft_node *node, sums *found) {
    if (!PyList_Check(list) && !PyTuple_Check(list)) return true;
    Py_ssize_t size = PySequence_Fast_GET_SIZE(list);
    for (Py_ssize_t i = 0; i < size && i < FT_ELEMENTS_MAX; i++) {
        PyObject *element = PySequence_GetItem(list, i);
        bool fine = element == NULL ? ft_swallow() : read_value(to, element, node, found);
        Py_XDECREF(element);
        if (!fine) return false;
    }
    return true;
}

/* What the object whose nodes are read has as a tag, once it was asked for. */
typedef struct {
    PyObject *name, *value;
} tag_seen;

/* Whether the node is to be read here. A tag that cannot be read is none; false with an exception set when it must go
 * on. */
static bool applies(const reading *to, ft_node *node, PyObject *object, PyObject *fields, tag_seen *tag) {
    if (node->foreign && !to->is_foreign) return false;
    if (node->types == NULL) return true;
    if (tag->name != node->tag.name) {
        Py_XSETREF(tag->value, ft_field_value(object, fields, &node->tag));
        tag->name = node->tag.name;
    }
    return (tag->value != NULL || ft_swallow()) && ft_type_is_among(tag->value, node->types);
}

/* What is left out of one object's counts, and whether there are any. */
enum { MISSING_MAX = 4 };
typedef struct {
    ft_node *missing[MISSING_MAX];
    int missing_count;
    bool has_count;
} counting;

static void count(counting *seen, ft_node *node, PyObject *value) {
    bool is_there = value != NULL && value != Py_None;
    bool is_count = node->types == NULL && (node->adds >= 0 || ft_is_count(node->field));
    if (is_there && is_count && PyLong_CheckExact(value)) seen->has_count = true;
    if (!is_there && node->otherwise != NULL && seen->missing_count < MISSING_MAX)
        seen->missing[seen->missing_count++] = node;
}

static bool read_missing(const reading *to, const counting *seen, sums *found) {
    bool fine = true;
    for (int i = 0; fine && seen->has_count && i < seen->missing_count; i++)
        fine = read_value(to, seen->missing[i]->otherwise, seen->missing[i], found);
    return fine;
}

static bool read_nodes(const reading *to, PyObject *object, ft_node *nodes, Py_ssize_t node_count) {
    PyObject *fields = ft_fields_of(object);
    tag_seen tag = {NULL, NULL};
    counting seen;
    seen.missing_count = 0;
    seen.has_count = false;
    sums found;
    found.present = found.overflowed = 0;
    bool fine = true;
    for (ft_node *node = nodes; fine && node < nodes + node_count; node++) {
        if (node->is_conditional && !applies(to, node, object, fields, &tag)) {
            fine = tag.value != NULL || !PyErr_Occurred();
            continue;
        }
        PyObject *value = ft_field_value(object, fields, &node->member);
        count(&seen, node, value);
        if (value == NULL) {
            fine = ft_swallow();
            continue;
        }
        fine = node->each ? read_each(to, value, node, &found) : read_value(to, value, node, &found);
        Py_DECREF(value);
    }
    if (fine && seen.missing_count > 0) fine = read_missing(to, &seen, &found);
    if (found.present != 0) set_sums(to, &found);
    Py_XDECREF(fields);
    Py_XDECREF(tag.value);
    return fine;
}

bool ft_nodes_read(ft_node *nodes, Py_ssize_t count, PyObject *object, bool is_foreign, ft_ring *ring, ft_span *span) {
    reading to = {ring, span, is_foreign};
    return object == Py_None || read_nodes(&to, object, nodes, count);
}
