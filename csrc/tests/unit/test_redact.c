/* Secrets in texts of each width, in buffers of exactly their size, so that a sanitizer sees a character read beyond
 * them; and how many characters are looked at, which must grow no faster than the text, whatever it is. */
#define FT_REDACT_COUNTS
#include "../../src/redact.c" /* itself, with its steps counted */

#include "../expect.h"

typedef struct {
    const char *text;
    size_t start, secret, end; /* end 0: none */
} redact_case;

static const redact_case cases[] = {
    {"", 0, 0, 0},
    {"sk", 0, 0, 0},
    {"no secret in here", 0, 0, 0},
    {"key sk-abcdefg1", 4, 4, 15},
    {"key sk-abcdef1", 0, 0, 0}, /* seven characters */
    {"risk-abcdefg1", 0, 0, 0},
    {"sk-abcdefgh", 0, 0, 0}, /* words */
    {"\\nsk-abcdefg1", 2, 2, 13},
    {"nsk-abcdefg1", 0, 0, 0},
    {"\\qsk-abcdefg1", 0, 0, 0},
    {"%3Dsk-abcdefg1", 3, 3, 14},
    {"%253Dsk-abcdefg1", 5, 5, 16},
    {"\\u0020sk-abcdefg1", 6, 6, 17},
    {"\\x1bsk-abcdefg1", 4, 4, 15},
    {"\033[1;31msk-abcdefg1", 7, 7, 18},
    {"[msk-abcdefg1", 2, 2, 13},
    {"msk-abcdefg1", 0, 0, 0},
    {"[11111111111111111msk-abcdefg1", 0, 0, 0},
    {"sk-1234****wxyz.", 0, 0, 16},
    {"sk_live_12345678", 0, 0, 16},
    {"sk_lives_12345678", 0, 0, 0},
    {"xoxb-12345678", 0, 0, 13},
    {"xoxc-12345678", 0, 0, 0},
    {"AIza0123456789abcdefghij", 0, 0, 24},
    {"AIza0123456789abcdefghi", 0, 0, 0},
    {"-AKIA0123456789AB", 1, 1, 17},
    {"aAKIA0123456789AB", 0, 0, 0},
    {"Bearer abcd", 0, 7, 11},
    {"Bearer abc", 0, 0, 0},
    {"Bearer bearer abc", 0, 7, 13}, /* the word is the token */
    {"Bearer bearer abcd", 0, 7, 18},
    {"Basic dXNlcjpwYXNzd29yZA==", 0, 6, 26},
    {"basic information", 0, 0, 0},
    {"eyJabcd.e", 0, 0, 9},
    {"eyJabcd.e.", 0, 0, 9},
    {"eyJabcd.e.f", 0, 0, 11},
    {"eyJabc.e", 0, 0, 0},
    {"x://u:p@h", 1, 4, 7},
    {"x://:p@h", 1, 4, 6},
    {"x://u:@h", 0, 0, 0},
    {"x://u:p/h@", 0, 0, 0},
    {"{\"api_key\": \"12345678\"}", 2, 13, 21},
    {"API-KEY=abcdefg8", 0, 8, 16},
    {"api_KEY=abcdefg8", 0, 0, 0},
    {"api_key=     1234567", 0, 0, 0},
    {"?key=abcdefg8&b", 0, 5, 13},
    {"-----BEGIN PRIVATE KEY-----a-----END RSA PRIVATE KEY-----b", 0, 0, 57},
    {"-----BEGIN PRIVATE KEY-----a-----END", 0, 0, 36},
    {"-----BEGIN RSA-----", 0, 0, 0},
};

/* Whether the text of one width has the case's secret and no other. */
static bool fits(const redact_case *it, const void *text, int width, size_t length) {
    ft_secret found = {0, 0, 0}, second;
    bool is_found = ft_redact_next(text, width, length, 0, &found);
    if (is_found != (it->end > 0)) return false;
    if (!is_found) return true;
    return found.start == it->start && found.secret == it->secret && found.end == it->end &&
           !ft_redact_next(text, width, length, found.end, &second);
}

