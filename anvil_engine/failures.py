"""What went wrong in a loop, as sentences that name the way out."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Set
from pathlib import Path

from anvil_engine import procfs
from anvil_engine.errors import DeviceError, EngineError, RingUnavailable
from anvil_engine.units import format_binary
from anvil_engine.workload import Workload


def ring_refused(error: OSError) -> RingUnavailable:
    """What forbids io_uring here."""
    disabled = procfs.io_uring_disabled(Path("/"))
    if error.errno == errno.ENOSYS:
        cause = "this kernel has no io_uring"
    elif error.errno == errno.EPERM and disabled:
        cause = f"the sysctl kernel.io_uring_disabled is {disabled}"
    elif error.errno == errno.EPERM:
        cause = "a seccomp filter or security module forbids it (EPERM)"
    else:
        name = errno.errorcode.get(error.errno or 0, str(error.errno))
        cause = f"the kernel answered {name} ({error.strerror})"
    return RingUnavailable(
        f"io_uring cannot be used here: {cause}; --engine sync measures without"
    )


def require_memory(workload: Workload, engine: str) -> None:
    """Refuse buffers that do not fit, before the kernel looks for a process to kill."""
    needed = workload.numjobs * workload.iodepth * workload.largest_bs
    available = procfs.memory_available_bytes(Path("/"))
    has_buffers = engine != "null" and not workload.trims
    if has_buffers and available is not None and needed > available:
        raise EngineError(
            f"numjobs x iodepth x bs is {format_binary(needed)} of buffers, and "
            f"{format_binary(available)} of memory are available; make one of them smaller"
        )


def hung(drain_s: float) -> DeviceError:
    """A device that answers neither I/O nor cancel."""
    return DeviceError(
        f"the device kept I/Os in flight for {drain_s:.0f} s after the last one was submitted, "
        "and after a cancel; it hangs",
        errno.ETIMEDOUT,
    )


def cpus_not_ours(workload: Workload, missing: Set[int], ours: Set[int]) -> EngineError:
    """CPUs that this process may not use."""
    return EngineError(
        f"cpus_allowed={workload.cpus_allowed}: this process may not use CPU "
        f"{', '.join(map(str, sorted(missing)))}; it may use {', '.join(map(str, sorted(ours)))}"
    )


def no_trim(workload: Workload) -> EngineError:
    """A trim of something else than a block device."""
    return EngineError(f"rw={workload.rw}: only a block device can trim")


def no_slat(engine: str) -> EngineError:
    """Submission times from an engine of one system call per I/O."""
    return EngineError(
        f"slat_percentiles: engine {engine} does not submit and complete in two steps; "
        "leave it out, lat is there anyway, or use --engine native"
    )


def no_polling(engine: str) -> EngineError:
    """Polling by an engine without a ring."""
    return EngineError(
        f"--iopoll and --sqpoll: engine {engine} has no ring to poll; leave them out, or use "
        "--engine native"
    )


def sqpoll_refused(error: OSError) -> EngineError:
    """A ring with a submitting thread that could not be made."""
    forbidden = error.errno == errno.EPERM
    cause = "before Linux 5.11 it is for root" if forbidden else error.strerror
    return EngineError(
        f"--sqpoll: the kernel refused with {error_name(error.errno or 0)} ({cause}); "
        "--engine native works without it"
    )


def iopoll_refused(error: OSError) -> EngineError:
    """A polled ring that could not be made, or a polled read that failed."""
    if error.errno == errno.EOPNOTSUPP:
        cause = (
            "the target has no poll queues; NVMe drives get them by the module parameter "
            "nvme.poll_queues=N"
        )
    else:
        cause = error.strerror or "a polled read failed"
    return EngineError(
        f"--iopoll: the kernel answered {error_name(error.errno or 0)} ({cause}); "
        "--engine native works without it"
    )


def nothing_done(workload: Workload, errors: Mapping[str, int]) -> DeviceError:
    """A phase of which no I/O succeeded."""
    if not workload.trims:
        return DeviceError(f"every I/O failed: {counted(errors)}", None)
    answers = f" ({counted(errors)})" if errors else ""
    return DeviceError(f"nothing was trimmed: no discard succeeded{answers}", None)


def counted(errors: Mapping[str, int]) -> str:
    """Errors by name as people write them: `3 EIO, 1 SHORT`."""
    return ", ".join(f"{count} {name}" for name, count in errors.items())


def error_name(number: int) -> str:
    """The name of an errno; 0 is a short transfer."""
    if number == errno.EOPNOTSUPP:
        return "EOPNOTSUPP"  # Python knows it by the name that only POSIX has for it
    return errno.errorcode.get(number, f"errno {number}") if number else "SHORT"


def device_error(number: int, offset: int, bs: int) -> DeviceError:
    """The first I/O that failed; errno 0 is a short transfer, and no bytes are an fsync."""
    subject = f"an I/O of {bs} bytes at offset {offset}" if bs else "an fsync"
    if number:
        what = f"failed with {error_name(number)} ({os.strerror(number)})"
    else:
        what = "transferred less than that: the target is shorter than it was, or gone"
    return DeviceError(
        f"{subject} {what}; --continue-on-error counts errors and goes on",
        number or None,
    )


def ring_failure(error: OSError) -> EngineError:
    """A ring that could not be made or used."""
    if error.errno in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        return ring_refused(error)
    limit = {errno.EMFILE: "open files (ulimit -n)", errno.ENOMEM: "locked memory (ulimit -l)"}
    if error.errno in limit:
        return EngineError(
            f"there is no room for a ring per job ({error.strerror}); use fewer numjobs or a "
            f"smaller iodepth, or raise the limit of {limit[error.errno]}"
        )
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return EngineError(f"the ring failed with {name} ({error.strerror})")
