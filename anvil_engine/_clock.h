/*
 * Time stamps for the loop: the TSC where the kernel trusts it, CLOCK_MONOTONIC elsewhere.
 *
 * A stamp is in ticks; a difference becomes nanoseconds by one multiplication and a shift,
 * before anything is counted.  With CLOCK_MONOTONIC a tick is a nanosecond.
 */
#ifndef ANVIL_CLOCK_H
#define ANVIL_CLOCK_H

#include <stdint.h>
#include <sys/prctl.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#define CLOCK_HAS_TSC 1
#else
#define CLOCK_HAS_TSC 0
#endif

struct tick_clock {
	int is_tsc;
	uint64_t ns_per_tick; /* 32.32 fixed point */
	uint64_t ticks_per_second;
};

/* One reading of both clocks, as close together as 50 tries get them. */
struct clock_pair {
	uint64_t ticks;
	int64_t ns;
	uint64_t width; /* ticks that reading took: the uncertainty */
};

static inline int64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail: the clock exists and `now` is ours */
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static inline uint64_t clock_ticks(const struct tick_clock *clock)
{
#if CLOCK_HAS_TSC
	if (clock->is_tsc)
		return __rdtsc();
#endif
	return (uint64_t)clock_ns();
}

static inline uint64_t clock_to_ns(const struct tick_clock *clock, uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * clock->ns_per_tick) >> 32);
}

static inline uint64_t clock_from_ns(const struct tick_clock *clock, uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * clock->ticks_per_second / 1000000000u);
}

/* Sleep for `ns`, or less after a signal. */
static inline void clock_sleep(int64_t ns)
{
	struct timespec span = { ns / 1000000000, ns % 1000000000 };

	clock_nanosleep(CLOCK_MONOTONIC, 0, &span, NULL);
}

/* Let this thread's sleeps end when they should: the kernel adds 50 us of slack by default. */
static inline void clock_sharpen_sleep(void)
{
	prctl(PR_SET_TIMERSLACK, 1); /* cannot fail: a thread may always set its own */
}

static inline struct clock_pair clock_read_pair(void)
{
	struct clock_pair best = { 0, clock_ns(), UINT64_MAX };
#if CLOCK_HAS_TSC
	for (int i = 0; i < 50; i++) {
		unsigned cpu;
		uint64_t before = __rdtscp(&cpu);
		int64_t ns = clock_ns();
		uint64_t after = __rdtscp(&cpu);

		if (after - before < best.width)
			best = (struct clock_pair){ before + (after - before) / 2, ns, after - before };
	}
#endif
	return best;
}

#endif
