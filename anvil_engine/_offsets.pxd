"""Where the next I/O goes: random numbers, and what turns them into blocks.

Everything here is pure arithmetic on the caller's structs; tests/offsets_twin.py says the
same in plain Python.
"""

from libc.stdint cimport uint64_t

from anvil_engine._uring cimport multiply_high


# Random numbers: xoshiro256++ by Blackman and Vigna, seeded by splitmix64 ---------------------

cdef inline uint64_t rotate(uint64_t value, unsigned by) noexcept nogil:
    return (value << by) | (value >> (64 - by))


cdef inline uint64_t next_random(uint64_t *state) noexcept nogil:
    cdef uint64_t result = rotate(state[0] + state[3], 23) + state[0]
    cdef uint64_t shifted = state[1] << 17
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = rotate(state[3], 45)
    return result


cdef inline void seed_random(uint64_t *state, uint64_t seed) noexcept nogil:
    cdef int i
    cdef uint64_t mixed
    for i in range(4):
        seed += <uint64_t>0x9E3779B97F4A7C15
        mixed = (seed ^ (seed >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
        mixed = (mixed ^ (mixed >> 27)) * <uint64_t>0x94D049BB133111EB
        state[i] = mixed ^ (mixed >> 31)
