"""A workload on Anvil's own loop: one thread per job, watched once a second.

Nothing but this and `checks` imports `_ioloop`.  The watcher copies the jobs' counters while they run and
never stops them; intervals are differences of copies, so every I/O is in exactly one.
"""

from __future__ import annotations

import math
import os
import resource
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from anvil_engine import _ioloop, failures, offsets, remarks, summary, tsc
from anvil_engine.errors import EngineError
from anvil_engine.results import (
    DirectionResult,
    DirectionSample,
    Latencies,
    Pace,
    PhaseResult,
)
from anvil_engine.workers import RingWorkers
from anvil_engine.workload import Workload

INTERVAL_S = 1.0
DRAIN_S = 30.0
GIVE_UP_S = DRAIN_S + 6.0  # the drain, a cancel that takes 5 s, and the time to notice
FOREVER_S = 1e8
NULL_LATENCY_NS = 100_000
POLL_S = 0.05
NO_ERROR = (1 << 64) - 1
DIRECTIONS = (_ioloop.READ, _ioloop.WRITE, _ioloop.TRIM)

Counters = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Interval:
    """What happened between two looks; None for a direction without I/O.

    `eta_s` is how long the measurement will go on, as far as can be told.
    """

    elapsed_s: float
    eta_s: float
    read: DirectionSample | None
    write: DirectionSample | None
    trim: DirectionSample | None = None


class _JobThread(threading.Thread):
    """One job and what its thread cost."""

    def __init__(
        self,
        job: _ioloop.Job,
        live: Counters,
        ramp: Counters,
        together: threading.Barrier,
        cpus: frozenset[int] | None,
    ) -> None:
        super().__init__(daemon=True)
        self.job, self.live, self.ramp = job, live, ramp
        self.error: OSError | None = None
        self.cpu_user_s = self.cpu_system_s = 0.0
        self._together, self._cpus = together, cpus

    def run(self) -> None:
        try:
            if self._cpus is not None:
                os.sched_setaffinity(0, self._cpus)  # of this thread alone
            self.job.open()
            self._together.wait()
            self.job.register()
            self._together.wait()
            self.job.run()
        except OSError as error:
            self.error = error
            self._together.abort()
        except threading.BrokenBarrierError:
            return  # another job failed, or nobody waits any more
        usage = resource.getrusage(resource.RUSAGE_THREAD)
        self.cpu_user_s, self.cpu_system_s = usage.ru_utime, usage.ru_stime


