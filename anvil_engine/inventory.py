"""The block devices and Anvil's own files on this host, and which of them may be measured.

A device is guilty until proven idle: whatever is mounted, held, swap or under the root file
system is listed with the reason, and never offered.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anvil_engine import scratch, sysfs
from anvil_engine.usage import Usage, survey

# Nodes that exist before anything is behind them.
_EMPTY_NODES = re.compile(r"(loop|zram|ram|nbd)\d+")
# Optical and floppy drives are nothing to measure.
_OTHER_MEDIA = re.compile(r"(sr|fd)\d+")
_MODEL_BY_PROTOCOL = {
    "virtio": "Virtio disk",
    "loop": "Loop device",
    "md": "MD array",
    "zram": "Compressed memory",
    "file": "Anvil scratch target",
}


@dataclass(frozen=True)
class Device:
    """One device as discovery found it.

    `partitions` are device paths.  `mount_points` include those of everything stacked on
    the device.  `exclusion_reason` is None exactly when the device is testable.
    """

    path: str
    protocol: str
    model: str
    serial: str | None
    firmware: str | None
    vendor: str | None
    wwid: str | None
    form_factor: str | None
    capacity_bytes: int
    sector_size_logical: int | None
    sector_size_physical: int | None
    rotational: bool | None
    partitions: tuple[str, ...]
    mount_points: tuple[str, ...]
    is_testable: bool
    exclusion_reason: str | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def discover(root: Path = Path("/"), files: Iterable[Path] = ()) -> list[Device]:
    """Every whole block device in natural order, then those of `files` that are Anvil's.

    Loop, zram, RAM and nbd nodes with nothing behind them, and optical and floppy drives,
    are left out: a list of sixteen empty nodes hides the two drives that matter.  Any other
    device of size zero (an empty card slot, a dead namespace) is listed, not testable.
    """
    usage = survey(root)
    blocks = (_block_device(root, usage, name) for name in sysfs.disks(root))
    owned = (_file_device(usage, path) for path in files)
    return [device for device in (*blocks, *owned) if device is not None]


def _block_device(root: Path, usage: Usage, name: str) -> Device | None:
    geometry = sysfs.geometry(root, name)
    if geometry is None or _OTHER_MEDIA.fullmatch(name):
        return None
    if geometry.size_bytes == 0 and _EMPTY_NODES.fullmatch(name):
        return None
    protocol = sysfs.protocol(root, name)
    identity = sysfs.identity(root, name)
    reason = _exclusion(root, usage, name, geometry)
    return Device(
        path=sysfs.node_path(name),
        protocol=protocol,
        model=identity.model or _MODEL_BY_PROTOCOL.get(protocol, "Unknown device"),
        serial=identity.serial,
        firmware=identity.firmware,
        vendor=identity.vendor,
        wwid=identity.wwid,
        form_factor=None,
        capacity_bytes=geometry.size_bytes,
        sector_size_logical=geometry.logical_block_size,
        sector_size_physical=geometry.physical_block_size,
        rotational=geometry.rotational,
        partitions=tuple(sysfs.node_path(part) for part in sysfs.partitions(root, name)),
        mount_points=usage.mount_points(name),
        is_testable=reason is None,
        exclusion_reason=reason,
    )


def _exclusion(root: Path, usage: Usage, name: str, geometry: sysfs.Geometry) -> str | None:
    """Why nobody may measure the device, or None."""
    reasons = usage.reasons(name)
    if geometry.size_bytes == 0:
        reasons.append("has no medium (size 0)")
    if geometry.read_only:
        reasons.append("read-only")
    node = root / sysfs.node_path(name).lstrip("/")
    if not os.access(node, os.F_OK, effective_ids=True):
        reasons.append(f"has no device node {sysfs.node_path(name)} here")
    # The permissions decide, not the user id: a group may have been given the node, and a
    # container's root may not have been.
    elif not os.access(node, os.R_OK, effective_ids=True):
        reasons.append("needs root: run Anvil's runner as root to open block devices")
    return "; ".join(reasons) or None


def _file_device(usage: Usage, path: Path) -> Device | None:
    """A file target that Anvil created, or None when it is gone or was never Anvil's."""
    sidecar = scratch.read_sidecar(path)
    if sidecar is None:
        return None
    try:
        status = path.stat()
        reason = _file_exclusion(usage, path, status, sidecar)
    except OSError:
        return None
    return Device(
        path=str(path),
        protocol="file",
        model=_MODEL_BY_PROTOCOL["file"],
        serial=sidecar.serial,
        firmware=None,
        vendor=None,
        wwid=None,
        form_factor=None,
        capacity_bytes=status.st_size,
        sector_size_logical=None,
        sector_size_physical=None,
        rotational=None,
        partitions=(),
        mount_points=(),
        is_testable=reason is None,
        exclusion_reason=reason,
    )


def _file_exclusion(
    usage: Usage, path: Path, status: os.stat_result, sidecar: scratch.Sidecar
) -> str | None:
    """Why nobody may measure the file, or None; raises OSError when it is gone."""
    reasons = usage.file_reasons(status)
    if status.st_nlink > 1:
        reasons.append("has a second name (a hard link), under which it may be in use")
    elif not sidecar.describes(path):
        reasons.append(
            "not the file that Anvil created here (its sidecar names another); delete "
            f"{scratch.sidecar_path(path).name} and the file to have a new one"
        )
    elif not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        reasons.append("this user may not read and write it")
    return "; ".join(reasons) or None
