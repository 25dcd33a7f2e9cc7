/*
 * io_uring by system call: the kernel's numbers and structures, the mapped rings, and the
 * memory ordering on their heads and tails.  Layouts and numbers are those of the kernel's
 * user interface (io_uring(7)); written down here so that the build needs neither liburing
 * nor new kernel headers.
 *
 * Every function returns a value >= 0, or -errno.
 */
#ifndef ANVIL_URING_H
#define ANVIL_URING_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup 425
#define __NR_io_uring_enter 426
#define __NR_io_uring_register 427
#endif

enum {
	URING_OP_NOP = 0,
	URING_OP_FSYNC = 3,
	URING_OP_READ_FIXED = 4,
	URING_OP_WRITE_FIXED = 5,
	URING_OP_ASYNC_CANCEL = 14,
	URING_OP_READ = 22,
	URING_OP_WRITE = 23,
	URING_OP_URING_CMD = 46,
};

/* Of the block layer: `addr` and `addr3` are offset and length in bytes (Linux 6.12). */
enum { URING_BLOCK_DISCARD = 0x1200 };

enum { URING_SQE_FIXED_FILE = 1u << 0 };

enum {
	URING_SETUP_IOPOLL = 1u << 0,
	URING_SETUP_SQPOLL = 1u << 1,
	URING_SETUP_CQSIZE = 1u << 3,
	URING_SETUP_COOP_TASKRUN = 1u << 8,
	URING_SETUP_SINGLE_ISSUER = 1u << 12,
	URING_SETUP_DEFER_TASKRUN = 1u << 13,
	URING_SETUP_NO_SQARRAY = 1u << 16,
};

enum {
	URING_ENTER_GETEVENTS = 1u << 0,
	URING_ENTER_SQ_WAKEUP = 1u << 1,
	URING_ENTER_EXT_ARG = 1u << 3,
	URING_ENTER_REGISTERED_RING = 1u << 4,
};

enum {
	URING_REGISTER_BUFFERS = 0,
	URING_REGISTER_FILES = 2,
	URING_REGISTER_PROBE = 8,
	URING_REGISTER_RING_FDS = 20,
};

enum { URING_FEAT_SINGLE_MMAP = 1u << 0, URING_FEAT_EXT_ARG = 1u << 8 };

enum { URING_SQ_NEED_WAKEUP = 1u << 0 };

enum { URING_SQ_IDLE_MS = 1000 }; /* the kernel's submitting thread sleeps after as long */

enum { URING_ASYNC_CANCEL_ANY = 1u << 2 };

struct uring_sqe {
	uint8_t opcode;
	uint8_t flags;
	uint16_t ioprio;
	int32_t fd;
	uint64_t off;
	uint64_t addr;
	uint32_t len;
	uint32_t op_flags;
	uint64_t user_data;
	uint16_t buf_index;
	uint16_t personality;
	int32_t splice_fd_in;
	uint64_t addr3;
	uint64_t pad;
};

struct uring_cqe {
	uint64_t user_data;
	int32_t res;
	uint32_t flags;
};

struct uring_sq_offsets {
	uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, resv1;
	uint64_t user_addr;
};

struct uring_cq_offsets {
	uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1;
	uint64_t user_addr;
};

struct uring_params {
	uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd;
	uint32_t resv[3];
	struct uring_sq_offsets sq_off;
	struct uring_cq_offsets cq_off;
};

struct uring_rsrc_update {
	uint32_t offset;
	uint32_t resv;
	uint64_t data;
};

struct uring_probe {
	uint8_t last_op, ops_len;
	uint16_t resv;
	uint32_t resv2[3];
	struct {
		uint8_t op, resv;
		uint16_t flags; /* 1: supported */
		uint32_t resv2;
	} ops[256];
};

struct uring_timespec {
	int64_t tv_sec;
	int64_t tv_nsec;
};

struct uring_getevents_arg {
	uint64_t sigmask;
	uint32_t sigmask_sz;
	uint32_t min_wait_usec;
	uint64_t ts;
};

_Static_assert(sizeof(struct uring_sqe) == 64, "an SQE has 64 bytes");
_Static_assert(sizeof(struct uring_cqe) == 16, "a CQE has 16 bytes");
_Static_assert(sizeof(struct uring_params) == 120, "io_uring_params has 120 bytes");

struct uring {
	int fd;               /* owned: closed by uring_close */
	int enter_fd;         /* fd, or the index of the registered ring */
	unsigned enter_flags; /* REGISTERED_RING when enter_fd is an index */
	unsigned setup_flags; /* what the kernel accepted */
	unsigned sq_mask, cq_mask, sq_entries;
	unsigned sq_local_tail; /* SQEs filled; published by uring_enter */
	unsigned *sq_head, *sq_tail, *sq_flags, *sq_array;
	unsigned *cq_head, *cq_tail, *cq_overflow;
	struct uring_sqe *sqes;
	struct uring_cqe *cqes;
	void *ring_map; /* owned: unmapped by uring_close */
	size_t ring_bytes, sqe_bytes;
};

