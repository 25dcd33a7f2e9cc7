"""The only reader of /sys; `procfs` is its twin for /proc.

Every function takes `root`, so that tests can point it at a captured tree.  An attribute
that the kernel does not offer (or does not let us read) is None, because kernels differ; a
malformed one raises ValueError, because that is news.

Block devices go by their kernel name ("nvme0n1", "dm-0"), partitions included.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

SECTOR_BYTES = 512  # /sys/class/block/*/size counts these whatever the logical block size is
_VPD_HEADER_BYTES = 4  # SPC: peripheral, page code, length of the rest (two bytes)

_PROTOCOL_BY_NAME = (
    (r"nvme\d+n\d+", "nvme"),
    (r"loop\d+", "loop"),
    (r"md(\d+|_.+)", "md"),
    (r"dm-\d+", "dm"),
    (r"zram\d+", "zram"),
)
# Matched in this order against the device's place in /sys/devices.
_PROTOCOL_BY_PLACE = (
    (r"/usb\d+/", "usb"),
    (r"/session\d+/", "iscsi"),
    (r"/virtio\d+/", "virtio"),
    (r"/ata\d+/", "sata"),
    (r"/(end_device|sas_device|expander)-", "sas"),
)


@dataclass(frozen=True)
class Identity:
    """What a disk says about itself; a partition answers with its disk's."""

    model: str | None
    serial: str | None
    firmware: str | None
    vendor: str | None
    wwid: str | None


@dataclass(frozen=True)
class Geometry:
    """Size and addressing of a block device."""

    size_bytes: int
    logical_block_size: int | None
    physical_block_size: int | None
    rotational: bool | None
    read_only: bool


def disks(root: Path) -> list[str]:
    """Whole block devices in natural order, without hidden ones (NVMe multipath legs)."""
    names = _entries(root / "sys/class/block")
    whole = (name for name in names if parent(root, name) is None)
    return sorted((n for n in whole if not _flag(root, n, "hidden")), key=natural_key)


def geometry(root: Path, name: str) -> Geometry | None:
    """Size and block sizes, or None when the device has just gone."""
    sectors = _number(root, name, "size")
    if sectors is None:
        return None
    whole = disk(root, name)
    rotational = _number(root, whole, "queue/rotational")
    return Geometry(
        size_bytes=sectors * SECTOR_BYTES,
        logical_block_size=_number(root, whole, "queue/logical_block_size"),
        physical_block_size=_number(root, whole, "queue/physical_block_size"),
        rotational=None if rotational is None else bool(rotational),
        read_only=_flag(root, name, "ro") or _flag(root, whole, "ro"),
    )


def identity(root: Path, name: str) -> Identity:
    """Model, serial and the like of the disk that `name` is, or is a partition of.

    Device-mapper and MD have no serial; the UUID that they carry takes its place.
    """
    whole = disk(root, name)
    vendor = _text(root, whole, "device/vendor")
    if vendor is not None and (vendor == "ATA" or vendor.startswith("0x")):
        vendor = None  # the SATA translation layer's own name; virtio's PCI vendor id
    return Identity(
        model=_first_text(root, whole, "device/model", "device/name", "dm/name"),
        serial=_first_text(root, whole, "device/serial", "serial")
        or _unit_serial(root, whole)
        or _first_text(root, whole, "dm/uuid", "md/uuid"),
        firmware=_first_text(root, whole, "device/firmware_rev", "device/rev"),
        vendor=vendor,
        wwid=_first_text(root, whole, "wwid", "device/wwid", "dm/uuid"),
    )


def protocol(root: Path, name: str) -> str:
    """How the disk is attached, in the words of the API: nvme, sata, sas, usb and so on."""
    whole = disk(root, name)
    for prefix, word in _PROTOCOL_BY_NAME:
        if re.fullmatch(prefix, whole):
            return word
    place = str(_directory(root, whole).relative_to(root.resolve()))
    for pattern, word in _PROTOCOL_BY_PLACE:
        if re.search(pattern, place):
            # A SATA drive behind a SAS controller is still a SATA drive.
            is_ata = word == "sas" and _text(root, whole, "device/vendor") == "ATA"
            return "sata" if is_ata else word
    return "unknown"


def parent(root: Path, name: str) -> str | None:
    """The disk that partition `name` lies on, or None for a whole disk."""
    directory = _directory(root, name)
    return directory.parent.name if (directory / "partition").exists() else None


def disk(root: Path, name: str) -> str:
    """The whole disk that `name` is, or is a partition of."""
    return parent(root, name) or name


def partitions(root: Path, name: str) -> list[str]:
    """Names of the partitions of a disk, in natural order."""
    directory = _directory(root, name)
    found = (entry for entry in _entries(directory) if (directory / entry / "partition").exists())
    return sorted(found, key=natural_key)


