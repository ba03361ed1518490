/* CRC-32 with the x86 carry-less multiplication: no tables to miss in a cold cache, and the checksum of a hundred bytes
 * is a fifth of the table's time, which would be most of a push. Any thread.
 *
 * A message is a polynomial, its first byte the highest powers; the CRC is the remainder modulo P. Sixteen bytes that
 * stand d blocks before the end may be replaced by their product with x^(128 d) mod P at the end: every block is folded
 * onto the last one of its group on its own, without waiting for the one before (Gopal et al., "Fast CRC Computation
 * for Generic Polynomials Using PCLMULQDQ", Intel 2009). Zeros in front change nothing, so the message is padded there
 * to whole blocks. The 128 bits that are left are reduced to 32 by two more products and Barrett's division. */
#include "crc32.h"

#if FT_CRC32_FOLDS

#include <immintrin.h>

enum { BLOCK_BYTES = 16, GROUP_BLOCKS = 8 };
#define FOLDING __attribute__((target("pclmul,sse4.1")))

/* {x^(128 d + 32), x^(128 d - 32)} mod P, reflected, for d = 1 .. 8. */
static const uint64_t fold_powers[GROUP_BLOCKS + 1][2] = {
    {0, 0},
    {0x1751997d0, 0x0ccaa009e},
    {0x0f1da05aa, 0x15a546366},
    {0x03db1ecdc, 0x174359406},
    {0x154442bd4, 0x1c6e41596},
    {0x1c7569e54, 0x0ae0b5394},
    {0x0df068dc2, 0x18cb44e58},
    {0x1ea89367e, 0x1d7cfc6ac},
    {0x1e88ef372, 0x14a7fe880},
};
#define POWER_96 fold_powers[1][1]
#define POWER_64 UINT64_C(0x163cd6124)
#define POLYNOMIAL UINT64_C(0x1db710641)
#define POLYNOMIAL_INVERSE UINT64_C(0x1f7011641)

/* The initial remainder, all ones, is the complement of the message's first four bytes; at offset r: as seen by a block
 * that starts r bytes into the message. */
static const unsigned char initial[2 * BLOCK_BYTES] = {0xff, 0xff, 0xff, 0xff};
/* Shuffle at offset r: the first r bytes to the block's end, zeros before them. */
static const unsigned char to_end[2 * BLOCK_BYTES] = {
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
    0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,   11,   12,   13,   14,   15,
};

bool ft_crc32_can_fold(void) { return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1"); }

FOLDING static inline __m128i block_load(const unsigned char *data) {
    return _mm_loadu_si128((const __m128i *)(const void *)data);
}

FOLDING static inline __m128i fold(__m128i block, size_t distance) {
    __m128i powers = block_load((const unsigned char *)fold_powers[distance]);
    return _mm_xor_si128(_mm_clmulepi64_si128(block, powers, 0x00), _mm_clmulepi64_si128(block, powers, 0x11));
}

FOLDING static inline uint32_t reduce(__m128i rest) {
    const __m128i low_words = _mm_setr_epi32(-1, 0, -1, 0);
    __m128i powers = _mm_set_epi64x((long long)POWER_64, (long long)POWER_96);
    __m128i division = _mm_set_epi64x((long long)POLYNOMIAL, (long long)POLYNOMIAL_INVERSE);
    rest = _mm_xor_si128(_mm_clmulepi64_si128(rest, powers, 0x00), _mm_srli_si128(rest, 8));
    rest = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(rest, low_words), powers, 0x10), _mm_srli_si128(rest, 4));
    __m128i quotient = _mm_clmulepi64_si128(_mm_and_si128(rest, low_words), division, 0x00);
    __m128i product = _mm_clmulepi64_si128(_mm_and_si128(quotient, low_words), division, 0x10);
    return (uint32_t)_mm_extract_epi32(_mm_xor_si128(rest, product), 1);
}

FOLDING static __m128i groups_fold(__m128i rest, const unsigned char *data, size_t length) {
    while (length) {
        size_t blocks = length / BLOCK_BYTES < GROUP_BLOCKS ? length / BLOCK_BYTES : GROUP_BLOCKS;
        rest = fold(rest, blocks);
        for (size_t i = 1; i < blocks; i++, data += BLOCK_BYTES)
            rest = _mm_xor_si128(rest, fold(block_load(data), blocks - i));
        rest = _mm_xor_si128(rest, block_load(data));
        data += BLOCK_BYTES;
        length -= blocks * BLOCK_BYTES;
    }
    return rest;
}

FOLDING uint32_t ft_crc32_fold(const unsigned char *data, size_t length) {
    size_t odd = length % BLOCK_BYTES;
    __m128i first = _mm_xor_si128(block_load(data), block_load(initial));
    if (!odd)
        return ~reduce(groups_fold(first, data + BLOCK_BYTES, length - BLOCK_BYTES));
    __m128i rest = _mm_shuffle_epi8(first, block_load(to_end + odd));
    __m128i second = _mm_xor_si128(block_load(data + odd), block_load(initial + odd));
    rest = _mm_xor_si128(fold(rest, 1), second);
    return ~reduce(groups_fold(rest, data + odd + BLOCK_BYTES, length - odd - BLOCK_BYTES));
}

#else

typedef int ft_crc32_folds_elsewhere; /* a translation unit is not empty */

#endif