class Measurement:
    """One phase on the native loop.

    `fd` is open for the whole measurement (-1 for the null engine), `workload.size` is
    definite.  Iterate `run`; it can be run once.  Raises `EngineError` without memory.
    """

    def __init__(self, workload: Workload, *, fd: int, engine: str, randseed: int) -> None:
        self.workload, self.engine, self.randseed = workload, engine, randseed
        self._rate = tsc.rate(_ioloop.read_clocks)
        self._control = np.zeros(_ioloop.CONTROL_SIZE, np.uint64)
        self._together = threading.Barrier(workload.numjobs)
        self._ends_at = math.inf
        self._workers = RingWorkers()
        self._live_size = _ioloop.live_size(_n_blocks(workload))
        failures.require_memory(workload, engine)
        try:
            self._threads = [self._job(fd, index) for index in range(workload.numjobs)]
        except MemoryError as error:
            raise EngineError(f"{error}; use a smaller bs, iodepth or numjobs") from error

    def _job(self, fd: int, index: int) -> _JobThread:
        workload = self.workload
        live, ramp = (np.zeros(self._live_size, np.uint64) for _ in range(2))
        job = _ioloop.Job(
            engine=self.engine,
            fd=fd,
            **offsets.job_options(workload, index, self.randseed),
            iodepth=workload.iodepth,
            batch_submit=workload.batch_submit,
            batch_complete=workload.iodepth_batch_complete_min,
            runtime_ns=round((workload.runtime or FOREVER_S) * 1e9),
            ramp_ns=round(workload.ramp_time * 1e9),
            drain_ns=round(DRAIN_S * 1e9),
            null_latency_ns=NULL_LATENCY_NS,
            ticks_per_second=self._rate.ticks_per_second if self._rate else 0,
            continue_on_error=workload.continue_on_error,
            rate=workload.rate_iops or 0,
            is_poisson=workload.rate_process == "poisson",
            fsync_every=workload.fsync,
            trims=workload.trims,
            think_ns=round(workload.thinktime * 1e9),
            think_every=workload.thinktime_blocks,
            slat=workload.slat_percentiles,
            hipri=workload.hipri,
            sqthread_poll=workload.sqthread_poll,
            live=live,
            ramp=ramp,
            control=self._control,
        )
        return _JobThread(job, live, ramp, self._together, workload.cpus)

    def run(self, stop: threading.Event) -> Generator[Interval, None, PhaseResult | None]:
        """Yield an interval a second, return the result: None when stopped within the ramp.

        Setting `stop` ends it early: within 100 ms plus the I/O in flight.  Raises
        `DeviceError` when an I/O failed (after the last interval), `RingUnavailable` or
        `EngineError` when the ring did.
        """
        try:
            self._start()
            yield from self._intervals(stop)
        finally:
            self._halt()
        self._raise_failures()
        return self._result()

    def _start(self) -> None:
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            raise EngineError(
                f"cannot start {self.workload.numjobs} threads ({error}); use fewer numjobs, or "
                "raise the limit of processes (ulimit -u)"
            ) from error

    def preview(self, job: int, count: int) -> npt.NDArray[np.uint64]:
        """The first I/Os that job `job` would issue: rows of offset, bytes and direction.

        At most `count`, fewer when the job would end before.  They are used up.
        """
        ios = np.zeros((count, 3), np.uint64)
        return ios[: self._threads[job].job.preview(ios)]

    # Watching -------------------------------------------------------------------------------

    def _intervals(self, stop: threading.Event) -> Iterator[Interval]:
        if not self._wait_for_ramp(stop):
            return
        started = self._measured_from()
        self._ends_at = started + (self.workload.runtime or FOREVER_S)
        earlier, looked_at = self._sum("ramp"), started
        for deadline in self._deadlines(started):
            if deadline <= looked_at:
                continue  # whoever takes the intervals was away for longer than one
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
        end = started + (self.workload.runtime or FOREVER_S)
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
            if self.engine == "native":
                self._workers.look()
            if stop.is_set() or self._has_failed():
                self._ask_to_stop()
                running[0].join(min(left, POLL_S))
            else:
                stop.wait(min(left, POLL_S))
            if time.monotonic() > self._ends_at + GIVE_UP_S:
                raise failures.hung(DRAIN_S)

    def _alive(self) -> list[_JobThread]:
        return [thread for thread in self._threads if thread.is_alive()]

    def _has_failed(self) -> bool:
        """Whether a job had an error that ends the phase for all of them."""
        return any(
            thread.error is not None
            or (
                not self.workload.continue_on_error
                and int(thread.live[_ioloop.FIRST_ERROR_OFFSET]) != NO_ERROR
            )
            for thread in self._threads
        )

    def _ask_to_stop(self) -> None:
        self._control[_ioloop.STOP] = 1
        self._ends_at = min(self._ends_at, time.monotonic())

    def _halt(self) -> None:
        """Have no job left, or leave those that hang to die with the process."""
        self._ask_to_stop()
        self._together.abort()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, self._ends_at + GIVE_UP_S - time.monotonic()))

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
        read, write, trim = (
            summary.direction_sample(
                block[_ioloop.COUNTS :],
                io_bytes=int(block[_ioloop.BYTES]),
                seconds=max(seconds, 1e-9),
                slowest_ns=self._slowest(direction),
            )
            if (block := _block(change, direction)).size
            else None
            for direction in DIRECTIONS
        )
        eta_s = self._eta(elapsed_s)
        return Interval(elapsed_s=elapsed_s, eta_s=eta_s, read=read, write=write, trim=trim)

    def _eta(self, elapsed_s: float) -> float:
        """Until the time or the bytes are over, whichever seems to come first."""
        by_time = max(0.0, (self.workload.runtime or math.inf) - elapsed_s)
        total = self.workload.total_bytes
        if total is None:
            return by_time
        done = self._sum("live") - self._sum("ramp")
        moved = int(_directions(done)[:, _ioloop.BYTES].sum())
        whole = total * self.workload.numjobs
        by_bytes = elapsed_s * max(0, whole - moved) / moved if moved else math.inf
        eta = min(by_time, by_bytes)
        return eta if math.isfinite(eta) else 0.0

    def _slowest(self, direction: int) -> int:
        """The slowest I/O of the interval that has just been closed."""
        slot = _ioloop.EPOCH_MAX + (int(self._control[_ioloop.EPOCH]) - 1) % _ioloop.EPOCHS
        return max(int(_block(thread.live, direction)[slot]) for thread in self._threads)

    # The end --------------------------------------------------------------------------------

    def _raise_failures(self) -> None:
        for thread in self._threads:
            if thread.error is not None:
                raise failures.ring_failure(thread.error)
            if thread.job.hung or thread.is_alive():
                raise failures.hung(DRAIN_S)
            first = int(thread.live[_ioloop.FIRST_ERROR_OFFSET])
            if first != NO_ERROR and not self.workload.continue_on_error:
                number = int(thread.live[_ioloop.FIRST_ERRNO])
                length = int(thread.live[_ioloop.FIRST_ERROR_LENGTH])
                raise failures.device_error(number, first, length)

    def _result(self) -> PhaseResult | None:
        if not all(thread.live[_ioloop.MEASURED_FROM] for thread in self._threads):
            return None
        change = self._sum("live") - self._sum("ramp")
        errors = _errors(change)
        if (errors or self.workload.trims) and not _directions(change)[:, _ioloop.IOS].any():
            # It has measured nothing, whatever errors it was told to ignore.
            raise failures.nothing_done(self.workload, errors)
        elapsed = self._ended_at() - self._measured_from()
        whole = elapsed + self.workload.ramp_time
        read, write, trim = (
            self._direction_result(change, direction, elapsed) for direction in DIRECTIONS
        )
        # Little's law: the mean number in flight is the sum of latencies over time.
        in_flight_ns = int(_blocks(change)[: _ioloop.RESPONSE, _ioloop.LAT_SUM].sum())
        mean_depth = in_flight_ns / 1e9 / elapsed if elapsed > 0 else 0.0
        pace = self._pace(change)
        return PhaseResult(
            workload=asdict(self.workload),
            elapsed_s=elapsed,
            read=read,
            write=write,
            trim=trim,
            errors=errors,
            mean_depth=mean_depth,
            cpu_user_pct=100 * sum(thread.cpu_user_s for thread in self._threads) / whole,
            cpu_system_pct=100 * sum(thread.cpu_system_s for thread in self._threads) / whole,
            randseed=self.randseed,
            engine=self._engine_notes(),
            warnings=self._warnings(errors, mean_depth, pace),
            pace=pace,
            sync=self._latencies(change, _ioloop.FSYNC),
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
            slat=self._latencies(change, _ioloop.SLAT + direction),
            clat=self._latencies(change, _ioloop.CLAT + direction),
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
        notes = {"name": self.engine, "iodepth": job.iodepth, **self._clock_notes(), **job.notes}
        if workers := self._workers.cpu_s:
            notes["iou_wrk"] = {
                "threads": len(workers),
                "cpu_s": round(sum(workers.values()), 2),
            }
        return notes

    def _clock_notes(self) -> dict[str, Any]:
        now = _ioloop.read_clocks()
        if self._rate is None or now is None:
            return {"clock": "monotonic"}
        return {
            "clock": "tsc",
            "tsc_hz": self._rate.ticks_per_second,
            "tsc_drift_ppm": round(self._rate.drift_ppm(now), 3),
        }

    def _warnings(
        self, errors: dict[str, int], mean_depth: float, pace: Pace | None
    ) -> tuple[str, ...]:
        job, workload = self._threads[0].job, self.workload
        finished = all(thread.job.finished for thread in self._threads)
        cpu_s = sum(thread.cpu_user_s + thread.cpu_system_s for thread in self._threads)
        return (
            *remarks.of_errors(errors),
            *remarks.of_iodepth(workload, self.engine, job.iodepth),
            *remarks.of_buffers(job.notes.get("registered_buffers", True)),
            *remarks.of_end(workload, finished),
            *remarks.of_sqpoll(workload),
            *remarks.of_workers(self._workers.cpu_s, cpu_s),
            *remarks.of_depth(workload, job.iodepth, mean_depth),
            *remarks.of_pace(pace),
        )


def _n_blocks(workload: Workload) -> int:
    """How many classes of `_ioloop.pxd` the workload records, as a job can have them."""
    if workload.slat_percentiles:
        return 16
    if workload.rate_iops:
        return 8
    return 4 if workload.fsync or workload.trims else 2


def _blocks(counters: Counters) -> Counters:
    """The classes' blocks: one a row."""
    return counters[_ioloop.HEAD_SIZE :].reshape(-1, _ioloop.BLOCK_SIZE)


def _directions(counters: Counters) -> Counters:
    """The blocks of what moves bytes: reads and writes, and trims where there are any."""
    return _blocks(counters)[: _ioloop.FSYNC]


def _block(counters: Counters, kind: int) -> Counters:
    """One class's block; of size 0 for a class that is not recorded."""
    start = _ioloop.HEAD_SIZE + kind * _ioloop.BLOCK_SIZE
    return counters[start : start + _ioloop.BLOCK_SIZE]


def _errors(change: Counters) -> dict[str, int]:
    errors = _blocks(change)[:, _ioloop.ERRORS : _ioloop.ERRORS + _ioloop.N_ERRNOS].sum(axis=0)
    return {
        failures.error_name(int(number)): int(errors[number]) for number in np.flatnonzero(errors)
    }
