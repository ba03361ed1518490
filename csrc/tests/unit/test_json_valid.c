/* What may stand in a line as it is: every rule at its limits, and against the tests' own reader of JSON on random
 * texts. Each text lies at the end of a block of its exact size, for the sanitizers. */
#include "../expect.h"
#include "../json_check.h"
#include "json_valid.h"

static bool is_valid(const char *text, size_t length, char opening) {
    char *exact = malloc(length + (length == 0));
    if (exact == NULL)
        abort();
    if (length > 0)
        memcpy(exact, text, length);
    bool answer = ft_json_valid(exact, length, opening);
    free(exact);
    return answer;
}

static bool holds(const char *text) { return is_valid(text, strlen(text), 0); }

static void values_are_those_of_the_grammar(void) {
    const char *const valid[] = {"{}", "[]", " { } ", "[ 1 , 2 ]", "{\"a\":1}", "{\"a\" : {\"a\":[{}]} , \"\":null}",
                                 "0", "-0", "10", "-1.5e+10", "1E5", "0.0e-0", "true", "false", "null", "\"\"", "  \"a\"  "};
    const char *const broken[] = {"", " ", "{", "}", "[", "]", "[1", "[1,]", "[,1]", "[1 2]", "{\"a\"}", "{\"a\":}",
                                  "{\"a\":1,}", "{1:2}", "{\"a\":1 \"b\":2}", "[}", "{]", "1 2", "{}{}", "[]]", "tru",
                                  "True", "nulls", "nan", "NaN", "Infinity", "-Infinity", "+1", "01", "-", "1.", ".5",
                                  "1e", "1e+", "0x1", "'a'", "\"a", "a\"", "\"", "/**/1", "\\u0031"};
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++)
        EXPECT(holds(valid[i]));
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        EXPECT(!holds(broken[i]));
}

static void no_control_character_is_anywhere(void) {
    for (int byte = 0; byte < 0x20; byte++) {
        char in_text[] = {'"', (char)byte, '"'}, between[] = {'[', (char)byte, ']'}, before[] = {(char)byte, '1'};
        EXPECT(!is_valid(in_text, 3, 0) && !is_valid(between, 3, 0) && !is_valid(before, 2, 0));
        EXPECT(!is_valid((char[]){'1', (char)byte}, 2, 0));
    }
    EXPECT(holds("\"\x7f\""));
}

static void escapes_are_those_of_json_and_surrogates_come_in_pairs(void) {
    const char *const valid[] = {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\u0000\\uabCD\"", "\"\\ud834\\udd1e\"",
                                 "\"\\uDBFF\\uDFFF\"", "\"\\\\ud800\"", "\"\\ud7ff\\ue000\""};
    const char *const broken[] = {"\"\\", "\"\\\"", "\"\\x\"", "\"\\u\"", "\"\\u12\"", "\"\\u123\"", "\"\\u12g4\"",
                                  "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\ud800\"", "\"\\ud800x\\udc00\"",
                                  "\"\\ud800\\n\"", "\"\\ud800\\u\"", "\"\\ud800\\udc0\"", "\"\\udc00\\ud800\""};
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++)
        EXPECT(holds(valid[i]));
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        EXPECT(!holds(broken[i]));
}

static void utf8_is_valid_or_the_text_is_not(void) {
    const char *const valid[] = {"\"\xc2\x80\"", "\"\xdf\xbf\"", "\"\xe0\xa0\x80\"", "\"\xed\x9f\xbf\"",
                                 "\"\xee\x80\x80\"", "\"\xf0\x90\x80\x80\"", "\"\xf4\x8f\xbf\xbf\""};
    const char *const broken[] = {"\"\x80\"", "\"\xc0\x80\"", "\"\xc1\xbf\"", "\"\xc2\"", "\"\xe0\x9f\xbf\"",
                                  "\"\xed\xa0\x80\"", "\"\xe2\x82\"", "\"\xf0\x8f\xbf\xbf\"", "\"\xf4\x90\x80\x80\"",
                                  "\"\xf5\x80\x80\x80\"",
                                  "\"\xff\"", "\"\xf0\x9f\x98", "\xc2\xa0" "1", "\xef\xbb\xbf{}"};
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++)
        EXPECT(holds(valid[i]));
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        EXPECT(!holds(broken[i]));
}

static void depth_and_numbers_have_a_limit(void) {
    enum { DEEP = FT_JSON_DEPTH_MAX };
    char text[2 * DEEP + 4];
    for (unsigned depth = DEEP - 1; depth <= DEEP + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        EXPECT(is_valid(text, 2 * depth, 0) == (depth <= DEEP));
    }
    char digits[FT_JSON_NUMBER_MAX + 1];
    memset(digits, '7', sizeof digits);
    EXPECT(is_valid(digits, FT_JSON_NUMBER_MAX, 0) && !is_valid(digits, FT_JSON_NUMBER_MAX + 1, 0));
    char *endless = malloc(1 << 20);
    if (endless == NULL)
        abort();
    memset(endless, '[', 1 << 20);
    EXPECT(!ft_json_valid(endless, 1 << 20, 0));
    free(endless);
}

static void a_field_says_what_it_begins_with(void) {
    EXPECT(is_valid("{}", 2, '{') && is_valid(" {}", 3, '{') && is_valid("[]", 2, '['));
    EXPECT(!is_valid("[]", 2, '{') && !is_valid("{}", 2, '[') && !is_valid("1", 1, '{') && !is_valid(" ", 1, '{'));
    EXPECT(!is_valid("", 0, '{'));
}

/* The tests' reader lets halves of surrogates pass; of everything else the two must think alike. */
static void random_texts_are_judged_as_by_another_reader(void) {
    static const char *const pieces[] = {"{", "}", "[", "]", ",", ":", "\"", "\"a\":", "1", "-", "0", ".5", "e3",
                                         "true", "null", "\\n", "\\\\", "\xc3\xa9", "\xc3", "x", " ", "\\u00e9"};
    uint64_t state = 1;
    unsigned long valid = 0;
    for (int round = 0; round < 300000; round++) {
        char text[64];
        size_t length = 0;
        for (int i = 0; i < 2 + round % 9; i++) {
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
            const char *piece = pieces[(state >> 40) % (sizeof pieces / sizeof *pieces)];
            memcpy(text + length, piece, strlen(piece));
            length += strlen(piece);
        }
        bool answer = is_valid(text, length, 0);
        EXPECT(answer == json_is_one_value(text, length));
        valid += answer;
    }
    EXPECT(valid > 1000);
}

int main(void) {
    values_are_those_of_the_grammar();
    no_control_character_is_anywhere();
    escapes_are_those_of_json_and_surrogates_come_in_pairs();
    utf8_is_valid_or_the_text_is_not();
    depth_and_numbers_have_a_limit();
    a_field_says_what_it_begins_with();
    random_texts_are_judged_as_by_another_reader();
    printf("%s test_json_valid\n", expect_failures ? "FAILED" : "ok");
    return expect_result();
}