static inline int uring_setup_call(unsigned entries, struct uring_params *params)
{
	long fd = syscall(__NR_io_uring_setup, entries, params);
	return fd < 0 ? -errno : (int)fd;
}

static inline int uring_register_call(int fd, unsigned opcode, const void *arg, unsigned count)
{
	long result = syscall(__NR_io_uring_register, fd, opcode, arg, count);
	return result < 0 ? -errno : (int)result;
}

static inline int uring_map(struct uring *ring, const struct uring_params *params)
{
	size_t sq_bytes = params->sq_off.array + params->sq_entries * sizeof(unsigned);
	size_t cq_bytes = params->cq_off.cqes + params->cq_entries * sizeof(struct uring_cqe);

	/* Both rings share one mapping since Linux 5.4, long before anything else needed here. */
	if (!(params->features & URING_FEAT_SINGLE_MMAP) || !(params->features & URING_FEAT_EXT_ARG))
		return -ENOSYS;
	ring->ring_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
	ring->sqe_bytes = params->sq_entries * sizeof(struct uring_sqe);
	ring->ring_map = mmap(NULL, ring->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			      ring->fd, 0);
	if (ring->ring_map == MAP_FAILED) {
		ring->ring_map = NULL;
		return -errno;
	}
	ring->sqes = mmap(NULL, ring->sqe_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			  ring->fd, 0x10000000ll);
	if (ring->sqes == MAP_FAILED) {
		ring->sqes = NULL;
		return -errno;
	}
	return 0;
}

static inline void uring_close(struct uring *ring)
{
	if (ring->sqes)
		munmap(ring->sqes, ring->sqe_bytes);
	if (ring->ring_map)
		munmap(ring->ring_map, ring->ring_bytes);
	if (ring->fd >= 0)
		close(ring->fd);
	memset(ring, 0, sizeof(*ring));
	ring->fd = -1;
}

static inline void uring_locate(struct uring *ring, const struct uring_params *params)
{
	char *base = ring->ring_map;

	ring->sq_entries = params->sq_entries;
	ring->sq_mask = params->sq_entries - 1;
	ring->cq_mask = params->cq_entries - 1;
	ring->sq_head = (unsigned *)(base + params->sq_off.head);
	ring->sq_tail = (unsigned *)(base + params->sq_off.tail);
	ring->sq_flags = (unsigned *)(base + params->sq_off.flags);
	ring->cq_head = (unsigned *)(base + params->cq_off.head);
	ring->cq_tail = (unsigned *)(base + params->cq_off.tail);
	ring->cq_overflow = (unsigned *)(base + params->cq_off.overflow);
	ring->cqes = (struct uring_cqe *)(base + params->cq_off.cqes);
	if (!(ring->setup_flags & URING_SETUP_NO_SQARRAY)) {
		ring->sq_array = (unsigned *)(base + params->sq_off.array);
		for (unsigned i = 0; i < params->sq_entries; i++)
			ring->sq_array[i] = i;
	}
}

/*
 * Open a ring with the first set of flags that this kernel takes: newest and fastest first.
 * `polling` is of IOPOLL and SQPOLL; these are never given up.
 */
static inline int uring_open(struct uring *ring, unsigned entries, unsigned polling)
{
	static const unsigned wanted[] = {
		URING_SETUP_SINGLE_ISSUER | URING_SETUP_DEFER_TASKRUN | URING_SETUP_NO_SQARRAY,
		URING_SETUP_SINGLE_ISSUER | URING_SETUP_DEFER_TASKRUN,
		URING_SETUP_COOP_TASKRUN,
		0,
	};
	/* With SQPOLL task work is the kernel thread's. */
	unsigned never = polling & URING_SETUP_SQPOLL
				 ? URING_SETUP_DEFER_TASKRUN | URING_SETUP_COOP_TASKRUN
				 : 0;
	struct uring_params params;
	int result = -EINVAL;

	memset(ring, 0, sizeof(*ring));
	ring->fd = -1;
	for (unsigned i = 0; i < sizeof(wanted) / sizeof(*wanted) && result == -EINVAL; i++) {
		memset(&params, 0, sizeof(params));
		params.flags = (wanted[i] & ~never) | polling;
		params.sq_thread_idle = polling & URING_SETUP_SQPOLL ? URING_SQ_IDLE_MS : 0;
		result = uring_setup_call(entries, &params);
	}
	if (result < 0)
		return result;
	ring->fd = ring->enter_fd = result;
	ring->setup_flags = params.flags;
	result = uring_map(ring, &params);
	if (result < 0) {
		uring_close(ring);
		return result;
	}
	uring_locate(ring, &params);
	return 0;
}

/* A registered ring saves the descriptor look-up of each enter; valid in this thread only. */
static inline int uring_register_ring(struct uring *ring)
{
	struct uring_rsrc_update update = { .offset = -1u, .data = (uint64_t)ring->fd };
	int result = uring_register_call(ring->fd, URING_REGISTER_RING_FDS, &update, 1);

	if (result != 1)
		return result < 0 ? result : -EINVAL;
	ring->enter_fd = (int)update.offset;
	ring->enter_flags = URING_ENTER_REGISTERED_RING;
	return 0;
}

