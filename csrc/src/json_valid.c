/* See json_valid.h. What is open is kept as one bit a level: an object or an array. */
#include "json_valid.h"

#include <stdint.h>
#include <string.h>

typedef struct {
    const unsigned char *at, *end;
    uint64_t is_object[FT_JSON_DEPTH_MAX / 64];
    unsigned depth;
} json_scan;

typedef enum { WANTS_VALUE, HAS_VALUE, BROKEN } json_step;

static bool take(json_scan *scan, unsigned char byte) {
    if (scan->at == scan->end || *scan->at != byte)
        return false;
    scan->at++;
    return true;
}

static void spaces_skip(json_scan *scan) {
    while (take(scan, ' '))
        ;
}

/* ---- scalars ---- */

static bool is_digit(unsigned char byte) { return byte >= '0' && byte <= '9'; }

static bool digits_take(json_scan *scan) {
    const unsigned char *first = scan->at;
    while (scan->at < scan->end && is_digit(*scan->at))
        scan->at++;
    return scan->at > first;
}

static bool exponent_take(json_scan *scan) {
    if (!take(scan, 'e') && !take(scan, 'E'))
        return true;
    if (!take(scan, '-'))
        take(scan, '+');
    return digits_take(scan);
}

static bool number_take(json_scan *scan) {
    take(scan, '-');
    if (!take(scan, '0') && !digits_take(scan))
        return false;
    if (take(scan, '.') && !digits_take(scan))
        return false;
    return exponent_take(scan);
}

static bool word_take(json_scan *scan, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(scan->end - scan->at) < length || memcmp(scan->at, word, length) != 0)
        return false;
    scan->at += length;
    return true;
}

/* ---- texts ---- */

static int hex_value(unsigned char byte) {
    if (is_digit(byte))
        return byte - '0';
    unsigned char lower = byte | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The four digits behind \u; -1 where they are not that. */
static int32_t unit_take(json_scan *scan) {
    int32_t unit = 0;
    if (scan->end - scan->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(*scan->at++);
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

static bool unicode_escape_take(json_scan *scan) {
    int32_t unit = unit_take(scan);
    if (unit < 0xd800 || unit > 0xdfff)
        return unit >= 0;
    if (unit > 0xdbff || !word_take(scan, "\\u"))
        return false;
    int32_t low = unit_take(scan);
    return low >= 0xdc00 && low <= 0xdfff;
}

static bool escape_take(json_scan *scan) {
    if (scan->at == scan->end)
        return false;
    unsigned char kind = *scan->at++;
    return kind == 'u' ? unicode_escape_take(scan) : memchr("\"\\/bfnrt", kind, 8) != NULL;
}

/* Not overlong, no surrogate, not above U+10FFFF. */
static bool sequence_take(json_scan *scan) {
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    unsigned char lead = *scan->at++;
    if (lead < 0xc2 || lead > 0xf4)
        return false;
    int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    uint32_t point = lead & (0x3fu >> more);
    for (int i = 0; i < more; i++, scan->at++) {
        if (scan->at == scan->end || (*scan->at & 0xc0) != 0x80)
            return false;
        point = point << 6 | (*scan->at & 0x3fu);
    }
    return point >= least[more] && point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
}

static bool text_take(json_scan *scan) {
    if (!take(scan, '"'))
        return false;
    while (scan->at < scan->end && *scan->at != '"') {
        if (*scan->at < 0x20)
            return false;
        if (*scan->at >= 0x80) {
            if (!sequence_take(scan))
                return false;
        } else if (*scan->at++ == '\\' && !escape_take(scan))
            return false;
    }
    return take(scan, '"');
}

/* ---- containers ---- */

static bool is_in_object(const json_scan *scan) {
    unsigned level = scan->depth - 1;
    return scan->is_object[level / 64] >> level % 64 & 1;
}

static void push(json_scan *scan, bool is_object) {
    uint64_t bit = UINT64_C(1) << scan->depth % 64, *bits = &scan->is_object[scan->depth / 64];
    *bits = is_object ? *bits | bit : *bits & ~bit;
    scan->depth++;
}

static bool close_take(json_scan *scan) {
    if (!take(scan, is_in_object(scan) ? '}' : ']'))
        return false;
    scan->depth--;
    return true;
}

/* In an object a value has a name before it. */
static json_step element_begin(json_scan *scan) {
    if (!is_in_object(scan))
        return WANTS_VALUE;
    spaces_skip(scan);
    if (!text_take(scan))
        return BROKEN;
    spaces_skip(scan);
    return take(scan, ':') ? WANTS_VALUE : BROKEN;
}

static json_step container_begin(json_scan *scan, bool is_object) {
    if (scan->depth == FT_JSON_DEPTH_MAX)
        return BROKEN;
    scan->at++;
    push(scan, is_object);
    spaces_skip(scan);
    return close_take(scan) ? HAS_VALUE : element_begin(scan);
}

static bool scalar_take(json_scan *scan) {
    switch (*scan->at) {
    case '"':
        return text_take(scan);
    case 't':
        return word_take(scan, "true");
    case 'f':
        return word_take(scan, "false");
    case 'n':
        return word_take(scan, "null");
    default:
        return number_take(scan);
    }
}

static json_step value_begin(json_scan *scan) {
    if (scan->at == scan->end)
        return BROKEN;
    if (*scan->at == '{' || *scan->at == '[')
        return container_begin(scan, *scan->at == '{');
    return scalar_take(scan) ? HAS_VALUE : BROKEN;
}

static json_step value_end(json_scan *scan) {
    if (take(scan, ','))
        return element_begin(scan);
    return close_take(scan) ? HAS_VALUE : BROKEN;
}

bool ft_json_valid(const char *text, size_t length, char opening) {
    json_scan scan = {.at = (const unsigned char *)text, .end = (const unsigned char *)text + length};
    json_step step = WANTS_VALUE;
    spaces_skip(&scan);
    if (opening != 0 && (scan.at == scan.end || *scan.at != (unsigned char)opening))
        return false;
    while (step == WANTS_VALUE || (step == HAS_VALUE && scan.depth > 0)) {
        spaces_skip(&scan);
        step = step == WANTS_VALUE ? value_begin(&scan) : value_end(&scan);
    }
    spaces_skip(&scan);
    return step == HAS_VALUE && scan.at == scan.end;
}