def holders(root: Path, name: str) -> list[str]:
    """Block devices built on `name`: device-mapper, MD, bcache."""
    return sorted(_entries(_directory(root, name) / "holders"), key=natural_key)


def slaves(root: Path, name: str) -> list[str]:
    """Block devices that `name` is built on."""
    return sorted(_entries(_directory(root, name) / "slaves"), key=natural_key)


def mapped_name(root: Path, name: str) -> str | None:
    """The device-mapper name ("vg0-data") of a `dm-N`."""
    return _text(root, name, "dm/name")


def loop_backings(root: Path) -> dict[str, str | None]:
    """Path of the file or block device behind each loop device that is set up.

    The kernel writes " (deleted)" behind the path of a file that has lost its name.  None is
    a path that it does not tell, because it is too long.
    """
    base = root / "sys/class/block"
    loops = (name for name in _entries(base) if name.startswith("loop"))
    return {name: _loop_backing(root, name) for name in loops if (base / name / "loop").exists()}


def btrfs_groups(root: Path) -> list[frozenset[str]]:
    """The member devices of each btrfs in use; such a mount shows no device number."""
    base = root / "sys/fs/btrfs"
    groups = (frozenset(_entries(base / entry / "devices")) for entry in _entries(base))
    return [group for group in groups if group]


def name_of(root: Path, device_number: int) -> str | None:
    """Kernel name of a block device by `st_rdev` (or a file system's `st_dev`)."""
    link = f"{os.major(device_number)}:{os.minor(device_number)}"
    try:
        return (root / "sys/dev/block" / link).readlink().name
    except OSError:
        return None


def name_at(root: Path, path: str) -> str | None:
    """Kernel name of the block device at a path of that host, or None when it is no device.

    A node is known by its number; a captured tree has none, so there the name counts.
    """
    node = root / path.lstrip("/")
    try:
        status = node.stat()
        if stat.S_ISBLK(status.st_mode):
            return name_of(root, status.st_rdev)
        name = str(node.resolve().relative_to(root.resolve() / "dev")).replace("/", "!")
    except (OSError, ValueError):
        return None
    return name if (root / "sys/class/block" / name).exists() else None


def node_path(name: str) -> str:
    """Path of the device node; the kernel writes the "/" of a nested one as "!"."""
    return "/dev/" + name.replace("!", "/")


def clocksource(root: Path) -> str | None:
    """The kernel's clock source; anything but `tsc` makes time stamps expensive."""
    base = root / "sys/devices/system/clocksource/clocksource0"
    return _read_text(base / "current_clocksource")


def natural_key(name: str) -> list[tuple[str, int]]:
    """Sort key that puts nvme2n1 before nvme10n1."""
    return [(text, int(part or 0)) for text, part in re.findall(r"(\D*)(\d*)", name)]


def _directory(root: Path, name: str) -> Path:
    return (root / "sys/class/block" / name).resolve()


def _entries(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _read_bytes(path: Path) -> bytes | None:
    # Attributes fail in many ways (ENODEV of a dead controller, EINVAL of an absent page).
    try:
        return path.read_bytes()
    except OSError:
        return None


def _read_text(path: Path) -> str | None:
    raw = _read_bytes(path)
    # Drives pad their strings with blanks or NULs, on either side.
    text = None if raw is None else raw.decode(errors="replace").strip(" \t\r\n\0")
    return text or None


def _loop_backing(root: Path, name: str) -> str | None:
    raw = _read_bytes(root / "sys/class/block" / name / "loop/backing_file") or b""
    # File names may have blanks at either end, or any bytes at all.
    return os.fsdecode(raw.removesuffix(b"\n")) or None


def _text(root: Path, name: str, attribute: str) -> str | None:
    return _read_text(root / "sys/class/block" / name / attribute)


def _first_text(root: Path, name: str, *attributes: str) -> str | None:
    return next(filter(None, (_text(root, name, item) for item in attributes)), None)


def _number(root: Path, name: str, attribute: str) -> int | None:
    text = _text(root, name, attribute)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{attribute} of {name} is {text!r}, not a number") from None


def _flag(root: Path, name: str, attribute: str) -> bool:
    return bool(_number(root, name, attribute))


def _unit_serial(root: Path, name: str) -> str | None:
    """The SCSI unit serial number: vital product data page 0x80."""
    page = _read_bytes(root / "sys/class/block" / name / "device/vpd_pg80")
    if page is None:
        return None
    length = int.from_bytes(page[2:_VPD_HEADER_BYTES], "big")
    serial = page[_VPD_HEADER_BYTES : _VPD_HEADER_BYTES + length]
    if len(page) < _VPD_HEADER_BYTES or page[1] != 0x80 or len(serial) < length:
        raise ValueError(f"vpd_pg80 of {name} is {page[:16].hex()}, not a unit serial page")
    return serial.decode(errors="replace").strip(" \0") or None
