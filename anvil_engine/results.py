"""What a run yields: events, and the results inside them, with their JSON.

A run is a stream of events: `RunStarted`, then for each phase `PhaseStarted`,
`PhaseSample` once a second and `PhaseComplete`, at last exactly one of `RunComplete`,
`RunFailed` and `RunAborted`.  On a pipe it is one JSON object a line (`encode`), numbered
from 1 without gaps, so that a reader knows what it has.

An idle direction is None, never 0.  Histograms travel packed and in base64.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from anvil_engine.workload import Phase, Profile


@dataclass(frozen=True, kw_only=True)
class DirectionSample:
    """One direction of one interval: its own I/Os only.  Latencies are lat, in ns."""

    ios: int
    iops: float
    bw_bytes: float
    lat_mean_ns: float
    lat_p50_ns: float
    lat_p99_ns: float
    lat_p999_ns: float
    lat_p9999_ns: float
    lat_max_ns: float
    histogram: bytes


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """One kind of latency over a finished phase; fields as in `DirectionResult`."""

    ios: int
    min_ns: int
    max_ns: int
    mean_ns: float
    stddev_ns: float
    percentiles: dict[str, float]
    clamped: int
    histogram: bytes


@dataclass(frozen=True, kw_only=True)
class DirectionResult:
    """One direction of a finished phase.

    `percentiles` maps "50" … "99.9999" to ns.  `clamped` I/Os were slower than the last
    bucket and are counted in it.  `ios` equals the histogram's total.  In an open loop lat
    is the service time, and `response` is counted from the intended start.
    """

    ios: int
    io_bytes: int
    iops: float
    bw_bytes: float
    lat_min_ns: int
    lat_max_ns: int
    lat_mean_ns: float
    lat_stddev_ns: float
    percentiles: dict[str, float]
    clamped: int
    histogram: bytes
    response: Latencies | None = None


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How an open loop kept to its schedule; counts and rate are of all jobs.

    Of `due` I/Os `started` were started, `late` of them only when a slot of the job's
    iodepth came free.  At the end the schedule was `behind_s` ahead of the slowest job.
    With a poisson process `due` is an expectation as far as it exceeds `started`.
    """

    rate_iops: int
    rate_process: str
    due: int
    started: int
    late: int
    behind_s: float


@dataclass(frozen=True, kw_only=True)
class PhaseResult:
    """What a phase measured.

    `elapsed_s` is the measured time, without the ramp.  `errors` counts failed I/Os by
    errno name, short transfers as "SHORT".  `mean_depth` is the average number of I/Os in
    flight.  `cpu_user_pct` and `cpu_system_pct` are of one core, summed over the jobs.
    `engine` says how the I/O was issued: ring flags, registered resources, clock.
    `pace` is None for a closed loop, which has no response time either.
    """

    workload: dict[str, Any]
    elapsed_s: float
    read: DirectionResult | None
    write: DirectionResult | None
    errors: dict[str, int]
    mean_depth: float
    cpu_user_pct: float
    cpu_system_pct: float
    randseed: int
    engine: dict[str, Any]
    warnings: tuple[str, ...] = ()
    pace: Pace | None = None


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """The run begins: what will be done, to what, on which host."""

    event: ClassVar[str] = "run_started"
    profile: Profile
    phases: tuple[Phase, ...]
    engine: str
    simulation: bool
    device_path: str
    target: dict[str, Any]
    host: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PhaseStarted:
    """A phase begins.  `jobfile` is the fio job that asks for the same."""

    event: ClassVar[str] = "phase_started"
    phase_order: int
    phase_name: str
    jobfile: str
    expected_runtime_s: float


@dataclass(frozen=True, kw_only=True)
class PhaseSample:
    """One second of a phase.  `interval` counts from 0 within the phase, without gaps."""

    event: ClassVar[str] = "phase_sample"
    phase_order: int
    phase_name: str
    interval: int
    elapsed_s: float
    eta_s: float
    read: DirectionSample | None
    write: DirectionSample | None


@dataclass(frozen=True, kw_only=True)
class PhaseComplete:
    """A phase ran to its end."""

    event: ClassVar[str] = "phase_complete"
    phase_order: int
    phase_name: str
    result: PhaseResult


