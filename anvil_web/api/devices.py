"""`/api/devices`."""

from __future__ import annotations

import time

from flask import Response, abort, g

from anvil_web.api.reply import noun, reply
from anvil_web.auth import requires
from anvil_web.schemas.base import ErrorBody
from anvil_web.schemas.devices import DeviceList, DeviceOut, DevicePath
from anvil_web.store import audit, commands, devices, runners

# A scan reads sysfs and takes well under a second; a client waits for the answer.
RESCAN_TIMEOUT_S = 10.0

bp = noun("devices", "/api/devices", tag="Devices", guarded=True)


@bp.get("", responses={200: DeviceList})
@requires("viewer")
def list_devices() -> Response:
    """Every device ever seen, the latest seen first."""
    return _all_devices()


@bp.post("/rescan", responses={200: DeviceList})
@requires("operator")
def rescan() -> Response:
    """Have every live runner look for devices again; the full list afterwards."""
    hosts = sorted({runner.host for runner in runners.live()})
    if not hosts:
        abort(503, "Runner unreachable: no runner gave a sign of life in the last 10 s")
    audit.record("devices_rescanned", actor=g.principal.username)
    _scan(hosts)
    return _all_devices()


@bp.get("/<device_id>", responses={200: DeviceOut, 404: ErrorBody})
@requires("viewer")
def get_device(path: DevicePath) -> Response:
    """One device."""
    device = devices.get_device(path.device_id)
    if device is None:
        abort(404, "Device not found")
    return reply(DeviceOut.model_validate(device))


def _all_devices() -> Response:
    return reply(DeviceList.model_validate(devices.list_devices()))


def _scan(hosts: list[str]) -> None:
    """Scan all hosts at once.  Aborts with 503 when a runner cannot; raises `CommandTimeout`."""
    deadline = time.monotonic() + RESCAN_TIMEOUT_S
    for command_id in [commands.submit("rescan", host=host) for host in hosts]:
        command = commands.wait(command_id, max(0.0, deadline - time.monotonic()))
        if command.error is not None:
            abort(503, f"Rescan failed: {command.error}")
