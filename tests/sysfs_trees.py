"""Small hosts on disk: /sys, /proc and /dev as the kernel lays them out, device by device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from anvil_engine.sysfs import SECTOR_BYTES

OWN_NAMESPACE = "mnt:[4026531841]"
QUEUE = {
    "queue/logical_block_size": "512",
    "queue/physical_block_size": "4096",
    "queue/rotational": "0",
}


class Tree:
    """A host under `root`.  Attribute values are written as the kernel pads them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places: dict[str, Path] = {}
        for folder in ("sys/class/block", "sys/dev/block", "proc", "dev"):
            (root / folder).mkdir(parents=True)
        self.write("proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
        self._process("self")
        self.mount("0:21", "/proc", fs_type="proc", source="proc")

    def write(self, path: str, content: str | bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    def disk(
        self,
        name: str,
        number: str,
        place: str,
        *,
        gib: int = 100,
        device: str | None = None,
        attributes: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """A whole disk at sys/devices/`place`/`name`; `device` is its link to the hardware."""
        directory = self._block(name, number, f"sys/devices/{place}/{name}", gib)
        for folder in ("holders", "slaves"):
            (self.root / directory / folder).mkdir()
        if device is not None:
            (self.root / directory / "device").symlink_to(device)
        for attribute, value in {**QUEUE, "hidden": "0\n", **(attributes or {})}.items():
            resolved = (self.root / directory / attribute).resolve()
            self.write(str(resolved.relative_to(self.root.resolve())), value)

    def partition(self, disk: str, name: str, number: str, *, gib: int = 10) -> None:
        place = self.places[disk].relative_to(self.root)
        self._block(name, number, f"{place}/{name}", gib)
        self.write(f"{place}/{name}/partition", name[len(disk) :].lstrip("p") + "\n")
        (self.places[name] / "holders").mkdir()

    def hold(self, lower: str, upper: str) -> None:
        """`upper` (dm, MD) is built on `lower`."""
        for directory, entry in (
            (self.places[lower] / "holders", upper),
            (self.places[upper] / "slaves", lower),
        ):
            link = directory / entry
            link.symlink_to(os.path.relpath(self.places[entry], directory))

    def mount(
        self,
        number: str,
        mount_point: str,
        *,
        fs_type: str = "ext4",
        source: str = "/dev/whatever",
        process: str = "self",
    ) -> None:
        """A mount as `process` sees it, with optional fields as a shared mount has them."""
        escaped = mount_point.replace(" ", "\\040")
        line = (
            f"30 27 {number} / {escaped} rw,relatime shared:1 master:2 - {fs_type} {source} rw\n"
        )
        with (self.root / "proc" / process / "mountinfo").open("a") as file:
            file.write(line)

    def process(self, pid: int, namespace: str = OWN_NAMESPACE, root: str = "/") -> None:
        """A process that lives in a mount namespace, by default in ours."""
        self._process(str(pid), namespace, root)

    def swap(self, path: str) -> None:
        with (self.root / "proc/swaps").open("a") as file:
            file.write(f"{path:<40}partition\t8388604\t\t0\t\t-2\n")

    def btrfs(self, uuid: str, *members: str) -> None:
        devices = self.root / "sys/fs/btrfs" / uuid / "devices"
        devices.mkdir(parents=True)
        for name in members:
            (devices / name).symlink_to(os.path.relpath(self.places[name], devices))
        (devices.parent.parent / "features").mkdir(exist_ok=True)

    def _process(self, pid: str, namespace: str = OWN_NAMESPACE, root: str = "/") -> None:
        base = self.root / "proc" / pid
        (base / "ns").mkdir(parents=True)
        (base / "ns/mnt").symlink_to(namespace)
        (base / "root").symlink_to(root)
        (base / "mountinfo").touch()

    def _block(self, name: str, number: str, place: str, gib: int) -> str:
        directory = self.places[name] = self.root / place
        sectors = gib * 2**30 // SECTOR_BYTES
        for attribute, value in {"size": str(sectors), "ro": "0", "dev": number}.items():
            self.write(f"{place}/{attribute}", value + "\n")
        for links, entry in (("sys/class/block", name), ("sys/dev/block", number)):
            link = self.root / links / entry
            link.symlink_to(os.path.relpath(directory, link.parent))
        self.write("dev/" + name.replace("!", "/"), "")
        return place


def add_nvme(tree: Tree, index: int, number: str, *, serial: str, wwid: str = "") -> None:
    """An NVMe controller with one namespace; model and serial are padded as drives do."""
    place = f"pci0000:00/0000:0{index}:00.0/nvme/nvme{index}"
    attributes = {
        "device/model": "Dapu R5100 3.2TB".ljust(40) + "\n",
        "device/serial": serial.rjust(20) + "\n",
        "device/firmware_rev": "FF0012  \n",
        "wwid": (wwid or f"eui.00000000000000{index:02d}") + "\n",
    }
    tree.disk(f"nvme{index}n1", number, place, device=f"../../nvme{index}", attributes=attributes)


def add_scsi(
    tree: Tree,
    name: str,
    number: str,
    place: str,
    *,
    vendor: str = "SEAGATE",
    serial: str = "ZAD0123456",
) -> None:
    """A SCSI disk under `place` (its transport), with the unit serial number page."""
    page = serial.encode().ljust(20)
    attributes: dict[str, str | bytes] = {
        "device/vendor": vendor.ljust(8) + "\n",
        "device/model": "ST1200MM0099".ljust(16) + "\n",
        "device/rev": "ST31\n",
        "device/wwid": "naa.5000c500a1b2c3d4\n",
        "device/vpd_pg80": b"\x00\x80" + len(page).to_bytes(2, "big") + page,
    }
    target = f"{place}/target0:0:0/0:0:0:0/block"
    tree.disk(name, number, target, device="../../../0:0:0:0", attributes=attributes)


def add_virtual(tree: Tree, name: str, number: str, **attributes: str) -> None:
    """A device without hardware: dm, MD, loop, zram."""
    written = {key.replace("__", "/"): value + "\n" for key, value in attributes.items()}
    tree.disk(name, number, "virtual/block", attributes=written)
