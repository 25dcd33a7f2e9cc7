"""A workload in fio's own words."""

from __future__ import annotations

from anvil_engine.units import format_size
from anvil_engine.workload import Phase, Workload

MAX_RANDSEED = (1 << 63) - 1
"""fio reads seeds as signed numbers."""


def job_text(phase: Phase, filename: str) -> str:
    """The fio job file that asks fio for what `phase` asks of the native engine."""
    return "\n".join([f"[{phase.name}]", *job_options(phase, filename), ""])


def job_options(phase: Phase, filename: str) -> list[str]:
    """The same as a list of `name=value`: a job file's lines, or with `--` a command's options."""
    escaped = filename.replace("\\", "\\\\").replace(":", "\\:")
    return [f"filename={escaped}", *_workload_options(phase.workload), *_loop(phase.workload)]


def command(phase: Phase, filename: str) -> list[str]:
    """The fio command that measures `phase`; it may write only where the phase does."""
    options = [f"--{option}" for option in job_options(phase, filename)]
    if not phase.workload.writes:
        options.append("--readonly")
    return ["fio", f"--name={phase.name}", *options]


def _workload_options(workload: Workload) -> list[str]:
    options = [
        "ioengine=io_uring",
        f"direct={workload.direct:d}",
        f"rw={workload.rw}",
        _sizes(workload),
        f"iodepth={workload.iodepth}",
        f"numjobs={workload.numjobs}",
        f"offset={workload.offset}",
        "refill_buffers=1",
        "group_reporting=1",
        "lat_percentiles=1",
    ]
    if workload.offset_increment:
        options.append(f"offset_increment={workload.offset_increment}")
    if workload.runtime:
        options.append(f"runtime={_time(workload.runtime)}")
    if workload.time_based:
        options.append("time_based=1")
    if workload.io_size is not None:
        options.append(f"io_size={workload.io_size}")
    if workload.loops > 1:
        options.append(f"loops={workload.loops}")
    if workload.size is not None:
        options.append(f"size={workload.size}")
    if workload.reads and workload.writes:
        options.append(f"rwmixread={workload.rwmixread}")
    if workload.is_random and workload.norandommap:
        options.append("norandommap=1")
    if workload.is_random and workload.random_distribution != "random":
        options.append(f"random_distribution={workload.random_distribution}")
    if workload.ramp_time:
        options.append(f"ramp_time={_time(workload.ramp_time)}")
    if workload.randseed is not None:
        options.append(f"randseed={workload.randseed & MAX_RANDSEED}")
    if workload.continue_on_error:
        options.append("continue_on_error=io")
    if workload.cpus_allowed is not None:
        options.append(f"cpus_allowed={workload.cpus_allowed}")
    if workload.fsync:
        options.append(f"fsync={workload.fsync}")
    if workload.slat_percentiles:
        options += ["slat_percentiles=1", "clat_percentiles=1"]
    if workload.thinktime:
        options.append(f"thinktime={workload.thinktime * 1e6:.0f}us")
        options.append(f"thinktime_blocks={workload.thinktime_blocks}")
    if workload.hipri:
        options.append("hipri=1")
    if workload.sqthread_poll:
        options.append("sqthread_poll=1")
    return options + _pace_options(workload)


def _pace_options(workload: Workload) -> list[str]:
    if workload.rate_iops is None:
        return []
    # fio gives each direction a rate of its own.
    reads = round(workload.rate_iops * workload.read_pct / 100)
    rates = [str(reads) if workload.reads else "", str(workload.rate_iops - reads)]
    return [
        f"rate_iops={','.join(rates if workload.writes else rates[:1])}",
        f"rate_process={workload.rate_process}",
    ]


def _sizes(workload: Workload) -> str:
    if workload.bssplit is not None:
        return f"bssplit={workload.bssplit}"
    if workload.bsrange is not None:
        return f"bsrange={workload.bsrange}"
    return f"bs={format_size(workload.bs)}"


def _loop(workload: Workload) -> list[str]:
    """How the native loop works, said to fio: by default fio submits and reaps one by one."""
    # An open loop starts each I/O when it is due; in a batch of fio's it would wait for others.
    batch = workload.batch_submit if workload.rate_iops is None else 1
    return [
        f"iodepth_batch_submit={workload.iodepth_batch_submit or batch}",
        f"iodepth_batch_complete_min={workload.iodepth_batch_complete_min}",
        f"iodepth_batch_complete_max={workload.iodepth}",
        "thread=1",
        "registerfiles=1",
        "fixedbufs=1",
        "nonvectored=1",
        "invalidate=0",
        # What is missing is never made: the target is there, or it is the wrong one.
        "allow_file_create=0",
    ]


def _time(seconds: float) -> str:
    """Whole seconds or microseconds, as fio takes no fractions: 10 is "10", 0.3 is "300000us"."""
    return f"{seconds:.0f}" if seconds == int(seconds) else f"{round(seconds * 1e6)}us"
