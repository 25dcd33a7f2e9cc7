"""The last check before a run may touch a device.

The API checked when the run was queued.  That was another process, another time, and
perhaps nobody: a row can be inserted by hand.  The engine checks once more on the open
descriptor; here is where a refusal still costs nothing.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from anvil_engine.consent import serial_matches
from anvil_engine.errors import AnvilError
from anvil_engine.inventory import Device, discover
from anvil_engine.scratch import sidecar_path
from anvil_engine.workload import Profile
from anvil_web.store.claims import Claim

SIDECAR_SUFFIX = sidecar_path(Path("x")).name.removeprefix("x")


class Refused(AnvilError):
    """The run must not start; the text says why."""


def file_targets(data_dir: Path) -> list[Path]:
    """The files in the data directory that may be Anvil's targets.

    The directory belongs to the web side's account, so a link in it could lead a
    privileged runner anywhere: only plain files with one name count.
    """
    sidecars = sorted(data_dir.glob(f"*{SIDECAR_SUFFIX}"))
    files = (data_dir / path.name.removesuffix(SIDECAR_SUFFIX) for path in sidecars)
    return [path for path in files if _is_plain(path)]


def _is_plain(path: Path) -> bool:
    try:
        str(path).encode()  # no other name can be stored
        status = path.lstat()
    except (OSError, UnicodeError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def scan(root: Path, data_dir: Path) -> list[Device]:
    """What this host has now: its block devices, and Anvil's files in the data directory."""
    return discover(root=root, files=file_targets(data_dir))


def check(claim: Claim, profile: Profile, devices: Iterable[Device]) -> Device:
    """The device of the claim as it is now, if the run may start on it.  Raises `Refused`."""
    path = claim.device_path
    if path is None:
        raise Refused("the device was not found by the last scan; rescan before running")
    device = next((device for device in devices if device.path == path), None)
    if device is None:
        raise Refused(f"{path} is not there any more; rescan before running")
    _require_same(path, "serial", claim.serial, device.serial)
    _require_same(path, "WWID", claim.wwid, device.wwid)
    _require_same(path, "model", claim.model, device.model)
    if not device.is_testable:
        raise Refused(f"{path} is not testable: {device.exclusion_reason}")
    if profile.destructive and not serial_matches(device.serial, claim.confirm_serial_last6):
        raise Refused(
            f"{profile.name} destroys the data on {path}, and nobody confirmed it with the "
            "last six characters of the serial"
        )
    return device


def _require_same(path: str, what: str, expected: str | None, found: str | None) -> None:
    if (expected or "") != (found or ""):
        raise Refused(
            f"{path} is another device now: its {what} is {found or 'missing'}, not "
            f"{expected or 'missing'}; rescan before running"
        )
