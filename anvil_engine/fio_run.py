"""A workload on fio: started on the open target, watched through its status reports.

fio opens `/proc/<pid>/fd/<n>`, which leads to what `target` examined and holds, whatever
the name leads to by now.  Opening it again gives whatever access fio asks for, so that a
phase that only reads runs with `--readonly`, and a phase that writes needs a descriptor
that does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from anvil_engine import fio, fio_json, histogram, procfs, summary
from anvil_engine.errors import DeviceError, EngineError
from anvil_engine.histogram import Counts
from anvil_engine.native import DRAIN_S, INTERVAL_S, POLL_S, Interval
from anvil_engine.results import DirectionSample, PhaseResult
from anvil_engine.workload import SIDES, Phase, Workload

ENGINE = "fio"
INTERRUPT_AGAIN_S = 2.0
_JOB = "anvil"
_INTERRUPTED = 128  # fio's exit code after SIGINT
_CHUNK_BYTES = 1 << 16
_STDERR_SHOWN = 500


def check_workload(workload: Workload) -> None:
    """Raise `EngineError` for what is counted here as I/Os of one size during one runtime."""
    beyond = {
        "bssplit": workload.bssplit is not None,
        "bsrange": workload.bsrange is not None,
        "offset_increment": bool(workload.offset_increment),
        "time_based=0": not workload.time_based,
        "rw=trim": workload.trims,
        "fsync": bool(workload.fsync),
        "thinktime": bool(workload.thinktime),
        "slat_percentiles": workload.slat_percentiles,
        "hipri": workload.hipri,
        "sqthread_poll": workload.sqthread_poll,
    }
    for name, is_used in beyond.items():
        if is_used:
            raise EngineError(f"{name} cannot be had with --engine fio; use --engine native")


def check_available() -> None:
    """Raise `EngineError` when there is no fio."""
    if shutil.which("fio") is None:
        raise EngineError("fio is not installed; install it (apt install fio), or --engine native")


class Measurement:
    """One phase on fio.

    `fd` is open for the whole measurement, `workload.size` is definite.  fio gets the low
    63 bits of `randseed`.  Iterate `run`; it can be run once, and only on a thread that
    lives as long as it does: fio is killed with that thread.
    """

    def __init__(self, workload: Workload, *, fd: int, randseed: int) -> None:
        assert workload.size is not None
        check_workload(workload)
        self.randseed = randseed & fio.MAX_RANDSEED
        direct = bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)
        self.workload = replace(workload, direct=direct, randseed=self.randseed)
        self._fd = fd
        self._fixed = _may_lock_memory()
        self._last: Mapping[str, Any] | None = None
        self._recorded = dict.fromkeys(SIDES, histogram.empty())
        self._elapsed_s = 0.0

    def run(self, stop: threading.Event) -> Generator[Interval, None, PhaseResult | None]:
        """Yield an interval about every second, return the result: None without any I/O.

        Setting `stop` ends it early.  Raises `DeviceError` when an I/O failed or the target
        is shorter than it was, `EngineError` when fio could not do it.
        """
        self._require_access()
        self._require_length()
        if stop.is_set():
            return None
        with _Fio(self.command()) as process:
            yield from self._intervals(process, stop)
            job = self._finished(process, stopped=stop.is_set())
        if job is None:
            return None
        self._require_length()
        self._require_no_errors(job)
        return self._result(job, process.version)

    def command(self) -> list[str]:
        """The fio command as it runs."""
        path = procfs.process_descriptor_path(os.getpid(), self._fd)
        command = fio.command(Phase(_JOB, self.workload), path)
        if not self._fixed:
            command.append("--fixedbufs=0")
        if self.workload.ramp_time + self.workload.runtime > INTERVAL_S:
            command.append(f"--status-interval={INTERVAL_S:.0f}")
        return [*command, "--output-format=json+"]

    # Watching -------------------------------------------------------------------------------

    def _intervals(self, process: _Fio, stop: threading.Event) -> Iterator[Interval]:
        started = time.monotonic()
        measured = started + self.workload.ramp_time
        deadline = measured + self.workload.runtime + DRAIN_S
        for document in process.documents(stop, deadline):
            self._last = job = document["jobs"][0]
            # The last interval lasts until fio is done: no sliver of one after a report.
            is_early = fio_json.runtime_s(job) < self.workload.runtime - INTERVAL_S / 2
            if time.monotonic() >= measured and is_early:
                yield self._interval(job)
        if self._last is not None and fio_json.runtime_s(self._last) > self._elapsed_s:
            yield self._interval(self._last)

    def _interval(self, job: Mapping[str, Any]) -> Interval:
        now = max(fio_json.runtime_s(job), self._elapsed_s)
        seconds, self._elapsed_s = now - self._elapsed_s, now
        read, write = (self._sample(job, name, max(seconds, 1e-3)) for name in SIDES)
        eta = max(0.0, self.workload.runtime - now)
        return Interval(elapsed_s=now, eta_s=eta, read=read, write=write)

    def _sample(
        self, job: Mapping[str, Any], direction: str, seconds: float
    ) -> DirectionSample | None:
        lat = job[direction]["lat_ns"]
        later = fio_json.counts(lat)
        change = _since(later, self._recorded[direction])
        self._recorded[direction] = later
        # fio keeps one maximum for the whole job; the highest bucket in use bounds it.
        return summary.direction_sample(
            change,
            io_bytes=histogram.total(change) * self.workload.bs,
            seconds=seconds,
            slowest_ns=int(lat["max"]),
        )

    # The end --------------------------------------------------------------------------------

    def _finished(self, process: _Fio, *, stopped: bool) -> Mapping[str, Any] | None:
        """The job's last report; None when it was stopped before anything was measured."""
        code = process.wait()
        job = self._last
        if stopped and (job is None or not any(_recorded(job).values())):
            return None
        error = int(job["error"]) if job is not None else 0
        if error:
            raise DeviceError(f"fio failed: {process.complaint(os.strerror(error))}", error)
        if job is None or (code and not (stopped and code == _INTERRUPTED)):
            raise EngineError(f"fio failed: {process.complaint(f'it exited with {code}')}")
        return job

    def _require_access(self) -> None:
        access = fcntl.fcntl(self._fd, fcntl.F_GETFL) & os.O_ACCMODE
        if self.workload.writes and access == os.O_RDONLY:
            raise DeviceError("the target is open for reading only (EBADF)", errno.EBADF)

    def _require_length(self) -> None:
        """A short file fio would extend before it starts, or read past its end and count that."""
        assert self.workload.size is not None
        end = os.lseek(self._fd, 0, os.SEEK_END)
        needed = self.workload.offset + self.workload.size
        if 0 < end < needed or (end == 0 and stat.S_ISREG(os.fstat(self._fd).st_mode)):
            raise DeviceError(
                f"the target has {end} bytes of the {needed} that are used: it is shorter than it "
                "was, or gone",
                None,
            )

    def _require_no_errors(self, job: Mapping[str, Any]) -> None:
        short = self._errors(job).get("SHORT")
        if short and not self.workload.continue_on_error:
            raise DeviceError(
                f"{short} I/Os of {self.workload.bs} bytes transferred less than that: the target "
                "is shorter than it was, or gone; --continue-on-error counts errors and goes on",
                None,
            )

    def _errors(self, job: Mapping[str, Any]) -> dict[str, int]:
        found = {}
        if job.get("total_err"):
            number = int(job["first_error"])
            found[errno.errorcode.get(number, f"errno {number}")] = int(job["total_err"])
        sides = [job[name] for name in SIDES]
        moved = sum(side["io_bytes"] for side in sides) // self.workload.bs
        short = sum(side["total_ios"] for side in sides) - moved - sum(found.values())
        if short > self._ramp_slack():
            found["SHORT"] = short
        return found

    def _ramp_slack(self) -> int:
        """I/Os in flight when a ramp ends are in only some of the counters of fio."""
        return self.workload.iodepth * self.workload.numjobs if self.workload.ramp_time else 0

    def _result(self, job: Mapping[str, Any], version: str) -> PhaseResult:
        elapsed = fio_json.runtime_s(job)
        read, write = (fio_json.direction_result(job[name], elapsed) for name in SIDES)
        latencies = sum(side.lat_mean_ns * side.ios for side in (read, write) if side)
        return PhaseResult(
            workload=asdict(self.workload),
            elapsed_s=elapsed,
            read=read,
            write=write,
            errors=self._errors(job),
            mean_depth=latencies / 1e9 / elapsed if elapsed > 0 else 0.0,
            # fio's are of each job's time.
            cpu_user_pct=job["usr_cpu"] * self.workload.numjobs,
            cpu_system_pct=job["sys_cpu"] * self.workload.numjobs,
            randseed=self.randseed,
            engine={
                "name": ENGINE,
                "version": version,
                "iodepth": self.workload.iodepth,
                "registered_buffers": self._fixed,
                "command": shlex.join(self.command()),
            },
            warnings=tuple(self._warnings(job)),
        )

    def _warnings(self, job: Mapping[str, Any]) -> Iterator[str]:
        if not self._fixed:
            yield (
                "fio's buffers are not registered: raise the limit of locked memory (ulimit -l "
                "unlimited) for less CPU per I/O"
            )
        for direction, recorded in _recorded(job).items():
            counted = int(job[direction]["total_ios"])
            if abs(counted - recorded) > self._ramp_slack():
                yield f"fio counted {counted} {direction}s and recorded the latency of {recorded}"


