/* Is a text one JSON value that may stand in a line of NDJSON as it is? For what comes out of a file that anybody may
 * have written.
 *
 * RFC 8259, and stricter where its readers disagree or the line would break: valid UTF-8; no byte below 0x20, so that of
 * white space only the space is left; a surrogate escaped by \u only as half of a pair; at most FT_JSON_DEPTH_MAX
 * containers in one another. Equal names in an object and numbers of any size are left to whoever reads it. One pass,
 * no recursion, no allocation. */
#ifndef FASTTRACE_JSON_VALID_H
#define FASTTRACE_JSON_VALID_H

#include <stdbool.h>
#include <stddef.h>

enum { FT_JSON_DEPTH_MAX = 128 };

/* One value with spaces around it; where `opening` is not 0, one that begins with it: '{' or '['. */
bool ft_json_valid(const char *text, size_t length, char opening);

#endif
