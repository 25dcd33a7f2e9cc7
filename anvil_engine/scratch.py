"""Anvil's own file targets: incompressible data, and the sidecar that tells whose they are.

The sidecar "<name>.anvil.json" gives the file a serial and permits writing to it without
asking, so it must not vouch for another file that has come to bear the name.
"""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import re
import secrets
import stat
import string
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from anvil_engine import directio, statx
from anvil_engine.errors import TargetError

SERIAL_LENGTH = 12
BLOCK_BYTES = 4096  # sizes are multiples of it: no file system asks for more alignment
_CHUNK_BYTES = 8 << 20
_PARTIAL_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_SIDECAR_BYTES = 4096  # more than any sidecar has
_ALPHABET = string.ascii_uppercase + string.digits
_SERIAL = re.compile(rf"[{_ALPHABET}]{{{SERIAL_LENGTH}}}")


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
        """Whether the open descriptor, or path, is that very file, under this name alone.

        A file with a second name may be in somebody's use under that one.
        """
        status = os.stat(file)
        filesystem = os.statvfs(file).f_fsid
        same_filesystem = status.st_dev == self.device or (0 != filesystem == self.filesystem)
        same_file = (status.st_ino, status.st_size, status.st_nlink) == (
            self.inode,
            self.size_bytes,
            1,
        )
        return same_filesystem and same_file and statx.birth_time_ns(file) == self.created_ns


def sidecar_path(path: Path) -> Path:
    return path.with_name(path.name + ".anvil.json")


def read_sidecar(path: Path) -> Sidecar | None:
    """The sidecar beside the file that `path` leads to; None when missing or not one of ours."""
    try:
        facts = json.loads(_read_plain(sidecar_path(path.resolve())))
        return Sidecar(**facts) if _SERIAL.fullmatch(facts["serial"]) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
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
    _write_new(partial, json.dumps(asdict(sidecar), indent=2))
    partial.replace(final)
    return sidecar


def open_partial(path: Path, partial: Path) -> int:
    """The unfinished file of `path`: new, locked and O_DIRECT.

    Raises `TargetError` while another program creates `path`, and `DirectUnsupported` before
    anything is written.
    """
    _remove_leftover(path, partial)
    try:
        fd = os.open(partial, _PARTIAL_FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise _being_created(path) from None
    try:
        _lock_partial(path, partial, fd)
        _require_direct(path, partial, fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _remove_leftover(path: Path, partial: Path) -> None:
    """Take away what a killed creation left, or whatever somebody put or linked there.

    Its content is left alone: the name is predictable, and the file may have others.
    """
    try:
        fd = os.open(partial, _PARTIAL_FLAGS | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        partial.unlink()  # a symbolic link
        return
    try:
        _lock_partial(path, partial, fd)
        partial.unlink()
    finally:
        os.close(fd)


def _lock_partial(path: Path, partial: Path, fd: int) -> None:
    """Keep other creations away; raises `TargetError` when one has the name."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _being_created(path) from None
    except OSError:
        pass  # a file system without locks (some NFS) is used without
    if not os.path.samestat(os.fstat(fd), partial.lstat()):
        raise _being_created(path)  # one that had the lock before us replaced it


def _being_created(path: Path) -> TargetError:
    return TargetError(f"{path} is being created by another program")


def _require_direct(path: Path, partial: Path, fd: int) -> None:
    """Turn O_DIRECT on; takes the unfinished file away where that does not work."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
        directio.require(fd, path, Path("/"))
    except BaseException as error:
        partial.unlink()
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            raise directio.unsupported(path, Path("/")) from error
        raise


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


def _read_plain(path: Path) -> bytes:
    """The beginning of a regular file, in a folder where others may have put anything else.

    Neither follows a link nor waits for the other end of a fifo; raises OSError for both.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read(_SIDECAR_BYTES)


def _write_new(path: Path, text: str) -> None:
    """Write to a file of our own making, whatever was put at its predictable name before."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o644), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _random_serial() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(SERIAL_LENGTH))
