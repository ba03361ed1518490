/* Batches made by hand over a small anonymous region, for tests of what is done with a batch. Content is copied into a
 * block of its exact size, so that a sanitizer sees a reader that passes its end. */
#ifndef FASTTRACE_TESTS_BATCH_FIXTURE_H
#define FASTTRACE_TESTS_BATCH_FIXTURE_H

#include "fasttrace/ring.h"

#include <stdlib.h>
#include <string.h>

enum { FIXTURE_RECORDS = 4, FIXTURE_CONTENT = 1 << 16 };
typedef struct {
    ft_ring ring;
    ft_record records[FIXTURE_RECORDS];
    uint64_t tickets[FIXTURE_RECORDS];
    ft_batch batch;
} batch_fixture;

static inline bool fixture_init(batch_fixture *fixture) {
    ft_region_shape shape = {.slot_count = 8, .arena_bytes = 4096, .strtab_bytes = 4096, .inflight_count = 1};
    ft_region_owner owner = {.pid = 1};
    memset(fixture, 0, sizeof *fixture);
    fixture->batch.records = fixture->records;
    fixture->batch.tickets = fixture->tickets;
    fixture->batch.capacity = FIXTURE_RECORDS;
    ft_header *region = ft_region_create(-1, &shape, &owner);
    return region != NULL && ft_ring_init(&fixture->ring, region);
}

static inline void fixture_clear(batch_fixture *fixture) {
    free(fixture->batch.content);
    memset(fixture->records, 0, sizeof fixture->records);
    fixture->batch.content = NULL;
    fixture->batch.count = fixture->batch.content_length = fixture->batch.content_capacity = 0;
}

/* The next record of the batch, empty. */
static inline ft_record *fixture_record(batch_fixture *fixture) {
    ft_record *record = &fixture->records[fixture->batch.count++];
    *record = (ft_record){.content_position = fixture->batch.content_length};
    return record;
}

/* More content for the newest record. */
static inline void fixture_add_bytes(batch_fixture *fixture, const void *bytes, size_t length) {
    ft_batch *batch = &fixture->batch;
    unsigned char *content = malloc(batch->content_length + length + 1);
    if (content == NULL)
        abort();
    if (batch->content_length > 0)
        memcpy(content, batch->content, batch->content_length);
    if (length > 0)
        memcpy(content + batch->content_length, bytes, length);
    free(batch->content);
    batch->content = realloc(content, batch->content_length + length + (batch->content_length + length == 0));
    batch->content_length = batch->content_capacity = batch->content_length + length;
    fixture->records[batch->count - 1].content_length += (uint32_t)length;
}

static inline void fixture_add_tag(batch_fixture *fixture, unsigned field, uint32_t length) {
    unsigned char tag[FT_TAG_BYTES] = {0};
    uint16_t number = (uint16_t)field;
    memcpy(tag, &number, sizeof number);
    memcpy(tag + 4, &length, sizeof length);
    fixture_add_bytes(fixture, tag, sizeof tag);
}

static inline void fixture_add(batch_fixture *fixture, unsigned field, const char *text) {
    fixture_add_tag(fixture, field, (uint32_t)strlen(text));
    fixture_add_bytes(fixture, text, strlen(text));
}

static inline uint16_t fixture_intern(batch_fixture *fixture, const char *text) {
    return ft_strtab_intern(&fixture->ring.strtab, text, strlen(text));
}

#endif
