/* The operating system's two clocks, in nanoseconds. Any thread, async-signal-safe. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "fasttrace/clock.h"

#ifdef _WIN32
#include <windows.h>

enum { TICK_NS = 100 };
#define UNIX_EPOCH_TICKS INT64_C(116444736000000000) /* 1601 to 1970 */

int64_t ft_clock_monotonic_ns(void) {
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    int64_t seconds = count.QuadPart / frequency.QuadPart, rest = count.QuadPart % frequency.QuadPart;
    return seconds * 1000000000 + rest * 1000000000 / frequency.QuadPart;
}

static int64_t wall_ns(void) {
    FILETIME now;
    GetSystemTimePreciseAsFileTime(&now);
    int64_t ticks = (int64_t)((uint64_t)now.dwHighDateTime << 32 | now.dwLowDateTime);
    return (ticks - UNIX_EPOCH_TICKS) * TICK_NS;
}

#else
#include <time.h>

static int64_t clock_read_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t ft_clock_monotonic_ns(void) { return clock_read_ns(CLOCK_MONOTONIC); }
static int64_t wall_ns(void) { return clock_read_ns(CLOCK_REALTIME); }

#endif

/* Whole microseconds: no wall clock is truer, and three random digits are what a compressed batch cannot save. */
int64_t ft_clock_unix_ns(void) {
    int64_t now = wall_ns();
    return now - now % 1000;
}
