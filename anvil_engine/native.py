"""A workload on Anvil's own loop: one thread per job, watched once a second.

The only importer of `_ioloop`.  The watcher copies the jobs' counters while they run and
never stops them; intervals are differences of copies, so every I/O is in exactly one.
"""

from __future__ import annotations

import errno
import os
import resource
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anvil_engine import _ioloop, procfs, summary, tsc
from anvil_engine.errors import DeviceError, EngineError, RingUnavailable
from anvil_engine.results import (
    DirectionResult,
    DirectionSample,
    Latencies,
    Pace,
    PhaseResult,
)
from anvil_engine.workload import Workload

INTERVAL_S = 1.0
DRAIN_S = 30.0
NULL_LATENCY_NS = 100_000
POLL_S = 0.05
FULL_DEPTH = 0.95
"""Of iodepth x numjobs, the mean number in flight below which a closed loop says so."""
KEPT_UP = 0.99
"""Of the I/Os that were due, the share that an open loop has started when it kept up."""
NO_ERROR = (1 << 64) - 1

Counters = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Interval:
    """What happened between two looks; None for a direction without I/O."""

    elapsed_s: float
    read: DirectionSample | None
    write: DirectionSample | None


def check_available(engine: str, workload: Workload) -> None:
    """Raise `EngineError`, with the reason and the way out, for what cannot be done here.

    `RingUnavailable` when `engine` needs io_uring and something forbids it.
    """
    _check_cpus(workload)
    if engine != "native":
        return
    try:
        _ioloop.probe()
    except OSError as error:
        raise _ring_refused(error) from error


def _check_cpus(workload: Workload) -> None:
    ours = os.sched_getaffinity(0)
    if missing := (workload.cpus or frozenset()) - ours:
        raise EngineError(
            f"cpus_allowed={workload.cpus_allowed}: this process may not use CPU "
            f"{', '.join(map(str, sorted(missing)))}; it may use "
            f"{', '.join(map(str, sorted(ours)))}"
        )


def _ring_refused(error: OSError) -> RingUnavailable:
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


class _JobThread(threading.Thread):
    """One job and what its thread cost."""

    def __init__(
        self, job: _ioloop.Job, live: Counters, ramp: Counters, cpus: frozenset[int] | None
    ) -> None:
        super().__init__(daemon=True)
        self.job, self.live, self.ramp, self.cpus = job, live, ramp, cpus
        self.error: OSError | None = None
        self.cpu_user_s = self.cpu_system_s = 0.0

    def run(self) -> None:
        try:
            if self.cpus is not None:
                os.sched_setaffinity(0, self.cpus)  # of this thread alone
            self.job.run()
        except OSError as error:
            self.error = error
        usage = resource.getrusage(resource.RUSAGE_THREAD)
        self.cpu_user_s, self.cpu_system_s = usage.ru_utime, usage.ru_stime


