/* What the tests need of a framework: a check that says where it failed, and a result for main to return. */
#ifndef FASTTRACE_TESTS_EXPECT_H
#define FASTTRACE_TESTS_EXPECT_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int expect_failures;

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            expect_failures++;                                                                                         \
        }                                                                                                              \
    } while (0)

#define EXPECT_TEXT(got, got_length, wanted) expect_text(__FILE__, __LINE__, got, got_length, wanted, strlen(wanted))

static inline void expect_text(const char *file, int line, const char *got, size_t got_length, const char *wanted,
                               size_t wanted_length) {
    if (got_length == wanted_length && memcmp(got, wanted, wanted_length) == 0)
        return;
    fprintf(stderr, "%s:%d: got\n  %.*s\nwanted\n  %.*s\n", file, line, (int)got_length, got, (int)wanted_length,
            wanted);
    expect_failures++;
}

static inline int expect_result(void) { return expect_failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE; }

#endif