class _Fio:
    """The running process: killed when the context ends, and when the thread here does."""

    def __init__(self, command: list[str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed by __exit__)
        self._parser = fio_json.Documents()
        self._stop_asked_at: float | None = None
        self._interrupt_at = 0.0
        self.version = ""
        # A session of its own: Ctrl-C is for Anvil, which then stops fio.
        self._process = subprocess.Popen(  # noqa: S603  (a list: no shell reads it)
            [sys.executable, "-m", "anvil_engine.lifeline", str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
        )

    def __enter__(self) -> _Fio:
        return self

    def __exit__(self, *_: object) -> None:
        # Until it is waited for, its number is nobody else's.
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel
                self._process.wait(1.0)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._stderr.close()

    def documents(self, stop: threading.Event, deadline: float) -> Iterator[Mapping[str, Any]]:
        """The reports until it ends, the last one at its end.

        Raises `DeviceError` when it has not ended at `deadline` (of the monotonic clock), or
        too long after a stop.
        """
        assert self._process.stdout is not None
        stream = self._process.stdout.fileno()
        while True:
            if stop.is_set():
                deadline = self._ask_to_stop()
            if time.monotonic() > deadline:
                raise DeviceError(
                    f"fio did not end within {DRAIN_S:.0f} s of its time; the device hangs",
                    errno.ETIMEDOUT,
                )
            if not select.select([stream], [], [], POLL_S)[0]:
                continue
            chunk = os.read(stream, _CHUNK_BYTES)
            if not chunk:
                return
            for document in self._parser.feed(chunk):
                self.version = str(document.get("fio version", ""))
                yield document

    def _ask_to_stop(self) -> float:
        """Interrupt fio, and again while it goes on; by when it has to have ended.

        fio forgets an interrupt that comes between its start and that of its jobs.
        """
        now = time.monotonic()
        if self._stop_asked_at is None:
            self._stop_asked_at = self._interrupt_at = now
        if now >= self._interrupt_at:
            self._process.send_signal(signal.SIGINT)
            self._interrupt_at = now + INTERRUPT_AGAIN_S
        return self._stop_asked_at + DRAIN_S

    def wait(self) -> int:
        """Its exit code; it has closed its output."""
        return self._process.wait()

    def complaint(self, otherwise: str) -> str:
        """What fio said on standard error, on one line."""
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace")
        text = " ".join([*said.split(), *" ".join(self._parser.messages).split()])
        return text[:_STDERR_SHOWN] or otherwise


def _recorded(job: Mapping[str, Any]) -> dict[str, int]:
    return {name: histogram.total(fio_json.counts(job[name]["lat_ns"])) for name in SIDES}


def _since(later: Counts, earlier: Counts) -> Counts:
    """What came since `earlier`, unless fio began anew in between, as it does after a ramp."""
    return later if (later < earlier).any() else histogram.diff(later, earlier)


def _may_lock_memory() -> bool:
    """Whether fio may register buffers: it insists on raising the limit itself."""
    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == -1
