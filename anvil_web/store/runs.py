"""Runs as the web side sees them: create, list, show, abort; and how a run ends.

Ending is one function, `finish`: a conditional write, with the one terminal event in the
same transaction.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

from peewee import fn
from ulid import ULID

from anvil_engine.workload import Profile
from anvil_web import db
from anvil_web.clock import utcnow
from anvil_web.models import Device, Run, RunPhase
from anvil_web.store import audit, events

QUEUED = "queued"
ACTIVE = ("preflight", "running")
TERMINAL = ("complete", "failed", "aborted")
ABORTED_BY_USER = "aborted by user"

RUNNER_LIVE_S = 10.0
STALE_S = 30.0

# A row without heartbeat was put there by hand, or by a runner that died that instant.
_last_sign = fn.COALESCE(Run.heartbeat_at, Run.started_at, Run.queued_at)
_PHASE_FIELDS = tuple(
    field
    for name, field in RunPhase._meta.fields.items()
    if name not in ("jobfile", "read_histogram", "write_histogram", "result")
)


class RunNotFound(LookupError):
    """No run has this id."""


class RunFinished(Exception):
    """The run is over already; `status` says how it ended."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the run is over: {status}")
        self.status = status


def create_run(
    *,
    device: Device,
    profile: Profile,
    engine: str = "native",
    simulation: bool = False,
    confirm_serial_last6: str | None = None,
    actor: str | None,
) -> Run:
    """Queue a run of `profile` as it is now on `device`, for the host that has the device."""
    with db.write_transaction():
        run = Run.create(
            id=str(ULID()),
            device=device,
            host=device.host,
            profile_name=profile.name,
            profile_snapshot=profile.to_dict(),
            engine=engine,
            simulation=simulation,
            confirm_serial_last6=confirm_serial_last6,
            status=QUEUED,
            queued_by=actor,
            queued_at=utcnow(),
            device_path_at_run=device.current_device_path,
        )
        audit.record(
            "run_queued",
            actor=actor,
            target=run.id,
            details={"device_id": device.id, "profile": profile.name},
        )
    return run


def list_runs(
    *,
    offset: int = 0,
    limit: int = 50,
    status: str | None = None,
    device_id: str | None = None,
    profile_name: str | None = None,
) -> tuple[list[Run], int]:
    """One page, newest first, with each run's device; and how many runs match in all."""
    query = Run.select(Run, Device).join(Device)
    if status is not None:
        query = query.where(Run.status == status)
    if device_id is not None:
        query = query.where(Run.device == device_id)
    if profile_name is not None:
        query = query.where(Run.profile_name == profile_name)
    page = query.order_by(Run.queued_at.desc(), Run.id.desc()).offset(offset).limit(limit)
    return list(page), query.count()


def get_run(run_id: str) -> Run | None:
    """The run with its device, None when there is none."""
    found: Run | None = Run.select(Run, Device).join(Device).where(Run.id == run_id).first()
    return found


def phases(run_id: str) -> list[RunPhase]:
    """The run's phases in order, without job file, result and histograms."""
    query = RunPhase.select(*_PHASE_FIELDS).where(RunPhase.run == run_id)
    return list(query.order_by(RunPhase.phase_order))


def get_phase(run_id: str, phase_id: str) -> RunPhase | None:
    """All of one phase, None when it is unknown or belongs to another run."""
    return RunPhase.get_or_none(RunPhase.run == run_id, RunPhase.id == phase_id)


def counts() -> dict[str, int]:
    """How many runs wait and how many are under way: `queued`, `running`."""
    return {
        "queued": Run.select().where(Run.status == QUEUED).count(),
        "running": Run.select().where(Run.status.in_(ACTIVE)).count(),
    }


def finish(
    run_id: str,
    status: str,
    error_message: str | None = None,
    *,
    details: dict[str, Any] | None = None,
    now: dt.datetime | None = None,
) -> bool:
    """End a run that is not over: status and terminal event, or nothing and False.

    `details` are added to the terminal event's payload.
    """
    now = now or utcnow()
    with db.write_transaction():
        won = (
            Run.update(status=status, finished_at=now, error_message=error_message)
            .where(Run.id == run_id, Run.status.not_in(TERMINAL))
            .execute()
        )
        if won == 1:
            payload = {"run_id": run_id, **_reason(status, error_message), **(details or {})}
            events.append(run_id, [(f"run_{status}", payload)], at=now)
    return bool(won == 1)


def _reason(status: str, message: str | None) -> dict[str, str | None]:
    return {"failed": {"error": message}, "aborted": {"reason": message}}.get(status, {})


def request_abort(run_id: str, *, actor: str | None) -> Literal["aborted_queued", "aborting"]:
    """Abort a queued run at once; ask the runner to stop one that is under way.

    Asking again is fine.  Raises `RunNotFound` and `RunFinished`.
    """
    with db.write_transaction():
        query = Run.select(Run.id, Run.status).where(Run.id == run_id)
        run = (query.for_update() if db.locks_rows() else query).first()
        if run is None:
            raise RunNotFound(run_id)
        if run.status in TERMINAL:
            raise RunFinished(run.status)
        asked = (
            Run.update(abort_requested_at=utcnow())
            .where(Run.id == run_id, Run.abort_requested_at.is_null())
            .execute()
        )
        if asked:
            audit.record("run_aborted", actor=actor, target=run_id)
        if run.status != QUEUED:
            return "aborting"
        finish(run_id, "aborted", ABORTED_BY_USER)
    return "aborted_queued"


def fail_stale(now: dt.datetime | None = None) -> int:
    """Fail runs whose runner is gone, as `lost`; how many.

    Two steps, because a missing heartbeat may only mean that the database was away: a
    reader that finds a heartbeat older than 10 s notes the time, which proves that the
    database could be written then; 30 s after the note, a run still without a heartbeat
    is lost.  Waits for nothing: when the database is busy, the next reader judges.
    """
    now = now or utcnow()
    silent = Run.status.in_(ACTIVE) & (_last_sign < _stored(now, RUNNER_LIVE_S))
    if not Run.select(Run.id).where(silent).exists():
        return 0
    if db.seconds_since_failure() < STALE_S:
        return 0
    try:
        with db.patience(0), db.write_transaction():
            return _judge(silent, now)
    except db.DatabaseUnavailable:
        return 0


def _judge(silent: Any, now: dt.datetime) -> int:
    unnoted = Run.missed_at.is_null() | (Run.missed_at < _last_sign)
    Run.update(missed_at=now).where(silent & unnoted).execute()
    limit = _stored(now, STALE_S)
    lost = Run.select(Run.id, Run.heartbeat_at).where(
        silent, _last_sign < limit, Run.missed_at <= limit
    )
    if db.locks_rows():
        lost = lost.for_update()
    failed = 0
    for run in lost:
        failed += finish(run.id, "failed", _lost_message(run.heartbeat_at), now=now)
    return failed


def _stored(now: dt.datetime, seconds_ago: float) -> int | None:
    """A time before `now` as the columns hold it: an expression converts nothing."""
    return Run.heartbeat_at.db_value(now - dt.timedelta(seconds=seconds_ago))


def _lost_message(heartbeat_at: dt.datetime | None) -> str:
    if heartbeat_at is None:
        return "lost: its runner never showed a sign of life"
    return f"lost: no sign of life from its runner since {heartbeat_at:%H:%M:%S} UTC"
