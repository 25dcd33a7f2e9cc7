"""What can go wrong, as one tree.

* AnvilError
    * InvalidWorkload: a workload, phase or profile that cannot exist
    * UnknownProfile: a profile name that the catalogue does not have
    * TargetError
        * TargetNotFound
        * TargetInUse
        * ConsentRequired: a write that nobody confirmed
        * IdentityMismatch: the device is not the one that was expected
        * DirectUnsupported: the file system refuses O_DIRECT
    * EngineError
        * RingUnavailable: io_uring is forbidden or missing here
        * DeviceError: the device answered an I/O with an error
"""

from __future__ import annotations


class AnvilError(Exception):
    """Base of every error that Anvil raises on purpose; its text is meant for the user."""


class InvalidWorkload(AnvilError):
    """The workload names something impossible: the text has the field, the value, the way out."""


class UnknownProfile(AnvilError):
    """No profile of that name is in the catalogue."""


class TargetError(AnvilError):
    """The target cannot be used."""


class TargetNotFound(TargetError):
    """There is nothing at that path."""


class TargetInUse(TargetError):
    """Something else uses the target: a mount, a holder, swap, an exclusive opener."""


class ConsentRequired(TargetError):
    """Writing was asked for and not confirmed."""


class IdentityMismatch(TargetError):
    """The device at the path is not the device that the caller expects there."""


class DirectUnsupported(TargetError):
    """The file system behind the target refuses O_DIRECT."""


class EngineError(AnvilError):
    """The engine could not do or finish its work."""


class RingUnavailable(EngineError):
    """io_uring cannot be used here; the text says what forbids it."""


class DeviceError(EngineError):
    """An I/O failed.  `errno` is the kernel's number, or None for a short transfer."""

    def __init__(self, message: str, errno: int | None) -> None:
        super().__init__(message)
        self.errno = errno
