/* The two ways to a CRC-32: `crc32_fold` where the processor multiplies without carries, tables everywhere. */
#ifndef FASTTRACE_CRC32_H
#define FASTTRACE_CRC32_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define FT_CRC32_FOLDS 1
enum { FT_CRC32_FOLD_MIN = 16 }; /* bytes ft_crc32_fold takes at least */
bool ft_crc32_can_fold(void);
uint32_t ft_crc32_fold(const unsigned char *data, size_t length);
#else
#define FT_CRC32_FOLDS 0
#endif

uint32_t ft_crc32_tables(const unsigned char *data, size_t length);

#endif
