"""The only opener of devices and target files (`loops` asks loop nodes for what they lie on).

A path is opened twice: first as a mere handle (O_PATH), on which kind, identity and consent
are decided, then through that handle for I/O.  What a name or a symbolic link leads to may
change in between without effect: what was examined is what is opened.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from anvil_engine import directio, procfs, scratch
from anvil_engine.errors import IdentityMismatch, TargetError, TargetInUse, TargetNotFound
from anvil_engine.subject import (
    NO_CONSENT,
    NULL,
    Consent,
    Kind,
    Subject,
    examine,
    reasons_in_use,
    require_consent,
)

__all__ = [
    "NO_CONSENT",
    "Consent",
    "Target",
    "TargetFacts",
    "create_file_target",
    "open_target",
]

ENDLESS_BYTES = 1 << 40
"""The size that /dev/zero and /dev/null are given, as offsets need a range."""
UNALIGNED_BYTES = 512
"""The `lba_size` of what needs no alignment: buffered files, /dev/zero, /dev/null."""

_BLKROGET = 0x125E
_BLKGETSIZE64 = 0x80081272
_BLKSSZGET = 0x1268


@dataclass(frozen=True)
class TargetFacts:
    """The target as its open descriptor shows it.

    `lba_size` is the unit of offsets and lengths in bytes: the logical block size of a
    block device, the direct I/O alignment of a file.  Serial, WWID, model and firmware of
    a partition are its disk's.
    """

    path: str
    kind: Kind
    size_bytes: int
    lba_size: int
    serial: str | None
    wwid: str | None
    model: str | None
    firmware: str | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Target:
    """An open target; owns `fd`, and holds the device or file exclusively until closed."""

    def __init__(self, fd: int, facts: TargetFacts, *, direct: bool) -> None:
        self.fd = fd
        self.facts = facts
        self.direct = direct

    def close(self) -> None:
        """Release the target; closing twice is harmless."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_target(
    path: str | Path,
    *,
    write: bool,
    read: bool = True,
    direct: bool = True,
    consent: Consent = NO_CONSENT,
    expect_serial: str | None = None,
    expect_wwid: str | None = None,
    root: Path = Path("/"),
) -> Target:
    """Open a block device, a regular file, /dev/zero or /dev/null for measuring.

    Without `write` the descriptor is O_RDONLY; `read` tells whether the workload reads, which
    /dev/null cannot serve.  A block device is opened exclusively either way, so one that is
    mounted, held or swap is refused by the kernel; a file is locked against other runs.  An expectation of None is not checked, one of "" means that the
    device has no such identifier.  `root` is where /sys and /proc are found.

    Raises `TargetNotFound`, `TargetInUse`, `ConsentRequired`, `IdentityMismatch`,
    `DirectUnsupported`, or `TargetError` for anything else that cannot be a target.
    """
    path = Path(path)
    handle = _handle(path)
    try:
        before = examine(path, handle, root)
        _require_admissible(before, consent, root, write=write, read=read)
        direct = direct and before.kind != "char"
        fd = _reopen(before, handle, root, write=write, direct=direct)
    finally:
        os.close(handle)
    try:
        after = examine(path, fd, root)
        _require_same(before, after)
        if write:
            # A drive may have been exchanged behind an unchanged device number.
            require_consent(after, consent)
            _require_writable(after, fd)
        _require_expected(after, "serial", after.identity.serial, expect_serial)
        _require_expected(after, "WWID", after.identity.wwid, expect_wwid)
        return Target(fd, _facts(after, fd, root, direct=direct), direct=direct)
    except BaseException:
        os.close(fd)
        raise


def create_file_target(
    path: Path, size: int, progress: Callable[[int], None] | None = None
) -> TargetFacts:
    """Create a file of `size` bytes of incompressible data that Anvil may write to.

    `size` is a multiple of 4096; `progress` gets the bytes written so far.  The file takes
    its name when it is complete and has its sidecar; what a killed creation left is
    removed by the next one.  Raises `TargetError` when the name is taken or there is no
    room, and `DirectUnsupported`, before anything is written, on a file system without
    O_DIRECT.
    """
    if size <= 0 or size % scratch.BLOCK_BYTES:
        raise TargetError(f"size of {path} is {size}; use a multiple of {scratch.BLOCK_BYTES}")
    partial = path.with_name(f".{path.name}.anvil-partial")
    try:
        _require_room(path, size)
        fd = scratch.open_partial(path, partial)
        try:
            _complete(path, partial, fd, size, progress or _ignore)
        finally:
            partial.unlink()
            os.close(fd)
    except OSError as error:
        raise TargetError(f"cannot create {path}: {error.strerror}") from error
    with open_target(path, write=False) as target:
        return target.facts


def _complete(
    path: Path, partial: Path, fd: int, size: int, progress: Callable[[int], None]
) -> None:
    scratch.fill(fd, size, progress)
    # Before the name, so that no file of ours is ever without one.
    scratch.write_sidecar(path, fd)
    try:
        os.link(partial, path)  # unlike a rename it never replaces a file
    except OSError:
        scratch.sidecar_path(path).unlink()
        raise


