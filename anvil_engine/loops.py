"""What lies under the loop devices of a host, by number and not by name.

The path that /sys shows for a backing may be gone by now, hidden by a mount, of another mount
namespace, or another file's.  The driver knows the object itself, so a loop node is opened,
read-only and for that one question.  Where there is no node to open, the path has to do, and
what it does not lead to is called unknown, never unused.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from anvil_engine import procfs, sysfs

_LOOP_MAJOR = 7  # Documentation/admin-guide/devices.txt
# struct loop_info64 of linux/loop.h begins with device, inode and rdevice of the backing.
_LOOP_GET_STATUS64 = 0x4C05
_STATUS_BYTES = 232
_BACKING_OF_STATUS = "3Q"
_DELETED = " (deleted)"  # what the kernel appends to the path of an unlinked file


@dataclass(frozen=True)
class Backing:
    """The block device (by kernel name) or file (`st_dev`, `st_ino`) under a loop device."""

    device: str | None = None
    file: tuple[int, int] | None = None

    @property
    def is_known(self) -> bool:
        return self.device is not None or self.file is not None


def backings(root: Path) -> dict[str, Backing]:
    """What lies under each loop device that is set up."""
    found = {name: _backing(root, name, path) for name, path in sysfs.loop_backings(root).items()}
    return {name: backing for name, backing in found.items() if backing is not None}


def _backing(root: Path, name: str, path: str | None) -> Backing | None:
    """None when the loop device was detached meanwhile."""
    try:
        return _from_status(root, _status(root, name))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        return Backing() if path is None else _from_path(root, path)


def _status(root: Path, name: str) -> bytes:
    """The driver's own account; raises OSError where it cannot be asked."""
    node = root / sysfs.node_path(name).lstrip("/")
    handle = os.open(node, os.O_PATH | os.O_CLOEXEC)
    try:
        _require_loop(root, name, handle)
        fd = os.open(procfs.descriptor_path(handle), os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(handle)
    try:
        return fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_STATUS_BYTES))
    finally:
        os.close(fd)


def _require_loop(root: Path, name: str, handle: int) -> None:
    """Nothing but the node of that loop device is ever opened here."""
    status = os.fstat(handle)
    is_loop = stat.S_ISBLK(status.st_mode) and os.major(status.st_rdev) == _LOOP_MAJOR
    if not is_loop or sysfs.name_of(root, status.st_rdev) != name:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


def _from_status(root: Path, status: bytes) -> Backing:
    device, inode, rdevice = struct.unpack_from(_BACKING_OF_STATUS, status)
    # Of a block device these are its node's, which are no regular file's.
    return Backing(sysfs.name_of(root, rdevice) if rdevice else None, (device, inode))


def _from_path(root: Path, path: str) -> Backing:
    if path.endswith(_DELETED):
        return Backing()
    try:
        status = (root / path.lstrip("/")).stat()
    except OSError:
        return Backing()
    is_file = stat.S_ISREG(status.st_mode)
    file = (status.st_dev, status.st_ino) if is_file else None
    return Backing(sysfs.name_at(root, path), file)
