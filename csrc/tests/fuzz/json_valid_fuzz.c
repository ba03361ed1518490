/* What may stand in a line is judged alike however it is asked, and never more freely than by the tests' own reader.
 * Build as a libFuzzer target with -fsanitize=fuzzer,address,undefined -DFT_LIBFUZZER; without it main feeds
 * pseudo-random texts:
 *
 *     json_valid_fuzz [rounds] [seed] */
#include "json_valid.h"

#include "../json_check.h"

#include <stdio.h>
#include <stdlib.h>

static void require(bool condition, const char *what) {
    if (condition)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

/* The text with something before and after it. */
static bool is_valid_within(const char *before, const uint8_t *data, size_t size, const char *after) {
    size_t first = strlen(before), last = strlen(after);
    char *text = malloc(first + size + last + 1);
    require(text != NULL, "memory");
    memcpy(text, before, first);
    if (size > 0)
        memcpy(text + first, data, size);
    memcpy(text + first + size, after, last);
    bool answer = ft_json_valid(text, first + size + last, 0);
    free(text);
    return answer;
}

static bool has_control(const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (data[i] < 0x20)
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bool is_valid = is_valid_within("", data, size, "");
    const char *text = (const char *)data;
    require(!is_valid || !has_control(data, size), "a control character");
    require(!is_valid || size > 4096 || json_is_one_value(text, size), "not JSON for another reader");
    require(is_valid == is_valid_within(" ", data, size, "  "), "spaces around it");
    bool is_object = ft_json_valid(text, size, '{'), is_array = ft_json_valid(text, size, '[');
    require(!(is_object && is_array) && (is_valid || (!is_object && !is_array)), "what it begins with");
    bool in_array = is_valid_within("[", data, size, ",1]"), in_object = is_valid_within("{\"a\":", data, size, "}");
    require(!is_valid || in_array == in_object, "one level down");
    return 0;
}

#ifndef FT_LIBFUZZER

static uint64_t state;

static uint64_t next_random(void) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state ^ state >> 29) >> 8;
}

static const char *const pieces[] = {"{",    "}",    "[",   "]",   ",",    ":",       "\"",        "\"a\":",
                                     "1",    "-",    "0",   ".5",  "e3",   "true",    " ",         "null",
                                     "\\n",  "\\u",  "d834", "\\udd1e", "\xc3\xa9", "\xed\xa0\x80", "\x1f", "[[[["};

/* Values that nest and close, with a byte changed now and then: plain pieces hardly ever are JSON. */
static size_t fill_value(uint8_t *out, int depth) {
    size_t length = 0;
    bool is_object = next_random() % 2;
    if (depth == 0 || next_random() % 3 == 0) {
        const char *const scalars[] = {"1", "\"a\\n\"", "-0.5e-3", "null", "\"\\ud834\\udd1e\""};
        const char *scalar = scalars[next_random() % 5];
        memcpy(out, scalar, strlen(scalar));
        return strlen(scalar);
    }
    out[length++] = is_object ? '{' : '[';
    for (uint64_t i = 0, count = next_random() % 3; i < count; i++) {
        if (i > 0)
            out[length++] = ',';
        if (is_object) {
            memcpy(out + length, "\"a\" :", 5);
            length += 5;
        }
        length += fill_value(out + length, depth - 1);
    }
    out[length++] = is_object ? '}' : ']';
    return length;
}

static size_t fill_pieces(uint8_t *out) {
    size_t length = 0;
    for (uint64_t i = 0, count = next_random() % 12; i < count; i++) {
        const char *piece = pieces[next_random() % (sizeof pieces / sizeof *pieces)];
        memcpy(out + length, piece, strlen(piece));
        length += strlen(piece);
    }
    return length;
}

static size_t fill_input(uint8_t *out) {
    if (next_random() % 3 == 0)
        return fill_pieces(out);
    size_t length = fill_value(out, 4);
    uint8_t *changed = &out[next_random() % length];
    if (next_random() % 4 == 0)
        *changed = (uint8_t)next_random();
    if (next_random() % 4 == 0)
        *changed = (uint8_t) "\"\\[]{},:"[next_random() % 8];
    return length;
}

int main(int count, char **arguments) {
    static uint8_t input[1 << 14];
    unsigned long rounds = count > 1 ? strtoul(arguments[1], NULL, 10) : 200000;
    state = count > 2 ? strtoul(arguments[2], NULL, 10) : 1;
    for (unsigned long i = 0; i < rounds; i++)
        LLVMFuzzerTestOneInput(input, fill_input(input));
    printf("%lu texts\n", rounds);
    return 0;
}

#endif
