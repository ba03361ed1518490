/* Trace and span ids: a generator per thread, seeded from the operating system, reseeded in a fork child. */
#ifndef FASTTRACE_IDS_H
#define FASTTRACE_IDS_H
#include <stdbool.h>
#include <stdint.h>

/* Never zero (W3C: an all-zero id is invalid). */
uint64_t ft_ids_next(void);

/* Fork detection. ft_fork_arm() marks this process; ft_fork_happened() is true in every child, whatever forked it
 * (fork, raw clone from C), until it arms itself. One load. */
bool ft_fork_arm(void);
bool ft_fork_happened(void);

#endif
