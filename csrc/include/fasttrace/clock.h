/* The two clocks of a span: durations are monotonic, the start is read once from the wall clock. */
#ifndef FASTTRACE_CLOCK_H
#define FASTTRACE_CLOCK_H
#include <stdint.h>
int64_t ft_clock_monotonic_ns(void);
int64_t ft_clock_unix_ns(void); /* to the microsecond */
#endif
