"""The state of the installation at a glance."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anvil_web.schemas.base import Wire


class Health(Wire):
    """The worker answers; nothing else was asked."""

    status: Literal["ok"] = Field(description="Always `ok`.")


class Status(Wire):
    """Database, runners and queue.  Some values stand under two names, for older clients."""

    version: str = Field(description="Version of this server.")
    status: Literal["ok", "degraded"] = Field(
        description="`ok` when database and runner answer, else `degraded`."
    )
    queued: int = Field(description="Runs that wait for a runner.")
    running: int = Field(description="Runs in preflight or running.")
    runner_ok: bool = Field(description="Whether a runner gave a sign of life in the last 10 s.")
    runner_connected: bool = Field(description="Same as `runner_ok`.")
    simulation_mode: bool = Field(description="Whether a live runner only simulates.")
    device_count: int = Field(description="Devices that were ever seen.")
    queued_count: int = Field(description="Same as `queued`.")
    running_count: int = Field(description="Same as `running`.")
    uptime_seconds: float = Field(
        description="Age in seconds of the oldest live runner, else of this worker."
    )
