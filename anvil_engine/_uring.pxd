"""What `_ioloop` may call in C: the ring, the buffer pool, bit arithmetic."""

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t, uint8_t


cdef extern from "_uring.h" nogil:
    enum:
        URING_OP_FSYNC
        URING_OP_READ_FIXED
        URING_OP_WRITE_FIXED
        URING_OP_ASYNC_CANCEL
        URING_OP_READ
        URING_OP_WRITE
        URING_OP_URING_CMD
        URING_BLOCK_DISCARD
        URING_SQE_FIXED_FILE
        URING_ASYNC_CANCEL_ANY
        URING_SETUP_IOPOLL
        URING_SETUP_SQPOLL
        URING_SETUP_COOP_TASKRUN
        URING_SETUP_SINGLE_ISSUER
        URING_SETUP_DEFER_TASKRUN
        URING_SETUP_NO_SQARRAY

    struct uring_sqe:
        uint8_t opcode
        uint8_t flags
        uint16_t ioprio
        int32_t fd
        uint64_t off
        uint64_t addr
        uint32_t len
        uint32_t op_flags
        uint64_t user_data
        uint16_t buf_index
        uint64_t addr3

    struct uring_cqe:
        uint64_t user_data
        int32_t res
        uint32_t flags

    struct uring:
        int fd
        unsigned setup_flags
        unsigned cq_mask
        unsigned sq_entries
        unsigned sq_local_tail
        unsigned *cq_head
        uring_cqe *cqes

    int uring_open(uring *ring, unsigned entries, unsigned polling)
    void uring_close(uring *ring)
    int uring_register_ring(uring *ring)
    int uring_register_file(uring *ring, int fd)
    int uring_register_buffer(uring *ring, void *base, size_t bytes)
    int uring_has(uring *ring, unsigned opcode)
    uring_sqe *uring_next_sqe(uring *ring)
    unsigned uring_unsubmitted(const uring *ring)
    int uring_enter(uring *ring, unsigned wait, int64_t timeout_ns)
    int uring_publish(uring *ring)
    void spin_pause()
    unsigned uring_cq_tail(const uring *ring)
    void uring_cq_advance(uring *ring, unsigned head)
    unsigned uring_overflowed(const uring *ring)

    int block_discard(int fd, uint64_t offset, uint64_t bytes)
    void *pool_allocate(size_t bytes)
    uint64_t multiply_high(uint64_t a, uint64_t b)
    unsigned bit_length(uint64_t value)
    uint64_t load_shared(const uint64_t *value)
    void store_shared(uint64_t *value, uint64_t to)
