"""A workload in fio's own words."""

from __future__ import annotations

from anvil_engine.units import format_size
from anvil_engine.workload import Phase, Workload


def job_text(phase: Phase, filename: str) -> str:
    """The fio job file that asks fio for what `phase` asks of the native engine."""
    return "\n".join([f"[{phase.name}]", *_options(phase, filename), ""])


def _options(phase: Phase, filename: str) -> list[str]:
    workload = phase.workload
    options = [
        f"filename={filename}",
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
        options.append(f"runtime={workload.runtime:g}")
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
        options.append(f"ramp_time={workload.ramp_time:g}")
    if workload.randseed is not None:
        options.append(f"randseed={workload.randseed}")
    if workload.iodepth_batch_submit is not None:
        options.append(f"iodepth_batch_submit={workload.iodepth_batch_submit}")
    if workload.iodepth_batch_complete_min > 1:
        options.append(f"iodepth_batch_complete_min={workload.iodepth_batch_complete_min}")
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