class Measurement:
    """One phase on the native loop.

    `fd` is open for the whole measurement (-1 for the null engine), `workload.size` is
    definite.  Iterate `run`; it can be run once.
    """

    def __init__(self, workload: Workload, *, fd: int, engine: str, randseed: int) -> None:
        self.workload, self.engine, self.randseed = workload, engine, randseed
        self._rate = tsc.rate(_ioloop.read_clocks)
        self._control = np.zeros(_ioloop.CONTROL_SIZE, np.uint64)
        self._live_size = _ioloop.live_size(8 if workload.rate_iops else 2)
        self._threads = [self._job(fd, index) for index in range(workload.numjobs)]

    def _job(self, fd: int, index: int) -> _JobThread:
        workload = self.workload
        assert workload.size is not None
        live, ramp = (np.zeros(self._live_size, np.uint64) for _ in range(2))
        job = _ioloop.Job(
            engine=self.engine,
            fd=fd,
            bs=workload.bs,
            blocks=workload.size // workload.bs,
            offset=workload.offset,
            iodepth=workload.iodepth,
            batch_submit=workload.iodepth_batch_submit or workload.iodepth,
            batch_complete=workload.iodepth_batch_complete_min,
            read_pct=workload.read_pct,
            is_random=workload.is_random,
            runtime_ns=round(workload.runtime * 1e9),
            ramp_ns=round(workload.ramp_time * 1e9),
            drain_ns=round(DRAIN_S * 1e9),
            null_latency_ns=NULL_LATENCY_NS,
            ticks_per_second=self._rate.ticks_per_second if self._rate else 0,
            # Weyl steps keep the jobs' streams apart whatever the seed.
            seed=(self.randseed + index * 0x9E3779B97F4A7C15) % (1 << 64),
            continue_on_error=workload.continue_on_error,
            rate=workload.rate_iops or 0,
            is_poisson=workload.rate_process == "poisson",
            live=live,
            ramp=ramp,
            control=self._control,
        )
        return _JobThread(job, live, ramp, workload.cpus)

    def run(self, stop: threading.Event) -> Generator[Interval, None, PhaseResult | None]:
        """Yield an interval a second, return the result: None when stopped within the ramp.

        Setting `stop` ends it early: within 100 ms plus the I/O in flight.  Raises
        `DeviceError` when an I/O failed (after the last interval), `RingUnavailable` or
        `EngineError` when the ring did.
        """
        for thread in self._threads:
            thread.start()
        try:
            yield from self._intervals(stop)
        finally:
            self._halt()
        self._raise_failures()
        return self._result()

    # Watching -------------------------------------------------------------------------------

    def _intervals(self, stop: threading.Event) -> Iterator[Interval]:
        if not self._wait_for_ramp(stop):
            return
        started = self._measured_from()
        earlier, looked_at = self._sum("ramp"), started
        for deadline in self._deadlines(started):
            self._wait(stop, deadline)
            self._control[_ioloop.EPOCH] += np.uint64(1)
            ended = not self._alive()
            later, now = self._sum("live"), self._ended_at() if ended else time.monotonic()
            yield self._interval(later - earlier, now - started, now - looked_at)
            earlier, looked_at = later, now
            if ended:
                return

    def _deadlines(self, started: float) -> Iterator[float]:
        """When to look: every second, but the last interval lasts until the jobs are done."""
        end = started + self.workload.runtime
        count = 1
        while started + (count + 0.5) * INTERVAL_S < end:
            yield started + count * INTERVAL_S
            count += 1
        late = end
        while True:
            late += INTERVAL_S
            yield late

    def _wait_for_ramp(self, stop: threading.Event) -> bool:
        while self._alive() and not all(
            thread.live[_ioloop.MEASURED_FROM] for thread in self._threads
        ):
            self._wait(stop, time.monotonic() + POLL_S / 5)
        return all(thread.live[_ioloop.MEASURED_FROM] for thread in self._threads)

    def _wait(self, stop: threading.Event, until: float) -> None:
        """Return at `until`, or when the jobs are done.  Passes a stop request on."""
        while (left := until - time.monotonic()) > 0:
            running = self._alive()
            if not running:
                return
            if stop.is_set() or any(thread.error for thread in self._threads):
                self._control[_ioloop.STOP] = 1
                running[0].join(min(left, POLL_S))
            else:
                stop.wait(min(left, POLL_S))

    def _alive(self) -> list[_JobThread]:
        return [thread for thread in self._threads if thread.is_alive()]

    def _halt(self) -> None:
        self._control[_ioloop.STOP] = 1
        for thread in self._threads:
            thread.join()

    def _measured_from(self) -> float:
        return min(int(thread.live[_ioloop.MEASURED_FROM]) for thread in self._threads) / 1e9

    def _ended_at(self) -> float:
        return max(int(thread.live[_ioloop.ENDED_AT]) for thread in self._threads) / 1e9

    def _sum(self, which: str) -> Counters:
        """All jobs' counters added up.  Minima and maxima mean nothing in it."""
        total = np.zeros(self._live_size, np.uint64)
        for thread in self._threads:
            total += getattr(thread, which)
        return total

    def _interval(self, change: Counters, elapsed_s: float, seconds: float) -> Interval:
        read, write = (
            summary.direction_sample(
                _block(change, direction)[_ioloop.COUNTS :],
                bs=self.workload.bs,
                seconds=max(seconds, 1e-9),
                slowest_ns=self._slowest(direction),
            )
            for direction in (_ioloop.READ, _ioloop.WRITE)
        )
        return Interval(elapsed_s=elapsed_s, read=read, write=write)

    def _slowest(self, direction: int) -> int:
        """The slowest I/O of the interval that has just been closed."""
        slot = _ioloop.EPOCH_MAX + (int(self._control[_ioloop.EPOCH]) - 1) % _ioloop.EPOCHS
        return max(int(_block(thread.live, direction)[slot]) for thread in self._threads)

    # The end --------------------------------------------------------------------------------

    def _raise_failures(self) -> None:
        for thread in self._threads:
            if thread.error is not None:
                raise _ring_failure(thread.error)
            if thread.job.hung:
                raise DeviceError(
                    f"the device kept I/Os in flight for {DRAIN_S:.0f} s after the last one was "
                    "submitted and after a cancel; it hangs",
                    errno.ETIMEDOUT,
                )
            first = int(thread.live[_ioloop.FIRST_ERROR_OFFSET])
            if first != NO_ERROR and not self.workload.continue_on_error:
                raise _device_error(thread, first, self.workload.bs)

    def _result(self) -> PhaseResult | None:
        if not all(thread.live[_ioloop.MEASURED_FROM] for thread in self._threads):
            return None
        change = self._sum("live") - self._sum("ramp")
        elapsed = self._ended_at() - self._measured_from()
        whole = elapsed + self.workload.ramp_time
        latencies = sum(
            int(_block(change, direction)[_ioloop.LAT_SUM])
            for direction in (_ioloop.READ, _ioloop.WRITE)
        )
        pace = self._pace(change)
        # Little's law: the mean number in flight is the sum of latencies over time.
        mean_depth = latencies / 1e9 / elapsed if elapsed > 0 else 0.0
        return PhaseResult(
            workload=asdict(self.workload),
            elapsed_s=elapsed,
            read=self._direction_result(change, _ioloop.READ, elapsed),
            write=self._direction_result(change, _ioloop.WRITE, elapsed),
            errors=_errors(change),
            mean_depth=mean_depth,
            cpu_user_pct=100 * sum(thread.cpu_user_s for thread in self._threads) / whole,
            cpu_system_pct=100 * sum(thread.cpu_system_s for thread in self._threads) / whole,
            randseed=self.randseed,
            engine=self._engine_notes(),
            warnings=(
                *self._warnings(),
                *self._depth_warnings(mean_depth),
                *_pace_warnings(pace),
            ),
            pace=pace,
        )

    def _direction_result(
        self, change: Counters, direction: int, elapsed: float
    ) -> DirectionResult | None:
        lat = self._latencies(change, direction)
        if lat is None:
            return None
        return summary.direction_result(
            lat,
            io_bytes=int(_block(change, direction)[_ioloop.BYTES]),
            seconds=elapsed,
            response=self._latencies(change, _ioloop.RESPONSE + direction),
        )

    def _latencies(self, change: Counters, kind: int) -> Latencies | None:
        """What the jobs recorded of one class; None when nothing, or when it has no block."""
        block = _block(change, kind)
        if not block.size:
            return None
        lives = [_block(thread.live, kind) for thread in self._threads]
        return summary.latencies(
            block[_ioloop.COUNTS :],
            ios=int(block[_ioloop.IOS]),
            sum_ns=int(block[_ioloop.LAT_SUM]),
            min_ns=min(int(live[_ioloop.LAT_MIN]) for live in lives),
            max_ns=max(int(live[_ioloop.LAT_MAX]) for live in lives),
            clamped=int(block[_ioloop.CLAMPED]),
        )

    def _pace(self, change: Counters) -> Pace | None:
        if self.workload.rate_iops is None:
            return None
        started = int(change[_ioloop.STARTED])
        behind = max(int(thread.live[_ioloop.BEHIND_NS]) for thread in self._threads)
        return Pace(
            rate_iops=self.workload.rate_iops * self.workload.numjobs,
            rate_process=self.workload.rate_process,
            due=started + int(change[_ioloop.MISSED]),
            started=started,
            late=int(change[_ioloop.LATE]),
            behind_s=behind / 1e9,
        )

    def _engine_notes(self) -> dict[str, Any]:
        job = self._threads[0].job
        return {"name": self.engine, "iodepth": job.iodepth, **self._clock_notes(), **job.notes}

    def _clock_notes(self) -> dict[str, Any]:
        now = _ioloop.read_clocks()
        if self._rate is None or now is None:
            return {"clock": "monotonic"}
        return {
            "clock": "tsc",
            "tsc_hz": self._rate.ticks_per_second,
            "tsc_drift_ppm": round(self._rate.drift_ppm(now), 3),
        }

    def _warnings(self) -> tuple[str, ...]:
        job, workload, found = self._threads[0].job, self.workload, []
        if job.iodepth != workload.iodepth:
            found.append(
                f"engine {self.engine} has one I/O in flight per job: iodepth {workload.iodepth} "
                "was not used"
            )
        if job.notes.get("registered_buffers", True) is not True:
            found.append(
                f"buffers are not registered ({job.notes['registered_buffers']}): raise the "
                "locked memory limit (ulimit -l) for less CPU per I/O"
            )
        return tuple(found)

    def _depth_warnings(self, mean_depth: float) -> list[str]:
        depth = self._threads[0].job.iodepth * self.workload.numjobs
        if self.workload.is_paced or mean_depth >= FULL_DEPTH * depth:
            return []
        return [
            f"the mean depth was {mean_depth:.1f} of {depth} ({100 * mean_depth / depth:.0f} %): "
            "the rest of the time went into submitting, or into waiting for batches"
        ]


