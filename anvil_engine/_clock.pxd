"""Time stamps in ticks, and what a tick is."""

from libc.stdint cimport int64_t, uint64_t


cdef extern from "_clock.h" nogil:
    enum:
        CLOCK_HAS_TSC

    struct tick_clock:
        int is_tsc
        uint64_t ns_per_tick
        uint64_t ticks_per_second

    struct clock_pair:
        uint64_t ticks
        int64_t ns
        uint64_t width

    int64_t clock_ns()
    uint64_t clock_ticks(const tick_clock *clock)
    uint64_t clock_to_ns(const tick_clock *clock, uint64_t ticks)
    uint64_t clock_from_ns(const tick_clock *clock, uint64_t ns)
    clock_pair clock_read_pair()
    void clock_sleep(int64_t ns)
    void clock_sharpen_sleep()
