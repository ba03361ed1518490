/* Reading the chunks of a stream. A StreamSpec's nodes (core/_api.py) compiled for C, and what one stream has told so
 * far.
 *
 * Most chunks have little to tell: a piece of text. What can be told once (the model, the first text, the end) has a
 * bit in `open`, cleared when it was told, and every node knows the bits that it and all below it can serve: a node
 * none of whose bits is open is not looked at. Counts and the like are told again and again and have the bit that
 * stays. So the cost of a chunk is that of the few nodes which are still open: for a chat completion its choices,
 * their finish reason and tool calls, and the usage that is not there yet.
 *
 * Memory is bounded whatever a stream sends: texts and late values by the spec, finish reasons and tool calls by the
 * limits below. Used by whoever has the watch in its hands (watch.h), one thread at a time. */
#ifndef FASTTRACE_PYTHON_CHUNK_H
#define FASTTRACE_PYTHON_CHUNK_H

#include "call.h"
#include "stream.h"

enum { FT_CHOICES_MAX = 64, FT_TOOL_CALLS_MAX = 1024, FT_STREAM_VALUES = 16 };

/* The bits of `open` that are nobody's text. */
enum {
    FT_OPEN_ALWAYS = 1 << 0,
    FT_OPEN_FIRST_CHUNK = 1 << 1,
    FT_OPEN_FIRST_TOKEN = 1 << 2,
    FT_OPEN_FIRST_TEXT = 1 << 3,
    FT_OPEN_END = 1 << 4,
    FT_OPEN_TEXTS = 5, /* bits from here on */
};

typedef enum {
    FT_ROLE_NONE,   /* a mark alone, or it only leads on */
    FT_ROLE_NUMBER, /* the last */
    FT_ROLE_TEXT,   /* the first that is not empty */
    FT_ROLE_FINISH, /* a finish reason, by choice */
    FT_ROLE_TOOL,   /* a tool call's name */
} ft_role;

struct ft_stream_node;

/* The nodes of one object: those that are read as in a reply, which come first, and those that a stream has its own
 * rules for. */
typedef struct {
    ft_node *nodes;
    Py_ssize_t count, plain_count;
    struct ft_stream_node *special;
    Py_ssize_t special_count;
    uint64_t wants; /* of all of them */
} ft_stream_nodes;

typedef struct ft_stream_node {
    ft_node *node; /* of the nodes above */
    uint64_t wants, marks, text; /* bits: of any use, of its mark, of its text */
    uint64_t closes;             /* what its text closes, once found */
    ft_role role;
    int value, late_value; /* their places in what a stream has told */
    ft_stream_nodes children;
} ft_stream_node;

typedef struct {
    PyObject *type;
    ft_stream_nodes nodes;
} ft_stream_event;

struct ft_stream_plan {
    PyObject *iterator; /* interned; NULL: the reply is the iterator */
    PyObject *body;     /* tuple of interned names */
    ft_stream_nodes chunk;
    ft_stream_event *events;
    Py_ssize_t event_count;
    ft_member type, index, id; /* of a chunk; of list elements */
    uint64_t text_bits[FT_FIELD_COUNT];     /* of a field in `chunk` */
    int text_fields[FT_STREAM_VALUES];      /* by place; -1: a late value */
    ft_stream_node *late[FT_STREAM_VALUES]; /* by place */
    int value_count;
};

typedef struct {
    long index;
    PyObject *reason;
} ft_choice;

typedef struct {
    long outer, inner;
    PyObject *id; /* or NULL */
} ft_tool_call;

/* What one stream has told. All zero bytes, but for `open`, is one that has told nothing. */
typedef struct {
    uint64_t open;
    bool has_ended; /* the end mark was seen */
    PyObject *values[FT_STREAM_VALUES];
    ft_choice *choices; /* by index */
    ft_tool_call *tool_calls;
    int choice_count, tool_call_count, tool_name_count;
} ft_reading;

void ft_reading_init(ft_reading *reading);
/* The same, for chunks that nobody saw arrive: they set no times. */
void ft_reading_init_late(ft_reading *reading);
void ft_reading_clear(ft_reading *reading);
int ft_reading_traverse(ft_reading *reading, visitproc visit, void *arg);

/* One chunk. False when an exception must go on. */
bool ft_reading_chunk(ft_reading *reading, ft_stream_plan *plan, ft_call *call, PyObject *chunk);
/* What was collected, into the call's span; once, at the end. False when an exception must go on. */
bool ft_reading_settle(ft_reading *reading, ft_stream_plan *plan, ft_call *call);

#endif