def _pace_warnings(pace: Pace | None) -> list[str]:
    if pace is None or pace.started >= KEPT_UP * pace.due:
        return []
    return [
        f"could not keep up with {pace.rate_iops} IOPS: of {pace.due} I/Os that were due "
        f"{pace.started} were started ({100 * pace.started / pace.due:.1f} %), and the end was "
        f"{pace.behind_s:.2f} s behind the schedule; use a lower rate_iops, or more iodepth or "
        "numjobs"
    ]


def _block(counters: Counters, kind: int) -> Counters:
    start = _ioloop.HEAD_SIZE + kind * _ioloop.BLOCK_SIZE
    return counters[start : start + _ioloop.BLOCK_SIZE]


def _errors(change: Counters) -> dict[str, int]:
    counted = sum(
        (
            _block(change, direction)[_ioloop.ERRORS : _ioloop.ERRORS + _ioloop.N_ERRNOS]
            for direction in (_ioloop.READ, _ioloop.WRITE)
        ),
        start=np.zeros(_ioloop.N_ERRNOS, np.uint64),
    )
    return {_error_name(int(number)): int(counted[number]) for number in np.flatnonzero(counted)}


def _error_name(number: int) -> str:
    return errno.errorcode.get(number, f"errno {number}") if number else "SHORT"


def _device_error(thread: _JobThread, offset: int, bs: int) -> DeviceError:
    number = int(thread.live[_ioloop.FIRST_ERRNO])
    if number:
        what = f"failed with {_error_name(number)} ({os.strerror(number)})"
    else:
        what = "transferred less than that: the target is shorter than it was, or gone"
    return DeviceError(
        f"an I/O of {bs} bytes at offset {offset} {what}; --continue-on-error counts errors "
        "and goes on",
        number or None,
    )


def _ring_failure(error: OSError) -> EngineError:
    if error.errno in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        return _ring_refused(error)
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return EngineError(f"the ring failed with {name} ({error.strerror})")
