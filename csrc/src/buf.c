/* The writers' buffer: it doubles, so that a batch of a megabyte costs a dozen reallocations, and it is reused from
 * batch to batch. One thread owns a buffer at a time (the exporter's). */
#include "fasttrace/buf.h"

#include <stdint.h>
#include <stdlib.h>

enum { FT_BUF_FIRST = 4096 };

static size_t grown(size_t capacity, size_t needed) {
    size_t doubled = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
    size_t size = doubled > needed ? doubled : needed;
    return size > FT_BUF_FIRST ? size : FT_BUF_FIRST;
}

bool ft_buf_reserve(ft_buf *buf, size_t more) {
    if (more <= buf->capacity - buf->length && buf->data != NULL)
        return true;
    if (more > SIZE_MAX - buf->length)
        return false;
    size_t capacity = grown(buf->capacity, buf->length + more);
    char *data = realloc(buf->data, capacity);
    if (data == NULL)
        return false;
    buf->data = data;
    buf->capacity = capacity;
    return true;
}

void ft_buf_free(ft_buf *buf) {
    free(buf->data);
    *buf = (ft_buf){0};
}
