"""Runs as a runner sees them: claim one, show signs of life, clean up after an earlier one."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from anvil_web import db
from anvil_web.clock import utcnow
from anvil_web.models import Device, Run
from anvil_web.store import events
from anvil_web.store.runs import ACTIVE, QUEUED, finish


@dataclass(frozen=True)
class Claim:
    """A run that this runner executes: all that it needs to know, read once."""

    run_id: str
    profile_snapshot: dict[str, Any]
    engine: str
    simulation: bool
    confirm_serial_last6: str | None
    device_path: str | None
    model: str
    serial: str
    wwid: str | None


def claim_next(host: str, runner_id: str, *, now: dt.datetime | None = None) -> Claim | None:
    """Move the oldest queued run of `host` to preflight; None when there is none.

    The conditional write makes it safe, the lock only makes it polite.
    """
    now = now or utcnow()
    if not _queued(host).exists():
        return None
    with db.write_transaction():
        query = _queued(host).order_by(Run.queued_at, Run.id).limit(1)
        if db.locks_rows():
            query = query.for_update("FOR UPDATE SKIP LOCKED")
        found = query.first()
        if found is None:
            return None
        won = (
            Run.update(status="preflight", runner_id=runner_id, started_at=now, heartbeat_at=now)
            .where(Run.id == found.id, Run.status == QUEUED)
            .execute()
        )
        if won != 1:
            return None
        run = Run.select(Run, Device).join(Device).where(Run.id == found.id).get()
        path = run.device.current_device_path
        payload = {"run_id": run.id, "device_path": path}
        events.append(run.id, [("run_started", payload)], at=now)
    return Claim(
        run_id=run.id,
        profile_snapshot=run.profile_snapshot,
        engine=run.engine,
        simulation=run.simulation,
        confirm_serial_last6=run.confirm_serial_last6,
        device_path=path,
        model=run.device.model,
        serial=run.device.serial,
        wwid=run.device.wwid,
    )


def _queued(host: str) -> Any:
    return Run.select(Run.id).where(Run.host == host, Run.status == QUEUED)


def heartbeat(run_id: str, runner_id: str) -> bool:
    """Show that the run is being executed; False when it is no longer this runner's."""
    with db.write_transaction():
        beaten = (
            Run.update(heartbeat_at=utcnow())
            .where(Run.id == run_id, Run.runner_id == runner_id, Run.status.in_(ACTIVE))
            .execute()
        )
    return bool(beaten == 1)


def abort_requested(run_id: str) -> bool:
    """Whether somebody asked for the run to be stopped."""
    query = Run.select(Run.id).where(Run.id == run_id, Run.abort_requested_at.is_null(False))
    return bool(query.exists())


def fail_left_over(host: str, message: str) -> list[str]:
    """Fail every preflight or running run of `host`; their ids.  Queued runs stay queued."""
    with db.write_transaction():
        left = Run.select(Run.id).where(Run.host == host, Run.status.in_(ACTIVE))
        return [run.id for run in list(left) if finish(run.id, "failed", message)]