def _handle(path: Path) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise TargetNotFound(f"{path} does not exist; `anvil devices` lists targets") from None
    except OSError as error:
        raise TargetError(f"cannot look at {path}: {error.strerror}") from error


def _require_admissible(
    subject: Subject, consent: Consent, root: Path, *, write: bool, read: bool
) -> None:
    """All that must hold before the target is opened at all."""
    if subject.kind == "char" and subject.status.st_rdev == NULL and read:
        raise TargetError(f"{subject.path} has nothing to read; read from /dev/zero")
    if reasons := reasons_in_use(subject, root):
        raise _in_use(subject, "; ".join(reasons))
    if write:
        require_consent(subject, consent)


def _in_use(subject: Subject, reason: str) -> TargetInUse:
    return TargetInUse(f"{subject.path} is in use ({reason}); choose another target or release it")


def _reopen(subject: Subject, handle: int, root: Path, *, write: bool, direct: bool) -> int:
    flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC
    flags |= os.O_EXCL if subject.kind == "block" else 0
    flags |= os.O_DIRECT if direct else 0
    try:
        fd = os.open(procfs.descriptor_path(handle), flags)
    except OSError as error:
        _raise_refusal(error, subject, root, write=write, direct=direct)
    if subject.kind == "file":
        _lock(fd, subject)
    return fd


def _raise_refusal(
    error: OSError, subject: Subject, root: Path, *, write: bool, direct: bool
) -> NoReturn:
    if error.errno in (errno.EBUSY, errno.ETXTBSY):
        reasons = "; ".join(reasons_in_use(subject, root))
        raise _in_use(subject, reasons or "mounted, held, or open in another program") from error
    if error.errno == errno.EINVAL and direct:
        raise directio.unsupported(subject.path, root) from error
    purpose = "writing" if write else "reading"
    hint = "; block devices need root" if subject.kind == "block" and os.geteuid() else ""
    raise TargetError(
        f"cannot open {subject.path} for {purpose}: {error.strerror}{hint}"
    ) from error


def _lock(fd: int, subject: Subject) -> None:
    """Do for files what O_EXCL does for devices, among Anvil's own runs."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise _in_use(subject, "another run has it open") from None
    except OSError:
        pass  # a file system without locks (some NFS) is measured without


def _require_same(before: Subject, after: Subject) -> None:
    """The opened object is the examined one."""

    def key(status: os.stat_result) -> tuple[int, ...]:
        return stat.S_IFMT(status.st_mode), status.st_rdev, status.st_dev, status.st_ino

    if key(before.status) != key(after.status):
        raise TargetError(f"{after.path} changed while it was being opened; look again and retry")


def _require_writable(subject: Subject, fd: int) -> None:
    """The kernel opens a read-only disk for writing, and only refuses the writes."""
    if subject.kind == "block" and _ask_device(fd, _BLKROGET, "i"):
        raise TargetError(f"{subject.path} is read-only; choose another target, or unprotect it")


def _require_expected(
    subject: Subject, what: str, actual: str | None, expected: str | None
) -> None:
    if expected is not None and expected.strip() != (actual or ""):
        raise IdentityMismatch(
            f"{subject.path} has {what} {actual or '(none)'}, expected {expected or '(none)'}; "
            "the device was exchanged or renumbered: rescan and choose again"
        )


def _facts(subject: Subject, fd: int, root: Path, *, direct: bool) -> TargetFacts:
    if subject.kind == "block":
        size = _ask_device(fd, _BLKGETSIZE64, "Q")
        lba_size = _ask_device(fd, _BLKSSZGET, "i")
    elif subject.kind == "file":
        size = subject.status.st_size
        lba_size = directio.require(fd, subject.path, root) if direct else UNALIGNED_BYTES
    else:
        size, lba_size = ENDLESS_BYTES, UNALIGNED_BYTES
    if size == 0:
        raise TargetError(f"{subject.path} is empty; there is nothing to measure")
    identity = subject.identity
    return TargetFacts(
        path=str(subject.path),
        kind=subject.kind,
        size_bytes=size,
        lba_size=lba_size,
        serial=identity.serial,
        wwid=identity.wwid,
        model=identity.model,
        firmware=identity.firmware,
    )


def _ask_device(fd: int, request: int, layout: str) -> int:
    """A number that the block device itself answers to an ioctl."""
    answer = fcntl.ioctl(fd, request, bytes(struct.calcsize(layout)))
    return int(struct.unpack(layout, answer)[0])


def _require_room(path: Path, size: int) -> None:
    if path.exists() or path.is_symlink():
        raise TargetError(f"{path} exists; choose another name or delete it")
    room = os.statvfs(path.parent)
    free = room.f_bavail * room.f_frsize
    if free < size and room.f_blocks:  # ramfs counts none
        raise TargetError(
            f"{path} needs {size} bytes and {path.parent} has {free} left; make room, or choose "
            "a smaller size or another place (for the scratch target: --data-dir)"
        )


def _ignore(_done: int) -> None:
    pass