static inline int uring_register_file(struct uring *ring, int fd)
{
	return uring_register_call(ring->fd, URING_REGISTER_FILES, &fd, 1);
}

static inline int uring_register_buffer(struct uring *ring, void *base, size_t bytes)
{
	struct iovec whole = { .iov_base = base, .iov_len = bytes };

	return uring_register_call(ring->fd, URING_REGISTER_BUFFERS, &whole, 1);
}

/* Whether this kernel has the operation; 0 also where it cannot be asked. */
static inline int uring_has(struct uring *ring, unsigned opcode)
{
	struct uring_probe probe;

	memset(&probe, 0, sizeof(probe));
	if (uring_register_call(ring->fd, URING_REGISTER_PROBE, &probe, 256) < 0)
		return 0;
	return opcode <= probe.last_op && (probe.ops[opcode].flags & 1);
}

/* The next free SQE.  The caller keeps no more I/Os in flight than the ring has entries. */
static inline struct uring_sqe *uring_next_sqe(struct uring *ring)
{
	return &ring->sqes[ring->sq_local_tail++ & ring->sq_mask];
}

static inline unsigned uring_unsubmitted(const struct uring *ring)
{
	return ring->sq_local_tail - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE);
}

/*
 * Publish the filled SQEs, submit them, and wait for `wait` completions for at most
 * `timeout_ns`.  Returns how many were submitted; the wait alone never fails: a time-out or
 * a signal ends it early, and the caller finds fewer completions.
 */
static inline int uring_enter(struct uring *ring, unsigned wait, int64_t timeout_ns)
{
	struct uring_timespec limit = { timeout_ns / 1000000000, timeout_ns % 1000000000 };
	struct uring_getevents_arg arg = { .ts = (uint64_t)(uintptr_t)&limit };
	long result;

	__atomic_store_n(ring->sq_tail, ring->sq_local_tail, __ATOMIC_RELEASE);
	result = syscall(__NR_io_uring_enter, ring->enter_fd, uring_unsubmitted(ring), wait,
			 ring->enter_flags | URING_ENTER_GETEVENTS | URING_ENTER_EXT_ARG, &arg,
			 sizeof(arg));
	if (result >= 0)
		return (int)result;
	return errno == ETIME || errno == EINTR ? 0 : -errno;
}

/*
 * Publish the filled SQEs to the kernel's own thread (SQPOLL); wake it where it sleeps.
 * Returns a value >= 0 or -errno.
 */
static inline int uring_publish(struct uring *ring)
{
	long result;

	__atomic_store_n(ring->sq_tail, ring->sq_local_tail, __ATOMIC_RELEASE);
	/* The tail must be visible before the flag is read: the thread looks at them in reverse. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!(__atomic_load_n(ring->sq_flags, __ATOMIC_RELAXED) & URING_SQ_NEED_WAKEUP))
		return 0;
	result = syscall(__NR_io_uring_enter, ring->enter_fd, 0, 0,
			 ring->enter_flags | URING_ENTER_SQ_WAKEUP, NULL, 0);
	return result >= 0 ? (int)result : -errno;
}

static inline void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static inline unsigned uring_cq_tail(const struct uring *ring)
{
	return __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE);
}

static inline void uring_cq_advance(struct uring *ring, unsigned head)
{
	__atomic_store_n(ring->cq_head, head, __ATOMIC_RELEASE);
}

static inline unsigned uring_overflowed(const struct uring *ring)
{
	return __atomic_load_n(ring->cq_overflow, __ATOMIC_RELAXED);
}

/* Discard a range of a block device and wait for it. */
static inline int block_discard(int fd, uint64_t offset, uint64_t bytes)
{
	uint64_t range[2] = { offset, bytes };

	return ioctl(fd, 0x1277 /* BLKDISCARD */, range) < 0 ? -errno : 0;
}

static inline void *pool_allocate(size_t bytes)
{
	void *pool = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pool == MAP_FAILED)
		return NULL;
	/* Advice: where it is not taken the buffers are in small pages. */
	(void)madvise(pool, bytes, MADV_HUGEPAGE);
	return pool;
}

static inline uint64_t multiply_high(uint64_t a, uint64_t b)
{
	return (uint64_t)(((unsigned __int128)a * b) >> 64);
}

static inline unsigned bit_length(uint64_t value)
{
	return value ? 64 - (unsigned)__builtin_clzll(value) : 0;
}

static inline uint64_t load_shared(const uint64_t *value)
{
	return __atomic_load_n(value, __ATOMIC_RELAXED);
}

static inline void store_shared(uint64_t *value, uint64_t to)
{
	/* What was written before is there for whoever sees the value. */
	__atomic_store_n(value, to, __ATOMIC_RELEASE);
}

#endif
