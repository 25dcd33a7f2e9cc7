# cython: language_level=3, cdivision=True
"""Where the next I/O goes: random numbers, and what turns them into blocks.

Everything here is pure arithmetic on the caller's structs; tests/offsets_twin.py says the
same in plain Python.
"""

from libc.math cimport sqrt
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


# Random map: every block of a range once per pass, in an order that needs no memory ------------
#
# The indices 0 … size-1 are cells of a grid a little larger than `size`.  A Feistel network
# on row and column, adding modulo their numbers, moves each cell to another; what lands
# beyond `size` is left out, which is less than a row.  So a pass is a permutation.

cdef struct random_map:
    uint64_t size
    uint64_t rows
    uint64_t columns          # the root of size, rounded up
    uint64_t row              # of the next index; rows when the pass is over
    uint64_t column
    uint64_t keys[4]          # this pass's


cdef inline uint64_t below(uint64_t value, uint64_t key, uint64_t bound) noexcept nogil:
    """A number in 0 … bound-1 that depends on every bit of value and key."""
    value = (value ^ key) * <uint64_t>0x9E3779B97F4A7C15
    value = (value ^ (value >> 32)) * <uint64_t>0xD6E8FEB86659FD93
    return multiply_high(value, bound)


cdef inline uint64_t add_modulo(uint64_t a, uint64_t b, uint64_t bound) noexcept nogil:
    cdef uint64_t total = a + b
    return total - bound if total >= bound else total


cdef inline uint64_t map_cell(
    const random_map *map, uint64_t row, uint64_t column
) noexcept nogil:
    """Where the cell goes: a bijection of the grid."""
    column = add_modulo(column, below(row, map.keys[0], map.columns), map.columns)
    row = add_modulo(row, below(column, map.keys[1], map.rows), map.rows)
    column = add_modulo(column, below(row, map.keys[2], map.columns), map.columns)
    row = add_modulo(row, below(column, map.keys[3], map.rows), map.rows)
    return row * map.columns + column


cdef inline void map_shuffle(random_map *map, uint64_t *random_state) noexcept nogil:
    """Begin a pass in an order of its own."""
    cdef int i
    for i in range(4):
        map.keys[i] = next_random(random_state)
    map.row = 0
    map.column = 0


cdef inline void map_init(random_map *map, uint64_t size) noexcept nogil:
    """`size` is 1 … 2**62; the first pass begins with the first `map_next`."""
    map.size = size
    map.columns = <uint64_t>sqrt(<double>size)
    while map.columns * map.columns < size:
        map.columns += 1
    map.rows = (size + map.columns - 1) // map.columns
    map.row = map.rows


cdef inline uint64_t map_next(random_map *map, uint64_t *random_state) noexcept nogil:
    """The pass's next block, or the first of the next pass."""
    cdef uint64_t block
    while True:
        if map.row == map.rows:
            map_shuffle(map, random_state)
        block = map_cell(map, map.row, map.column)
        map.column += 1
        if map.column == map.columns:
            map.column = 0
            map.row += 1
        if block < map.size:
            return block
