/* A batch as NDJSON: one object a line, fields in schema order, integers and fixed-point numbers only, valid UTF-8
 * whatever the strings hold.
 *
 * What has no value is left out: an absent number (its presence bit), a code that names nothing, an empty text, a part
 * or a number of retries of 0. Texts come from the string table or, where the record's index is 0, from the content; an
 * index that is not one leaves its field out. Elements of a list are written even when empty. A start before 1970 is
 * written as 1970-01-01T00:00:00.000000000Z.
 *
 * A record whose content was lost or damaged (FT_FLAG_CONTENT_LOST) says so: it gets
 * `"attributes":{"fasttrace.content_lost":true}` in place of attributes, and nothing else of its content is written.
 *
 * The content block may be hostile: each tag is checked against its bounds, and the first that does not fit ends the
 * block. JSON fields are copied as they are: that they are JSON is the word of whoever recorded them. */
#ifndef FASTTRACE_NDJSON_H
#define FASTTRACE_NDJSON_H

#include "buf.h"
#include "price.h"
#include "ring.h"

/* Price what the batch's records left unpriced (FT_FLAG_UNPRICED) and the table now knows, under the model that
 * answered, else under the one that was asked for; clears the flag whatever it finds. `version` is written as
 * price_version, clipped (left out when the string table has no room for it). */
void ft_batch_price(ft_batch *batch, ft_ring *ring, const ft_price_table *prices, const char *version, size_t length);
/* A text of the batch's record i, from the string table or its content; false (and empty) if it has none. */
bool ft_batch_text(const ft_batch *batch, const ft_header *region, size_t i, ft_field field, const char **text,
                   size_t *length);
/* Append every record. `resource` is ready JSON members without braces (`"service":"x","sdk":"y"`), copied into each
 * line; it may be empty. False when out of memory: the buffer then ends after the last whole line. */
bool ft_ndjson_write(ft_buf *buf, const ft_batch *batch, const ft_header *region, const char *resource, size_t length);

#endif
