/* One record of a batch as the writers read it: every text of it by field, wherever it is kept, in the string table or
 * in the content block. Built once per record on the exporter thread; holds pointers into the batch and the region.
 *
 * The content of a recovered file is whatever was in the file: a tag that does not fit ends the block, unknown fields
 * are passed over, of a repeated field that is not a list the last one counts. A record whose content was lost has no
 * content. An index that names no string leaves its field out. */
#ifndef FASTTRACE_RECORD_VIEW_H
#define FASTTRACE_RECORD_VIEW_H

#include "fasttrace/ring.h"

typedef struct {
    const char *data;
    size_t length;
} ft_text;

typedef struct {
    const ft_record *record;
    const unsigned char *content;
    size_t content_length;
    uint64_t has;     /* one bit per field that `texts` holds */
    size_t text_bytes; /* of all content and table strings */
    ft_text texts[FT_FIELD_COUNT];
} ft_record_view;

void ft_record_view_init(ft_record_view *view, const ft_batch *batch, const ft_record *record,
                         const ft_header *region);

/* The next tagged field of the content, from `*at` on; false at the end or at a tag that does not fit. */
bool ft_record_view_next(const ft_record_view *view, size_t *at, unsigned *field, ft_text *text);

/* Of a content block that anybody may have written: may each of its JSON fields stand in a line as it is, and is it what
 * its field holds (objects in request_params and attributes, an array in events)? */
bool ft_content_json_valid(const unsigned char *content, size_t length);

static inline bool ft_record_view_has(const ft_record_view *view, ft_field field) { return view->has >> field & 1; }

#endif
