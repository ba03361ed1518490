/* Secrets of any text, in buffers of exactly their size: what is found lies in order and within it, alike in characters
 * of every width; the text without them is no longer than it may be, and where each of them stood between blanks, there
 * is none left in it. Build as a libFuzzer target with -fsanitize=fuzzer,address,undefined -DFT_LIBFUZZER; without it
 * main feeds pseudo-random texts:
 *
 *     redact_fuzz [rounds] [seed] */
#include "fasttrace/redact.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char shown[] = "[redacted]";
enum { SHOWN = sizeof shown - 1, LEAST = FT_SECRET_SHORTEST - 1 }; /* "://:a", without the @ behind it */

static void require(bool condition, const char *what) {
    if (condition)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void *allocate(size_t size) {
    void *memory = malloc(size > 0 ? size : 1);
    require(memory != NULL, "memory");
    return memory;
}

/* The same characters, two or four bytes each. */
static void *widened(const uint8_t *data, size_t size, int width) {
    uint16_t *two = allocate(width == 2 ? 2 * size : 0);
    uint32_t *four = allocate(width == 4 ? 4 * size : 0);
    for (size_t i = 0; i < size; i++) {
        if (width == 2)
            two[i] = data[i];
        else
            four[i] = data[i];
    }
    free(width == 2 ? (void *)four : (void *)two);
    return width == 2 ? (void *)two : (void *)four;
}

static bool is_same(const void *text, int width, size_t size, size_t from, bool is_found, const ft_secret *one) {
    ft_secret found = {0, 0, 0};
    if (ft_redact_next(text, width, size, from, &found) != is_found)
        return false;
    return !is_found || (found.start == one->start && found.secret == one->secret && found.end == one->end);
}

static bool is_blank_at(const uint8_t *text, size_t size, size_t at) { return at == size || text[at] == ' '; }

typedef struct {
    uint8_t *text;
    size_t size, secrets;
    bool is_apart; /* each between blanks */
} result;

/* The text without its secrets, found in each width. */
static result without_secrets(const uint8_t *data, size_t size) {
    void *two = widened(data, size, 2), *four = widened(data, size, 4);
    result made = {allocate(size + SHOWN * (size / LEAST + 1)), 0, 0, true};
    size_t from = 0;
    for (bool is_found = true; is_found;) {
        ft_secret found = {0, 0, 0};
        is_found = ft_redact_next(data, 1, size, from, &found);
        require(is_same(two, 2, size, from, is_found, &found), "characters of two bytes");
        require(is_same(four, 4, size, from, is_found, &found), "characters of four bytes");
        size_t kept = is_found ? found.secret : size;
        if (is_found) {
            require(from <= found.start && found.start <= found.secret, "a beginning before its place");
            require(found.secret < found.end && found.end <= size, "an end beyond its place");
            require(found.end - found.start >= LEAST, "a secret shorter than the shortest");
            made.is_apart &= (found.start == 0 || data[found.start - 1] == ' ') && is_blank_at(data, size, found.end);
        }
        if (kept > from)
            memcpy(made.text + made.size, data + from, kept - from);
        made.size += kept - from;
        if (!is_found)
            break;
        memcpy(made.text + made.size, shown, SHOWN);
        made.size += SHOWN;
        made.secrets++;
        from = found.end;
    }
    free(two), free(four);
    return made;
}

/* A buffer of this size and no more, which a sanitizer watches. */
static result of_exact(const uint8_t *data, size_t size) {
    uint8_t *exact = allocate(size);
    if (size > 0)
        memcpy(exact, data, size);
    result made = without_secrets(exact, size);
    require((made.secrets == 0) == ft_redact_is_clean((const char *)exact, size), "clean or not");
    require(made.secrets > 0 || (made.size == size && (size == 0 || memcmp(made.text, exact, size) == 0)), "as it was");
    free(exact);
    return made;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ft_redact_init();
    result once = of_exact(data, size);
    require(once.secrets <= size / LEAST, "more secrets than there is room for");
    require(once.size <= size + once.secrets * (SHOWN - 1), "longer than what stands for the secrets");
    if (once.is_apart) {
        result twice = of_exact(once.text, once.size);
        require(twice.secrets == 0, "a secret in what was left");
        free(twice.text);
    }
    free(once.text);
    return 0;
}

#ifndef FT_LIBFUZZER

static uint64_t state;

static uint64_t next_random(void) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state ^ state >> 29) >> 8;
}

static const char *const pieces[] = {
    "-----BEGIN ", "-----END ", "PRIVATE KEY-----", "PGP PRIVATE KEY BLOCK-----", "sk-", "sk_live_", "gsk_", "xai-",
    "xapp-", "xoxb-", "pplx-", "nvapi-", "glpat-", "AIza", "ya29.", "hf_", "AKIA", "ASIA", "ghp_", "github_pat_", "eyJ",
    "Bearer", "bearer", "BEARER ", "Basic", "basic ", "Authorization", "AUTHORIZATION: Bearer ", "api_key", "API key: ",
    "access_token=", "clientSecret", "_SECRET", "Subscription-Key", "secret_access_key", "?key=", "&key=", "http",
    "://", ";base64,", "=", ": ", "%3D", "=b'", "\"", "\\", "'", "@", ":", "/", "?", "\\n", "\\u001b[31m", "\x1b[0m",
    "%20", "\\t", "%25", "\t", "\n", ".", "-", "_", "*", "80/", "abcdefgh", "ABCDEFGHIJKLMNOP", "0123456789", "a1B2c3D4",
    "aB3dE5fG7hI9jK1lM3nO", "==", "word", "\xc3\xa9", "[redacted]", "m", "K", "[", ";",
};

/* Pieces of secrets, some between blanks, with a byte changed now and then. */
static size_t fill_input(uint8_t *out) {
    size_t length = 0;
    uint64_t count = next_random() % 16, blanks = next_random() % 4;
    for (uint64_t i = 0; i < count; i++) {
        const char *piece = pieces[next_random() % (sizeof pieces / sizeof *pieces)];
        for (uint64_t times = next_random() % 8 == 0 ? next_random() % 8 : 1; times > 0; times--) {
            memcpy(out + length, piece, strlen(piece));
            length += strlen(piece);
        }
        if (blanks > 0 && next_random() % 4 < blanks)
            out[length++] = ' ';
    }
    if (length > 0 && next_random() % 4 == 0)
        out[next_random() % length] = (uint8_t)next_random();
    return length;
}

int main(int count, char **arguments) {
    static uint8_t input[1 << 13];
    unsigned long rounds = count > 1 ? strtoul(arguments[1], NULL, 10) : 200000;
    state = count > 2 ? strtoul(arguments[2], NULL, 10) : 1;
    for (unsigned long i = 0; i < rounds; i++)
        LLVMFuzzerTestOneInput(input, fill_input(input));
    printf("%lu texts\n", rounds);
    return 0;
}

#endif
