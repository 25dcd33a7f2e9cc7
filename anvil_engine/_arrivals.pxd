# cython: language_level=3, cdivision=True
"""When an open loop means to start its I/Os: in ticks since it began.

Linear: I/O i (from 0) at floor(i * ticks_per_second / rate); nothing adds up over a run.
Poisson: gaps of -ln(u) / rate, u uniform in (0, 1], the first one before the first I/O.
Gaps are whole 256ths of a tick, so that every platform adds up to the same starts.
"""

from libc.math cimport log
from libc.stdint cimport uint64_t

cdef enum:
    PART_BITS = 8


cdef struct arrival_clock:
    bint is_poisson
    uint64_t rate             # per second
    uint64_t ticks_per_second
    uint64_t due              # the next start
    uint64_t step             # linear: the gap, whole and rest
    uint64_t step_rest
    uint64_t rest             # what the starts so far were rounded down by, in 1/rate ticks
    uint64_t parts            # Poisson: the next start and the mean gap, in 256ths of a tick
    double mean_parts


cdef inline void arrivals_next(arrival_clock *arrivals, uint64_t random) noexcept nogil:
    """Move `due` on.  `random` is uniform over uint64; a linear clock ignores it."""
    cdef double uniform
    if arrivals.is_poisson:
        uniform = <double>((random >> 11) + 1) * (1.0 / 9007199254740992.0)
        arrivals.parts += <uint64_t>(-log(uniform) * arrivals.mean_parts)
        arrivals.due = arrivals.parts >> PART_BITS
    else:
        arrivals.due += arrivals.step
        arrivals.rest += arrivals.step_rest
        if arrivals.rest >= arrivals.rate:
            arrivals.rest -= arrivals.rate
            arrivals.due += 1


cdef inline void arrivals_begin(
    arrival_clock *arrivals, bint is_poisson, uint64_t rate, uint64_t ticks_per_second,
    uint64_t random,
) noexcept nogil:
    arrivals.is_poisson = is_poisson
    arrivals.rate, arrivals.ticks_per_second = rate, ticks_per_second
    arrivals.step = ticks_per_second // rate
    arrivals.step_rest = ticks_per_second % rate
    arrivals.mean_parts = <double>ticks_per_second * (1 << PART_BITS) / <double>rate
    arrivals.due = arrivals.rest = arrivals.parts = 0
    if is_poisson:
        arrivals_next(arrivals, random)


cdef inline uint64_t arrivals_missed(const arrival_clock *arrivals, uint64_t until) noexcept nogil:
    """How many starts from `due` to before `until`: to within one, for Poisson the mean."""
    if arrivals.due >= until:
        return 0
    return 1 + <uint64_t>(
        <double>(until - 1 - arrivals.due) * <double>arrivals.rate
        / <double>arrivals.ticks_per_second
    )
