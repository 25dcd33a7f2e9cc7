"""Runners and their signs of life."""

from __future__ import annotations

import datetime as dt

from anvil_web import db
from anvil_web.clock import utcnow
from anvil_web.models import Runner
from anvil_web.store.runs import RUNNER_LIVE_S

FORGET_AFTER = dt.timedelta(days=1)


def register(runner_id: str, *, host: str, pid: int, version: str, simulation_mode: bool) -> None:
    """Enter a runner that has just started; rows of runners long gone are dropped."""
    now = utcnow()
    with db.write_transaction():
        Runner.delete().where(Runner.heartbeat_at < now - FORGET_AFTER).execute()
        Runner.create(
            id=runner_id,
            host=host,
            pid=pid,
            version=version,
            simulation_mode=simulation_mode,
            started_at=now,
            heartbeat_at=now,
        )


def heartbeat(runner_id: str) -> bool:
    """Show that the runner lives; False when it is not entered."""
    with db.write_transaction():
        beaten = Runner.update(heartbeat_at=utcnow()).where(Runner.id == runner_id).execute()
    return bool(beaten == 1)


def unregister(runner_id: str) -> None:
    """Remove a runner that stops on purpose, so that nobody waits for it."""
    with db.write_transaction():
        Runner.delete().where(Runner.id == runner_id).execute()


def live(now: dt.datetime | None = None, max_age_s: float = RUNNER_LIVE_S) -> list[Runner]:
    """Runners whose last heartbeat is at most `max_age_s` old, the oldest runner first."""
    limit = (now or utcnow()) - dt.timedelta(seconds=max_age_s)
    return list(
        Runner.select().where(Runner.heartbeat_at >= limit).order_by(Runner.started_at, Runner.id)
    )
