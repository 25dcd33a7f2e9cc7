"""Anvil's own file targets: incompressible data, and the sidecar that tells whose they are.

The sidecar "<name>.anvil.json" gives the file a serial and permits writing to it without
asking, so it must not vouch for another file that has come to bear the name.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import string
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from anvil_engine import statx

SERIAL_LENGTH = 12
BLOCK_BYTES = 4096  # sizes are multiples of it: no file system asks for more alignment
_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True)
class Sidecar:
    """Which file Anvil created.

    `device` is `st_dev`, which may change with a reboot (NVMe numbering, btrfs);
    `filesystem` is the `f_fsid` of statvfs, which then still tells the same file system.
    `created_ns` tells a later file that was given the freed inode number; it is None where
    the file system keeps no such time.
    """

    serial: str
    inode: int
    device: int
    filesystem: int
    created_ns: int | None
    size_bytes: int

    def describes(self, file: int | Path) -> bool:
        """Whether the open descriptor, or path, is that very file."""
        status = os.stat(file)
        filesystem = os.statvfs(file).f_fsid
        same_filesystem = status.st_dev == self.device or (0 != filesystem == self.filesystem)
        same_file = (status.st_ino, status.st_size) == (self.inode, self.size_bytes)
        return same_filesystem and same_file and statx.birth_time_ns(file) == self.created_ns


def sidecar_path(path: Path) -> Path:
    return path.with_name(path.name + ".anvil.json")


def read_sidecar(path: Path) -> Sidecar | None:
    """The sidecar beside the file that `path` leads to; None when missing or not one of ours."""
    try:
        facts = json.loads(sidecar_path(path.resolve()).read_bytes())
        return Sidecar(**facts) if isinstance(facts["serial"], str) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_sidecar(path: Path, fd: int) -> Sidecar:
    """Give the file open at `fd`, which is or will be named `path`, a new random serial."""
    status = os.fstat(fd)
    sidecar = Sidecar(
        serial=_random_serial(),
        inode=status.st_ino,
        device=status.st_dev,
        filesystem=os.fstatvfs(fd).f_fsid,
        created_ns=statx.birth_time_ns(fd),
        size_bytes=status.st_size,
    )
    final = sidecar_path(path)
    partial = final.with_name(f".{final.name}.partial")
    with partial.open("w") as file:
        json.dump(asdict(sidecar), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(final)
    return sidecar


def fill(fd: int, size: int, progress: Callable[[int], None]) -> None:
    """Write `size` bytes that no drive or file system can compress or deduplicate.

    All of it is fresh random data, so no two blocks are alike.  The descriptor may be
    O_DIRECT; `size` is a multiple of `BLOCK_BYTES`.  `progress` gets the bytes done so far.
    """
    import numpy as np  # the shell's start-up and read-only runs do without it

    generator = np.random.Generator(np.random.SFC64())
    buffer = mmap.mmap(-1, _CHUNK_BYTES)  # page-aligned, as O_DIRECT wants it
    words = np.frombuffer(buffer, dtype=np.uint64)
    done = 0
    while done < size:
        words[:] = generator.integers(0, 1 << 64, size=words.size, dtype=np.uint64)
        done += os.pwrite(fd, memoryview(buffer)[: size - done], done)
        progress(done)
    os.fsync(fd)


def _random_serial() -> str:
    alphabet = string.ascii_uppercase + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(SERIAL_LENGTH))
