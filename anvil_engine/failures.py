"""What went wrong in a loop, as sentences that name the way out."""

from __future__ import annotations

import errno
import os
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
    if engine != "null" and available is not None and needed > available:
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


def error_name(number: int) -> str:
    """The name of an errno; 0 is a short transfer."""
    return errno.errorcode.get(number, f"errno {number}") if number else "SHORT"


def device_error(number: int, offset: int, bs: int) -> DeviceError:
    """The first I/O that failed; errno 0 is a short transfer."""
    if number:
        what = f"failed with {error_name(number)} ({os.strerror(number)})"
    else:
        what = "transferred less than that: the target is shorter than it was, or gone"
    return DeviceError(
        f"an I/O of {bs} bytes at offset {offset} {what}; --continue-on-error counts errors "
        "and goes on",
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
