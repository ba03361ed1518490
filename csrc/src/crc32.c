/* zlib's CRC-32 (reflected polynomial 0xEDB88320), eight bytes a step. Any thread; the tables are constants:
 * there is nothing to set up.
 *
 * Table k maps a byte to its remainder after k more zero bytes. A remainder is linear in its byte, so each table
 * follows from eight numbers, the remainders of the single bits, which the compiler combines. */
#include "crc32.h"
#include "fasttrace/content.h"

#define E(i, a, b, c, d, e, f, g, h)                                                                                   \
    ((i & 1 ? a : 0) ^ (i & 2 ? b : 0) ^ (i & 4 ? c : 0) ^ (i & 8 ? d : 0) ^ (i & 16 ? e : 0) ^ (i & 32 ? f : 0) ^     \
     (i & 64 ? g : 0) ^ (i & 128 ? h : 0))
#define E4(i, ...) E((i), __VA_ARGS__), E((i + 1), __VA_ARGS__), E((i + 2), __VA_ARGS__), E((i + 3), __VA_ARGS__)
#define E16(i, ...)                                                                                                    \
    E4((i), __VA_ARGS__), E4((i + 4), __VA_ARGS__), E4((i + 8), __VA_ARGS__), E4((i + 12), __VA_ARGS__)
#define E64(i, ...)                                                                                                    \
    E16((i), __VA_ARGS__), E16((i + 16), __VA_ARGS__), E16((i + 32), __VA_ARGS__), E16((i + 48), __VA_ARGS__)
#define TABLE(...)                                                                                                     \
    { E64(0, __VA_ARGS__), E64(64, __VA_ARGS__), E64(128, __VA_ARGS__), E64(192, __VA_ARGS__) }

static const uint32_t remainders[8][256] = {
    TABLE(0x77073096, 0xee0e612c, 0x076dc419, 0x0edb8832, 0x1db71064, 0x3b6e20c8, 0x76dc4190, 0xedb88320),
    TABLE(0x191b3141, 0x32366282, 0x646cc504, 0xc8d98a08, 0x4ac21251, 0x958424a2, 0xf0794f05, 0x3b83984b),
    TABLE(0x01c26a37, 0x0384d46e, 0x0709a8dc, 0x0e1351b8, 0x1c26a370, 0x384d46e0, 0x709a8dc0, 0xe1351b80),
    TABLE(0xb8bc6765, 0xaa09c88b, 0x8f629757, 0xc5b428ef, 0x5019579f, 0xa032af3e, 0x9b14583d, 0xed59b63b),
    TABLE(0x3d6029b0, 0x7ac05360, 0xf580a6c0, 0x30704bc1, 0x60e09782, 0xc1c12f04, 0x58f35849, 0xb1e6b092),
    TABLE(0xcb5cd3a5, 0x4dc8a10b, 0x9b914216, 0xec53826d, 0x03d6029b, 0x07ac0536, 0x0f580a6c, 0x1eb014d8),
    TABLE(0xa6770bb4, 0x979f1129, 0xf44f2413, 0x33ef4e67, 0x67de9cce, 0xcfbd399c, 0x440b7579, 0x8816eaf2),
    TABLE(0xccaa009e, 0x4225077d, 0x844a0efa, 0xd3e51bb5, 0x7cbb312b, 0xf9766256, 0x299dc2ed, 0x533b85da),
};

/* Byte by byte into a little-endian word: compilers make it one load, and it is right on any machine. */
static uint32_t load_le32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint32_t ft_crc32_tables(const unsigned char *p, size_t length) {
    uint32_t crc = UINT32_MAX;
    for (; length >= 8; p += 8, length -= 8) {
        uint32_t low = load_le32(p) ^ crc, high = load_le32(p + 4);
        crc = remainders[7][low & 255] ^ remainders[6][low >> 8 & 255] ^ remainders[5][low >> 16 & 255] ^
              remainders[4][low >> 24] ^ remainders[3][high & 255] ^ remainders[2][high >> 8 & 255] ^
              remainders[1][high >> 16 & 255] ^ remainders[0][high >> 24];
    }
    for (; length; p++, length--)
        crc = remainders[0][(crc ^ *p) & 255] ^ crc >> 8;
    return ~crc;
}

uint32_t ft_crc32(const void *data, size_t length) {
#if FT_CRC32_FOLDS
    if (length >= FT_CRC32_FOLD_MIN && ft_crc32_can_fold())
        return ft_crc32_fold(data, length);
#endif
    return ft_crc32_tables(data, length);
}
