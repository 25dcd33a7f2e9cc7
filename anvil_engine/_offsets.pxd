# cython: language_level=3, cdivision=True
"""Where the next I/O goes: random numbers, and what turns them into blocks.

Everything here is pure arithmetic on the caller's structs; tests/offsets_twin.py says the
same in plain Python.
"""

from libc.math cimport cos, exp, expm1, fabs, floor, fmax, fmin, log, log1p, pow, sqrt
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


# Distributions: blocks of a range, some more often than others ---------------------------------

cdef struct distribution:
    uint64_t (*next)(distribution *, uint64_t *random_state) noexcept nogil
    uint64_t blocks
    uint64_t first            # rank 0's block, when ranks are not scattered
    random_map scattered      # one pass of it is where ranks go
    double shape              # theta, power, or standard deviation in blocks
    double centre             # in blocks
    double zipf_from          # the integral over the hat: from half a rank past the last
    double zipf_to            # to the first
    double zipf_near          # as near as this above a rank nothing is rejected
    uint64_t n_zones
    const uint64_t *zones     # rows of bound, first block, blocks; borrowed from the job


cdef inline double unit(uint64_t *random_state) noexcept nogil:
    """A number in [0, 1)."""
    return <double>(next_random(random_state) >> 11) * 1.1102230246251565e-16  # 2**-53


cdef inline uint64_t place_scattered(const distribution *of, uint64_t rank) noexcept nogil:
    """The block of a rank: ranks that land beyond the range go on to the next cell."""
    while True:
        rank = map_cell(
            &of.scattered, rank // of.scattered.columns, rank % of.scattered.columns
        )
        if rank < of.blocks:
            return rank


cdef inline uint64_t place_centred(const distribution *of, uint64_t rank) noexcept nogil:
    return add_modulo(rank, of.first, of.blocks)


cdef inline uint64_t next_uniform_block(
    distribution *of, uint64_t *random_state
) noexcept nogil:
    return multiply_high(next_random(random_state), of.blocks)


# Zipf by rejection-inversion (Hörmann and Derflinger 1996): exact for every theta, at a cost
# that does not grow with the range.  h(x) = x**-theta; hat(x) integrates it.

cdef inline double zipf_h(double theta, double x) noexcept nogil:
    return exp(-theta * log(x))


cdef inline double zipf_hat(double theta, double x) noexcept nogil:
    cdef double grown = (1.0 - theta) * log(x)
    # (e**y - 1) / y, which for theta near 1 loses all digits.
    return log(x) * (expm1(grown) / grown if fabs(grown) > 1e-8 else 1.0 + grown / 2.0)


cdef inline double zipf_hat_inverse(double theta, double area) noexcept nogil:
    cdef double grown = fmax(area * (1.0 - theta), -1.0)
    return exp(area * (log1p(grown) / grown if fabs(grown) > 1e-8 else 1.0 - grown / 2.0))


cdef inline uint64_t zipf_rank(const distribution *of, uint64_t *random_state) noexcept nogil:
    cdef double area, x, rank
    while True:
        area = of.zipf_from + unit(random_state) * (of.zipf_to - of.zipf_from)
        x = zipf_hat_inverse(of.shape, area)
        rank = fmin(fmax(floor(x + 0.5), 1.0), <double>of.blocks)
        if rank - x <= of.zipf_near or area >= (
            zipf_hat(of.shape, rank + 0.5) - zipf_h(of.shape, rank)
        ):
            return <uint64_t>rank - 1


cdef inline uint64_t next_zipf(distribution *of, uint64_t *random_state) noexcept nogil:
    return place_scattered(of, zipf_rank(of, random_state))


cdef inline uint64_t next_zipf_centred(
    distribution *of, uint64_t *random_state
) noexcept nogil:
    return place_centred(of, zipf_rank(of, random_state))


cdef inline uint64_t pareto_rank(const distribution *of, uint64_t *random_state) noexcept nogil:
    cdef double rank = <double>of.blocks * pow(unit(random_state), of.shape)
    return <uint64_t>fmin(rank, <double>(of.blocks - 1))  # the power may round to 1


cdef inline uint64_t next_pareto(distribution *of, uint64_t *random_state) noexcept nogil:
    return place_scattered(of, pareto_rank(of, random_state))


cdef inline uint64_t next_pareto_centred(
    distribution *of, uint64_t *random_state
) noexcept nogil:
    return place_centred(of, pareto_rank(of, random_state))


cdef inline uint64_t next_normal(distribution *of, uint64_t *random_state) noexcept nogil:
    """Box and Muller's, until it is inside."""
    cdef double radius, place
    while True:
        radius = sqrt(-2.0 * log(1.0 - unit(random_state)))
        place = of.centre + of.shape * radius * cos(6.283185307179586 * unit(random_state))
        if 0.0 <= place < <double>of.blocks:
            return <uint64_t>place


cdef inline uint64_t next_zoned(distribution *of, uint64_t *random_state) noexcept nogil:
    cdef uint64_t chosen = next_random(random_state)
    cdef const uint64_t *zone = of.zones
    cdef uint64_t i
    for i in range(of.n_zones - 1):
        if chosen < zone[0]:
            break
        zone += 3
    return zone[1] + multiply_high(next_random(random_state), zone[2])


cdef inline void distribution_init(
    distribution *of, uint64_t blocks, double shape, double centre
) noexcept nogil:
    """What all kinds need; `centre` is a share of the range, negative to scatter ranks."""
    of.blocks = blocks
    of.shape = shape
    of.centre = centre * <double>blocks
    of.first = <uint64_t>fmax(of.centre, 0.0) % blocks
    map_init(&of.scattered, blocks)


cdef inline void zipf_init(distribution *of) noexcept nogil:
    of.zipf_to = zipf_hat(of.shape, 1.5) - 1.0
    of.zipf_from = zipf_hat(of.shape, <double>of.blocks + 0.5)
    of.zipf_near = 2.0 - zipf_hat_inverse(
        of.shape, zipf_hat(of.shape, 2.5) - zipf_h(of.shape, 2.0)
    )
