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
    {"key sk-abcde123", 4, 4, 15},
    {"key sk-abcd123", 0, 0, 0}, /* seven characters */
    {"risk-abcde123", 0, 0, 0},
    {"sk-abcdefgh", 0, 0, 0}, /* words */
    {"sk-container-id-123", 0, 0, 0},
    {"sk-abc-abcde-abc123", 0, 0, 19},
    {"sk-a-b-c-d-e-f-g-h-abc123", 0, 0, 25},
    {"sk-a-b-c-d-e-f-g-h-i-abc123", 0, 0, 0}, /* behind more pieces than are looked at */
    {"sk-abcdefghijklmnoP", 0, 0, 19},
    {"sk-abcdefghijklmnop", 0, 0, 0},
    {"xai-abcdefghijklmnP", 0, 0, 0}, /* fifteen */
    {"\\nsk-abcde123", 2, 2, 13},
    {"nsk-abcde123", 0, 0, 0},
    {"\\qsk-abcde123", 0, 0, 0},
    {"%3Dsk-abcde123", 3, 3, 14},
    {"%253Dsk-abcde123", 5, 5, 16},
    {"\\u0020sk-abcde123", 6, 6, 17},
    {"\\x1bsk-abcde123", 4, 4, 15},
    {"\033[1;31msk-abcde123", 7, 7, 18},
    {"[msk-abcde123", 2, 2, 13},
    {"msk-abcde123", 0, 0, 0},
    {"[11111111111111111msk-abcde123", 0, 0, 0},
    {"sk-1234****wxyz.", 0, 0, 16},
    {"sk_live_12345678", 0, 0, 16},
    {"sk_lives_12345678", 0, 0, 0},
    {"xoxb-12345678", 0, 0, 13},
    {"xoxc-12345678", 0, 0, 0},
    {"AIza0123456789abcdefghij", 0, 0, 24},
    {"AIza0123456789abcdefghi", 0, 0, 0},
    {"-AKIA0123456789ABCDEF", 1, 1, 21},
    {"AKIA0123456789ABCDE", 0, 0, 0},
    {"ASIAPACIFICREGIONALS", 0, 0, 0},
    {"aAKIA0123456789ABCDEF", 0, 0, 0},
    {"Bearer abcdef12", 0, 7, 15},
    {"Bearer abcdefg1", 0, 0, 0},
    {"Bearer abcde12", 0, 0, 0},
    {"Bearer authentication", 0, 0, 0},
    {"Bearer abcdefghijklmnoP", 0, 7, 23},
    {"Bearer \t%20\\tabcdef12", 0, 13, 21},
    {"Bearer         abcdef12", 0, 0, 0}, /* nine blanks */
    {"Bearer bearer abcdef12", 0, 7, 22},
    {"Authorization: Bearer abcd", 5, 22, 26},
    {"'authorization': b'BEARER bearer abcd", 6, 26, 37},
    {"Authorization: Bearer bearer abc", 0, 0, 0},
    {"AUTHORIZATION=Basic abcd", 5, 20, 24},
    {"Basic dXNlcjpwYXNzd29yZA==", 0, 6, 26},
    {"Basic dXNlcjpwYXNzd29yZDEx", 0, 6, 26},
    {"Basic dXNlcjpwYXNzd29yZDE", 0, 0, 0}, /* half a byte */
    {"Basic dXNlcjpwYXNzd29yZA===", 0, 0, 0},
    {"Basic HTML5/CSS3", 0, 0, 0},
    {"basic information", 0, 0, 0},
    {"eyJabcd.e", 0, 0, 9},
    {"eyJabcd.e.", 0, 0, 9},
    {"eyJabcd.e.f", 0, 0, 11},
    {"eyJabc.e", 0, 0, 0},
    {"x://u:p@h", 1, 4, 7},
    {"x://:p@h", 1, 4, 6},
    {"x://u:@h", 0, 0, 0},
    {"x://u:p/h@", 1, 4, 9},
    {"http://u:p/h@", 0, 0, 0},
    {"https://u:p/h@", 0, 0, 0},
    {"x://u:/p@h", 0, 0, 0},
    {"x://u:p@q@h", 1, 4, 9},
    {"x://u:p@h?q@", 1, 4, 7},
    {"http://u:p?q@h", 4, 7, 12},
    {"http://h:3000?email=b@h", 0, 0, 0},
    {"x://h:80/a@b", 0, 0, 0},
    {"x://h:80a@b", 1, 4, 9},
    {"x://[::1]:80/a@b", 0, 0, 0},
    {"{\"api_key\": \"12345678\"}", 2, 13, 21},
    {"API-KEY=abcdefg8", 0, 8, 16},
    {"api_KEY=abcdefg8", 0, 8, 16},
    {"api_key=b'abcdefg8'", 0, 10, 18},
    {"api_key=babcdefg8", 0, 8, 17},
    {"api_key%3Dabcdefg8", 0, 10, 18},
    {"API key: abcdefg8abcdefg8", 0, 9, 25},
    {"API key: abcdefg8abcdefg", 0, 0, 0},
    {"API key: 1234567812345678", 0, 0, 0},
    {"access_token=abcdefg8", 6, 13, 21},
    {"cost_per_token=0.00000015", 0, 0, 0},
    {"accessToken: abcdefg8", 6, 13, 21},
    {"client_secret=abcdefg8", 6, 14, 22},
    {"clientSecret=abcdefg8", 6, 13, 21},
    {" Secret=abcdefg8", 0, 0, 0},
    {"AWS_SECRET_ACCESS_KEY=abcdefg8", 17, 22, 30},
    {"Subscription-Key: abcdefg8", 12, 18, 26},
    {"sort_key=abcdefg8", 0, 0, 0},
    {"api_key=     1234567", 0, 0, 0},
    {"?key=abcdefg8&b", 0, 5, 13},
    {"-----BEGIN PRIVATE KEY-----a-----END RSA PRIVATE KEY-----b", 0, 0, 57},
    {"-----BEGIN PRIVATE KEY-----a-----END", 0, 0, 36},
    {"-----BEGIN RSA-----", 0, 0, 0},
    {"-----BEGIN PGP PRIVATE KEY BLOCK-----a-----END PGP PRIVATE KEY BLOCK-----b", 0, 0, 73},
    {"-----BEGIN PGP PUBLIC KEY BLOCK-----", 0, 0, 0},
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
    uint16_t key[] = {'s', 'k', '-', 'a', 'b', 'c', 'd', 'e', '1', '2', '3', 0x100 | '2'};
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

