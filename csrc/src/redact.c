/* The markers of secrets and what must follow them; the scan itself is redact_scan.inc, once for each width. */
#include "fasttrace/redact.h"

#include <stdint.h>
#include <string.h>

/* ---- sets of ASCII characters ---- */

typedef struct {
    uint64_t low, high; /* up to '?', from '@' on */
} set;

#define LOW(character) (UINT64_C(1) << (character))
#define HIGH(character) (UINT64_C(1) << ((character)-64))
#define DIGITS UINT64_C(0x03ff000000000000)
#define UPPER UINT64_C(0x0000000007fffffe)
#define LOWER UINT64_C(0x07fffffe00000000)
#define SPACES (LOW(' ') | LOW('\t') | LOW('\n') | LOW('\v') | LOW('\f') | LOW('\r'))

static const set none = {0, 0};
static const set spaces = {SPACES, 0};
static const set alphanumeric = {DIGITS, UPPER | LOWER};
static const set word = {DIGITS | LOW('-'), UPPER | LOWER | HIGH('_')}; /* may not stand before most markers */
static const set heading = {LOW(' '), UPPER};
static const set bearer_token = {DIGITS | LOW('.') | LOW('+') | LOW('/') | LOW('=') | LOW('*') | LOW('-'),
                                 UPPER | LOWER | HIGH('_') | HIGH('~')};
static const set not_in_user = {SPACES | LOW('/') | LOW(':') | LOW('"') | LOW('\''), HIGH('@')};
static const set not_in_password = {SPACES | LOW('/') | LOW('"') | LOW('\''), HIGH('@')};
static const set quotes = {LOW('"') | LOW('\''), HIGH('\\')};
static const set hexadecimal = {DIGITS, HIGH('A') | HIGH('B') | HIGH('C') | HIGH('D') | HIGH('E') | HIGH('F') |
                                            HIGH('a') | HIGH('b') | HIGH('c') | HIGH('d') | HIGH('e') | HIGH('f')};
static const set escaped = {LOW('0'), HIGH('a') | HIGH('b') | HIGH('e') | HIGH('f') | HIGH('n') | HIGH('r') | HIGH('t') |
                                          HIGH('v')}; /* behind a backslash */
static const set colour_ends = {0, HIGH('m') | HIGH('K')};
static const set colours = {DIGITS | LOW(';'), 0};
static const set assignment = {LOW(':') | LOW('='), 0};

static inline bool is_in(set among, uint32_t character) {
    return character < 128 && (character < 64 ? among.low >> character : among.high >> (character - 64)) & 1;
}

/* ---- what follows a marker ---- */

/* At least `least` of these characters. Where `proof` is not empty: one of it behind at most 64 `letters`, for words
 * are not secrets. */
typedef struct {
    set characters, letters, proof;
    size_t least;
} run_rule;

enum { COLOUR_MAX = 16 };
enum { LETTERS_MAX = 64, KEY_LEAST = 8, HEADING_MAX = 32, BEARERS_MAX = 4, BEARER_LEAST = 4, JWT_LEAST = 4 };

static const run_rule key_rule = {{DIGITS | LOW('-') | LOW('*') | LOW('.'), UPPER | LOWER | HIGH('_')},
                                  {LOW('-') | LOW('.'), UPPER | LOWER | HIGH('_')},
                                  {DIGITS | LOW('*'), 0},
                                  KEY_LEAST};
static const run_rule value_rule = {
    {DIGITS | LOW('-') | LOW('.') | LOW('+') | LOW('/') | LOW('=') | LOW('%') | LOW('*'),
     UPPER | LOWER | HIGH('_') | HIGH('~')},
    {LOW('-') | LOW('.') | LOW('+') | LOW('/') | LOW('=') | LOW('%'), UPPER | LOWER | HIGH('_') | HIGH('~')},
    {DIGITS | LOW('*'), 0},
    KEY_LEAST};
static const run_rule basic_rule = {{DIGITS | LOW('+') | LOW('/') | LOW('='), UPPER | LOWER},
                                    {LOW('+') | LOW('/'), UPPER | LOWER},
                                    {DIGITS | LOW('='), 0},
                                    KEY_LEAST};
static const run_rule google_rule = {{DIGITS | LOW('-'), UPPER | LOWER | HIGH('_')}, {0, 0}, {0, 0}, 20};
static const run_rule hugging_face_rule = {{DIGITS, UPPER | LOWER}, {0, 0}, {0, 0}, 20};
static const run_rule aws_rule = {{DIGITS, UPPER}, {0, 0}, {0, 0}, 12};
static const run_rule github_rule = {{DIGITS, UPPER | LOWER | HIGH('_')}, {0, 0}, {0, 0}, 16};
static const run_rule base64_rule = {{DIGITS | LOW('+') | LOW('/') | LOW('=') | LOW('-'), UPPER | LOWER | HIGH('_')},
                                     {0, 0}, {0, 0}, 64};

