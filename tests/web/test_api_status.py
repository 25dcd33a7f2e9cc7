"""The installation at a glance."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import recorded

from anvil_web.clock import utcnow
from anvil_web.models import Runner
from anvil_web.store import runners

pytestmark = pytest.mark.usefixtures("each_database")

KEYS = {
    "version", "status", "queued", "running", "runner_ok", "runner_connected",
    "simulation_mode", "device_count", "queued_count", "running_count", "uptime_seconds",
}  # fmt: skip


def test_health_needs_nobody(client: Any) -> None:
    """Anyone may ask whether the worker answers."""
    assert client.get("/api/health").json == {"status": "ok"}


def test_status_without_a_runner(viewer: Any) -> None:
    """Without a runner the call answers all the same, as degraded, with the worker's age."""
    body = viewer.get("/api/status").json
    assert set(body) == KEYS
    assert body["status"] == "degraded"
    assert body["runner_ok"] is body["runner_connected"] is False
    assert 0 <= body["uptime_seconds"] < 60


def test_status_counts(viewer: Any) -> None:
    """With a live runner it is ok; runs are counted by what they wait for."""
    runners.register("r", host="lab", pid=1, version="1", simulation_mode=True)
    Runner.update(started_at=utcnow() - dt.timedelta(hours=1)).execute()
    recorded.a_running_run()
    for _ in range(2):
        recorded.a_queued_run()
    body = viewer.get("/api/status").json
    assert body["status"] == "ok"
    assert body["runner_ok"] is body["runner_connected"] is body["simulation_mode"] is True
    assert (body["queued"], body["queued_count"]) == (2, 2)
    assert (body["running"], body["running_count"]) == (1, 1)
    assert body["device_count"] == 1
    assert 3600 <= body["uptime_seconds"] < 3660


def test_a_silent_runner_does_not_count(viewer: Any) -> None:
    """A runner whose last sign of life is older than 10 s is no runner."""
    runners.register("r", host="lab", pid=1, version="1", simulation_mode=False)
    Runner.update(heartbeat_at=utcnow() - dt.timedelta(seconds=11)).execute()
    assert viewer.get("/api/status").json["runner_ok"] is False
