/* JSON strings, numbers and ids at their limits. Buffers have exactly the promised size, so that a sanitizer sees a
 * byte read or written beyond it; strings are tried at every offset to a word. */
#include "fasttrace/json.h"

#include "../expect.h"

#include <inttypes.h>

#define FFFD "\xef\xbf\xbd"

typedef struct {
    const char *text;
    size_t length;
    const char *wanted;
} string_case;
#define CASE(text, wanted) {text, sizeof(text) - 1, wanted}

static const string_case string_cases[] = {
    CASE("", ""),
    CASE("plain", "plain"),
    CASE("\"", "\\\""),
    CASE("\\", "\\\\"),
    CASE("/", "/"),
    CASE("a\"b\\c", "a\\\"b\\\\c"),
    CASE("\b\f\n\r\t", "\\b\\f\\n\\r\\t"),
    CASE("\0", "\\u0000"),
    CASE("\x1f ~\x7f", "\\u001f ~\\u007f"),
    CASE("\xc2\x80\xc3\xa9\xdf\xbf", "\xc2\x80\xc3\xa9\xdf\xbf"),
    CASE("\xe0\xa0\x80\xe4\xb8\xad\xef\xbf\xbf", "\xe0\xa0\x80\xe4\xb8\xad\xef\xbf\xbf"),
    CASE("\xf0\x90\x80\x80\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf", "\xf0\x90\x80\x80\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"),
    CASE("\x80", FFFD),
    CASE("\xff\xfe", FFFD FFFD),
    CASE("\xc0\xaf", FFFD FFFD),
    CASE("\xc1\xbf", FFFD FFFD),
    CASE("\xc3\x28", FFFD "("),
    CASE("\xe0\x9f\x80", FFFD FFFD FFFD),
    CASE("\xed\xa0\x80", FFFD FFFD FFFD),
    CASE("\xed\x9f\xbf", "\xed\x9f\xbf"),
    CASE("\xf0\x8f\xbf\xbf", FFFD FFFD FFFD FFFD),
    CASE("\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD),
    CASE("\xf5\x80\x80\x80", FFFD FFFD FFFD FFFD),
    CASE("\xe4\xb8", FFFD),
    CASE("\xe4\xb8\x22", FFFD "\\\""),
    CASE("\xf0\x9f\x98", FFFD),
    CASE("\xf0\x9f", FFFD),
    CASE("\xf0\x9f\x98\xf0\x9f\x98\x80", FFFD "\xf0\x9f\x98\x80"),
    CASE("\xc3", FFFD),
};

/* The string in a block of its own size, written to a block of the promised size. */
static void expect_string(const char *text, size_t length, const char *wanted, size_t wanted_length) {
    char *in = malloc(length + (length == 0)), *out = malloc(FT_JSON_STRING_MAX(length));
    memcpy(in, text, length);
    size_t written = (size_t)(ft_json_string(out, in, length) - out);
    EXPECT(written >= 2 && out[0] == '"' && out[written - 1] == '"');
    expect_text(__FILE__, __LINE__, out + 1, written - 2, wanted, wanted_length);
    free(in);
    free(out);
}

static void test_string_cases_at_every_offset(void) {
    for (size_t i = 0; i < sizeof string_cases / sizeof *string_cases; i++) {
        const string_case *tried = &string_cases[i];
        for (size_t before = 0; before <= 17; before++)
            for (size_t after = 0; after <= 9; after++) {
                char text[64], wanted[128];
                size_t wanted_length = strlen(tried->wanted);
                memset(text, 'a', sizeof text);
                memset(wanted, 'a', sizeof wanted);
                memcpy(text + before, tried->text, tried->length);
                memcpy(wanted + before, tried->wanted, wanted_length);
                expect_string(text, before + tried->length + after, wanted, before + wanted_length + after);
            }
    }
}

static void test_every_control_character(void) {
    static const char *const shorts[] = {[8] = "\\b", [9] = "\\t", [10] = "\\n", [12] = "\\f", [13] = "\\r"};
    for (unsigned byte = 0; byte < 0x20; byte++) {
        char wanted[8], text = (char)byte;
        snprintf(wanted, sizeof wanted, "\\u%04x", byte);
        const char *escape = byte < sizeof shorts / sizeof *shorts && shorts[byte] ? shorts[byte] : wanted;
        expect_string(&text, 1, escape, strlen(escape));
    }
}

static void test_longest_escapes_fill_the_promised_room(void) {
    char text[100], wanted[601];
    memset(text, 1, sizeof text);
    for (size_t i = 0; i < sizeof text; i++)
        memcpy(wanted + 6 * i, "\\u0001", 6);
    for (size_t length = 0; length <= sizeof text; length++)
        expect_string(text, length, wanted, 6 * length);
}

static void expect_uint(uint64_t value) {
    char out[20], wanted[24];
    snprintf(wanted, sizeof wanted, "%" PRIu64, value);
    EXPECT_TEXT(out, (size_t)(ft_json_uint(out, value) - out), wanted);
}

static void test_integers_around_every_power(void) {
    for (uint64_t power = 1;; power *= 10) {
        expect_uint(power - 1);
        expect_uint(power);
        expect_uint(power + 1);
        if (power == UINT64_C(10000000000000000000))
            break;
    }
    for (int bit = 0; bit < 64; bit++) {
        expect_uint((UINT64_C(1) << bit) - 1);
        expect_uint(UINT64_C(1) << bit);
    }
    expect_uint(UINT64_MAX);
}

static void test_fixed_point(void) {
    static const struct {
        uint64_t value;
        int decimals;
        const char *wanted;
    } cases[] = {
        {0, 6, "0"},
        {1, 6, "0.000001"},
        {10, 6, "0.00001"},
        {999999, 6, "0.999999"},
        {1000000, 6, "1"},
        {1000001, 6, "1.000001"},
        {12500000, 6, "12.5"},
        {15000000, 12, "0.000015"},
        {1, 12, "0.000000000001"},
        {UINT64_C(3000000000000), 12, "3"},
        {UINT64_C(100000000000), 12, "0.1"},
        {UINT64_C(1) << 31, 6, "2147.483648"},
        {UINT64_C(1) << 32, 6, "4294.967296"},
        {UINT64_C(1) << 63, 6, "9223372036854.775808"},
        {UINT64_MAX, 6, "18446744073709.551615"},
        {UINT64_MAX, 12, "18446744.073709551615"},
        {UINT64_MAX, 0, "18446744073709551615"},
        {UINT64_MAX, 19, "1.8446744073709551615"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[22];
        EXPECT_TEXT(out, (size_t)(ft_json_fixed(out, cases[i].value, cases[i].decimals) - out), cases[i].wanted);
    }
}

static void test_hex_ids_keep_their_zeros(void) {
    uint64_t values[] = {0, 1, 9, 10, 15, UINT64_C(0x0123456789abcdef), UINT64_C(0xfedcba9876543210), UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char out[16], wanted[17];
        snprintf(wanted, sizeof wanted, "%016" PRIx64, values[i]);
        EXPECT_TEXT(out, (size_t)(ft_json_hex64(out, values[i]) - out), wanted);
    }
}

int main(void) {
    test_string_cases_at_every_offset();
    test_every_control_character();
    test_longest_escapes_fill_the_promised_room();
    test_integers_around_every_power();
    test_fixed_point();
    test_hex_ids_keep_their_zeros();
    return expect_result();
}
