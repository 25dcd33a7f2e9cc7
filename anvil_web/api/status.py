"""`/api/status` and `/api/health`."""

from __future__ import annotations

import time

from flask import Response, current_app

from anvil_web import db
from anvil_web.api.reply import BEARER, GUARDED, noun, reply
from anvil_web.auth import public, requires
from anvil_web.clock import utcnow
from anvil_web.schemas.status import Health, Status
from anvil_web.store import devices, runners, runs
from anvil_web.version import anvil_version

bp = noun("status", "/api", tag="Status")


@bp.get("/health", responses={200: Health})
@public
def health() -> Response:
    """Whether this worker answers."""
    return reply(Health(status="ok"))


@bp.get("/status", security=BEARER, responses={200: Status, **GUARDED})
@requires("viewer")
def status() -> Response:
    """Database, runners and queue at a glance."""
    try:
        return reply(_status())
    except db.DatabaseUnavailable:
        return reply(_without_database())


def _status() -> Status:
    runs.fail_stale()
    counts = runs.counts()
    live = runners.live()
    age_s = (utcnow() - live[0].started_at).total_seconds() if live else _worker_age_s()
    return Status(
        version=anvil_version(),
        status="ok" if live else "degraded",
        queued=counts["queued"],
        running=counts["running"],
        runner_ok=bool(live),
        runner_connected=bool(live),
        simulation_mode=any(runner.simulation_mode for runner in live),
        device_count=devices.count(),
        queued_count=counts["queued"],
        running_count=counts["running"],
        uptime_seconds=max(0.0, age_s),
    )


def _without_database() -> Status:
    return Status(
        version=anvil_version(),
        status="degraded",
        queued=0,
        running=0,
        runner_ok=False,
        runner_connected=False,
        simulation_mode=False,
        device_count=0,
        queued_count=0,
        running_count=0,
        uptime_seconds=_worker_age_s(),
    )


def _worker_age_s() -> float:
    started: float = current_app.config["STARTED_AT"]
    return time.monotonic() - started
