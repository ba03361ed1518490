/* Mapping and formatting of the ring's memory. Runs once per process, on the thread that starts the ring. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifdef __APPLE__
#define _DARWIN_C_SOURCE
#endif
#include "fasttrace/region.h"
#include "fasttrace/slot.h"
#include "fasttrace/strtab.h"

#include <errno.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

enum { PART_BYTES = 4096 };
#define SLOT_COUNT_MAX (UINT64_C(1) << 26)
#define ARENA_BYTES_MAX (UINT64_C(1) << 36)
#define STRTAB_BYTES_MAX (UINT64_C(512) << 10)

typedef struct {
    uint64_t strtab, inflight, slots, arena, end;
} region_layout;

static bool is_power_of_two(uint64_t value) { return value && !(value & (value - 1)); }

static bool shape_valid(const ft_region_shape *shape) {
    return is_power_of_two(shape->slot_count) && shape->slot_count >= 2 && shape->slot_count <= SLOT_COUNT_MAX &&
           is_power_of_two(shape->arena_bytes) && shape->arena_bytes >= PART_BYTES &&
           shape->arena_bytes <= ARENA_BYTES_MAX && shape->strtab_bytes >= PART_BYTES &&
           shape->strtab_bytes % PART_BYTES == 0 && shape->strtab_bytes <= STRTAB_BYTES_MAX &&
           shape->inflight_count <= FT_INFLIGHT_MAX;
}

static uint64_t padded(uint64_t bytes) { return (bytes + PART_BYTES - 1) / PART_BYTES * PART_BYTES; }

static region_layout layout_of(const ft_region_shape *shape) {
    region_layout layout;
    layout.strtab = FT_HEADER_BYTES;
    layout.inflight = layout.strtab + shape->strtab_bytes;
    layout.slots = layout.inflight + padded(shape->inflight_count * FT_INFLIGHT_SLOT_BYTES);
    layout.arena = layout.slots + padded(shape->slot_count * sizeof(ft_slot));
    layout.end = layout.arena + shape->arena_bytes;
    return layout;
}

uint64_t ft_region_bytes(const ft_region_shape *shape) { return shape_valid(shape) ? layout_of(shape).end : 0; }

bool ft_region_valid(const ft_header *region, uint64_t mapped_bytes) {
    if (mapped_bytes < FT_HEADER_BYTES || !atomic_load_explicit(&region->ready, memory_order_acquire))
        return false;
    if (region->magic != FT_REGION_MAGIC || region->version != FT_REGION_VERSION ||
        region->header_bytes != FT_HEADER_BYTES)
        return false;
    ft_region_shape shape = {.slot_count = region->slot_count,
                             .arena_bytes = region->arena_bytes,
                             .strtab_bytes = region->strtab_bytes,
                             .inflight_count = region->inflight_count};
    if (!shape_valid(&shape))
        return false;
    region_layout layout = layout_of(&shape);
    return layout.end <= mapped_bytes && region->file_bytes == layout.end && region->strtab_offset == layout.strtab &&
           region->inflight_offset == layout.inflight && region->slots_offset == layout.slots &&
           region->arena_offset == layout.arena;
}

#ifdef _WIN32

static void *memory_map(int fd, uint64_t bytes) {
    if (fd >= 0) {
        errno = ENOTSUP;
        return NULL;
    }
    void *memory = VirtualAlloc(NULL, (SIZE_T)bytes, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
    if (!memory)
        errno = ENOMEM;
    return memory;
}

static void keep_out_of_core_dumps(void *memory, uint64_t bytes) {
    (void)memory;
    (void)bytes;
}

#else

/* A mapping past the end of its file raises SIGBUS in the user's call: refuse it here instead. */
static bool file_holds(int fd, uint64_t bytes) {
    struct stat status;
    if (fstat(fd, &status))
        return false;
    if (status.st_size >= 0 && (uint64_t)status.st_size >= bytes)
        return true;
    errno = EINVAL;
    return false;
}

