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

from libc.errno cimport EAGAIN, EBUSY, EINVAL, ETIME, errno
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
from posix.unistd cimport fsync, pread, pwrite

from anvil_engine._arrivals cimport *
from anvil_engine._clock cimport *
from anvil_engine._offsets cimport *
from anvil_engine._uring cimport *

READ, WRITE, TRIM, FSYNC = READ_C, WRITE_C, TRIM_C, FSYNC_C
RESPONSE, SLAT, CLAT = RESPONSE_C, SLAT_C, CLAT_C
N_BUCKETS = N_BUCKETS_C
N_ERRNOS = N_ERRNOS_C
IOS, BYTES, LAT_SUM, CLAMPED = IOS_C, BYTES_C, LAT_SUM_C, CLAMPED_C
LAT_MIN, LAT_MAX, EPOCH_MAX, ERRORS, COUNTS = LAT_MIN_C, LAT_MAX_C, EPOCH_MAX_C, ERRORS_C, COUNTS_C
HEAD_SIZE, BLOCK_SIZE, CONTROL_SIZE = HEAD_SIZE_C, BLOCK_SIZE_C, CONTROL_SIZE_C
MEASURED_FROM, ENDED_AT = MEASURED_FROM_C, ENDED_AT_C
FIRST_ERRNO, FIRST_ERROR_OFFSET = FIRST_ERRNO_C, FIRST_ERROR_OFFSET_C
FIRST_ERROR_LENGTH = FIRST_ERROR_LENGTH_C
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
cdef unsigned SPINS = 2000               # looks at the completion queue before sleeping on it
cdef uint64_t STAMP_EVERY = 4096         # deduplicating drives look at blocks of 4 KiB or more
cdef uint64_t CANCEL_TAG = <uint64_t>-1
cdef uint64_t DATA_STREAM = 0xA5A5A5A5A5A5A5A5   # keeps write data apart from the offsets


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


cdef inline void record(
    Loop *loop, unsigned kind, uint64_t length, uint64_t ns, uint64_t epoch
) noexcept nogil:
    cdef uint64_t *block = block_of(loop, kind)
    block[COUNTS_C + bucket_of(ns)] += 1
    block[IOS_C] += 1
    block[BYTES_C] += length
    block[LAT_SUM_C] += ns
    block[CLAMPED_C] += ns >= (<uint64_t>1 << (N_GROUPS + SUB_BITS - 1))
    if ns < block[LAT_MIN_C]:
        block[LAT_MIN_C] = ns
    if ns > block[LAT_MAX_C]:
        block[LAT_MAX_C] = ns
    if ns > block[EPOCH_MAX_C + epoch]:
        block[EPOCH_MAX_C + epoch] = ns


cdef inline uint64_t moved_by(const Loop *loop, unsigned slot) noexcept nogil:
    """Bytes of the slot's I/O: none for an fsync, whose slot keeps its length for the next."""
    return 0 if loop.directions[slot] == FSYNC_C else loop.lengths[slot]


cdef void record_error(Loop *loop, unsigned slot, int res) noexcept nogil:
    """Count a failed I/O: res < 0 is -errno, any other is a short transfer."""
    cdef uint64_t *block = block_of(loop, loop.directions[slot])
    cdef unsigned number = <unsigned>-res if res < 0 else 0
    block[ERRORS_C + (number if number < N_ERRNOS_C else N_ERRNOS_C - 1)] += 1
    if loop.live[FIRST_ERROR_OFFSET_C] == <uint64_t>-1:
        loop.live[FIRST_ERRNO_C] = number
        loop.live[FIRST_ERROR_OFFSET_C] = loop.offsets[slot]
        loop.live[FIRST_ERROR_LENGTH_C] = moved_by(loop, slot)
    if not loop.continue_on_error:
        loop.stopping = True


# What to do next: (block << 1) | direction ---------------------------------------------------

cdef inline uint64_t next_block(Loop *loop, uint64_t direction) noexcept nogil:
    cdef uint64_t block = loop.cursor[direction]
    loop.cursor[direction] = block + 1 if block + 1 < loop.blocks else 0
    return block


cdef inline uint64_t random_block(Loop *loop) noexcept nogil:
    return multiply_high(next_random(loop.random_state), loop.blocks)


cdef inline uint64_t mapped_block(Loop *loop) noexcept nogil:
    return map_next(&loop.map, loop.random_state)


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


