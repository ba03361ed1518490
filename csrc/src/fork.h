/* Words that read zero in every fork child until the child writes them: how a process notices that it is a copy. */
#ifndef FASTTRACE_FORK_H
#define FASTTRACE_FORK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum { FT_FORK_WORD_PROCESS, FT_FORK_WORD_IDS, FT_FORK_WORD_TRACE_HIGH, FT_FORK_WORDS } ft_fork_word;

/* Set up detection, once per process; false when the system offers none. Any thread. */
bool ft_fork_watch(void);
_Atomic uint64_t *ft_fork_word_of(ft_fork_word which);

#endif
