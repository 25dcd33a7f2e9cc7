"""The two answers of statx(2) that os.stat does not pass on."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
# Masks, and places in struct statx, of linux/stat.h.
_STRUCT_BYTES = 256
_STATX_BTIME, _BTIME_AT = 0x800, 80
_STATX_DIOALIGN, _DIO_OFFSET_ALIGN_AT = 0x2000, 156


def birth_time_ns(file: int | Path) -> int | None:
    """When the file was created; None where the file system does not keep it."""
    answer = _ask(file, _STATX_BTIME)
    if answer is None:
        return None
    seconds, nanoseconds = struct.unpack_from("qI", answer, _BTIME_AT)
    return int(seconds) * 10**9 + int(nanoseconds)


def direct_alignment(fd: int) -> int | None:
    """Unit of direct I/O on the file in bytes; 0 is "none on this file".

    None when the kernel (before 6.1) or the file system does not say.
    """
    answer = _ask(fd, _STATX_DIOALIGN)
    if answer is None:
        return None
    return int(struct.unpack_from("I", answer, _DIO_OFFSET_ALIGN_AT)[0])


def _ask(file: int | Path, mask: int) -> bytes | None:
    statx = getattr(ctypes.CDLL(None), "statx", None)  # absent from a libc before 2018
    if statx is None:
        return None
    answer = ctypes.create_string_buffer(_STRUCT_BYTES)
    directory, path = (file, b"") if isinstance(file, int) else (_AT_FDCWD, os.fsencode(file))
    if statx(directory, path, _AT_EMPTY_PATH, mask, answer) != 0:
        return None
    (answered,) = struct.unpack_from("I", answer, 0)
    return answer.raw if answered & mask else None
