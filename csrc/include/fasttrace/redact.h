/* Secrets in a text, found by their own shape: API keys, bearer tokens, JWTs, private keys, passwords in URLs.
 *
 * The table of what is one is core/_text.py's, as a regular expression; this is the same, written as a scanner, because
 * every text that goes into the ring is read by it first. A differential test holds the two together.
 *
 * Each sort begins with a marker of at least three characters. Each character has a word of 3 x 21 bits: which groups of
 * markers it may open, be the second, be the third character of. A position is a candidate where three words in a row,
 * shifted over each other, have a bit in common; of prose that is one position in some hundreds, and nothing but these
 * three look-ups is done for the others. At a candidate its group's markers are compared, what may not stand before
 * them is looked at, and what must follow is read, once.
 *
 * What stands before most markers must be no letter of a word; the end of an escape (of JSON, of URLs, of a terminal's
 * colour) is none. Where words begin like a key, what follows must have a piece that is no word.
 *
 * With each secret replaced by something without markers, blanks or word characters at its ends, like "[redacted]", a
 * second pass over a text finds none, if each stood between blanks or the text's ends. Elsewhere it may: the word before
 * a marker may have been the end of another secret.
 *
 * Linear: what follows a marker is of a bounded length, or stops where no other candidate was passed. Texts may be of
 * one, two or four bytes a character, so that Python's own are read in place; UTF-8 is the same as one byte each,
 * because all that is looked for is ASCII. */
#ifndef FASTTRACE_REDACT_H
#define FASTTRACE_REDACT_H

#include <stdbool.h>
#include <stddef.h>

/* Positions in characters: `start` of its marker, `secret` of what must not be shown, `end` behind it. */
typedef struct {
    size_t start, secret, end;
} ft_secret;

/* Characters of the shortest secret, "://:a@" in all. */
enum { FT_SECRET_SHORTEST = 6 };

/* Once, before the first scan. */
void ft_redact_init(void);

/* The first secret at or behind `from`; `width` is the bytes of a character: 1, 2, 4. Any thread. */
bool ft_redact_next(const void *text, int width, size_t length, size_t from, ft_secret *found);

/* Whether a text of one byte a character, or UTF-8, has no secret. */
static inline bool ft_redact_is_clean(const char *text, size_t length) {
    ft_secret found;
    return length < FT_SECRET_SHORTEST || !ft_redact_next(text, 1, length, 0, &found);
}

#endif