cdef uint64_t next_mapped(Loop *loop) noexcept nogil:
    return (mapped_block(loop) << 1) | loop.only


cdef uint64_t next_mapped_mixed(Loop *loop) noexcept nogil:
    cdef uint64_t direction = random_direction(loop)
    return (mapped_block(loop) << 1) | direction


cdef uint64_t next_placed(Loop *loop) noexcept nogil:
    return (loop.places.next(&loop.places, loop.random_state) << 1) | loop.only


cdef uint64_t next_placed_mixed(Loop *loop) noexcept nogil:
    cdef uint64_t direction = random_direction(loop)
    return (loop.places.next(&loop.places, loop.random_state) << 1) | direction


cdef inline unsigned next_slot(const Loop *loop) noexcept nogil:
    """The slot that the I/O being decided will get."""
    return loop.free_slots[loop.n_free - 1]


cdef inline uint64_t random_length(Loop *loop) noexcept nogil:
    cdef uint64_t chosen = next_random(loop.random_state)
    cdef const uint64_t *size = loop.sizes
    cdef uint64_t i
    if loop.n_sizes == 0:
        return loop.bs * (1 + multiply_high(chosen, loop.slot_bytes // loop.bs))
    for i in range(loop.n_sizes - 1):
        if chosen < size[0]:
            break
        size += 2
    return size[1]


cdef inline uint64_t choose_length(Loop *loop, uint64_t position) noexcept nogil:
    """A random length that fits at `position`, in bytes, for the I/O being decided."""
    cdef uint64_t left = loop.blocks * loop.bs - position
    cdef uint64_t length = random_length(loop)
    while length > left:
        length = random_length(loop)
    loop.lengths[next_slot(loop)] = <unsigned>length
    return length


cdef uint64_t next_varied(Loop *loop) noexcept nogil:
    cdef uint64_t direction = random_direction(loop) if loop.mixed else loop.only
    cdef uint64_t position = loop.places.next(&loop.places, loop.random_state) * loop.bs
    choose_length(loop, position)
    return (position << 1) | direction


cdef uint64_t next_varied_sequential(Loop *loop) noexcept nogil:
    cdef uint64_t direction = random_direction(loop) if loop.mixed else loop.only
    cdef uint64_t position = loop.cursor[direction]
    cdef uint64_t past = position + choose_length(loop, position)
    loop.cursor[direction] = past if past + loop.bs <= loop.blocks * loop.bs else 0
    return (position << 1) | direction


cdef uint64_t next_counted(Loop *loop) noexcept nogil:
    """An I/O of a run that ends with its bytes: after the last one there is no free slot."""
    cdef uint64_t choice = loop.uncounted_io(loop)
    cdef unsigned slot = next_slot(loop)
    if loop.lengths[slot] < loop.remaining:
        loop.remaining -= loop.lengths[slot]
    else:
        loop.remaining = 0
        loop.stopping = True
        loop.free_slots[0] = slot
        loop.n_free = 1
    return choice


# Slots ---------------------------------------------------------------------------------------

cdef inline void stamp_data(Loop *loop, unsigned slot) noexcept nogil:
    """Make every 4 KiB about to be written unlike any other: its offset, then a sequence."""
    cdef char *data = loop.pool + slot * loop.slot_bytes
    cdef uint64_t position = 0
    if loop.pool == NULL:
        return  # the null engine moves no data
    while position + 16 <= loop.lengths[slot]:
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
    loop.offsets[slot] = loop.base_offset + (choice >> 1) * loop.unit
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
    if res == <int>loop.lengths[slot]:
        record(
            loop,
            loop.directions[slot],
            loop.lengths[slot],
            clock_to_ns(&loop.clock, now - loop.stamps[slot]),
            epoch,
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
    cdef uint64_t since = clock_to_ns(&loop.clock, clock_ticks(&loop.clock) - now)
    loop.deadline = now + clock_from_ns(&loop.clock, <uint64_t>loop.runtime_ns)
    loop.remaining = loop.total_bytes
    # Both ends count from the same moment: what was done since `now` is in the measured time.
    store_shared(loop.live + MEASURED_FROM_C, <uint64_t>clock_ns() - since)


cdef void begin(Loop *loop) noexcept nogil:
    cdef uint64_t now = clock_ticks(&loop.clock)
    loop.began = now
    loop.ramp_end = now + clock_from_ns(&loop.clock, <uint64_t>loop.ramp_ns)
    loop.remaining = <uint64_t>-1  # the ramp has no end but its time
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
    sqe.addr = <uint64_t>(loop.pool + slot * loop.slot_bytes)
    sqe.len = loop.lengths[slot]
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


cdef inline void forget_taken(Loop *loop) noexcept nogil:
    # The kernel may take a part of the batch, also when it reports an error or a signal:
    # what it left is stamped again when it is offered again.
    cdef unsigned left = uring_unsubmitted(&loop.ring)
    cdef unsigned taken = loop.n_pending - min(left, loop.n_pending)  # a cancel may wait there too
    cdef unsigned i
    for i in range(taken, loop.n_pending):
        loop.pending[i - taken] = loop.pending[i]
    loop.n_pending -= taken


cdef int submit_and_wait(Loop *loop, unsigned wait, int64_t timeout_ns) noexcept nogil:
    """Stamp the pending batch, hand it over, wait.  Returns 0 or -errno."""
    cdef uint64_t now = clock_ticks(&loop.clock)
    cdef unsigned i
    cdef int result
    for i in range(loop.n_pending):
        loop.stamps[loop.pending[i]] = now
    result = uring_enter(&loop.ring, wait, timeout_ns)
    forget_taken(loop)
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
    """Take back what the kernel has not taken, and ask it to cancel the rest."""
    cdef uring_sqe *sqe
    loop.ring.sq_local_tail -= loop.n_pending
    loop.in_flight -= loop.n_pending
    loop.n_pending = loop.n_filled = 0
    if uring_unsubmitted(&loop.ring) >= loop.ring.sq_entries:
        return -EBUSY  # SQPOLL: what the kernel's thread was given cannot be taken back
    sqe = uring_next_sqe(&loop.ring)
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
    if loop.polling & URING_SETUP_SQPOLL:
        return uring_publish(&loop.ring)  # its thread may sleep
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
        data = loop.pool + slot * loop.slot_bytes
        loop.stamps[slot] = clock_ticks(&loop.clock)
        if loop.directions[slot]:
            moved = pwrite(loop.fd, data, loop.lengths[slot], <int64_t>loop.offsets[slot])
        else:
            moved = pread(loop.fd, data, loop.lengths[slot], <int64_t>loop.offsets[slot])
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
            release_slot(
                loop,
                loop.pending[i],
                <int>loop.lengths[loop.pending[i]],
                now,
                current_epoch(loop),
            )
        look_at_clock(loop, now)
    return 0


# The general loop: the three above with all that they leave out -------------------------------
#
# `gather` decides what to start now and puts it into `pending`; `turn` hands that to the
# device, waits as long as `gather` allows, and settles what has completed.

cdef unsigned take_io(Loop *loop) noexcept nogil:
    return take_slot(loop)


cdef unsigned take_or_fsync(Loop *loop) noexcept nogil:
    """An fsync after every so many writes, among what is in flight, as fio does it."""
    cdef unsigned slot
    if loop.until_fsync == 0:
        loop.until_fsync = loop.fsync_every
        loop.n_free -= 1
        slot = loop.free_slots[loop.n_free]
        loop.directions[slot] = FSYNC_C
        loop.offsets[slot] = 0
        loop.in_flight += 1
        return slot
    slot = take_slot(loop)
    loop.until_fsync -= loop.directions[slot] == WRITE_C
    return slot


cdef unsigned take_trim(Loop *loop) noexcept nogil:
    cdef unsigned slot = take_slot(loop)
    loop.directions[slot] = TRIM_C
    return slot


cdef inline void add_pending(Loop *loop, unsigned slot) noexcept nogil:
    if loop.prepared != NULL:
        loop.prepared[slot] = clock_ticks(&loop.clock)
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
        add_pending(loop, slot)
        if loop.directions[slot] == FSYNC_C:
            continue  # it comes with the writes before it and is on no schedule
        loop.intended[slot] = due
        loop.live[STARTED_C] += 1
        loop.live[LATE_C] += due < loop.full_until
        next_arrival(loop)
        due = loop.began + loop.arrivals.due
    if loop.stopping:
        loop.deadline = now  # that was the last of `total_bytes`: nothing is due any more
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
    return 0 if loop.directions[slot] >= TRIM_C else <int>loop.lengths[slot]


cdef void settle(Loop *loop, unsigned slot, int res, uint64_t now) noexcept nogil:
    """`release_slot`, with every latency that was asked for."""
    cdef uint64_t epoch = current_epoch(loop)
    cdef unsigned kind = loop.directions[slot]
    cdef uint64_t length = moved_by(loop, slot)
    if loop.n_free == 0:
        loop.full_until = now
    if res == expected(loop, slot):
        record(loop, kind, length, clock_to_ns(&loop.clock, now - loop.stamps[slot]), epoch)
        if loop.rate and kind != FSYNC_C:
            record(
                loop, RESPONSE_C + kind, length,
                clock_to_ns(&loop.clock, now - loop.intended[slot]), epoch,
            )
        if loop.issued != NULL and kind != FSYNC_C:
            record(
                loop, SLAT_C + kind, length,
                clock_to_ns(&loop.clock, loop.issued[slot] - loop.prepared[slot]), epoch,
            )
            record(
                loop, CLAT_C + kind, length,
                clock_to_ns(&loop.clock, now - loop.issued[slot]), epoch,
            )
    else:
        record_error(loop, slot, res)
    loop.since_thought += kind != FSYNC_C
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


cdef void fill_any_sqe(Loop *loop, unsigned slot) noexcept nogil:
    cdef uring_sqe *sqe
    if loop.directions[slot] < TRIM_C:
        fill_sqe(loop, slot)
        return
    sqe = uring_next_sqe(&loop.ring)
    sqe.flags = loop.sqe_flags
    sqe.ioprio = 0
    sqe.fd = loop.sqe_fd
    sqe.len = 0
    sqe.op_flags = 0
    sqe.user_data = slot
    sqe.buf_index = 0
    if loop.directions[slot] == TRIM_C:
        sqe.opcode = URING_OP_URING_CMD
        sqe.off = URING_BLOCK_DISCARD
        sqe.addr = loop.offsets[slot]
        sqe.addr3 = loop.lengths[slot]
    else:
        sqe.opcode = URING_OP_FSYNC
        sqe.off = 0
        sqe.addr = 0
        sqe.addr3 = 0


cdef int submit_then_wait(Loop *loop, unsigned wait, int64_t timeout_ns) noexcept nogil:
    """`submit_and_wait` in two calls, with a stamp between them: fio's issue time."""
    cdef uint64_t now = clock_ticks(&loop.clock)
    cdef unsigned i
    cdef int result = 0
    if loop.n_pending:
        for i in range(loop.n_pending):
            loop.stamps[loop.pending[i]] = now
        result = uring_enter(&loop.ring, 0, 0)
        now = clock_ticks(&loop.clock)
        for i in range(loop.n_pending):
            loop.issued[loop.pending[i]] = now
        forget_taken(loop)
    # What was left would be taken by the second call, without a stamp.
    if result >= 0 and wait and not loop.n_pending:
        result = uring_enter(&loop.ring, wait, timeout_ns)
    if result == -EAGAIN or result == -EBUSY:
        return 0
    return result if result < 0 else 0


cdef int submit_to_thread(Loop *loop, unsigned wait, int64_t timeout_ns) noexcept nogil:
    """`submit_and_wait` with SQPOLL: no system call, unless somebody has to sleep or to wake."""
    cdef uint64_t now = clock_ticks(&loop.clock)
    cdef unsigned i
    cdef int result = 0
    if loop.n_pending:
        for i in range(loop.n_pending):
            loop.stamps[loop.pending[i]] = now
        loop.n_pending = 0  # all of it is the thread's
        result = uring_publish(&loop.ring)
    if result < 0 or wait == 0:
        return result
    for i in range(SPINS):
        if uring_cq_tail(&loop.ring) != loop.ring.cq_head[0]:
            return 0
        spin_pause()
    result = uring_enter(&loop.ring, wait, timeout_ns)
    return result if result < 0 else 0


cdef int turn_ring(Loop *loop) noexcept nogil:
    cdef int result
    while loop.n_filled < loop.n_pending:
        fill_any_sqe(loop, loop.pending[loop.n_filled])
        loop.n_filled += 1
    result = loop.submit(loop, loop.wait_for, max(loop.patience_ns, 0))
    loop.n_filled = loop.n_pending
    return result if result < 0 else collect_ring(loop)


cdef int64_t transfer(Loop *loop, unsigned slot) noexcept nogil:
    """Do the slot's I/O in one system call; what it moved, or -errno."""
    cdef char *data = loop.pool + slot * loop.slot_bytes
    cdef int64_t offset = <int64_t>loop.offsets[slot]
    cdef int64_t moved
    if loop.directions[slot] == FSYNC_C:
        moved = fsync(loop.fd)
    elif loop.directions[slot] == TRIM_C:
        return block_discard(loop.fd, loop.offsets[slot], loop.lengths[slot])
    elif loop.directions[slot] == WRITE_C:
        moved = pwrite(loop.fd, data, loop.lengths[slot], offset)
    else:
        moved = pread(loop.fd, data, loop.lengths[slot], offset)
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


cdef int think(Loop *loop) noexcept nogil:
    """Let what is in flight complete, then pause, as fio does; or -errno."""
    cdef uint64_t until, now
    cdef int result = 0
    while result == 0 and loop.in_flight and not loop.stopping:
        loop.wait_for, loop.patience_ns = loop.in_flight, WAIT_NS
        result = loop.turn(loop)
    now = clock_ticks(&loop.clock)
    until = now + clock_from_ns(&loop.clock, <uint64_t>loop.think_ns)
    while now < until and not loop.stopping:
        clock_sleep(min(WAIT_NS, <int64_t>clock_to_ns(&loop.clock, until - now)))
        now = clock_ticks(&loop.clock)
        look_at_clock(loop, now)
    loop.since_thought = 0
    return result


cdef int run_general(Loop *loop) noexcept nogil:
    cdef int result = 0
    clock_sharpen_sleep()
    begin(loop)
    while result == 0 and not loop.stopping:
        loop.gather(loop)
        result = loop.turn(loop)
        if loop.think_ns and loop.since_thought >= loop.think_every and result == 0:
            result = think(loop)
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


def probe(*, bint hipri=False, bint sqthread_poll=False):
    """Open and close a ring.  Raises `OSError` with the kernel's errno when it refuses."""
    cdef uring ring
    cdef int result = uring_open(&ring, 1, polling_flags(hipri, sqthread_poll))
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    uring_close(&ring)


def probe_polled_read(int fd, uint64_t offset, unsigned n_bytes):
    """Read once and poll for the completion.

    Raises `OSError` with what the device answers: EOPNOTSUPP where it cannot be polled.
    """
    cdef uring ring
    cdef uring_sqe *sqe
    cdef void *data
    cdef int result = uring_open(&ring, 1, URING_SETUP_IOPOLL)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    data = pool_allocate(n_bytes)
    sqe = uring_next_sqe(&ring)
    sqe.opcode = URING_OP_READ
    sqe.fd = fd
    sqe.off = offset
    sqe.addr = <uint64_t>data
    sqe.len = n_bytes
    with nogil:
        result = uring_enter(&ring, 1, WAIT_NS)
        if result >= 0:
            result = ring.cqes[0].res if uring_cq_tail(&ring) else -ETIME
    uring_close(&ring)
    munmap(data, n_bytes)
    if result < 0:
        raise OSError(-result, os.strerror(-result))


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
    """One job: its ring, slots, buffers and random numbers.

    Use it once, in a fresh thread: `open`, `register`, `run`.

    `live`, `ramp` (uint64[HEAD_SIZE + n * BLOCK_SIZE]) and `control` (uint64[CONTROL_SIZE])
    are shared with the watcher as described in `_ioloop.pxd`.  `notes` says after `run` what
    the kernel granted.  Sizes are bytes, times nanoseconds; `ticks_per_second` is the TSC's, 0 to use
    CLOCK_MONOTONIC.
    """

    def __cinit__(
        self,
        *,
        str engine not None,
        int fd,
        uint64_t bs,
        uint64_t largest_bs,
        const uint64_t[:, ::1] sizes,
        uint64_t blocks,
        uint64_t offset,
        unsigned iodepth,
        unsigned batch_submit,
        unsigned batch_complete,
        unsigned read_pct,
        bint is_random,
        bint norandommap,
        str distribution not None,
        double shape,
        double centre,
        const uint64_t[:, ::1] zones,
        uint64_t total_bytes,
        int64_t runtime_ns,
        int64_t ramp_ns,
        int64_t drain_ns,
        int64_t null_latency_ns,
        uint64_t ticks_per_second,
        uint64_t seed,
        bint continue_on_error,
        uint64_t rate,
        bint is_poisson,
        unsigned fsync_every,
        bint trims,
        int64_t think_ns,
        unsigned think_every,
        bint slat,
        bint hipri,
        bint sqthread_poll,
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
        loop.slot_bytes = largest_bs // bs * bs if sizes is None else largest_bs
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
        seed_random(loop.fill_state, seed ^ DATA_STREAM)
        # A stream of their own: the same seed gives the same offsets at every rate.
        seed_random(loop.arrival_state, ~seed)
        loop.rate, loop.is_poisson = rate, is_poisson
        loop.fsync_every = loop.until_fsync = fsync_every
        loop.trims = trims
        loop.think_ns, loop.think_every = think_ns, think_every
        loop.polling = polling_flags(hipri, sqthread_poll)
        self._zones, self._sizes = zones, sizes
        choose_loop(loop, self._engine, slat)
        choose_places(self, distribution, shape, centre)
        choose_next(loop, 100 if trims else read_pct, is_random, norandommap)
        choose_sizes(self, is_random)
        choose_end(loop, total_bytes)
        allocate_slots(loop)
        if self._engine != NULL_DEVICE and not trims:
            allocate_pool(loop)

    def __dealloc__(self):
        cdef Loop *loop = &self._loop
        uring_close(&loop.ring)
        # The kernel may still write to the buffers of I/Os that never came back.
        if loop.pool != NULL and not loop.hung:
            munmap(loop.pool, loop.pool_bytes)
        free(loop.stamps)
        free(loop.offsets)
        free(loop.lengths)
        free(loop.directions)
        free(loop.free_slots)
        free(loop.pending)
        free(loop.intended)
        free(loop.flying)
        free(loop.prepared)
        free(loop.issued)

    @property
    def hung(self):
        """Whether the kernel kept I/Os past the drain and a cancel."""
        return bool(self._loop.hung)

    @property
    def finished(self):
        """Whether all of `total_bytes` was issued."""
        return self._loop.total_bytes > 0 and self._loop.remaining == 0

    @property
    def iodepth(self):
        """The depth in effect: 1 for the sync engine."""
        return self._loop.iodepth

    def preview(self, uint64_t[:, ::1] ios not None):
        """Decide the next I/Os as `run` does, but issue none: they are used up.

        Fills the rows of `ios` with offset, bytes and direction.  Returns how many there are.
        """
        cdef Loop *loop = &self._loop
        cdef Py_ssize_t row
        cdef unsigned slot
        if ios.shape[1] != 3:
            raise ValueError("a row is offset, bytes and direction")
        for row in range(ios.shape[0]):
            slot = take_trim(loop) if loop.trims else take_slot(loop)
            ios[row, 0] = loop.offsets[slot]
            ios[row, 1] = loop.lengths[slot]
            ios[row, 2] = loop.directions[slot]
            give_back(loop, slot)
            if loop.stopping:
                return row + 1
        return ios.shape[0]

    def open(self):
        """Fill the buffers and open the ring.  Raises `OSError` when the kernel refuses.

        This, `register` and `run` belong to one thread, in this order.
        """
        cdef Loop *loop = &self._loop
        cdef int result
        with nogil:
            fill_pool(loop)
        if self._engine == RING:
            result = uring_open(&loop.ring, loop.iodepth, loop.polling)
            if result < 0:
                raise OSError(-result, os.strerror(-result))
            self.notes["setup_flags"] = setup_flag_names(loop.ring.setup_flags)

    def register(self):
        """Register ring, file and buffers; `notes` says what the kernel did not grant.

        Comes after every job's `open`: registered buffers and new rings share one limit of
        locked memory, and a job can do without the first only.
        """
        if self._engine == RING:
            register_resources(self)
            if self._loop.trims:
                choose_trim(self)

    def run(self):
        """Do I/O until the time is over, `control[STOP]` is set, or an I/O fails.

        Raises `OSError` when the ring cannot be used.  Errors of single I/Os are counted in
        `live` and do not raise.
        """
        cdef Loop *loop = &self._loop
        cdef int result
        with nogil:
            result = loop.run(loop)
            store_shared(loop.live + ENDED_AT_C, <uint64_t>clock_ns())
            uring_close(&loop.ring)
        if result < 0:
            raise OSError(-result, os.strerror(-result))


cdef int choose_places(Job job, str kind, double shape, double centre) except -1:
    """How blocks are drawn where neither a map nor a sequence says; see distribution.py."""
    cdef Loop *loop = &job._loop
    cdef bint scattered = centre < 0
    distribution_init(&loop.places, loop.blocks, shape, centre)
    loop.places.next = next_uniform_block
    if kind == "zipf":
        zipf_init(&loop.places)
        loop.places.next = next_zipf if scattered else next_zipf_centred
    elif kind == "pareto":
        loop.places.next = next_pareto if scattered else next_pareto_centred
    elif kind == "normal":
        loop.places.next = next_normal
    elif kind == "zoned":
        if job._zones is None or not job._zones.shape[0] or job._zones.shape[1] != 3:
            raise ValueError("zones need rows of bound, first block and blocks")
        loop.places.zones, loop.places.n_zones = &job._zones[0, 0], job._zones.shape[0]
        loop.places.next = next_zoned
    elif kind != "random":
        raise ValueError(f"no distribution is called {kind}")
    if kind in ("zipf", "pareto") and scattered:
        map_shuffle(&loop.places.scattered, loop.random_state)
    return 0


cdef void choose_next(
    Loop *loop, unsigned read_pct, bint is_random, bint norandommap
) noexcept:
    cdef bint mixed = 0 < read_pct < 100
    loop.only = 0 if read_pct else 1
    loop.mixed = mixed
    loop.read_below = <uint64_t>-1 / 100 * read_pct
    map_init(&loop.map, loop.blocks)
    if not is_random:
        loop.next_io = next_sequential_mixed if mixed else next_sequential
    elif loop.places.next != next_uniform_block:
        loop.next_io = next_placed_mixed if mixed else next_placed
    elif norandommap:
        loop.next_io = next_uniform_mixed if mixed else next_uniform
    else:
        loop.next_io = next_mapped_mixed if mixed else next_mapped


cdef int allocate_pool(Loop *loop) except -1:
    loop.pool_bytes = <size_t>loop.iodepth * loop.slot_bytes
    loop.pool = <char *>pool_allocate(loop.pool_bytes)
    if loop.pool == NULL:
        raise MemoryError(f"no memory for {loop.iodepth} buffers of {loop.slot_bytes} bytes")
    return 0


cdef void fill_pool(Loop *loop) noexcept nogil:
    """Random data, so that writes are incompressible; ends early when a stop is asked for.

    The numbers are not the offsets': those must not depend on how much data there is.  The
    job's own thread does it: the memory is then near its CPU.
    """
    cdef uint64_t i
    # The mapping is a whole number of pages, so the last word fits.
    for i in range((loop.pool_bytes + 7) / 8):
        if i % STAMP_EVERY == 0 and load_shared(loop.control + STOP_C):
            return
        (<uint64_t *>loop.pool)[i] = next_random(loop.fill_state)


cdef int choose_sizes(Job job, bint is_random) except -1:
    """One size for all I/Os, or a size drawn for each; see blocksizes.py."""
    cdef Loop *loop = &job._loop
    loop.unit = loop.bs
    if job._sizes is not None:
        if not job._sizes.shape[0] or job._sizes.shape[1] != 2:
            raise ValueError("sizes need rows of bound and bytes")
        loop.sizes, loop.n_sizes = &job._sizes[0, 0], job._sizes.shape[0]
    if loop.slot_bytes > loop.bs:
        loop.unit = 1
        loop.next_io = next_varied if is_random else next_varied_sequential
    return 0


cdef void choose_end(Loop *loop, uint64_t total_bytes) noexcept:
    loop.total_bytes = loop.remaining = total_bytes
    if total_bytes:
        loop.uncounted_io = loop.next_io
        loop.next_io = next_counted


cdef unsigned polling_flags(bint hipri, bint sqthread_poll):
    return (URING_SETUP_IOPOLL if hipri else 0) | (URING_SETUP_SQPOLL if sqthread_poll else 0)


cdef int choose_loop(Loop *loop, int engine, bint slat) except -1:
    """The loop, and the functions of the general one if anything needs it."""
    loop.submit = submit_and_wait
    loop.is_general = (
        loop.rate or loop.fsync_every or loop.trims or loop.think_ns or slat or loop.polling & URING_SETUP_SQPOLL
    )
    if engine == RING:
        loop.run, loop.turn, loop.finish = run_ring, turn_ring, end_ring
    elif engine == SYNC:
        loop.run, loop.turn, loop.finish = run_sync, turn_sync, end_sync
    else:
        loop.run, loop.turn, loop.finish = run_null, turn_null, end_null
    if not loop.is_general:
        return 0
    loop.run = run_general
    loop.take = take_trim if loop.trims else take_or_fsync if loop.fsync_every else take_io
    loop.gather = gather_due if loop.rate else gather_free
    loop.flying = <unsigned *>allocate(loop.iodepth, sizeof(unsigned))
    if (loop.fsync_every or loop.trims) and loop.n_blocks < FSYNC_C + 1:
        raise ValueError("live has no block for trims and fsyncs")
    if loop.polling & URING_SETUP_SQPOLL:
        loop.submit = submit_to_thread
    if slat:
        if engine != RING or loop.n_blocks < CLAT_C + 4:
            raise ValueError("slat and clat need the ring, and their blocks in live")
        loop.submit = submit_then_wait
        loop.prepared = <uint64_t *>allocate(loop.iodepth, sizeof(uint64_t))
        loop.issued = <uint64_t *>allocate(loop.iodepth, sizeof(uint64_t))
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
    loop.stamps = <uint64_t *>allocate(loop.iodepth, sizeof(uint64_t))
    loop.offsets = <uint64_t *>allocate(loop.iodepth, sizeof(uint64_t))
    loop.lengths = <unsigned *>allocate(loop.iodepth, sizeof(unsigned))
    loop.directions = <uint8_t *>allocate(loop.iodepth, sizeof(uint8_t))
    loop.free_slots = <unsigned *>allocate(loop.iodepth, sizeof(unsigned))
    loop.pending = <unsigned *>allocate(loop.iodepth, sizeof(unsigned))
    for slot in range(loop.iodepth):
        loop.free_slots[slot] = loop.iodepth - 1 - slot
        loop.lengths[slot] = <unsigned>loop.bs
    loop.n_free = loop.iodepth
    return 0


cdef void register_resources(Job job):
    cdef Loop *loop = &job._loop
    cdef int result
    job.notes["registered_ring"] = granted(uring_register_ring(&loop.ring))
    result = uring_register_file(&loop.ring, loop.fd)
    job.notes["registered_files"] = granted(result)
    loop.sqe_fd = 0 if result >= 0 else loop.fd
    loop.sqe_flags = URING_SQE_FIXED_FILE if result >= 0 else 0
    loop.opcodes[0], loop.opcodes[1] = URING_OP_READ, URING_OP_WRITE
    if loop.pool == NULL:
        return  # a trim has no data
    result = uring_register_buffer(&loop.ring, loop.pool, loop.pool_bytes)
    job.notes["registered_buffers"] = granted(result)
    if result >= 0:
        loop.opcodes[0], loop.opcodes[1] = URING_OP_READ_FIXED, URING_OP_WRITE_FIXED


cdef void choose_trim(Job job):
    """Through the ring where the kernel can, else by one ioctl at a time."""
    cdef Loop *loop = &job._loop
    if ring_discards(loop):
        job.notes["trim"] = "BLOCK_URING_CMD_DISCARD"
        return
    job.notes["trim"] = "BLKDISCARD"
    loop.turn, loop.finish = turn_sync, end_sync
    loop.iodepth, loop.n_free, loop.free_slots[0] = 1, 1, 0


cdef bint ring_discards(Loop *loop):
    """Whether the device takes discards from the ring: one of no bytes is refused as EINVAL."""
    cdef uring_sqe *sqe
    cdef unsigned head
    cdef int result
    if not uring_has(&loop.ring, URING_OP_URING_CMD):
        return False
    sqe = uring_next_sqe(&loop.ring)
    sqe.opcode = URING_OP_URING_CMD
    sqe.flags = loop.sqe_flags
    sqe.fd = loop.sqe_fd
    sqe.off = URING_BLOCK_DISCARD
    head = loop.ring.cq_head[0]
    result = uring_enter(&loop.ring, 1, WAIT_NS)
    if result < 0 or uring_cq_tail(&loop.ring) == head:
        return False
    result = loop.ring.cqes[head & loop.ring.cq_mask].res
    uring_cq_advance(&loop.ring, head + 1)
    return result == -EINVAL


cdef object granted(int result):
    """True, or the errno's name of why not."""
    import errno as names
    return True if result >= 0 else names.errorcode.get(-result, str(-result))


cdef list setup_flag_names(unsigned flags):
    known = (
        ("IOPOLL", URING_SETUP_IOPOLL),
        ("SQPOLL", URING_SETUP_SQPOLL),
        ("SINGLE_ISSUER", URING_SETUP_SINGLE_ISSUER),
        ("DEFER_TASKRUN", URING_SETUP_DEFER_TASKRUN),
        ("COOP_TASKRUN", URING_SETUP_COOP_TASKRUN),
        ("NO_SQARRAY", URING_SETUP_NO_SQARRAY),
    )
    return [name for name, bit in known if flags & bit]
