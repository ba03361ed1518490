/* Trace and span ids: a generator per thread, seeded from the operating system, reseeded in a fork child.
 *
 * A batch of spans is sent compressed, and random digits are what cannot be: so no more of them than uniqueness takes.
 * A trace id is 64 bits of its process and 64 bits of its own. The span ids of a thread count up from a random 64-bit
 * start: two threads meet only if their starts are closer than their counts, which is rarer than two of as many wholly
 * random ids being the same. */
#ifndef FASTTRACE_IDS_H
#define FASTTRACE_IDS_H
#include <stdbool.h>
#include <stdint.h>

/* Never zero (W3C: an all-zero id is invalid). */
uint64_t ft_ids_next(void);          /* random: the low half of a trace id */
uint64_t ft_ids_next_span(void);     /* one more than this thread's last */
uint64_t ft_ids_trace_high(void);    /* random once a process */

/* Fork detection. ft_fork_arm() gives this process a number, once; ft_fork_process() is that number, and 0 in every
 * child, whatever forked it (fork, raw clone from C), until it arms itself: then it is one that none of those it was
 * forked from had. One load. */
bool ft_fork_arm(void);
uint64_t ft_fork_process(void);
static inline bool ft_fork_happened(void) { return !ft_fork_process(); }

#endif
