"""Phases of a run: what was asked, and the fourteen numbers that were measured.

The wire's `*_clat_*` names are the contract's; they hold lat, and every description says so.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, RootModel

from anvil_web.schemas.base import Utc, Wire

PATTERNS = "read, write, randread, randwrite, rw or randrw."
_IDLE = "null when the phase does not {0} or has not finished."
_LAT = (
    "{1} {0} latency in ns: lat, from the submission stamp to the reaping of the completion "
    "(the name `clat` is kept for compatibility; for fio runs this is fio's `lat_ns`). "
)


def _iops(direction: str) -> Any:
    return Field(description=f"{direction} IOPS over the phase, in 1/s; {_IDLE.format(direction)}")


def _bw(direction: str) -> Any:
    return Field(
        description=f"{direction} bandwidth in bytes per second; {_IDLE.format(direction)}"
    )


def _lat(direction: str, which: str) -> Any:
    return Field(description=(_LAT + _IDLE).format(direction, which))


class PhasePath(BaseModel):
    """Which phase of which run."""

    run_id: str = Field(description="Id of the run.")
    phase_id: str = Field(description="Id of the phase.")


class _PhaseHead(Wire):
    id: str = Field(description="Opaque id.")
    phase_order: int = Field(description="Place in the profile, from 0.")
    phase_name: str = Field(description="Name, unique within the run.")
    pattern: str = Field(description=PATTERNS)
    block_size: int = Field(description="Bytes per I/O.")
    iodepth: int = Field(description="I/Os in flight per job.")
    numjobs: int = Field(description="Parallel jobs.")
    rwmix_write_pct: int = Field(description="Percent of I/Os that write, 0 to 100.")
    runtime_s: float = Field(description="Measured time that was asked for, in seconds.")
    started_at: Utc | None = Field(description="First I/O; null before.")
    finished_at: Utc | None = Field(description="End of the measurement; null before.")


class PhaseSummary(_PhaseHead):
    """A phase with the ten numbers that lists and charts need."""

    read_iops: float | None = _iops("read")
    read_bw_bytes: int | None = _bw("read")
    read_clat_mean_ns: float | None = _lat("read", "mean")
    read_clat_p99_ns: float | None = _lat("read", "99th percentile of")
    read_clat_p9999_ns: float | None = _lat("read", "99.99th percentile of")
    write_iops: float | None = _iops("write")
    write_bw_bytes: int | None = _bw("write")
    write_clat_mean_ns: float | None = _lat("write", "mean")
    write_clat_p99_ns: float | None = _lat("write", "99th percentile of")
    write_clat_p9999_ns: float | None = _lat("write", "99.99th percentile of")


class PhaseOut(PhaseSummary):
    """A phase with all fourteen numbers."""

    read_clat_p50_ns: float | None = _lat("read", "median")
    read_clat_p999_ns: float | None = _lat("read", "99.9th percentile of")
    write_clat_p50_ns: float | None = _lat("write", "median")
    write_clat_p999_ns: float | None = _lat("write", "99.9th percentile of")


class PhaseSummaries(RootModel[list[PhaseSummary]]):
    """The phases of a run, in order."""


class Bin(Wire):
    """One bucket in use."""

    bin_ns: int = Field(description="Middle of the bucket: latency (lat) in ns.")
    count: int = Field(description="I/Os in the bucket.")


class CdfPoint(Wire):
    """The distribution up to and including one bucket."""

    bin_ns: int = Field(description="Middle of the bucket: latency (lat) in ns.")
    cdf: float = Field(description="Share of I/Os in this bucket or below, 0 to 1.")
    exceedance: float = Field(description="Share of I/Os above this bucket, 0 to 1.")


class Distribution(Wire):
    """Every I/O of one direction, all jobs together."""

    total_ios: int = Field(description="I/Os recorded.")
    histogram: list[Bin] = Field(description="Buckets in use, ascending.")
    cdf: list[CdfPoint] = Field(description="The same, cumulative.")


class PhaseHistogram(Wire):
    """The latency of every I/O of a phase."""

    run_id: str = Field(description="Id of the run.")
    phase_id: str = Field(description="Id of the phase.")
    phase_name: str = Field(description="Name of the phase.")
    directions: dict[str, Distribution] = Field(
        description="`read` and `write`; a direction without I/Os is absent."
    )
