/* Mapping and formatting: sizes, layout, what is refused, and that a damaged or foreign header is not believed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "../expect.h"
#include "../ring_fixture.h"

#include <errno.h>
#include <unistd.h>

static const ft_region_shape shape = {
    .slot_count = 8, .arena_bytes = 4096, .strtab_bytes = 4096, .inflight_count = 3, .first_ticket = 5};
static const ft_region_owner owner = {
    .writer_id = "0123456789abcde", .boot_id = "boot", .pid = 7, .process_start = 8, .created_unix_ns = 9};

/* header + string table + in-flight table + slots + arena, each padded to 4,096 */
enum { SHAPE_BYTES = 5 * 4096 };

static int file_of(off_t bytes) {
    char path[] = "/tmp/fasttrace-region-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || unlink(path) || ftruncate(fd, bytes)) {
        perror("file_of");
        exit(EXIT_FAILURE);
    }
    return fd;
}

static void bytes_follow_the_shape(void) {
    ft_region_shape standard = {
        .slot_count = 8192, .arena_bytes = 2 << 20, .strtab_bytes = 64 << 10, .inflight_count = 256};
    EXPECT(ft_region_bytes(&shape) == SHAPE_BYTES);
    EXPECT(ft_region_bytes(&standard) == 4096 + (64 << 10) + 256 * 128 + (2 << 20) + (2 << 20));
    ft_region_shape least = {.slot_count = 2, .arena_bytes = 4096, .strtab_bytes = 4096};
    EXPECT(ft_region_bytes(&least) == 4096 + 4096 + 0 + 4096 + 4096);
}

static void expect_refused(ft_region_shape refused) {
    EXPECT(ft_region_bytes(&refused) == 0);
    errno = 0;
    EXPECT(!ft_region_create(-1, &refused, &owner) && errno == EINVAL);
}

static void invalid_shapes_are_refused(void) {
    ft_region_shape s;
    const uint64_t slot_counts[] = {0, 1, 3, 8191, UINT64_MAX, UINT64_C(1) << 63};
    for (size_t i = 0; i < sizeof slot_counts / sizeof *slot_counts; i++) {
        s = shape;
        s.slot_count = slot_counts[i];
        expect_refused(s);
    }
    const uint64_t arenas[] = {0, 2048, 4097, 12288, UINT64_C(1) << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof arenas / sizeof *arenas; i++) {
        s = shape;
        s.arena_bytes = arenas[i];
        expect_refused(s);
    }
    const uint64_t strtabs[] = {0, 1, 4095, 4097, (512 << 10) + 4096, UINT64_MAX};
    for (size_t i = 0; i < sizeof strtabs / sizeof *strtabs; i++) {
        s = shape;
        s.strtab_bytes = strtabs[i];
        expect_refused(s);
    }
    s = shape;
    s.inflight_count = UINT64_MAX / 128;
    expect_refused(s);
}

