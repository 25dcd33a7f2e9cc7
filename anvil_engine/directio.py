"""Direct I/O on regular files: whether the file system really does it, and in which units."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

from anvil_engine import procfs, statx, sysfs
from anvil_engine.errors import DirectUnsupported

CAUTIOUS_ALIGNMENT = 4096  # for a file of which nothing better is known


def require(fd: int, path: Path, root: Path) -> int:
    """The alignment of offsets and lengths on an O_DIRECT descriptor, in bytes.

    Raises `DirectUnsupported` when the first read is refused, or when the kernel says that
    it would go through the page cache: ext4 does so silently for journalled data, and the
    figures would be the cache's.
    """
    reported = statx.direct_alignment(fd)
    if reported == 0 or not _first_read_works(fd):
        raise unsupported(path, root)
    return reported or _alignment_of_disk(fd, root) or CAUTIOUS_ALIGNMENT


def unsupported(path: Path, root: Path) -> DirectUnsupported:
    """The error that names the file system and the way out."""
    mount = procfs.mount_of(root, path)
    place = f"{mount.fs_type} at {mount.mount_point}" if mount else "its file system"
    return DirectUnsupported(
        f"{path} cannot be opened with O_DIRECT: {place} refuses it; choose a place on ext4, "
        "xfs or btrfs (for the scratch target: --data-dir), or measure with direct=0"
    )


def _first_read_works(fd: int) -> bool:
    buffer = mmap.mmap(-1, CAUTIOUS_ALIGNMENT)
    try:
        os.preadv(fd, [buffer], 0)
    except OSError as error:
        # Any other error is the medium's, and the measurement's to report.
        return error.errno not in (errno.EINVAL, errno.EOPNOTSUPP)
    return True


def _alignment_of_disk(fd: int, root: Path) -> int | None:
    """The logical block size of the disk under the file system, when it has just one."""
    name = sysfs.name_of(root, os.fstat(fd).st_dev)
    geometry = None if name is None else sysfs.geometry(root, name)
    return None if geometry is None else geometry.logical_block_size
