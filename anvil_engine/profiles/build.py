"""Short words for writing phases down as the tables of the field do."""

from __future__ import annotations

from anvil_engine.units import parse_size
from anvil_engine.workload import Phase, Workload

READ_RAMP_S = 2.0
WRITE_RAMP_S = 3.0


def read_phase(
    name: str, rw: str, bs: str, iodepth: int, numjobs: int, runtime: float, *, size: str
) -> Phase:
    """A phase that only reads, from the first `size` of the target."""
    return Phase(
        name,
        Workload(
            rw=rw,
            bs=parse_size(bs),
            iodepth=iodepth,
            numjobs=numjobs,
            runtime=runtime,
            ramp_time=READ_RAMP_S,
            size=parse_size(size),
        ),
    )


def whole_phase(
    name: str,
    rw: str,
    bs: str,
    iodepth: int,
    numjobs: int,
    runtime: float,
    *,
    write_pct: int = 0,
) -> Phase:
    """A phase of a destructive profile: the whole target, `write_pct` percent of mixed writes."""
    return Phase(
        name,
        Workload(
            rw=rw,
            bs=parse_size(bs),
            iodepth=iodepth,
            numjobs=numjobs,
            runtime=runtime,
            ramp_time=WRITE_RAMP_S,
            rwmixread=100 - write_pct,
        ),
    )