/* The most is the longest look ahead, 128 characters of a password, at a marker of five; at the end it is shorter. */
static void test_hostile_texts_are_linear(void) {
    static const char *const parts[] = {
        "-",         "a",
        "sk-",       ".sk-a",      ".sk-",        "-----BEGIN ",   "-----",        "-----BEGIN PRIVATE KE",
        " AIzaA",    ".AKIAA",     ".eyJ",        ".eyJaaaa.",     "eyJaaaa.a",    "Bearer ",
        "Bearer a.", "BEARER ",    "Basic ",      "basic a",       "://",          "://a",
        "://a:",     "://a:a",     "api_key=",    "api_key='",     "?key=",        "?key=a",
        "&key=a.",   ";base64,",   ";base64,a",   "api_key      ", "github_pat_ ", "-----BEGIN PRIVATE KEY----- -----END ",
        "sk-a-a-a-a", "x://a:b", "x://u:a@", "access_token=", "_token", "_key", "rization: Bearer ", "Basic aaaa", "Bearer\t", "[1111111111111111msk-", "%25aask-", "\\u00aask-", "eyJ",       "AIza",       ".xoxb-",      "://:",          " ghp_",        "-----BEGIN AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    };
    enum { LENGTH = 100000, AT_THE_END = 10000 };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        uint64_t once = steps_of(parts[i], LENGTH), twice = steps_of(parts[i], 2 * LENGTH);
        if (once > 40 * LENGTH || twice > 2 * once + AT_THE_END) fprintf(stderr, "%s: %d steps\n", parts[i], (int)once);
        EXPECT(once <= 40 * LENGTH);
        EXPECT(twice <= 2 * once + AT_THE_END);
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
