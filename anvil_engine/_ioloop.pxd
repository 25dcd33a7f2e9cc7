"""What a job is, and what it shares with the thread that watches it.

`live` is written by the job alone and copied by the watcher at any moment: aligned
64-bit counters, so no value is ever torn.  It has a head, then a block for each class of
what is recorded; a job that needs fewer classes has fewer blocks.  `ramp` is the job's own
copy of `live` at the end of the ramp; what was measured is `live - ramp`.  `control` is
written by the watcher.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from anvil_engine._arrivals cimport arrival_clock
from anvil_engine._clock cimport tick_clock
from anvil_engine._uring cimport uring

cdef enum:
    SUB_BITS = 6
    SUB_BUCKETS = 64
    N_GROUPS = 36
    N_BUCKETS_C = 36 * 64
    N_ERRNOS_C = 160          # Linux errno values are below 134; index 0 is a short transfer
    N_EPOCHS = 4

# The head of `live`.
cdef enum:
    MEASURED_FROM_C = 0       # CLOCK_MONOTONIC ns; 0 until the ramp is over
    ENDED_AT_C
    FIRST_ERRNO_C
    FIRST_ERROR_OFFSET_C
    STARTED_C                 # open loop: I/Os that were started,
    LATE_C                    # those of them that had to wait for a free slot,
    MISSED_C                  # and those that were due at the end and not started;
    BEHIND_NS_C               # how long the first of these had been due
    HEAD_SIZE_C = 16

# The classes; a job has the first 2, 4, 8 or 16 of these blocks.
cdef enum:
    READ_C = 0
    WRITE_C = 1
    RESPONSE_C = 4            # + direction: from the intended start, open loop only

# One block.
cdef enum:
    IOS_C = 0
    BYTES_C = 1
    LAT_SUM_C = 2
    CLAMPED_C = 3
    LAT_MIN_C = 4
    LAT_MAX_C = 5
    EPOCH_MAX_C = 8           # N_EPOCHS values: the slowest I/O of each recent interval
    ERRORS_C = 16
    COUNTS_C = 16 + 160
    BLOCK_SIZE_C = 16 + 160 + 36 * 64

cdef enum:
    STOP_C = 0
    EPOCH_C = 8               # a cache line of its own
    CONTROL_SIZE_C = 16

cdef struct Loop:
    # What to do; constant once the loop runs.
    int fd                    # borrowed from the target, open for the whole run
    unsigned iodepth
    unsigned batch_submit
    unsigned batch_complete
    bint continue_on_error
    uint64_t bs
    uint64_t blocks
    uint64_t base_offset
    uint64_t read_below       # a random number below this means read
    uint64_t only             # direction when it does not mix
    int (*run)(Loop *loop) noexcept nogil
    uint64_t (*next_io)(Loop *loop) noexcept nogil
    tick_clock clock
    int64_t runtime_ns
    int64_t ramp_ns
    int64_t drain_ns
    int64_t null_latency_ns
    # Where it is.
    uint64_t random_state[4]
    uint64_t cursor[2]
    uint64_t sequence
    uint64_t epoch            # the watcher's interval as this job last saw it
    uint64_t ramp_end         # ticks, as is the next
    uint64_t deadline
    bint stopping
    bint hung                 # the kernel kept I/Os: their buffers are never freed
    int failure               # -errno of the ring itself
    # Slots: one per I/O in flight.
    char *pool                # owned: mapped and unmapped by Job
    size_t pool_bytes
    uint64_t *stamps          # ticks; owned, as are the next four; all of iodepth elements
    uint64_t *offsets
    uint8_t *directions
    unsigned *free_slots
    unsigned *pending         # slots whose SQEs the kernel has not taken yet, in order
    unsigned n_free
    unsigned n_pending
    unsigned in_flight        # filled and not reaped, pending ones included
    # The ring.
    uring ring
    int sqe_fd
    uint8_t sqe_flags
    uint8_t opcodes[2]
    # Shared; borrowed from the memoryviews that Job holds.
    uint64_t *live
    uint64_t *ramp
    const uint64_t *control
    unsigned n_blocks         # of live and of ramp
    # What only the general loop uses.
    bint is_general
    int (*finish)(Loop *loop, int result) noexcept nogil
    int (*submit)(Loop *loop, unsigned wait, int64_t timeout_ns) noexcept nogil
    void (*gather)(Loop *loop) noexcept nogil      # chooses what to start now
    unsigned (*take)(Loop *loop) noexcept nogil    # decides one I/O and its slot
    int (*turn)(Loop *loop) noexcept nogil         # submits it, and settles what completed
    unsigned n_filled         # of pending: those that have an SQE
    unsigned wait_for         # what `gather` leaves for `turn`: how many completions to
    int64_t patience_ns       # wait for, and how long at most
    uint64_t rate             # intended starts a second; 0 is a closed loop
    bint is_poisson
    arrival_clock arrivals
    uint64_t arrival_state[4]
    uint64_t began            # ticks, as are the next two; the arrivals count from here
    uint64_t full_until       # when every slot was last found in flight
    uint64_t *intended        # by slot; owned, iodepth elements
    unsigned *flying          # the null device's slots, oldest first; owned, iodepth elements
    unsigned first_flying
    unsigned n_flying


cdef class Job:
    cdef Loop _loop
    cdef uint64_t[::1] _live  # keep the memory of _loop.live … _loop.control alive
    cdef uint64_t[::1] _ramp
    cdef const uint64_t[::1] _control
    cdef readonly dict notes
    cdef int _engine
