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
static const set lower = {0, LOWER};
static const set lower_or_line = {0, LOWER | HIGH('_')};
static const set upper_or_digit = {DIGITS, UPPER};
static const set piece = {DIGITS, UPPER | LOWER | HIGH('_')};
static const set masked_piece = {DIGITS | LOW('*'), UPPER | LOWER | HIGH('_')};
static const set between_pieces = {LOW('-') | LOW('.'), 0};
static const set blank = {LOW(' ') | LOW('\t'), 0};
static const set base64 = {DIGITS | LOW('+') | LOW('/'), UPPER | LOWER};
static const set padding = {LOW('='), 0};
static const set bearer_token = {DIGITS | LOW('.') | LOW('+') | LOW('/') | LOW('=') | LOW('*') | LOW('-'),
                                 UPPER | LOWER | HIGH('_') | HIGH('~')};
static const set not_in_user = {SPACES | LOW('/') | LOW(':') | LOW('"') | LOW('\'') | LOW('?') | LOW('#'),
                                HIGH('@') | HIGH('[')};
static const set not_in_authority = {SPACES | LOW('/') | LOW('"') | LOW('\'') | LOW('?') | LOW('#'), 0};
static const set not_in_password = {SPACES | LOW('/') | LOW('"') | LOW('\''), HIGH('@')};
static const set not_with_slash = {SPACES | LOW('"') | LOW('\'') | LOW('<') | LOW('>'), HIGH('@') | HIGH('{') | HIGH('}')};
static const set digits = {DIGITS, 0};
static const set behind_port = {LOW('/') | LOW('?') | LOW('#') | LOW(',') | LOW(')') | LOW('>'), HIGH('\\') | HIGH(']')};
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

/* At least `least` of these characters. Where `times` is not 0: so many of the `proof`, each behind at most `within`
 * letters, for words are not secrets. */
typedef struct {
    set characters, letters, proof;
    size_t within, times, least;
} run_rule;

enum { COLOUR_MAX = 16, LETTERS_MAX = 64, PIECES_MAX = 8, PIECE_LEAST = 6, LONG_PIECE = 16, HEADING_MAX = 32, BEARERS_MAX = 4 };
enum { HEADER_LEAST = 4, PADDED_LEAST = 6, JWT_LEAST = 4, BLANKS_MAX = 8, PORT_MAX = 5, PASSWORD_MAX = 128 };

#define SIGNS (LOW('-') | LOW('.') | LOW('+') | LOW('/') | LOW('=') | LOW('%'))
#define VALUE_RULE(least) \
    {{DIGITS | SIGNS | LOW('*'), UPPER | LOWER | HIGH('_') | HIGH('~')}, {SIGNS, UPPER | LOWER | HIGH('_') | HIGH('~')}, \
     {DIGITS | LOW('*'), 0}, LETTERS_MAX, 1, least}
#define NO_NAME_RULE(least) \
    {{DIGITS | LOW('*'), UPPER | LOWER}, {0, LOWER}, {DIGITS | LOW('*'), UPPER}, LETTERS_MAX, 1, least}
#define ANY_RULE(low, high, least) {{low, high}, {0, 0}, {0, 0}, 0, 0, least}

static const run_rule key_rule = ANY_RULE(DIGITS | LOW('-') | LOW('*') | LOW('.'), UPPER | LOWER | HIGH('_'), 8);
static const run_rule piece_rule = {{DIGITS | LOW('*'), UPPER | LOWER | HIGH('_')},
                                    {0, UPPER | LOWER | HIGH('_')}, {DIGITS | LOW('*'), 0}, LETTERS_MAX, 3, PIECE_LEAST};
static const run_rule own_rule = {{DIGITS | LOW('-') | LOW('*') | LOW('.'), UPPER | LOWER | HIGH('_')},
                                  {LOW('-') | LOW('.'), LOWER | HIGH('_')}, {DIGITS | LOW('*'), UPPER}, LETTERS_MAX, 1, 8};
static const run_rule stripe_rule = NO_NAME_RULE(8);
static const run_rule groq_rule = NO_NAME_RULE(16);
static const run_rule value_rule = VALUE_RULE(8);
static const run_rule prose_value_rule = VALUE_RULE(16);
static const set no_letters = {DIGITS | SIGNS | LOW('*'), HIGH('_') | HIGH('~')};
static const set letters = {0, UPPER | LOWER};
static const run_rule token_rule = {{DIGITS | LOW('.') | LOW('+') | LOW('/') | LOW('=') | LOW('*') | LOW('-'),
                                     UPPER | LOWER | HIGH('_') | HIGH('~')},
                                    {LOW('.') | LOW('+') | LOW('/') | LOW('-'), UPPER | LOWER | HIGH('_') | HIGH('~')},
                                    {DIGITS | LOW('=') | LOW('*'), 0}, LETTERS_MAX, 2, 8};
static const run_rule padded_rule = {{DIGITS | LOW('+') | LOW('/'), UPPER | LOWER},
                                     {LOW('+') | LOW('/'), LOWER}, {DIGITS, UPPER}, LETTERS_MAX, 1, PADDED_LEAST};
static const run_rule whole_rule = {{DIGITS | LOW('+') | LOW('/'), UPPER | LOWER},
                                    {LOW('+') | LOW('/'), UPPER | LOWER}, {DIGITS, 0}, LETTERS_MAX, 1, 16};
