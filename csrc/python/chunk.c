#include "chunk.h"

#include "fasttrace/clock.h"

typedef struct {
    ft_reading *reading;
    ft_stream_plan *plan;
    ft_call *call;
    int64_t now_ns; /* of this chunk, once it was asked for */
} chunk_read;

/* Where in the chunk the reader is: the list elements around it. Borrowed, NULL where there are none. */
typedef struct {
    PyObject *outer, *inner;
} elements;

static const elements nowhere = {NULL, NULL};

static bool read_nodes(chunk_read *to, const ft_stream_nodes *nodes, PyObject *object, elements around);

/* ---- the three firsts ---- */

static void set_first(chunk_read *to, ft_field field) {
    if (to->now_ns == 0) to->now_ns = ft_clock_monotonic_ns();
    ft_set_number(&to->call->span, field, (uint64_t)(to->now_ns - to->call->started_ns));
}

static void see_token(chunk_read *to) {
    if (!(to->reading->open & FT_OPEN_FIRST_TOKEN)) return;
    to->reading->open &= ~(uint64_t)FT_OPEN_FIRST_TOKEN;
    set_first(to, FT_FIRST_TOKEN_MS);
}

static void see_text(chunk_read *to) {
    see_token(to);
    to->reading->open &= ~(uint64_t)FT_OPEN_FIRST_TEXT;
    set_first(to, FT_FIRST_TEXT_MS);
}

static bool is_empty(PyObject *value) {
    if (PyUnicode_Check(value)) return PyUnicode_GET_LENGTH(value) == 0;
    if (PyList_Check(value) || PyTuple_Check(value)) return PySequence_Fast_GET_SIZE(value) == 0;
    return PyDict_Check(value) ? PyDict_GET_SIZE(value) == 0 : value == Py_None;
}

/* Whether what is beside a text makes it a token that nobody sees. False when an exception must go on. */
static bool is_unseen(PyObject *object, PyObject *fields, ft_node *node, bool *unseen) {
    *unseen = false;
    if (node->unless.name == NULL) return true;
    PyObject *value = ft_field_value(object, fields, &node->unless);
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    Py_XDECREF(value);
    *unseen = truth > 0;
    return ft_swallow();
}

static bool see_mark(chunk_read *to, PyObject *object, PyObject *fields, ft_node *node) {
    bool unseen = false;
    switch (node->mark) {
    case FT_MARK_TEXT:
        if (!is_unseen(object, fields, node, &unseen)) return false;
        (unseen ? see_token : see_text)(to);
        return true;
    case FT_MARK_TOKEN: see_token(to); return true;
    case FT_MARK_END:
        to->reading->open &= ~(uint64_t)FT_OPEN_END;
        to->reading->has_ended = true;
        return true;
    default: return true;
    }
}

/* ---- finish reasons and tool calls ---- */

static bool is_text(PyObject *value) { return PyUnicode_Check(value) && PyUnicode_GET_LENGTH(value) > 0; }

/* The element's `index`; `index` stays as it is where it has none. False when an exception must go on. */
static bool index_of(chunk_read *to, PyObject *element, long *index, bool *found) {
    *found = false;
    if (element == NULL) return true;
    PyObject *fields = ft_fields_of(element), *value = ft_field_value(element, fields, &to->plan->index);
    if (value != NULL && PyLong_CheckExact(value)) {
        int overflow;
        long number = PyLong_AsLongAndOverflow(value, &overflow);
        *found = overflow == 0;
        if (*found) *index = number;
    }
    Py_XDECREF(fields);
    Py_XDECREF(value);
    return ft_swallow();
}

/* Room for one more in a list whose capacity is the power of two that its count has reached. */
static bool grow(void **list, int count, size_t size) {
    if (*list != NULL && (count & (count - 1)) != 0) return true;
    void *grown = PyMem_Realloc(*list, (size_t)(count == 0 ? 1 : 2 * count) * size);
    if (grown != NULL) *list = grown;
    return grown != NULL;
}

/* In the order of their choices, whatever the order in which they come. */
static void keep_reason(ft_reading *reading, long index, PyObject *reason) {
    int at = reading->choice_count;
    while (at > 0 && reading->choices[at - 1].index >= index) at--;
    if (at < reading->choice_count && reading->choices[at].index == index) {
        Py_INCREF(reason);
        Py_SETREF(reading->choices[at].reason, reason);
        return;
    }
    if (reading->choice_count == FT_CHOICES_MAX) return;
    if (!grow((void **)&reading->choices, reading->choice_count, sizeof *reading->choices)) return;
    for (int i = reading->choice_count++; i > at; i--) reading->choices[i] = reading->choices[i - 1];
    reading->choices[at] = (ft_choice){index, Py_NewRef(reason)};
}

static bool read_reason(chunk_read *to, PyObject *reason, elements around) {
    long index = 0;
    bool found;
    if (!is_text(reason)) return true;
    if (!index_of(to, around.inner, &index, &found)) return false;
    keep_reason(to->reading, index, reason);
    return true;
}

