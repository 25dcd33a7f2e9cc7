"""What a reader of a result should know about how it came about, as sentences.

Each function returns the sentences that apply.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from anvil_engine import failures
from anvil_engine.results import Pace
from anvil_engine.workload import Workload

WORKERS_SHARE = 0.1
"""Of the submitting threads' CPU time, what the kernel's workers used when they did the I/O."""
FULL_DEPTH = 0.95
"""Of iodepth x numjobs, the mean number in flight below which a closed loop says so."""
SHORT_RUN = 100
"""Full queues' worth of I/Os below which a run that ends with its bytes has no mean depth."""
KEPT_UP = 0.99
"""Of the I/Os that were due, the share that an open loop has started when it kept up."""


def of_errors(errors: Mapping[str, int]) -> list[str]:
    """I/Os that failed and were only counted."""
    if not errors:
        return []
    return [f"I/Os failed and are in no latency or rate: {failures.counted(errors)}"]


def of_iodepth(workload: Workload, engine: str, iodepth: int) -> list[str]:
    """A depth that the engine does not have."""
    if iodepth == workload.iodepth:
        return []
    return [
        f"engine {engine} has one I/O in flight per job: iodepth {workload.iodepth} was not used"
    ]


def of_buffers(registered: object) -> list[str]:
    """Buffers that the kernel did not register: True, or the name of why not."""
    if registered is True:
        return []
    way_out = (
        "raise the locked memory limit (ulimit -l)"
        if registered == "ENOMEM"
        else "a registered buffer holds at most 1 GiB: use a smaller bs or iodepth"
    )
    return [f"buffers are not registered ({registered}), which costs CPU; {way_out}"]


def of_end(workload: Workload, finished: bool) -> list[str]:
    """A runtime that was not used up."""
    if not workload.runtime or not finished:
        return []
    return ["all bytes were done before the runtime was over; --time-based goes on until then"]


def of_sqpoll(workload: Workload) -> list[str]:
    """CPU time that nobody sees, and may not be there."""
    if not workload.sqthread_poll:
        return []
    text = "sqpoll: the CPU time of the kernel's submitting threads is not in cpu"
    available = len(workload.cpus or os.sched_getaffinity(0))
    if available < 2 * workload.numjobs:
        text += (
            f"; {workload.numjobs} of them and as many jobs share {available} CPUs, which costs "
            "more than it saves"
        )
    return [text]


def of_workers(workers_cpu_s: Mapping[int, float], submitters_cpu_s: float) -> list[str]:
    """I/O that the kernel's workers did, by their CPU seconds and those of the jobs."""
    if sum(workers_cpu_s.values()) <= WORKERS_SHARE * submitters_cpu_s:
        return []
    return [
        "the kernel gave I/O to worker threads of its own (iou-wrk: "
        f"{len(workers_cpu_s)}), because the target does not take it without blocking; their "
        "CPU time is not in cpu, and --engine sync may be faster at a low depth"
    ]


def of_depth(workload: Workload, iodepth: int, mean_depth: float) -> list[str]:
    """A queue that was meant to be full and was not.

    A run of few bytes is excepted: a large part of it is the end, when the queue empties.
    """
    depth = iodepth * workload.numjobs
    total = workload.total_bytes
    is_short = total is not None and total < SHORT_RUN * iodepth * workload.largest_bs
    if workload.is_paced or is_short or mean_depth >= FULL_DEPTH * depth:
        return []
    return [
        f"the mean depth was {mean_depth:.1f} of {depth} ({100 * mean_depth / depth:.0f} %): "
        "the rest of the time went into submitting, or into waiting for batches"
    ]


def of_pace(pace: Pace | None) -> list[str]:
    """A schedule that was not kept."""
    if pace is None or pace.started >= KEPT_UP * pace.due:
        return []
    return [
        f"could not keep up with {pace.rate_iops} IOPS: of {pace.due} I/Os that were due "
        f"{pace.started} were started ({100 * pace.started / pace.due:.1f} %), and the end was "
        f"{pace.behind_s:.2f} s behind the schedule; use a lower rate_iops, or more iodepth or "
        "numjobs"
    ]