static const run_rule google_rule = ANY_RULE(DIGITS | LOW('-'), UPPER | LOWER | HIGH('_'), 20);
static const run_rule hugging_face_rule = ANY_RULE(DIGITS, UPPER | LOWER, 20);
static const run_rule aws_rule = {{DIGITS, UPPER}, {0, UPPER}, {DIGITS, 0}, 15, 1, 16};
static const run_rule github_rule = ANY_RULE(DIGITS, UPPER | LOWER | HIGH('_'), 16);
static const run_rule base64_rule =
    ANY_RULE(DIGITS | LOW('+') | LOW('/') | LOW('=') | LOW('-'), UPPER | LOWER | HIGH('_'), 64);

/* Whose tokens and keys are secret: the ends of access, refresh, session, security, bearer, secret, auth, subscription. */
static const char *const secret_of[] = {"ccess", "fresh", "ssion", "urity", "earer", "ecret", "uth", "bscription",
                                        "CCESS", "FRESH", "SSION", "URITY", "EARER", "ECRET", "UTH", "BSCRIPTION"};

typedef enum {
    RUN,
    LIKE_A_KEY,
    PRIVATE_KEY,
    JWT,
    BEARER,
    BASIC,
    HEADER,
    USER_AND_PASSWORD,
    API_KEY,
    NAMED_SECRET,
    NAMED_OF_ACCESS,
    CAMEL_SECRET
} sort;

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
#define KEY(text, group) MARKER(text, group, LIKE_A_KEY, false, &word, &key_rule)
#define OWN(text, group, rule) MARKER(text, group, RUN, false, &word, rule)
#define SHOWN(text, group, sort) MARKER(text, group, sort, true, &none, NULL)
#define NAMED_BEHIND(sign, group) \
    SHOWN(sign "token", group, NAMED_OF_ACCESS), SHOWN(sign "Token", group, NAMED_OF_ACCESS), \
        SHOWN(sign "TOKEN", group, NAMED_OF_ACCESS), SHOWN(sign "key", group, NAMED_OF_ACCESS), \
        SHOWN(sign "Key", group, NAMED_OF_ACCESS), SHOWN(sign "KEY", group, NAMED_OF_ACCESS), \
        SHOWN(sign "secret", group, NAMED_SECRET), SHOWN(sign "Secret", group, NAMED_SECRET), \
        SHOWN(sign "SECRET", group, NAMED_SECRET)

static const marker markers[] = {
    MARKER("-----BEGIN ", 0, PRIVATE_KEY, false, &none, NULL),
    KEY("sk-", 1),
    OWN("sk_live_", 1, &stripe_rule),
    OWN("sk_test_", 1, &stripe_rule),
    OWN("rk_live_", 1, &stripe_rule),
    OWN("rk_test_", 1, &stripe_rule),
    OWN("gsk_", 2, &groq_rule),
    KEY("xai-", 3),
    OWN("xapp-", 3, &own_rule),
    OWN("xoxa-", 3, &own_rule),
    OWN("xoxb-", 3, &own_rule),
    OWN("xoxe-", 3, &own_rule),
    OWN("xoxo-", 3, &own_rule),
    OWN("xoxp-", 3, &own_rule),
    OWN("xoxr-", 3, &own_rule),
    OWN("xoxs-", 3, &own_rule),
    KEY("pplx-", 4),
    OWN("nvapi-", 5, &own_rule),
    OWN("glpat-", 6, &own_rule),
    OWN("AIza", 7, &google_rule),
    MARKER("AKIA", 7, RUN, false, &alphanumeric, &aws_rule),
    MARKER("ASIA", 7, RUN, false, &alphanumeric, &aws_rule),
    OWN("ya29.", 8, &google_rule),
    OWN("hf_", 8, &hugging_face_rule),
    MARKER("eyJ", 8, JWT, false, &word, NULL),
    OWN("ghp_", 9, &github_rule),
    OWN("gho_", 9, &github_rule),
    OWN("ghu_", 9, &github_rule),
    OWN("ghs_", 9, &github_rule),
    OWN("ghr_", 9, &github_rule),
    OWN("github_pat_", 10, &github_rule),
    SHOWN("Bearer", 11, BEARER),
    SHOWN("bearer", 11, BEARER),
    SHOWN("BEARER", 11, BEARER),
    SHOWN("Basic", 12, BASIC),
    SHOWN("basic", 12, BASIC),
    SHOWN("BASIC", 12, BASIC),
    SHOWN("api", 13, API_KEY),
    SHOWN("Api", 13, API_KEY),
    SHOWN("API", 13, API_KEY),
    MARKER("?key=", 14, RUN, true, &none, &value_rule),
    MARKER("&key=", 14, RUN, true, &none, &value_rule),
    SHOWN("://", 14, USER_AND_PASSWORD),
    MARKER(";base64,", 14, RUN, true, &none, &base64_rule),
    SHOWN("rization", 15, HEADER),
    SHOWN("RIZATION", 16, HEADER),
    NAMED_BEHIND("_", 17),
    NAMED_BEHIND("-", 18),
    SHOWN("Token", 19, NAMED_OF_ACCESS),
    SHOWN("Key", 19, NAMED_OF_ACCESS),
    SHOWN("Secret", 20, CAMEL_SECRET),
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