/* The element's `id` where it is a text, else NULL: a new reference, possibly with an exception that must go on. */
static PyObject *id_of(chunk_read *to, PyObject *element) {
    PyObject *fields = ft_fields_of(element), *id = ft_field_value(element, fields, &to->plan->id);
    Py_XDECREF(fields);
    if (id != NULL && !is_text(id)) Py_CLEAR(id);
    return id == NULL && ft_swallow() ? NULL : id;
}

static ft_tool_call *tool_call_at(ft_reading *reading, long outer, long inner) {
    ft_tool_call *known = reading->tool_calls, *end = known + reading->tool_call_count;
    while (known < end && (known->inner != inner || known->outer != outer)) known++;
    return known < end ? known : NULL;
}

/* True for a call whose name was not counted yet. Takes `id`. */
static bool is_new_call(ft_reading *reading, long outer, long inner, PyObject *id) {
    ft_tool_call *known = tool_call_at(reading, outer, inner);
    if (known != NULL) {
        bool is_other = id != NULL && known->id != NULL && PyUnicode_Compare(known->id, id) != 0;
        if (known->id == NULL || is_other)
            Py_XSETREF(known->id, id);
        else
            Py_XDECREF(id);
        return is_other;
    }
    bool fits = reading->tool_call_count < FT_TOOL_CALLS_MAX &&
                grow((void **)&reading->tool_calls, reading->tool_call_count, sizeof *reading->tool_calls);
    if (fits)
        reading->tool_calls[reading->tool_call_count++] = (ft_tool_call){outer, inner, id};
    else
        Py_XDECREF(id);
    return fits;
}

static bool read_tool_call(chunk_read *to, PyObject *name, elements around) {
    ft_reading *reading = to->reading;
    long outer = 0, inner = 0;
    bool has_outer, has_inner;
    if (!is_text(name) || reading->tool_name_count == FT_TOOL_CALLS_MAX) return true;
    if (!index_of(to, around.outer, &outer, &has_outer)) return false;
    if (!index_of(to, around.inner, &inner, &has_inner)) return false;
    if (has_inner) {
        PyObject *id = id_of(to, around.inner);
        if (id == NULL && PyErr_Occurred()) return false;
        if (!is_new_call(reading, outer, inner, id)) return true;
    }
    reading->tool_name_count++;
    return ft_set_field(to->call->ring, &to->call->span, FT_TOOL_CALLS, name);
}

/* ---- the nodes ---- */

static void keep_text(chunk_read *to, const ft_stream_node *special, PyObject *text) {
    if (!(special->text & to->reading->open) || !is_text(text)) return;
    Py_INCREF(text);
    Py_XSETREF(to->reading->values[special->value], text);
    to->reading->open &= ~special->closes;
}

static bool read_number(chunk_read *to, int field, PyObject *value) {
    if (field != FT_COST_USD) return ft_set_field(to->call->ring, &to->call->span, (ft_field)field, value);
    ft_set_reported_cost(&to->call->span, value);
    return true;
}

static bool read_value(chunk_read *to, const ft_stream_node *special, PyObject *value, elements around) {
    if (value == Py_None) return true;
    switch (special->role) {
    case FT_ROLE_TEXT: keep_text(to, special, value); return true;
    case FT_ROLE_FINISH: return read_reason(to, value, around);
    case FT_ROLE_TOOL: return read_tool_call(to, value, around);
    case FT_ROLE_NUMBER: return read_number(to, special->node->field, value);
    default: return special->children.count == 0 || read_nodes(to, &special->children, value, around);
    }
}

static bool read_each(chunk_read *to, const ft_stream_node *special, PyObject *list, elements around) {
    if (!PyList_Check(list) && !PyTuple_Check(list)) return true;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(list) && i < FT_ELEMENTS_MAX; i++) {
        PyObject *element = PySequence_GetItem(list, i);
        elements there = {around.inner, element};
        bool fine = element == NULL ? ft_swallow() : read_value(to, special, element, there);
        Py_XDECREF(element);
        if (!fine) return false;
    }
    return true;
}

static bool read_all(chunk_read *to, const ft_stream_node *special, PyObject *value, elements around) {
    if (special->node->each) return read_each(to, special, value, around);
    return read_value(to, special, value, around);
}

static bool read_special(chunk_read *to, const ft_stream_node *special, PyObject *object, PyObject *fields,
                         elements around) {
    ft_node *node = special->node;
    PyObject *value = ft_field_value(object, fields, &node->member);
    if (value == NULL) return ft_swallow();
    bool fine = true;
    if (special->marks & to->reading->open && !is_empty(value)) fine = see_mark(to, object, fields, node);
    if (node->late && value != Py_None) {
        Py_INCREF(value);
        Py_XSETREF(to->reading->values[special->late_value], value);
    }
    if (fine && value != Py_None && !node->late) fine = read_all(to, special, value, around);
    Py_DECREF(value);
    return fine;
}

/* Whether the object is of the node's types. False when an exception must go on. */
static bool type_fits(ft_node *node, PyObject *object, PyObject *fields, bool *fits) {
    PyObject *type = ft_field_value(object, fields, &node->tag);
    *fits = ft_type_is_among(type, node->types);
    bool fine = type != NULL || ft_swallow();
    Py_XDECREF(type);
    return fine;
}