static void check_case(const redact_case *it) {
    size_t length = strlen(it->text);
    uint8_t *one = malloc(length + 1);
    uint16_t *two = malloc(2 * length + 1);
    uint32_t *four = malloc(4 * length + 1);
    for (size_t i = 0; i < length; i++) one[i] = (uint8_t)(four[i] = two[i] = (unsigned char)it->text[i]);
    one = realloc(one, length ? length : 1);
    two = realloc(two, length ? 2 * length : 1);
    four = realloc(four, length ? 4 * length : 1);
    bool is_right = fits(it, one, 1, length) && fits(it, two, 2, length) && fits(it, four, 4, length);
    if (!is_right) fprintf(stderr, "%s\n", it->text);
    EXPECT(is_right);
    free(one), free(two), free(four);
}

/* Every beginning of every case, so that each comparison meets the end of its buffer. */
static void check_cuts(const char *text) {
    ft_secret found;
    for (size_t length = 0; length < strlen(text); length++) {
        char *cut = malloc(length ? length : 1);
        memcpy(cut, text, length);
        if (ft_redact_next(cut, 1, length, 0, &found)) EXPECT(found.end <= length);
        free(cut);
    }
}

/* A character beyond ASCII is in no set, and is no ASCII character by its low byte. */
static void test_wide_characters(void) {
    ft_secret found;
    uint16_t key[] = {'s', 'k', '-', 'a', 'b', 'c', 'd', 'e', 'f', 'g', '1', 0x100 | '2'};
    EXPECT(ft_redact_next(key, 2, 12, 0, &found) && found.end == 11);
    key[0] |= 0x100;
    EXPECT(!ft_redact_next(key, 2, 12, 0, &found));
    uint32_t url[] = {':', '/', '/', 0x1f600, ':', 0x10000 | '@', '@'};
    EXPECT(ft_redact_next(url, 4, 7, 0, &found) && found.secret == 3 && found.end == 6);
}

static uint64_t steps_of(const char *part, size_t length) {
    char *text = malloc(length);
    for (size_t i = 0, size = strlen(part); i < length; i++) text[i] = part[i % size];
    steps = 0;
    ft_secret found = {0, 0, 0};
    for (size_t from = 0; ft_redact_next(text, 1, length, from, &found); from = found.end) continue;
    free(text);
    return steps;
}

/* The most is the longest look ahead, 64 characters, at a marker of five. */
static void test_hostile_texts_are_linear(void) {
    static const char *const parts[] = {
        "-",         "a",
        "sk-",       ".sk-a",      ".sk-",        "-----BEGIN ",   "-----",        "-----BEGIN PRIVATE KE",
        " AIzaA",    ".AKIAA",     ".eyJ",        ".eyJaaaa.",     "eyJaaaa.a",    "Bearer ",
        "Bearer a.", "BEARER ",    "Basic ",      "basic a",       "://",          "://a",
        "://a:",     "://a:a",     "api_key=",    "api_key='",     "?key=",        "?key=a",
        "&key=a.",   ";base64,",   ";base64,a",   "api_key      ", "github_pat_ ", "-----BEGIN PRIVATE KEY----- -----END ",
        "[1111111111111111msk-", "%25aask-", "\\u00aask-", "eyJ",       "AIza",       ".xoxb-",      "://:",          " ghp_",        "-----BEGIN AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    };
    enum { LENGTH = 100000 };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        uint64_t once = steps_of(parts[i], LENGTH), twice = steps_of(parts[i], 2 * LENGTH);
        if (once > 40 * LENGTH || twice > 2 * once + 1000) fprintf(stderr, "%s: %d steps\n", parts[i], (int)once);
        EXPECT(once <= 40 * LENGTH);
        EXPECT(twice <= 2 * once + 1000);
    }
}

/* The groups partition the markers, and fit into a filter's word. */
static void test_the_groups_of_markers(void) {
    for (int i = 0; i < MARKERS; i++) {
        EXPECT(markers[i].length >= 3 && markers[i].group < GROUPS);
        EXPECT(i == 0 || markers[i].group == markers[i - 1].group || markers[i].group == markers[i - 1].group + 1);
        EXPECT(i >= group_begin[markers[i].group] && i < group_begin[markers[i].group + 1]);
    }
    EXPECT(markers[MARKERS - 1].group == GROUPS - 1);
}

int main(void) {
    ft_redact_init();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_case(&cases[i]);
        check_cuts(cases[i].text);
    }
    test_wide_characters();
    test_hostile_texts_are_linear();
    test_the_groups_of_markers();
    return expect_result();
}
