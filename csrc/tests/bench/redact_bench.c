/* Reading texts for secrets: gigabytes a second of prose, of JSON as it is captured, and of Markdown, whose rules look
 * like the beginning of a private key; and nanoseconds for a response id. Prints the best of several rounds. */
#include "fasttrace/clock.h"
#include "fasttrace/redact.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 1 << 20, ROUNDS = 50, IDS = 10000 };

static const char prose[] = "Whoever reads a page wants to know what it is about, and only then how it is done. The rest may "
                            "be cut: what is said twice is said badly, and a task that nobody asked for helps nobody. ";
static const char json[] = "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Where is my order A-1042? It was to "
                           "be here by now.\"}]},{\"role\":\"assistant\",\"content\":\"It is on its way.\",\"index\":17},";
static const char markdown[] = "## Orders\n\n| id | state |\n|----|-------|\n| 17 | `sent` |\n\n* see https://example.com/a\n\n";
static const char response_id[] = "chatcmpl-BxK4dTq2Wm9ZsP1vLr7YhN3cEf6G";

static int64_t best_ns(const char *text, size_t length, int times) {
    int64_t best = INT64_MAX;
    ft_secret found;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t started = ft_clock_monotonic_ns();
        for (int i = 0; i < times; i++)
            if (ft_redact_next(text, 1, length, 0, &found)) abort();
        int64_t taken = ft_clock_monotonic_ns() - started;
        best = taken < best ? taken : best;
    }
    return best;
}

static void bench(const char *name, const char *part) {
    char *text = malloc(BYTES);
    for (size_t i = 0, size = strlen(part); i < BYTES; i++) text[i] = part[i % size];
    printf("redact: %-10s %5.2f GB/s\n", name, (double)BYTES / (double)best_ns(text, BYTES, 1));
    free(text);
}

int main(void) {
    ft_redact_init();
    bench("prose", prose);
    bench("JSON", json);
    bench("Markdown", markdown);
    printf("redact: a response id %.1f ns\n", (double)best_ns(response_id, sizeof response_id - 1, IDS) / IDS);
    return EXIT_SUCCESS;
}
