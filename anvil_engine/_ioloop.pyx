# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, embedsignature=True
"""The hot loop: one job, one thread, the latency of every I/O.

A batch is stamped right before the kernel can first see it, and once when it is reaped;
the difference is lat (ENGINE.md §1).  Inside the loops there is no Python object, no
allocation, no lock, and no system call but the one that does I/O.  Everything that can be
chosen is chosen in `Job.__cinit__`.

C results are -errno until the border; `Job.run` raises.
"""

import os

from libc.errno cimport EAGAIN, EBUSY, errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from posix.mman cimport munmap
from posix.time cimport (
    CLOCK_MONOTONIC,
    TIMER_ABSTIME,
    clock_nanosleep,
    timespec,
)
from posix.unistd cimport pread, pwrite

from anvil_engine._arrivals cimport *
from anvil_engine._clock cimport *
from anvil_engine._uring cimport *

READ, WRITE, RESPONSE = READ_C, WRITE_C, RESPONSE_C
N_BUCKETS = N_BUCKETS_C
N_ERRNOS = N_ERRNOS_C
IOS, BYTES, LAT_SUM, CLAMPED = IOS_C, BYTES_C, LAT_SUM_C, CLAMPED_C
LAT_MIN, LAT_MAX, EPOCH_MAX, ERRORS, COUNTS = LAT_MIN_C, LAT_MAX_C, EPOCH_MAX_C, ERRORS_C, COUNTS_C
HEAD_SIZE, BLOCK_SIZE, CONTROL_SIZE = HEAD_SIZE_C, BLOCK_SIZE_C, CONTROL_SIZE_C
MEASURED_FROM, ENDED_AT = MEASURED_FROM_C, ENDED_AT_C
FIRST_ERRNO, FIRST_ERROR_OFFSET = FIRST_ERRNO_C, FIRST_ERROR_OFFSET_C
STARTED, LATE, MISSED, BEHIND_NS = STARTED_C, LATE_C, MISSED_C, BEHIND_NS_C
STOP, EPOCH, EPOCHS = STOP_C, EPOCH_C, N_EPOCHS

cdef enum:
    RING = 0
    SYNC = 1
    NULL_DEVICE = 2

ENGINES = {"native": RING, "sync": SYNC, "null": NULL_DEVICE}

cdef int64_t WAIT_NS = 50000000          # a stop request is seen at least this often
cdef int64_t CANCEL_NS = 5000000000      # how long a cancelled I/O may still take
cdef int64_t SPIN_NS = 60000             # a sleep ends tens of microseconds late: spin the rest
cdef uint64_t STAMP_EVERY = 4096         # deduplicating drives look at blocks of 4 KiB or more
cdef uint64_t CANCEL_TAG = <uint64_t>-1


# Histogram -----------------------------------------------------------------------------------

cdef inline unsigned bucket_of(uint64_t ns) noexcept nogil:
    cdef unsigned error_bits
    cdef uint64_t index
    if ns < 2 * SUB_BUCKETS:
        return <unsigned>ns
    error_bits = bit_length(ns) - 1 - SUB_BITS
    index = ((<uint64_t>error_bits + 1) << SUB_BITS) + ((ns >> error_bits) & (SUB_BUCKETS - 1))
    return <unsigned>(index if index < N_BUCKETS_C else N_BUCKETS_C - 1)


def bucket_index(uint64_t value_ns):
    """Index of the bucket that holds `value_ns`, as the loop computes it."""
    return bucket_of(value_ns)


cdef inline uint64_t *block_of(Loop *loop, unsigned kind) noexcept nogil:
    return loop.live + HEAD_SIZE_C + kind * <uint64_t>BLOCK_SIZE_C


cdef inline void record(Loop *loop, unsigned kind, uint64_t ns, uint64_t epoch) noexcept nogil:
    cdef uint64_t *block = block_of(loop, kind)
    block[COUNTS_C + bucket_of(ns)] += 1
    block[IOS_C] += 1
    block[BYTES_C] += loop.bs
    block[LAT_SUM_C] += ns
    block[CLAMPED_C] += ns >= (<uint64_t>1 << (N_GROUPS + SUB_BITS - 1))
    if ns < block[LAT_MIN_C]:
        block[LAT_MIN_C] = ns
    if ns > block[LAT_MAX_C]:
        block[LAT_MAX_C] = ns
    if ns > block[EPOCH_MAX_C + epoch]:
        block[EPOCH_MAX_C + epoch] = ns