static bool read_nodes(chunk_read *to, const ft_stream_nodes *nodes, PyObject *object, elements around) {
    ft_call *call = to->call;
    const ft_stream_node *special = nodes->special, *end = special + nodes->special_count;
    if (nodes->plain_count > 0 &&
        !ft_nodes_read(nodes->nodes, nodes->plain_count, object, call->is_foreign, call->ring, &call->span))
        return false;
    if (special == end || object == Py_None) return true;
    PyObject *fields = ft_fields_of(object);
    bool fine = true, fits = true;
    for (; fine && special < end; special++) {
        if (!(special->wants & to->reading->open) || (special->node->foreign && !call->is_foreign)) continue;
        if (special->node->types != NULL) fine = type_fits(special->node, object, fields, &fits);
        if (fine && fits) fine = read_special(to, special, object, fields, around);
        fits = true;
    }
    Py_XDECREF(fields);
    return fine;
}

/* ---- the chunk ---- */

static bool is_same(PyObject *text, PyObject *other) {
    if (text == other) return true;
    return PyUnicode_GET_LENGTH(text) == PyUnicode_GET_LENGTH(other) && PyUnicode_Compare(text, other) == 0;
}

static bool read_event(chunk_read *to, PyObject *chunk) {
    ft_stream_plan *plan = to->plan;
    PyObject *fields = ft_fields_of(chunk), *type = ft_field_value(chunk, fields, &plan->type);
    Py_XDECREF(fields);
    if (type == NULL) return ft_swallow();
    bool fine = true;
    for (Py_ssize_t i = 0; PyUnicode_Check(type) && i < plan->event_count; i++) {
        if (!is_same(type, plan->events[i].type)) continue;
        fine = read_nodes(to, &plan->events[i].nodes, chunk, nowhere);
        break;
    }
    Py_DECREF(type);
    return fine;
}

bool ft_reading_chunk(ft_reading *reading, ft_stream_plan *plan, ft_call *call, PyObject *chunk) {
    chunk_read to = {reading, plan, call, 0};
    if (call->span.record.chunks++ == 0 && reading->open & FT_OPEN_FIRST_CHUNK) set_first(&to, FT_FIRST_CHUNK_MS);
    if (reading->open & plan->chunk.wants && !read_nodes(&to, &plan->chunk, chunk, nowhere)) return false;
    return plan->event_count == 0 || read_event(&to, chunk);
}

/* ---- the end ---- */

static bool read_late(chunk_read *to) {
    for (int i = 0; i < to->plan->value_count; i++) {
        PyObject *value = to->reading->values[i];
        if (to->plan->late[i] != NULL && value != NULL && !read_all(to, to->plan->late[i], value, nowhere))
            return false;
    }
    return true;
}

static bool set_text(ft_call *call, int field, PyObject *text) {
    if (field == FT_ERROR_CODE) call->span.record.status = FT_STATUS_ERROR;
    return ft_set_field(call->ring, &call->span, (ft_field)field, text);
}

bool ft_reading_settle(ft_reading *reading, ft_stream_plan *plan, ft_call *call) {
    chunk_read to = {reading, plan, call, 0};
    ft_span *span = &call->span;
    reading->open &= ~(uint64_t)(FT_OPEN_FIRST_TOKEN | FT_OPEN_FIRST_TEXT); /* what is read now did not come now */
    ft_set_number(span, FT_CHUNKS, span->record.chunks);
    bool fine = read_late(&to);
    for (int i = 0; fine && i < plan->value_count; i++) {
        PyObject *text = plan->late[i] == NULL ? reading->values[i] : NULL;
        fine = text == NULL || set_text(call, plan->text_fields[i], text);
    }
    for (int i = 0; fine && i < reading->choice_count; i++)
        fine = ft_set_field(call->ring, span, FT_FINISH_REASONS, reading->choices[i].reason);
    return fine;
}

/* ---- what one stream has told ---- */

void ft_reading_init(ft_reading *reading) { reading->open = ~UINT64_C(0); }

void ft_reading_init_late(ft_reading *reading) {
    reading->open = ~(uint64_t)(FT_OPEN_FIRST_CHUNK | FT_OPEN_FIRST_TOKEN | FT_OPEN_FIRST_TEXT);
}

void ft_reading_clear(ft_reading *reading) {
    for (int i = 0; i < FT_STREAM_VALUES; i++) Py_CLEAR(reading->values[i]);
    for (int i = 0; i < reading->choice_count; i++) Py_CLEAR(reading->choices[i].reason);
    for (int i = 0; i < reading->tool_call_count; i++) Py_CLEAR(reading->tool_calls[i].id);
    PyMem_Free(reading->choices);
    PyMem_Free(reading->tool_calls);
    reading->choices = NULL;
    reading->tool_calls = NULL;
    reading->choice_count = reading->tool_call_count = 0;
}

int ft_reading_traverse(ft_reading *reading, visitproc visit, void *arg) {
    for (int i = 0; i < FT_STREAM_VALUES; i++) Py_VISIT(reading->values[i]);
    return 0;
}
