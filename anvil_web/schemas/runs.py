"""Runs: asking for them, listing them, and what is known of one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasPath, AwareDatetime, BaseModel, Field, RootModel

from anvil_web.schemas.base import Utc, Wire
from anvil_web.schemas.phases import PhaseOut

STATUSES = "queued, preflight, running, complete, failed or aborted."


class RunPath(BaseModel):
    """Which run."""

    run_id: str = Field(description="Id of the run.")


class RunsQuery(BaseModel):
    """Which page of which runs.  A filter value that nothing has gives an empty page."""

    offset: int = Field(0, ge=0, le=2**31, description="Runs to skip.")
    limit: int = Field(50, ge=1, le=500, description="Runs to return at most.")
    status: str | None = Field(None, description=f"Only this status: {STATUSES}")
    device_id: str | None = Field(None, description="Only runs on this device.")
    profile_name: str | None = Field(None, description="Only runs of this profile.")


class NewRunBody(BaseModel):
    """The run to queue."""

    device_id: str = Field(description="Device to measure.")
    profile_name: str = Field("quick", description="Profile of the catalogue.")
    confirm_serial_last6: str | None = Field(
        None,
        description="Last six characters of the device's serial: the consent that a "
        "destructive profile needs.",
    )
    simulation: bool = Field(
        False, description="Produce made-up numbers and leave the device alone."
    )
    engine: Literal["native"] = Field("native", description="What issues the I/O.")


class RunSummary(Wire):
    """A run in a list."""

    id: str = Field(description="Opaque id; sorts by time of creation.")
    device_id: str = Field(description="Device that is measured.")
    device_model: str = Field(
        validation_alias=AliasPath("device", "model"), description="Model of the device."
    )
    device_serial: str = Field(
        validation_alias=AliasPath("device", "serial"), description="Serial of the device."
    )
    profile_name: str = Field(description="Profile that is executed.")
    status: str = Field(description=STATUSES)
    queued_at: Utc = Field(description="When it was asked for.")
    started_at: Utc | None = Field(description="When a runner took it; null before.")
    finished_at: Utc | None = Field(description="When it ended; null before.")


class RunPage(Wire):
    """One page of runs, newest first."""

    items: list[RunSummary] = Field(description="The runs.")
    total: int = Field(description="Runs that match the filters, on all pages.")
    offset: int = Field(description="Runs that were skipped.")
    limit: int = Field(description="Runs per page.")


class RunDetail(Wire):
    """Everything about a run but its samples and histograms."""

    id: str = Field(description="Opaque id.")
    device_id: str = Field(description="Device that is measured.")
    profile_name: str = Field(description="Profile that is executed.")
    status: str = Field(description=STATUSES)
    queued_at: Utc = Field(description="When it was asked for.")
    queued_by: str | None = Field(description="Name of the account that asked for it.")
    started_at: Utc | None = Field(description="When a runner took it; null before.")
    finished_at: Utc | None = Field(description="When it ended; null before.")
    error_message: str | None = Field(description="Why it failed or was aborted.")
    device_path_at_run: str | None = Field(description="Path of the device during the run.")
    engine: str = Field(description="What issues the I/O: `native`.")
    simulation: bool = Field(description="Whether the numbers are made up: no device was touched.")
    warnings: list[str] = Field(description="What the reader of the numbers should know.")
    host_system: dict[str, Any] | None = Field(
        description="platform, kernel, python, architecture, CPU, memory and engine version; "
        "pcie_at_run where known."
    )
    smart_before: dict[str, Any] | None = Field(
        description="SMART log before the run: nvme_smart_log and smartctl, or error."
    )
    smart_after: dict[str, Any] | None = Field(description="SMART log after the run.")
    phases: list[PhaseOut] = Field(
        description="All phases of the profile once the run has left preflight, in order."
    )


class Abort(Wire):
    """What an abort did."""

    run_id: str = Field(description="Id of the run.")
    result: Literal["aborted_queued", "aborting"] = Field(
        description="`aborted_queued`: it never began and is aborted now. `aborting`: the "
        "engine was told to stop; the run is aborted once the engine is gone (at most 5 s)."
    )


class TimeseriesQuery(BaseModel):
    """Which points."""

    metric: str | None = Field(
        None, description="Only this metric; an unknown name gives an empty list."
    )
    since: AwareDatetime | None = Field(
        None, description="Only points after this time (RFC 3339 with offset)."
    )
    max_points: int | None = Field(
        None,
        ge=2,
        le=1_000_000,
        description="At most this many points per metric: equal stretches of the series keep "
        "their lowest and highest value. All points when absent.",
    )


class Point(Wire):
    """One value of one interval.  An idle direction has none."""

    ts: Utc = Field(description="End of the interval.")
    metric_name: str = Field(
        description="read_iops, write_iops (1/s); read_bw_bytes, write_bw_bytes (bytes per "
        "second); read_clat_mean_ns, write_clat_mean_ns (ns: lat, submission to reaping); "
        "temperature_c (degrees Celsius)."
    )
    value: float = Field(description="Value of this interval alone, never cumulative.")


class PointList(RootModel[list[Point]]):
    """The points of a run, by time."""


class Bundle(Wire):
    """Everything that is stored about a run.  Rows are complete, under their columns' names."""

    schema_version: int = Field(description="Version of this format: 1.")
    anvil_version: str = Field(description="Version that wrote it.")
    generated_at: Utc = Field(description="When it was written.")
    run: dict[str, Any] = Field(description="The run, with profile snapshot, host and SMART.")
    phases: list[dict[str, Any]] = Field(
        description="Phases with all metrics, job file, result, and histograms packed in base64."
    )
    samples: list[dict[str, Any]] = Field(
        description="Every interval with its percentiles and packed histograms."
    )
    events: list[dict[str, Any]] = Field(description="Every event of the run, in order.")
    timeseries: list[Point] = Field(description="The points of `/timeseries`.")
    device: dict[str, Any] = Field(description="The device as it is known now.")
    device_snapshots: list[dict[str, Any]] = Field(description="What each scan found of it.")


class StreamQuery(BaseModel):
    """Where the live stream begins."""

    since: int | None = Field(
        None,
        ge=0,
        le=2**53,
        description="Replay every frame after this `seq`, 0 for the whole run. Now when absent.",
    )