static void a_file_is_mapped_and_formatted(void) {
    int fd = file_of(SHAPE_BYTES);
    ft_header *region = ft_region_create(fd, &shape, &owner);
    EXPECT(region != NULL);
    const ft_header *second = mmap(NULL, SHAPE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    EXPECT(second != MAP_FAILED && ft_region_valid(second, SHAPE_BYTES));
    EXPECT(!memcmp(second, "FTTRING1", 8));
    EXPECT(second->version == 1 && second->header_bytes == 4096 && second->file_bytes == SHAPE_BYTES);
    EXPECT(second->strtab_offset == 4096 && second->strtab_bytes == 4096);
    EXPECT(second->inflight_offset == 8192 && second->inflight_count == 3);
    EXPECT(second->slots_offset == 12288 && second->slot_count == 8);
    EXPECT(second->arena_offset == 16384 && second->arena_bytes == 4096);
    EXPECT(second->first_ticket == 5 && atomic_load(&second->head) == 5 && atomic_load(&second->acked) == 5);
    EXPECT(atomic_load(&second->arena_head) == 0 && atomic_load(&second->strtab_used) == 8);
    EXPECT(!memcmp(second->writer_id, owner.writer_id, 16) && !memcmp(second->boot_id, owner.boot_id, 16));
    EXPECT(second->pid == 7 && second->process_start == 8 && second->created_unix_ns == 9);
    const ft_slot *slots = (const ft_slot *)(const void *)((const char *)second + second->slots_offset);
    for (int i = 0; i < 8; i++)
        EXPECT(atomic_load(&slots[i].sequence) == 10);
    munmap((void *)(uintptr_t)second, SHAPE_BYTES);
    munmap(region, SHAPE_BYTES);
    close(fd);
}

static void a_short_file_is_refused(void) {
    const off_t sizes[] = {0, 4096, SHAPE_BYTES - 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int fd = file_of(sizes[i]);
        errno = 0;
        EXPECT(!ft_region_create(fd, &shape, &owner) && errno == EINVAL);
        close(fd);
    }
}

static void what_is_no_file_is_refused(void) {
    int ends[2];
    EXPECT(!pipe(ends));
    EXPECT(!ft_region_create(ends[0], &shape, &owner));
    close(ends[0]);
    close(ends[1]);
    errno = 0;
    EXPECT(!ft_region_create(ends[0], &shape, &owner) && errno == EBADF);
}

static void a_used_file_is_formatted_anew(void) {
    int fd = file_of(SHAPE_BYTES + 4096);
    char garbage[SHAPE_BYTES];
    memset(garbage, 0xff, sizeof garbage);
    EXPECT(pwrite(fd, garbage, sizeof garbage, 0) == SHAPE_BYTES);
    ft_header *region = ft_region_create(fd, &shape, &owner);
    ft_ring ring;
    ft_reader reader;
    ft_batch batch = {0};
    EXPECT(region && ft_ring_init(&ring, region));
    EXPECT(ring_dropped(&ring, FT_DROP_BUSY) == 0);
    ft_reader_init(&reader, &ring);
    EXPECT(ft_reader_read(&reader, &batch, 8, 1, 0) && batch.count == 0 && batch.first_ticket == 0);
    EXPECT(push_key(&ring, 1, 20) != FT_PUSH_DROPPED && ft_reader_read(&reader, &batch, 8, 1, 0) && batch.count == 1);
    ft_batch_clear(&batch);
    ring_close(&ring);
    close(fd);
}

static void damaged_headers_are_not_believed(void) {
    ft_header *region = ft_region_create(-1, &shape, &owner);
    EXPECT(region && ft_region_valid(region, SHAPE_BYTES) && ft_region_valid(region, SHAPE_BYTES + 1));
    EXPECT(!ft_region_valid(region, SHAPE_BYTES - 1) && !ft_region_valid(region, 0) && !ft_region_valid(region, 4095));
    uint64_t *sizes[] = {&region->magic,        &region->file_bytes,      &region->strtab_offset,
                         &region->strtab_bytes, &region->inflight_offset, &region->inflight_count,
                         &region->slots_offset, &region->slot_count,      &region->arena_offset,
                         &region->arena_bytes};
    const uint64_t values[] = {0, 33, 4096 * 7, UINT64_MAX, UINT64_C(1) << 63, UINT64_MAX / 256};
    for (size_t field = 0; field < sizeof sizes / sizeof *sizes; field++) {
        uint64_t kept = *sizes[field];
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
            *sizes[field] = values[i];
            ft_ring ring;
            EXPECT(!ft_region_valid(region, SHAPE_BYTES));
            EXPECT(!ft_ring_init(&ring, region));
        }
        *sizes[field] = kept;
    }
    region->version = 2;
    EXPECT(!ft_region_valid(region, SHAPE_BYTES));
    region->version = FT_REGION_VERSION;
    atomic_store(&region->ready, 0);
    EXPECT(!ft_region_valid(region, SHAPE_BYTES));
    munmap(region, SHAPE_BYTES);
}

int main(void) {
    bytes_follow_the_shape();
    invalid_shapes_are_refused();
    a_file_is_mapped_and_formatted();
    a_short_file_is_refused();
    what_is_no_file_is_refused();
    a_used_file_is_formatted_anew();
    damaged_headers_are_not_believed();
    printf("%s test_region\n", expect_failures ? "FAILED" : "ok");
    return expect_result();
}
