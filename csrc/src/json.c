/* JSON pieces. Almost every string of a span needs no escape, so a string is looked at eight bytes at a time: a word
 * without a byte that must be escaped or checked is copied as it is, any other word goes byte by byte through the
 * generated tables. The test of a word needs no vector instructions and no byte order. Pure functions, any thread. */
#include "fasttrace/json.h"

#include <stdbool.h>
#include <string.h>

/* As long as the longest escape: copying all of it costs no branch, and FT_JSON_STRING_MAX leaves room for it. */
enum { FT_ESCAPE_BYTES = 6 };
typedef struct {
    char text[FT_ESCAPE_BYTES];
    uint8_t length;
} ft_escape;
typedef struct {
    uint8_t more, low, high;
} ft_lead;

#include "json_escape.inc"

#define EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* True when no byte is below 0x20, a quote, a backslash, 0x7f or above. With all bytes below 0x80 each subtraction
 * sets a high bit only for the byte it looks for; a byte from 0x80 is caught by itself. */
static inline bool is_plain(uint64_t word) {
    uint64_t control = word - EACH_BYTE(0x20);
    uint64_t quote = (word ^ EACH_BYTE('"')) - EACH_BYTE(1);
    uint64_t backslash = (word ^ EACH_BYTE('\\')) - EACH_BYTE(1);
    uint64_t from_delete = word | (word + EACH_BYTE(1));
    return ((control | quote | backslash | from_delete) & EACH_BYTE(0x80)) == 0;
}

/* One UTF-8 sequence, or U+FFFD for the longest piece of one that is there. Returns the bytes read. */
static size_t put_sequence(char **out, const unsigned char *in, size_t left) {
    ft_lead lead = lead_table[in[0] - 0x80];
    unsigned low = lead.low, high = lead.high;
    size_t read = 1;
    for (; read <= lead.more && read < left && in[read] >= low && in[read] <= high; read++)
        low = 0x80, high = 0xbf;
    bool is_whole = lead.more != 0 && read == lead.more + 1u;
    const void *source = is_whole ? (const void *)in : "\xef\xbf\xbd";
    size_t written = is_whole ? read : 3;
    memcpy(*out, source, written);
    *out += written;
    return read;
}

/* Byte by byte from `in` to at least `stop`; a sequence may reach beyond it, up to `end`. Returns where it ended. */
static const unsigned char *put_bytes(char **out, const unsigned char *in, const unsigned char *stop,
                                      const unsigned char *end) {
    while (in < stop) {
        const ft_escape *escape = &escape_table[*in];
        if (escape->length == 0) {
            in += put_sequence(out, in, (size_t)(end - in));
            continue;
        }
        memcpy(*out, escape->text, FT_ESCAPE_BYTES);
        *out += escape->length;
        in++;
    }
    return in;
}

/* Four to seven bytes as two overlapping halves. */
static bool put_plain_tail(char *out, const unsigned char *in, size_t length) {
    uint32_t first, last;
    memcpy(&first, in, 4);
    memcpy(&last, in + length - 4, 4);
    if (!is_plain((uint64_t)first << 32 | last))
        return false;
    memcpy(out, &first, 4);
    memcpy(out + length - 4, &last, 4);
    return true;
}

char *ft_json_string(char *out, const char *text, size_t length) {
    const unsigned char *in = (const unsigned char *)text, *end = in + length;
    *out++ = '"';
    while (end - in >= 8) {
        uint64_t word;
        memcpy(&word, in, 8);
        if (!is_plain(word)) {
            in = put_bytes(&out, in, in + 8, end);
            continue;
        }
        memcpy(out, &word, 8);
        in += 8, out += 8;
    }
    size_t left = (size_t)(end - in);
    if (left >= 4 && put_plain_tail(out, in, left))
        out += left;
    else
        put_bytes(&out, in, end, end);
    *out++ = '"';
    return out;
}

static const char two_digits[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                 "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                 "8081828384858687888990919293949596979899";

/* Exactly `digits` digits, zeros in front. */
static void put_digits(char *out, uint64_t value, int digits) {
    for (; digits >= 2; digits -= 2, value /= 100)
        memcpy(out + digits - 2, two_digits + value % 100 * 2, 2);
    if (digits == 1)
        *out = (char)('0' + value % 10);
}

static int digits_of(uint64_t value) {
    int digits = 1;
    for (; value >= 10000; value /= 10000)
        digits += 4;
    return digits + (value >= 10) + (value >= 100) + (value >= 1000);
}

char *ft_json_uint(char *out, uint64_t value) {
    int digits = digits_of(value);
    put_digits(out, value, digits);
    return out + digits;
}

static inline char *put_fixed(char *out, uint64_t value, uint64_t unit, int decimals) {
    uint64_t fraction = value % unit;
    out = ft_json_uint(out, value / unit);
    if (fraction == 0)
        return out;
    *out++ = '.';
    put_digits(out, fraction, decimals);
    for (out += decimals; out[-1] == '0';)
        out--;
    return out;
}

/* The two that the schema uses, milliseconds and dollars, divide by a constant. */
char *ft_json_fixed(char *out, uint64_t value, int decimals) {
    if (decimals == 6)
        return put_fixed(out, value, 1000000, 6);
    if (decimals == 12)
        return put_fixed(out, value, UINT64_C(1000000000000), 12);
    uint64_t unit = 1;
    for (int i = 0; i < decimals; i++)
        unit *= 10;
    return put_fixed(out, value, unit, decimals);
}

/* Eight nibbles to eight digits at once: spread one to a byte, then add '0', and the way from '9' to 'a' where a
 * nibble is above nine. */
static uint64_t hex_digits(uint64_t half) {
    half = (half | half << 16) & UINT64_C(0x0000ffff0000ffff);
    half = (half | half << 8) & UINT64_C(0x00ff00ff00ff00ff);
    half = (half | half << 4) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    uint64_t letters = (half + EACH_BYTE(6)) >> 4 & EACH_BYTE(1);
    return half + EACH_BYTE('0') + letters * ('a' - '0' - 10);
}

static void put_big_endian(char *out, uint64_t word) {
    for (int i = 0; i < 8; i++)
        out[i] = (char)(word >> (56 - 8 * i) & 0xff);
}

char *ft_json_hex64(char *out, uint64_t value) {
    put_big_endian(out, hex_digits(value >> 32));
    put_big_endian(out + 8, hex_digits(value & UINT32_MAX));
    return out + 16;
}
