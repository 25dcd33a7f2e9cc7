"""What a path leads to, and whether a run may have it: identity, consent, use.

Everything here looks at an open descriptor, or at a handle (O_PATH), never at a name.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anvil_engine import scratch, sysfs, usage
from anvil_engine.consent import CONFIRM_LENGTH, serial_matches
from anvil_engine.errors import ConsentRequired, TargetError

Kind = Literal["block", "file", "char"]

NULL, ZERO = os.makedev(1, 3), os.makedev(1, 5)  # Documentation/admin-guide/devices.txt
_ANONYMOUS = sysfs.Identity(None, None, None, None, None)


@dataclass(frozen=True)
class Consent:
    """What the user confirmed: the end of a serial, or that a plain file may be lost."""

    confirm_serial: str | None = None
    yes_destroy_data: bool = False


NO_CONSENT = Consent()


@dataclass(frozen=True)
class Subject:
    """What a descriptor refers to."""

    path: Path
    kind: Kind
    status: os.stat_result
    name: str | None  # kernel name of a block device
    identity: sysfs.Identity
    is_ours: bool  # a file that Anvil created


def examine(path: Path, fd: int, root: Path) -> Subject:
    """Kind and identity of an open descriptor or handle; raises for what is no target."""
    status = os.fstat(fd)
    mode = status.st_mode
    if stat.S_ISBLK(mode):
        name = sysfs.name_of(root, status.st_rdev)
        identity = _ANONYMOUS if name is None else sysfs.identity(root, name)
        return Subject(path, "block", status, name, identity, is_ours=False)
    if stat.S_ISREG(mode):
        sidecar = scratch.read_sidecar(path)
        is_ours = sidecar is not None and sidecar.describes(fd)
        serial = sidecar.serial if sidecar is not None and is_ours else None
        identity = sysfs.Identity(None, serial, None, None, None)
        return Subject(path, "file", status, None, identity, is_ours)
    if stat.S_ISCHR(mode) and status.st_rdev in (NULL, ZERO):
        return Subject(path, "char", status, None, _ANONYMOUS, is_ours=False)
    raise TargetError(
        f"{path} is {_describe_mode(mode)}; a target is a block device, a regular file, "
        "/dev/zero or /dev/null"
    )


def _describe_mode(mode: int) -> str:
    for matches, words in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a fifo"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
    ):
        if matches(mode):
            return words
    return "of an unknown kind"


def require_consent(subject: Subject, consent: Consent) -> None:
    """The one rule of who may write where; raises `ConsentRequired`."""
    if subject.kind == "char":
        return
    path, serial, given = subject.path, subject.identity.serial, consent.confirm_serial
    if given is not None and not serial_matches(serial, given):
        has = f"its serial is {serial}" if serial else "it has no serial"
        raise ConsentRequired(f"--confirm-serial {given} does not confirm {path}: {has}")
    if given is not None or subject.is_ours:
        return
    if subject.kind == "file":
        if not consent.yes_destroy_data:
            raise ConsentRequired(
                f"{path} exists and was not created by Anvil; writing destroys what is in it: "
                "confirm with --yes-destroy-data"
            )
    elif serial:
        raise ConsentRequired(
            f"writing destroys the data on {path} ({subject.identity.model or 'block device'}, "
            f"serial {serial}); confirm with --confirm-serial and the last {CONFIRM_LENGTH} "
            "characters of the serial"
        )
    else:
        raise ConsentRequired(
            f"{path} has no serial, so writing to it can never be confirmed; "
            "choose a device with a serial, or a file"
        )


def reasons_in_use(subject: Subject, root: Path) -> list[str]:
    """Who uses the target, in words, as far as /sys and /proc tell."""
    if subject.kind == "block" and subject.name is not None:
        return usage.survey(root).reasons(subject.name)
    if subject.kind == "file":
        return usage.survey(root).file_reasons(subject.status)
    return []