cdef void record_error(Loop *loop, unsigned slot, int res) noexcept nogil:
    """Count a failed I/O: res < 0 is -errno, any other is a short transfer."""
    cdef uint64_t *block = block_of(loop, loop.directions[slot])
    cdef unsigned number = <unsigned>-res if res < 0 else 0
    block[ERRORS_C + (number if number < N_ERRNOS_C else N_ERRNOS_C - 1)] += 1
    if loop.live[FIRST_ERROR_OFFSET_C] == <uint64_t>-1:
        loop.live[FIRST_ERRNO_C] = number
        loop.live[FIRST_ERROR_OFFSET_C] = loop.offsets[slot]
    if not loop.continue_on_error:
        loop.stopping = True


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


cdef void seed_random(uint64_t *state, uint64_t seed) noexcept nogil:
    cdef int i
    cdef uint64_t mixed
    for i in range(4):
        seed += <uint64_t>0x9E3779B97F4A7C15
        mixed = (seed ^ (seed >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
        mixed = (mixed ^ (mixed >> 27)) * <uint64_t>0x94D049BB133111EB
        state[i] = mixed ^ (mixed >> 31)


# What to do next: (block << 1) | direction ---------------------------------------------------

cdef inline uint64_t next_block(Loop *loop, uint64_t direction) noexcept nogil:
    cdef uint64_t block = loop.cursor[direction]
    loop.cursor[direction] = block + 1 if block + 1 < loop.blocks else 0
    return block


cdef inline uint64_t random_block(Loop *loop) noexcept nogil:
    return multiply_high(next_random(loop.random_state), loop.blocks)


cdef inline uint64_t random_direction(Loop *loop) noexcept nogil:
    return <uint64_t>(next_random(loop.random_state) >= loop.read_below)


cdef uint64_t next_sequential(Loop *loop) noexcept nogil:
    return (next_block(loop, loop.only) << 1) | loop.only


cdef uint64_t next_sequential_mixed(Loop *loop) noexcept nogil:
    cdef uint64_t direction = random_direction(loop)
    return (next_block(loop, direction) << 1) | direction


cdef uint64_t next_uniform(Loop *loop) noexcept nogil:
    return (random_block(loop) << 1) | loop.only


cdef uint64_t next_uniform_mixed(Loop *loop) noexcept nogil:
    cdef uint64_t direction = random_direction(loop)
    return (random_block(loop) << 1) | direction


# Slots ---------------------------------------------------------------------------------------

cdef inline void stamp_data(Loop *loop, unsigned slot) noexcept nogil:
    """Make every 4 KiB about to be written unlike any other: its offset, then a sequence."""
    cdef char *data = loop.pool + slot * loop.bs
    cdef uint64_t position = 0
    while position + 16 <= loop.bs:
        (<uint64_t *>(data + position))[0] = loop.offsets[slot] + position
        (<uint64_t *>(data + position))[1] = loop.sequence
        loop.sequence += 1
        position += STAMP_EVERY


cdef inline unsigned take_slot(Loop *loop) noexcept nogil:
    """Decide the next I/O and give it a free slot."""
    cdef uint64_t choice = loop.next_io(loop)
    cdef unsigned slot
    loop.n_free -= 1
    slot = loop.free_slots[loop.n_free]
    loop.directions[slot] = <uint8_t>(choice & 1)
    loop.offsets[slot] = loop.base_offset + (choice >> 1) * loop.bs
    loop.in_flight += 1
    if choice & 1:
        stamp_data(loop, slot)
    return slot


cdef inline void give_back(Loop *loop, unsigned slot) noexcept nogil:
    loop.free_slots[loop.n_free] = slot
    loop.n_free += 1
    loop.in_flight -= 1


cdef inline void release_slot(
    Loop *loop, unsigned slot, int res, uint64_t now, uint64_t epoch
) noexcept nogil:
    if res == <int>loop.bs:
        record(
            loop, loop.directions[slot], clock_to_ns(&loop.clock, now - loop.stamps[slot]), epoch
        )
    else:
        record_error(loop, slot, res)
    give_back(loop, slot)


cdef inline uint64_t current_epoch(Loop *loop) noexcept nogil:
    """Which of the EPOCH_MAX values the watcher's present interval uses; cleared when new."""
    cdef uint64_t epoch = load_shared(loop.control + EPOCH_C)
    cdef unsigned kind
    if epoch != loop.epoch:
        loop.epoch = epoch
        for kind in range(loop.n_blocks):
            block_of(loop, kind)[EPOCH_MAX_C + (epoch & (N_EPOCHS - 1))] = 0
    return epoch & (N_EPOCHS - 1)


cdef void begin_measuring(Loop *loop, uint64_t now) noexcept nogil:
    loop.deadline = now + clock_from_ns(&loop.clock, <uint64_t>loop.runtime_ns)
    store_shared(loop.live + MEASURED_FROM_C, <uint64_t>clock_ns())


cdef void begin(Loop *loop) noexcept nogil:
    cdef uint64_t now = clock_ticks(&loop.clock)
    loop.began = now
    loop.ramp_end = now + clock_from_ns(&loop.clock, <uint64_t>loop.ramp_ns)
    if loop.ramp_ns == 0:
        begin_measuring(loop, now)


cdef void end_ramp(Loop *loop, uint64_t now) noexcept nogil:
    cdef unsigned kind
    memcpy(loop.ramp, loop.live, (block_of(loop, loop.n_blocks) - loop.live) * sizeof(uint64_t))
    for kind in range(loop.n_blocks):
        block_of(loop, kind)[LAT_MIN_C] = <uint64_t>-1
        block_of(loop, kind)[LAT_MAX_C] = 0
    begin_measuring(loop, now)


cdef inline void look_at_clock(Loop *loop, uint64_t now) noexcept nogil:
    """End the ramp or the run when their time has come or the watcher says so."""
    if loop.live[MEASURED_FROM_C] == 0:
        if now >= loop.ramp_end:
            end_ramp(loop, now)
    elif now >= loop.deadline:
        loop.stopping = True
    if load_shared(loop.control + STOP_C):
        loop.stopping = True


# The loop over the ring ----------------------------------------------------------------------

cdef inline void fill_sqe(Loop *loop, unsigned slot) noexcept nogil:
    cdef uring_sqe *sqe = uring_next_sqe(&loop.ring)
    sqe.opcode = loop.opcodes[loop.directions[slot]]
    sqe.flags = loop.sqe_flags
    sqe.ioprio = 0
    sqe.fd = loop.sqe_fd
    sqe.off = loop.offsets[slot]
    sqe.addr = <uint64_t>(loop.pool + slot * loop.bs)
    sqe.len = <unsigned>loop.bs
    sqe.op_flags = 0
    sqe.user_data = slot
    sqe.buf_index = 0


cdef inline void refill(Loop *loop) noexcept nogil:
    cdef unsigned slot
    while loop.n_free and loop.n_pending < loop.batch_submit:
        slot = take_slot(loop)
        fill_sqe(loop, slot)
        loop.pending[loop.n_pending] = slot
        loop.n_pending += 1


cdef int submit_and_wait(Loop *loop, unsigned wait, int64_t timeout_ns) noexcept nogil:
    """Stamp the pending batch, hand it over, wait.  Returns 0 or -errno."""
    cdef uint64_t now = clock_ticks(&loop.clock)
    cdef unsigned i, taken
    cdef int result
    for i in range(loop.n_pending):
        loop.stamps[loop.pending[i]] = now
    result = uring_enter(&loop.ring, wait, timeout_ns)
    # The kernel may take a part of the batch, also when it reports an error or a signal:
    # what it left is stamped again when it is offered again.
    taken = loop.n_pending - uring_unsubmitted(&loop.ring)
    for i in range(taken, loop.n_pending):
        loop.pending[i - taken] = loop.pending[i]
    loop.n_pending -= taken
    if result == -EAGAIN or result == -EBUSY:
        return 0
    return result if result < 0 else 0


cdef int reap(Loop *loop) noexcept nogil:
    """Record what has completed, at one time stamp, and look at the clock."""
    cdef unsigned head = loop.ring.cq_head[0]
    cdef unsigned tail = uring_cq_tail(&loop.ring)
    cdef uint64_t now = clock_ticks(&loop.clock)
    cdef uint64_t epoch = current_epoch(loop)
    cdef uring_cqe *cqe
    while head != tail:
        cqe = &loop.ring.cqes[head & loop.ring.cq_mask]
        if cqe.user_data != CANCEL_TAG:
            release_slot(loop, <unsigned>cqe.user_data, cqe.res, now, epoch)
        head += 1
    uring_cq_advance(&loop.ring, head)
    look_at_clock(loop, now)
    return 0


cdef int drain(Loop *loop, int64_t patience_ns) noexcept nogil:
    """Reap what is in flight, for at most `patience_ns`.  Returns 0 or -errno."""
    cdef int64_t give_up = clock_ns() + patience_ns
    cdef int result = 0
    while loop.in_flight and clock_ns() < give_up:
        result = loop.submit(loop, 1, WAIT_NS)
        if result < 0:
            return result
        if loop.is_general:
            collect_ring(loop)
        else:
            reap(loop)
    return 0


cdef int cancel_all(Loop *loop) noexcept nogil:
    cdef uring_sqe *sqe = uring_next_sqe(&loop.ring)
    sqe.opcode = URING_OP_ASYNC_CANCEL
    sqe.flags = 0
    sqe.ioprio = 0
    sqe.fd = -1
    sqe.off = 0
    sqe.addr = 0
    sqe.len = 0
    sqe.op_flags = URING_ASYNC_CANCEL_ANY
    sqe.user_data = CANCEL_TAG
    sqe.buf_index = 0
    return uring_enter(&loop.ring, 0, 0)


cdef int finish_ring(Loop *loop) noexcept nogil:
    """Wait for what is in flight; cancel what does not come; give up on what stays."""
    cdef int result = drain(loop, loop.drain_ns)
    if result == 0 and loop.in_flight:
        cancel_all(loop)
        result = drain(loop, CANCEL_NS)
    loop.hung = loop.in_flight > 0
    return result


cdef int end_ring(Loop *loop, int result) noexcept nogil:
    """Finish after a loop that ended with `result`: that, or what went wrong now."""
    if result == 0:
        result = finish_ring(loop)
    else:
        loop.hung = loop.in_flight > 0
    if result == 0 and uring_overflowed(&loop.ring):
        result = -EBUSY
    return result


cdef int run_ring(Loop *loop) noexcept nogil:
    cdef int result = 0
    cdef unsigned wait
    begin(loop)
    while not loop.stopping:
        refill(loop)
        # A batch smaller than what is free is followed by the next one at once.
        wait = 0 if loop.n_free else min(loop.batch_complete, loop.in_flight)
        result = submit_and_wait(loop, wait, WAIT_NS)
        if result < 0:
            break
        reap(loop)
    return end_ring(loop, result)


# The loop of one system call per I/O: the slow twin, and the way where io_uring is forbidden ----

cdef int run_sync(Loop *loop) noexcept nogil:
    cdef unsigned slot
    cdef char *data
    cdef uint64_t now
    cdef ssize_t moved
    begin(loop)
    while not loop.stopping:
        slot = take_slot(loop)
        data = loop.pool + slot * loop.bs
        loop.stamps[slot] = clock_ticks(&loop.clock)
        if loop.directions[slot]:
            moved = pwrite(loop.fd, data, loop.bs, <int64_t>loop.offsets[slot])
        else:
            moved = pread(loop.fd, data, loop.bs, <int64_t>loop.offsets[slot])
        now = clock_ticks(&loop.clock)
        release_slot(loop, slot, <int>moved if moved >= 0 else -errno, now, current_epoch(loop))
        look_at_clock(loop, now)
    return 0


# The loop without a device: every I/O completes a fixed time after it was submitted -----------

cdef int run_null(Loop *loop) noexcept nogil:
    cdef int64_t wake_ns
    cdef uint64_t now
    cdef timespec due
    cdef unsigned i
    begin(loop)
    while not loop.stopping:
        now = clock_ticks(&loop.clock)
        wake_ns = clock_ns() + loop.null_latency_ns
        loop.n_pending = 0
        while loop.n_free:
            loop.pending[loop.n_pending] = take_slot(loop)
            loop.stamps[loop.pending[loop.n_pending]] = now
            loop.n_pending += 1
        due.tv_sec = wake_ns / 1000000000
        due.tv_nsec = wake_ns % 1000000000
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL)  # early wake-ups do no harm
        now = clock_ticks(&loop.clock)
        for i in range(loop.n_pending):
            release_slot(loop, loop.pending[i], <int>loop.bs, now, current_epoch(loop))
        look_at_clock(loop, now)
    return 0


# The general loop: the three above with all that they leave out -------------------------------
#
# `gather` decides what to start now and puts it into `pending`; `turn` hands that to the
# device, waits as long as `gather` allows, and settles what has completed.

cdef unsigned take_io(Loop *loop) noexcept nogil:
    return take_slot(loop)


cdef inline void add_pending(Loop *loop, unsigned slot) noexcept nogil:
    loop.pending[loop.n_pending] = slot
    loop.n_pending += 1


cdef void gather_free(Loop *loop) noexcept nogil:
    """Closed loop: whatever has a slot is started."""
    while loop.n_free and loop.n_pending < loop.batch_submit:
        add_pending(loop, loop.take(loop))
    loop.wait_for = 0 if loop.n_free else min(loop.batch_complete, loop.in_flight)
    loop.patience_ns = WAIT_NS


cdef inline void next_arrival(Loop *loop) noexcept nogil:
    arrivals_next(
        &loop.arrivals, next_random(loop.arrival_state) if loop.is_poisson else 0
    )


cdef void gather_due(Loop *loop) noexcept nogil:
    """Open loop: what is due is started as soon as it has a slot."""
    cdef uint64_t now = clock_ticks(&loop.clock)
    cdef uint64_t due = loop.began + loop.arrivals.due
    cdef uint64_t past = min(now + 1, loop.deadline) if loop.live[MEASURED_FROM_C] else now + 1
    cdef unsigned slot
    while loop.n_free and due < past and loop.n_pending < loop.batch_submit:
        slot = loop.take(loop)
        loop.intended[slot] = due
        loop.live[STARTED_C] += 1
        loop.live[LATE_C] += due < loop.full_until
        add_pending(loop, slot)
        next_arrival(loop)
        due = loop.began + loop.arrivals.due
    loop.patience_ns = WAIT_NS
    if loop.n_free:
        due = min(due, loop.deadline if loop.live[MEASURED_FROM_C] else loop.ramp_end)
        due = clock_to_ns(&loop.clock, due - now) if due > now else 0
        loop.patience_ns = min(WAIT_NS, <int64_t>due - SPIN_NS)
    loop.wait_for = loop.patience_ns > 0


cdef void note_backlog(Loop *loop) noexcept nogil:
    """How far the job is behind its schedule at the end."""
    cdef uint64_t until = min(clock_ticks(&loop.clock), loop.deadline) - loop.began
    if loop.rate and loop.live[MEASURED_FROM_C] and loop.arrivals.due < until:
        loop.live[MISSED_C] = arrivals_missed(&loop.arrivals, until)
        loop.live[BEHIND_NS_C] = clock_to_ns(&loop.clock, until - loop.arrivals.due)


cdef inline int expected(Loop *loop, unsigned slot) noexcept nogil:
    """What the kernel answers to the slot's I/O when it did all of it."""
    return <int>loop.bs


cdef void settle(Loop *loop, unsigned slot, int res, uint64_t now) noexcept nogil:
    """`release_slot`, with every latency that was asked for."""
    cdef uint64_t epoch = current_epoch(loop)
    cdef unsigned kind = loop.directions[slot]
    if loop.n_free == 0:
        loop.full_until = now
    if res == expected(loop, slot):
        record(loop, kind, clock_to_ns(&loop.clock, now - loop.stamps[slot]), epoch)
        if loop.rate:
            record(
                loop, RESPONSE_C + kind,
                clock_to_ns(&loop.clock, now - loop.intended[slot]), epoch,
            )
    else:
        record_error(loop, slot, res)
    give_back(loop, slot)


cdef int collect_ring(Loop *loop) noexcept nogil:
    """`reap`, settling."""
    cdef unsigned head = loop.ring.cq_head[0]
    cdef unsigned tail = uring_cq_tail(&loop.ring)
    cdef uint64_t now = clock_ticks(&loop.clock)
    cdef uring_cqe *cqe
    while head != tail:
        cqe = &loop.ring.cqes[head & loop.ring.cq_mask]
        if cqe.user_data != CANCEL_TAG:
            settle(loop, <unsigned>cqe.user_data, cqe.res, now)
        head += 1
    uring_cq_advance(&loop.ring, head)
    look_at_clock(loop, now)
    return 0


cdef int turn_ring(Loop *loop) noexcept nogil:
    cdef int result
    while loop.n_filled < loop.n_pending:
        fill_sqe(loop, loop.pending[loop.n_filled])
        loop.n_filled += 1
    result = loop.submit(loop, loop.wait_for, max(loop.patience_ns, 0))
    loop.n_filled = loop.n_pending
    return result if result < 0 else collect_ring(loop)


cdef int64_t transfer(Loop *loop, unsigned slot) noexcept nogil:
    """Do the slot's I/O in one system call; what it moved, or -errno."""
    cdef char *data = loop.pool + slot * loop.bs
    cdef int64_t offset = <int64_t>loop.offsets[slot]
    cdef int64_t moved
    if loop.directions[slot] == WRITE_C:
        moved = pwrite(loop.fd, data, loop.bs, offset)
    else:
        moved = pread(loop.fd, data, loop.bs, offset)
    return moved if moved >= 0 else -errno


cdef int turn_sync(Loop *loop) noexcept nogil:
    cdef unsigned slot
    cdef int64_t moved
    cdef uint64_t now
    if loop.n_pending:
        slot = loop.pending[0]  # the only one
        loop.n_pending = 0
        loop.stamps[slot] = clock_ticks(&loop.clock)
        moved = transfer(loop, slot)
        now = clock_ticks(&loop.clock)
        settle(loop, slot, <int>moved, now)
    else:
        if loop.wait_for:
            clock_sleep(loop.patience_ns)
        now = clock_ticks(&loop.clock)
    look_at_clock(loop, now)
    return 0


cdef inline int64_t null_remaining(Loop *loop, uint64_t now) noexcept nogil:
    """Nanoseconds until the oldest I/O of the null device completes."""
    cdef uint64_t age = clock_to_ns(&loop.clock, now - loop.stamps[loop.flying[loop.first_flying]])
    return loop.null_latency_ns - <int64_t>age


cdef int turn_null(Loop *loop) noexcept nogil:
    cdef uint64_t now = clock_ticks(&loop.clock)
    cdef int64_t patience = loop.patience_ns
    cdef unsigned i, slot
    for i in range(loop.n_pending):
        slot = loop.pending[i]
        loop.stamps[slot] = now
        loop.flying[(loop.first_flying + loop.n_flying) % loop.iodepth] = slot
        loop.n_flying += 1
    loop.n_pending = 0
    if loop.n_flying:
        patience = min(patience, null_remaining(loop, now) - SPIN_NS)
    if loop.wait_for and patience > 0:
        clock_sleep(patience)
    now = clock_ticks(&loop.clock)
    while loop.n_flying and null_remaining(loop, now) <= 0:
        slot = loop.flying[loop.first_flying]
        loop.first_flying = (loop.first_flying + 1) % loop.iodepth
        loop.n_flying -= 1
        settle(loop, slot, expected(loop, slot), now)
    look_at_clock(loop, now)
    return 0


cdef int end_null(Loop *loop, int result) noexcept nogil:
    loop.wait_for, loop.patience_ns = 1, WAIT_NS
    while loop.in_flight:
        turn_null(loop)
    return result


cdef int end_sync(Loop *loop, int result) noexcept nogil:
    return result  # nothing is ever in flight between two turns


cdef int run_general(Loop *loop) noexcept nogil:
    cdef int result = 0
    clock_sharpen_sleep()
    begin(loop)
    while result == 0 and not loop.stopping:
        loop.gather(loop)
        result = loop.turn(loop)
    note_backlog(loop)
    return loop.finish(loop, result)


# Clock ---------------------------------------------------------------------------------------

cdef void set_clock(tick_clock *clock, uint64_t ticks_per_second) noexcept nogil:
    """The TSC at `ticks_per_second`, or CLOCK_MONOTONIC for 0."""
    clock.is_tsc = CLOCK_HAS_TSC and ticks_per_second > 0
    clock.ticks_per_second = ticks_per_second if clock.is_tsc else 1000000000
    clock.ns_per_tick = <uint64_t>((1000000000.0 / clock.ticks_per_second) * 4294967296.0 + 0.5)


def intended_starts(
    uint64_t rate, uint64_t ticks_per_second, uint64_t seed, unsigned count, *,
    bint is_poisson,
):
    """The first `count` intended starts of an open loop, in ticks: what a job with this seed uses."""
    cdef arrival_clock arrivals
    cdef uint64_t state[4]
    cdef list starts = []
    cdef unsigned i
    seed_random(state, ~seed)
    arrivals_begin(
        &arrivals, is_poisson, rate, ticks_per_second, next_random(state) if is_poisson else 0
    )
    for i in range(count):
        starts.append(arrivals.due)
        arrivals_next(&arrivals, next_random(state) if is_poisson else 0)
    return starts


def read_clocks():
    """(TSC ticks, CLOCK_MONOTONIC ns, uncertainty in ticks) of one moment; None without a TSC."""
    cdef clock_pair pair
    if not CLOCK_HAS_TSC:
        return None
    with nogil:
        pair = clock_read_pair()
    return pair.ticks, pair.ns, pair.width


def probe():
    """Open and close a ring.  Raises `OSError` with the kernel's errno when it refuses."""
    cdef uring ring
    cdef int result = uring_open(&ring, 1)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    uring_close(&ring)


# The border ----------------------------------------------------------------------------------

cdef void *allocate(size_t count, size_t size) except NULL:
    cdef void *memory = calloc(count, size)
    if memory == NULL:
        raise MemoryError(f"no memory for {count} slots")
    return memory


def live_size(unsigned n_blocks):
    """How many elements `live` and `ramp` have for so many classes."""
    return HEAD_SIZE_C + n_blocks * BLOCK_SIZE_C


cdef class Job:
    """One job: its ring, slots, buffers and random numbers.  Run it once, in a fresh thread.

    `live`, `ramp` (uint64[HEAD_SIZE + n * BLOCK_SIZE]) and `control` (uint64[CONTROL_SIZE])
    are shared with the watcher as described in `_ioloop.pxd`.  `notes` says after `run` what the kernel
    granted.  Sizes are bytes, times nanoseconds; `ticks_per_second` is the TSC's, 0 to use
    CLOCK_MONOTONIC.
    """

    def __cinit__(
        self,
        *,
        str engine not None,
        int fd,
        uint64_t bs,
        uint64_t blocks,
        uint64_t offset,
        unsigned iodepth,
        unsigned batch_submit,
        unsigned batch_complete,
        unsigned read_pct,
        bint is_random,
        int64_t runtime_ns,
        int64_t ramp_ns,
        int64_t drain_ns,
        int64_t null_latency_ns,
        uint64_t ticks_per_second,
        uint64_t seed,
        bint continue_on_error,
        uint64_t rate,
        bint is_poisson,
        uint64_t[::1] live not None,
        uint64_t[::1] ramp not None,
        const uint64_t[::1] control not None,
    ):
        cdef Loop *loop = &self._loop
        cdef unsigned kind
        loop.n_blocks = max(live.shape[0] - HEAD_SIZE_C, 0) / BLOCK_SIZE_C
        if loop.n_blocks < 2 or not live.shape[0] == ramp.shape[0] == live_size(loop.n_blocks):
            raise ValueError("live and ramp need a head and the same number of blocks, 2 or more")
        if control.shape[0] != CONTROL_SIZE_C:
            raise ValueError(f"control needs {CONTROL_SIZE_C} elements")
        if not blocks or not bs or not iodepth or not batch_submit or not batch_complete:
            raise ValueError("bs, blocks, iodepth and batches must be above 0")
        self._engine = ENGINES[engine]
        self._live, self._ramp, self._control = live, ramp, control
        self.notes = {}
        loop.ring.fd = -1
        loop.fd = fd
        loop.bs, loop.blocks, loop.base_offset = bs, blocks, offset
        loop.iodepth = 1 if self._engine == SYNC else iodepth
        loop.batch_submit = min(batch_submit, loop.iodepth)
        loop.batch_complete = min(batch_complete, loop.iodepth)
        loop.continue_on_error = continue_on_error
        loop.runtime_ns, loop.ramp_ns, loop.drain_ns = runtime_ns, ramp_ns, drain_ns
        loop.null_latency_ns = null_latency_ns
        set_clock(&loop.clock, ticks_per_second)
        loop.live, loop.ramp, loop.control = &live[0], &ramp[0], &control[0]
        for kind in range(loop.n_blocks):
            block_of(loop, kind)[LAT_MIN_C] = <uint64_t>-1
        live[FIRST_ERROR_OFFSET_C] = <uint64_t>-1
        seed_random(loop.random_state, seed)
        loop.rate, loop.is_poisson = rate, is_poisson
        # A stream of their own: the same seed gives the same offsets at every rate.
        seed_random(loop.arrival_state, ~seed)
        choose_loop(loop, self._engine)
        choose_next(loop, read_pct, is_random)
        allocate_slots(loop)

    def __dealloc__(self):
        cdef Loop *loop = &self._loop
        uring_close(&loop.ring)
        # The kernel may still write to the buffers of I/Os that never came back.
        if loop.pool != NULL and not loop.hung:
            munmap(loop.pool, loop.pool_bytes)
        free(loop.stamps)
        free(loop.offsets)
        free(loop.directions)
        free(loop.free_slots)
        free(loop.pending)
        free(loop.intended)
        free(loop.flying)

    @property
    def hung(self):
        """Whether the kernel kept I/Os past the drain and a cancel."""
        return bool(self._loop.hung)

    @property
    def iodepth(self):
        """The depth in effect: 1 for the sync engine."""
        return self._loop.iodepth

    def run(self):
        """Do I/O until the time is over, `control[STOP]` is set, or an I/O fails.

        Raises `OSError` when the ring cannot be made or used.  Errors of single I/Os are
        counted in `live` and do not raise.
        """
        cdef Loop *loop = &self._loop
        cdef int result
        if self._engine == RING:
            open_ring(self)
        with nogil:
            result = loop.run(loop)
            store_shared(loop.live + ENDED_AT_C, <uint64_t>clock_ns())
            uring_close(&loop.ring)
        if result < 0:
            raise OSError(-result, os.strerror(-result))


cdef void choose_next(Loop *loop, unsigned read_pct, bint is_random) noexcept:
    loop.only = 0 if read_pct else 1
    if 0 < read_pct < 100:
        loop.read_below = <uint64_t>-1 / 100 * read_pct
        loop.next_io = next_uniform_mixed if is_random else next_sequential_mixed
    else:
        loop.next_io = next_uniform if is_random else next_sequential


cdef int choose_loop(Loop *loop, int engine) except -1:
    """The loop, and the functions of the general one if anything needs it."""
    loop.submit = submit_and_wait
    loop.is_general = loop.rate > 0
    if engine == RING:
        loop.run, loop.turn, loop.finish = run_ring, turn_ring, end_ring
    elif engine == SYNC:
        loop.run, loop.turn, loop.finish = run_sync, turn_sync, end_sync
    else:
        loop.run, loop.turn, loop.finish = run_null, turn_null, end_null
    if not loop.is_general:
        return 0
    loop.run = run_general
    loop.take = take_io
    loop.gather = gather_due if loop.rate else gather_free
    loop.flying = <unsigned *>allocate(loop.iodepth, sizeof(unsigned))
    if loop.rate:
        if loop.n_blocks < RESPONSE_C + 4:
            raise ValueError("live has no blocks for response times")
        loop.intended = <uint64_t *>allocate(loop.iodepth, sizeof(uint64_t))
        arrivals_begin(
            &loop.arrivals, loop.is_poisson, loop.rate, loop.clock.ticks_per_second,
            next_random(loop.arrival_state) if loop.is_poisson else 0,
        )
    return 0


cdef int allocate_slots(Loop *loop) except -1:
    cdef unsigned slot
    cdef uint64_t i
    loop.stamps = <uint64_t *>allocate(loop.iodepth, sizeof(uint64_t))
    loop.offsets = <uint64_t *>allocate(loop.iodepth, sizeof(uint64_t))
    loop.directions = <uint8_t *>allocate(loop.iodepth, sizeof(uint8_t))
    loop.free_slots = <unsigned *>allocate(loop.iodepth, sizeof(unsigned))
    loop.pending = <unsigned *>allocate(loop.iodepth, sizeof(unsigned))
    loop.pool_bytes = <size_t>loop.iodepth * loop.bs
    loop.pool = <char *>pool_allocate(loop.pool_bytes)
    if loop.pool == NULL:
        raise MemoryError(f"no memory for {loop.iodepth} buffers of {loop.bs} bytes")
    # Incompressible; the mapping is a whole number of pages, so the last word fits.
    for i in range((loop.pool_bytes + 7) / 8):
        (<uint64_t *>loop.pool)[i] = next_random(loop.random_state)
    for slot in range(loop.iodepth):
        loop.free_slots[slot] = loop.iodepth - 1 - slot
    loop.n_free = loop.iodepth
    return 0


cdef int open_ring(Job job) except -1:
    """Open the ring in this thread and register what can be; `notes` says what could not."""
    cdef Loop *loop = &job._loop
    cdef int result = uring_open(&loop.ring, loop.iodepth)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    job.notes["setup_flags"] = setup_flag_names(loop.ring.setup_flags)
    job.notes["registered_ring"] = granted(uring_register_ring(&loop.ring))
    result = uring_register_file(&loop.ring, loop.fd)
    job.notes["registered_files"] = granted(result)
    loop.sqe_fd = 0 if result >= 0 else loop.fd
    loop.sqe_flags = URING_SQE_FIXED_FILE if result >= 0 else 0
    result = uring_register_buffer(&loop.ring, loop.pool, loop.pool_bytes)
    job.notes["registered_buffers"] = granted(result)
    loop.opcodes[0] = URING_OP_READ_FIXED if result >= 0 else URING_OP_READ
    loop.opcodes[1] = URING_OP_WRITE_FIXED if result >= 0 else URING_OP_WRITE
    return 0


cdef object granted(int result):
    """True, or the errno's name of why not."""
    import errno as names
    return True if result >= 0 else names.errorcode.get(-result, str(-result))


cdef list setup_flag_names(unsigned flags):
    known = (
        ("SINGLE_ISSUER", URING_SETUP_SINGLE_ISSUER),
        ("DEFER_TASKRUN", URING_SETUP_DEFER_TASKRUN),
        ("COOP_TASKRUN", URING_SETUP_COOP_TASKRUN),
        ("NO_SQARRAY", URING_SETUP_NO_SQARRAY),
    )
    return [name for name, bit in known if flags & bit]
