/* JSON pieces: escaped strings and integers. The escape table is generated (csrc/src/json_escape.inc). */
#ifndef FASTTRACE_JSON_H
#define FASTTRACE_JSON_H
#include <stddef.h>
#include <stdint.h>
/* Worst case of ft_json_string: 6 bytes a byte, plus quotes. */
#define FT_JSON_STRING_MAX(length) (6 * (length) + 2)
/* Write `text` quoted and escaped; invalid UTF-8 (and encoded surrogates) becomes U+FFFD, one per maximal invalid
 * subpart as Python's errors="replace" does. `out` has room for FT_JSON_STRING_MAX(length). Returns the end, as all
 * of these do. */
char *ft_json_string(char *out, const char *text, size_t length);
char *ft_json_uint(char *out, uint64_t value); /* at most 20 bytes */
/* value / 10^decimals as a fixed-point number without trailing zeros ("12.5", "0.000015", "3"); decimals 0 to 19. */
char *ft_json_fixed(char *out, uint64_t value, int decimals);
char *ft_json_hex64(char *out, uint64_t value); /* 16 lower-case digits */
#endif