#ifndef MAP_POPULATE
#define MAP_POPULATE 0
/* Take the page faults now, not in somebody's call. */
static void populate(unsigned char *memory, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; i += PART_BYTES)
        ((volatile unsigned char *)memory)[i] = 0;
}
#else
static void populate(const unsigned char *memory, uint64_t bytes) {
    (void)memory;
    (void)bytes;
}
#endif

/* Anonymous memory is private: a fork child that writes before it has its own ring must not reach its parent's. */
static void *memory_map(int fd, uint64_t bytes) {
    if (fd >= 0 && !file_holds(fd, bytes))
        return NULL;
    int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void *memory = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, flags | MAP_POPULATE, fd >= 0 ? fd : -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    populate(memory, bytes);
    return memory;
}

/* Content may be what users typed: it does not belong in a core file. Best effort, on whole pages. */
static void keep_out_of_core_dumps(void *memory, uint64_t bytes) {
#ifdef MADV_DONTDUMP
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = ((uintptr_t)memory + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)memory + (uintptr_t)bytes) / page * page;
    if (start < end)
        (void)madvise((void *)start, end - start, MADV_DONTDUMP);
#else
    (void)memory;
    (void)bytes;
#endif
}

#endif

static void header_format(ft_header *header, const ft_region_shape *shape, const ft_region_owner *owner) {
    region_layout layout = layout_of(shape);
    header->magic = FT_REGION_MAGIC;
    header->version = FT_REGION_VERSION;
    header->header_bytes = FT_HEADER_BYTES;
    header->file_bytes = layout.end;
    header->strtab_offset = layout.strtab;
    header->strtab_bytes = shape->strtab_bytes;
    header->inflight_offset = layout.inflight;
    header->inflight_count = shape->inflight_count;
    header->slots_offset = layout.slots;
    header->slot_count = shape->slot_count;
    header->arena_offset = layout.arena;
    header->arena_bytes = shape->arena_bytes;
    header->first_ticket = shape->first_ticket;
    memcpy(header->boot_id, owner->boot_id, sizeof header->boot_id);
    memcpy(header->writer_id, owner->writer_id, sizeof header->writer_id);
    header->pid = owner->pid;
    header->process_start = owner->process_start;
    header->created_unix_ns = owner->created_unix_ns;
    atomic_store_explicit(&header->head, shape->first_ticket, memory_order_relaxed);
    atomic_store_explicit(&header->acked, shape->first_ticket, memory_order_relaxed);
    atomic_store_explicit(&header->strtab_used, FT_STRTAB_FIRST, memory_order_relaxed);
}

static void region_format(unsigned char *memory, const ft_region_shape *shape, const ft_region_owner *owner) {
    ft_header *header = (ft_header *)(void *)memory;
    region_layout layout = layout_of(shape);
    atomic_store_explicit(&header->ready, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    memset(memory, 0, FT_HEADER_BYTES);
    memset(memory + layout.inflight, 0, (size_t)(layout.slots - layout.inflight));
    ft_slot *slots = (ft_slot *)(void *)(memory + layout.slots);
    for (uint64_t i = 0; i < shape->slot_count; i++)
        ft_slot_reset(&slots[i], shape->first_ticket);
    header_format(header, shape, owner);
    atomic_store_explicit(&header->ready, 1, memory_order_release);
}

ft_header *ft_region_create(int fd, const ft_region_shape *shape, const ft_region_owner *owner) {
    uint64_t bytes = ft_region_bytes(shape);
    if (!bytes || bytes > SIZE_MAX) {
        errno = EINVAL;
        return NULL;
    }
    unsigned char *memory = memory_map(fd, bytes);
    if (!memory)
        return NULL;
    keep_out_of_core_dumps(memory + layout_of(shape).arena, shape->arena_bytes);
    region_format(memory, shape, owner);
    return (ft_header *)(void *)memory;
}
