/* A small strict JSON reader for tests: does a text hold exactly one value, in valid UTF-8? It shares nothing with the
 * writer and the validator, and knows no white space but the space. */
#ifndef FASTTRACE_TESTS_JSON_CHECK_H
#define FASTTRACE_TESTS_JSON_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { JSON_CHECK_DEPTH = 160 };
typedef struct {
    const unsigned char *at, *end;
} json_cursor;

static inline bool json_take(json_cursor *cursor, unsigned char byte) {
    if (cursor->at == cursor->end || *cursor->at != byte)
        return false;
    cursor->at++;
    return true;
}

static inline void json_spaces(json_cursor *cursor) {
    while (json_take(cursor, ' '))
        ;
}

static inline bool json_take_digits(json_cursor *cursor) {
    const unsigned char *first = cursor->at;
    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9')
        cursor->at++;
    return cursor->at > first;
}

/* The writer makes no exponents; user floats in attributes may have them. */
static inline bool json_number(json_cursor *cursor) {
    json_take(cursor, '-');
    bool has_leading_zero = cursor->at < cursor->end && *cursor->at == '0';
    const unsigned char *first = cursor->at;
    if (!json_take_digits(cursor) || (has_leading_zero && cursor->at - first > 1))
        return false;
    if (json_take(cursor, '.') && !json_take_digits(cursor))
        return false;
    if (!json_take(cursor, 'e') && !json_take(cursor, 'E'))
        return true;
    if (!json_take(cursor, '-'))
        json_take(cursor, '+');
    return json_take_digits(cursor);
}

/* One code point by its value: not overlong, no surrogate, not above U+10FFFF. */
static inline bool json_code_point(json_cursor *cursor) {
    unsigned char lead = *cursor->at++;
    int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    uint32_t value = lead & (0x3fu >> more), least[] = {0, 0x80, 0x800, 0x10000};
    if (lead < 0xc0 || lead >= 0xf8)
        return false;
    for (int i = 0; i < more; i++, cursor->at++) {
        if (cursor->at == cursor->end || (*cursor->at & 0xc0) != 0x80)
            return false;
        value = value << 6 | (*cursor->at & 0x3fu);
    }
    return value >= least[more] && value <= 0x10ffff && (value < 0xd800 || value > 0xdfff);
}

static inline bool json_escape(json_cursor *cursor) {
    if (cursor->at == cursor->end)
        return false;
    if (!json_take(cursor, 'u'))
        return memchr("\"\\/bfnrt", *cursor->at++, 8) != NULL;
    for (int i = 0; i < 4; i++)
        if (cursor->at == cursor->end || memchr("0123456789abcdefABCDEF", *cursor->at++, 22) == NULL)
            return false;
    return true;
}

static inline bool json_text(json_cursor *cursor) {
    if (!json_take(cursor, '"'))
        return false;
    while (cursor->at < cursor->end && *cursor->at != '"') {
        if (*cursor->at < 0x20)
            return false;
        bool is_valid = json_take(cursor, '\\') ? json_escape(cursor)
                        : *cursor->at < 0x80    ? json_take(cursor, *cursor->at)
                                                : json_code_point(cursor);
        if (!is_valid)
            return false;
    }
    return json_take(cursor, '"');
}

static inline bool json_word(json_cursor *cursor, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, word, length) != 0)
        return false;
    cursor->at += length;
    return true;
}

static inline bool json_value(json_cursor *cursor, int depth);

static inline bool json_members(json_cursor *cursor, unsigned char close, bool has_names, int depth) {
    json_spaces(cursor);
    if (json_take(cursor, close))
        return true;
    do {
        json_spaces(cursor);
        if (has_names && !json_text(cursor))
            return false;
        json_spaces(cursor);
        if ((has_names && !json_take(cursor, ':')) || !json_value(cursor, depth))
            return false;
    } while (json_take(cursor, ','));
    return json_take(cursor, close);
}

static inline bool json_bare_value(json_cursor *cursor, int depth) {
    if (cursor->at == cursor->end || depth == 0)
        return false;
    switch (*cursor->at) {
    case '{':
        cursor->at++;
        return json_members(cursor, '}', true, depth - 1);
    case '[':
        cursor->at++;
        return json_members(cursor, ']', false, depth - 1);
    case '"':
        return json_text(cursor);
    case 't':
        return json_word(cursor, "true");
    case 'f':
        return json_word(cursor, "false");
    case 'n':
        return json_word(cursor, "null");
    default:
        return json_number(cursor);
    }
}

static inline bool json_value(json_cursor *cursor, int depth) {
    json_spaces(cursor);
    if (!json_bare_value(cursor, depth))
        return false;
    json_spaces(cursor);
    return true;
}

static inline bool json_is_one_value(const char *text, size_t length) {
    json_cursor cursor = {(const unsigned char *)text, (const unsigned char *)text + length};
    return json_value(&cursor, JSON_CHECK_DEPTH) && cursor.at == cursor.end;
}

/* Whole lines, each of them one object. */
static inline bool json_is_ndjson(const char *text, size_t length) {
    while (length > 0) {
        const char *newline = memchr(text, '\n', length);
        if (newline == NULL || *text != '{' || !json_is_one_value(text, (size_t)(newline - text)))
            return false;
        length -= (size_t)(newline + 1 - text);
        text = newline + 1;
    }
    return true;
}

#endif