@dataclass(frozen=True, kw_only=True)
class PhaseFailed:
    """A phase could not run to its end; `RunFailed` follows."""

    event: ClassVar[str] = "phase_failed"
    phase_order: int
    phase_name: str
    error: str
    errno: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunComplete:
    """Every phase ran to its end."""

    event: ClassVar[str] = "run_complete"


@dataclass(frozen=True, kw_only=True)
class RunFailed:
    """The run ended by an error."""

    event: ClassVar[str] = "run_failed"
    error: str


@dataclass(frozen=True, kw_only=True)
class RunAborted:
    """The run was told to stop."""

    event: ClassVar[str] = "run_aborted"
    reason: str
    partial: PhaseResult | None = field(default=None)
    """What the phase had measured when it was stopped, None when nothing."""


Event = (
    RunStarted
    | PhaseStarted
    | PhaseSample
    | PhaseComplete
    | PhaseFailed
    | RunComplete
    | RunFailed
    | RunAborted
)
TERMINAL = (RunComplete, RunFailed, RunAborted)

_EVENTS: dict[str, type[Event]] = {
    kind.event: kind
    for kind in (
        RunStarted,
        PhaseStarted,
        PhaseSample,
        PhaseComplete,
        PhaseFailed,
        RunComplete,
        RunFailed,
        RunAborted,
    )
}


def encode(event: Event, number: int, at: dt.datetime) -> dict[str, Any]:
    """The event as one JSON object: its number `n`, its time `ts`, its name, its fields."""
    return {"n": number, "ts": format_time(at), "event": event.event, **_plain_fields(event)}


def decode(data: Mapping[str, Any]) -> tuple[int, dt.datetime, Event]:
    """Number, time and event of `encode`'s object.  Raises `ValueError` for anything else."""
    try:
        kind = _EVENTS[data["event"]]
        values = {item.name: data[item.name] for item in fields(kind)}
        number, at = int(data["n"]), dt.datetime.fromisoformat(data["ts"])
        return number, at, kind(**_revived(values))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not an event: {error!r}") from error


def format_time(at: dt.datetime) -> str:
    """RFC 3339 in UTC with microseconds and `Z`."""
    return at.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _plain_fields(record: Any) -> dict[str, Any]:
    return {item.name: plain(getattr(record, item.name)) for item in fields(record)}


def plain(value: Any) -> Any:
    """`value` as JSON types: records as objects, tuples as lists, bytes in base64."""
    if isinstance(value, Profile | Phase):
        return value.to_dict()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return _plain_fields(value)
    return value


def _revived(values: dict[str, Any]) -> dict[str, Any]:
    revive: dict[str, Any] = {
        "profile": Profile.from_dict,
        "phases": lambda phases: tuple(Phase.from_dict(phase) for phase in phases),
        "warnings": tuple,
        "read": _direction_sample,
        "write": _direction_sample,
        "result": phase_result,
        "partial": lambda data: phase_result(data) if data else None,
    }
    return {name: revive.get(name, lambda same: same)(value) for name, value in values.items()}


def _direction_sample(data: Mapping[str, Any] | None) -> DirectionSample | None:
    return DirectionSample(**_with_bytes(data)) if data else None


def phase_result(data: Mapping[str, Any]) -> PhaseResult:
    """The result that `plain` wrote."""
    values = dict(data)
    for direction in ("read", "write"):
        values[direction] = _direction_result(values[direction])
    pace = values.get("pace")
    values["pace"] = Pace(**pace) if pace else None
    return PhaseResult(**{**values, "warnings": tuple(values["warnings"])})


def _direction_result(data: Mapping[str, Any] | None) -> DirectionResult | None:
    if not data:
        return None
    return DirectionResult(**_with_bytes(data) | {"response": _latencies(data.get("response"))})


def _latencies(data: Mapping[str, Any] | None) -> Latencies | None:
    return Latencies(**_with_bytes(data)) if data else None


def _with_bytes(data: Mapping[str, Any]) -> dict[str, Any]:
    return {**data, "histogram": base64.b64decode(data["histogram"])}