typedef enum { RUN, PRIVATE_KEY, JWT, BEARER, USER_AND_PASSWORD, API_KEY } sort;

/* `group`: its bit of the filter; markers of a group stand together. keeps: the marker itself is shown. */
typedef struct {
    const char *text;
    uint8_t length, group;
    uint8_t sort;
    bool keeps;
    const set *not_before;
    const run_rule *rule;
} marker;

#define MARKER(text, group, sort, keeps, not_before, rule) {text, sizeof(text) - 1, group, sort, keeps, not_before, rule}
#define KEY(text, group) MARKER(text, group, RUN, false, &word, &key_rule)
#define GITHUB(text, group) MARKER(text, group, RUN, false, &word, &github_rule)

static const marker markers[] = {
    MARKER("-----BEGIN ", 0, PRIVATE_KEY, false, &none, NULL),
    KEY("sk-", 1),
    KEY("sk_live_", 1),
    KEY("sk_test_", 1),
    KEY("rk_live_", 1),
    KEY("rk_test_", 1),
    KEY("gsk_", 2),
    KEY("xai-", 3),
    KEY("xapp-", 3),
    KEY("xoxa-", 4),
    KEY("xoxb-", 4),
    KEY("xoxe-", 4),
    KEY("xoxo-", 4),
    KEY("xoxp-", 4),
    KEY("xoxr-", 4),
    KEY("xoxs-", 4),
    KEY("pplx-", 5),
    KEY("nvapi-", 6),
    KEY("glpat-", 7),
    MARKER("AIza", 8, RUN, false, &word, &google_rule),
    MARKER("ya29.", 9, RUN, false, &word, &google_rule),
    MARKER("hf_", 10, RUN, false, &word, &hugging_face_rule),
    MARKER("AKIA", 11, RUN, false, &alphanumeric, &aws_rule),
    MARKER("ASIA", 11, RUN, false, &alphanumeric, &aws_rule),
    GITHUB("ghp_", 12),
    GITHUB("gho_", 12),
    GITHUB("ghu_", 12),
    GITHUB("ghs_", 12),
    GITHUB("ghr_", 12),
    GITHUB("github_pat_", 13),
    MARKER("eyJ", 14, JWT, false, &word, NULL),
    MARKER("Bearer ", 15, BEARER, true, &none, NULL),
    MARKER("bearer ", 15, BEARER, true, &none, NULL),
    MARKER("BEARER ", 15, BEARER, true, &none, NULL),
    MARKER("Basic ", 16, RUN, true, &none, &basic_rule),
    MARKER("basic ", 16, RUN, true, &none, &basic_rule),
    MARKER("BASIC ", 16, RUN, true, &none, &basic_rule),
    MARKER("api", 17, API_KEY, true, &none, NULL),
    MARKER("Api", 17, API_KEY, true, &none, NULL),
    MARKER("API", 17, API_KEY, true, &none, NULL),
    MARKER("?key=", 18, RUN, true, &none, &value_rule),
    MARKER("&key=", 18, RUN, true, &none, &value_rule),
    MARKER("://", 19, USER_AND_PASSWORD, true, &none, NULL),
    MARKER(";base64,", 20, RUN, true, &none, &base64_rule),
};

enum { MARKERS = sizeof markers / sizeof *markers, GROUPS = 21 };

/* Of each character: which groups' markers it opens, continues as the second, as the third character. The third's bits
 * are the uppermost, so that shifted down they leave nothing else. */
static uint64_t filter[256];
static uint8_t group_begin[GROUPS + 1]; /* in `markers` */

void ft_redact_init(void) {
    uint64_t made[256] = {0};
    for (int i = 0; i < MARKERS; i++)
        for (int at = 0; at < 3; at++)
            made[(unsigned char)markers[i].text[at]] |= UINT64_C(1) << (markers[i].group + at * GROUPS);
    for (int i = MARKERS - 1; i >= 0; i--) group_begin[markers[i].group] = (uint8_t)i;
    group_begin[GROUPS] = MARKERS;
    memcpy(filter, made, sizeof filter);
}

/* Characters looked at, in the test that counts them. */
#ifdef FT_REDACT_COUNTS
static uint64_t steps;
#define STEP() (steps++)
#else
#define STEP() ((void)0)
#endif

#define CHARACTER uint8_t
#define FILTER_OF(character) filter[character]
#define NAMED(name) name##_1
#include "redact_scan.inc"
#undef CHARACTER
#undef FILTER_OF
#undef NAMED

#define FILTER_OF(character) ((character) < 128 ? filter[character] : 0)
#define CHARACTER uint16_t
#define NAMED(name) name##_2
#include "redact_scan.inc"
#undef CHARACTER
#undef NAMED

#define CHARACTER uint32_t
#define NAMED(name) name##_4
#include "redact_scan.inc"

bool ft_redact_next(const void *text, int width, size_t length, size_t from, ft_secret *found) {
    if (width == 1) return next_1(text, length, from, found);
    return width == 2 ? next_2(text, length, from, found) : next_4(text, length, from, found);
}
