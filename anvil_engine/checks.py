"""What a phase asks for and cannot have here, found out before any I/O of the run."""

from __future__ import annotations

import os
import stat

from anvil_engine import _ioloop, failures
from anvil_engine.workload import Workload

PROBE_BYTES = 4096


def require_available(engine: str, workload: Workload, fd: int) -> None:
    """Raise `EngineError`, with the reason and the way out, for what cannot be done here.

    `fd` is the open target, -1 for a simulation.  `RingUnavailable` when `engine` needs
    io_uring and something forbids it.
    """
    require_engine(engine)
    _check_workload(engine, workload, fd)
    if engine == "native" and workload.sqthread_poll:
        _check_sqpoll()
    if engine == "native" and workload.hipri:
        _check_iopoll(workload, fd)


def require_engine(engine: str) -> None:
    """Raise `RingUnavailable` when `engine` needs io_uring and something forbids it."""
    if engine != "native":
        return
    try:
        _ioloop.probe()
    except OSError as error:
        raise failures.ring_refused(error) from error


def _check_sqpoll() -> None:
    try:
        _ioloop.probe(sqthread_poll=True)
    except OSError as error:
        raise failures.sqpoll_refused(error) from error


def _check_iopoll(workload: Workload, fd: int) -> None:
    try:
        _ioloop.probe(hipri=True)
        _ioloop.probe_polled_read(fd, workload.offset, min(workload.bs, PROBE_BYTES))
    except OSError as error:
        raise failures.iopoll_refused(error) from error


def _check_workload(engine: str, workload: Workload, fd: int) -> None:
    """What is known without a ring."""
    if missing := (workload.cpus or frozenset()) - os.sched_getaffinity(0):
        raise failures.cpus_not_ours(workload, missing, os.sched_getaffinity(0))
    if workload.trims and fd >= 0 and not stat.S_ISBLK(os.fstat(fd).st_mode):
        raise failures.no_trim(workload)
    if engine != "native" and workload.slat_percentiles:
        raise failures.no_slat(engine)
    if engine != "native" and (workload.hipri or workload.sqthread_poll):
        raise failures.no_polling(engine)
