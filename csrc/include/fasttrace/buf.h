/* A growable byte buffer, the target of the writers. */
#ifndef FASTTRACE_BUF_H
#define FASTTRACE_BUF_H
#include <stdbool.h>
#include <stddef.h>
typedef struct { char *data; size_t length, capacity; } ft_buf;
bool ft_buf_reserve(ft_buf *buf, size_t more); /* room for `more` bytes past length; false when out of memory */
void ft_buf_free(ft_buf *buf);
#endif
