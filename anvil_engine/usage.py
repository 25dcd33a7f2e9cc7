"""Who uses the block devices and files of a host: the facts behind "in use", in words.

Discovery and the opener ask here.  It explains a refusal; it is not the lock: `target`
opens with O_EXCL, so the kernel has the last word about mounts, swap and holders.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from anvil_engine import loops, procfs, sysfs
from anvil_engine.loops import Backing
from anvil_engine.procfs import Mount

_MOUNTS_SHOWN = 3


@dataclass(frozen=True)
class Usage:
    """One survey of a host; names are kernel names of block devices.

    `swap_files` are known by `st_dev` and `st_ino`.
    """

    root: Path
    mounts: Mapping[str, tuple[Mount, ...]]
    swaps: frozenset[str]
    swap_files: frozenset[tuple[int, int]]
    backings: Mapping[str, Backing]
    """What lies under each loop device; no `holders` entry tells of these."""

    def above(self, name: str) -> list[str]:
        """`name` and everything on it: partitions, holders, loop devices, and theirs."""
        return _closure(name, self._children)

    def below(self, name: str) -> list[str]:
        """`name` and everything that it lies on, down to whole disks."""
        return _closure(name, self._foundations)

    def mount_points(self, name: str) -> tuple[str, ...]:
        """Where the device, or anything on it, is mounted."""
        return tuple(dict.fromkeys(mount.mount_point for mount in self._mounts_on(name)))

    def reasons(self, name: str) -> list[str]:
        """Why the device may not be touched, in words; empty when nobody uses it."""
        found = []
        if name in self._root_chain():
            found.append("backs the root file system")
        if mounts := self._mounts_on(name):
            found.append("mounted at " + _places(mounts))
        if any(place in self.swaps for place in self._concerned(name)):
            found.append("in use as swap")
        if holders := self._holders_of(name):
            found.append("held by " + ", ".join(holders))
        if upper := self._each(name, self._loops_on):
            found.append("backs " + ", ".join(upper))
        # A loop device lies on something else than itself.
        return found + self._undetermined(but=sysfs.disk(self.root, name))

    def file_reasons(self, status: os.stat_result) -> list[str]:
        """Why the regular file with this stat result may not be touched, in words."""
        file = status.st_dev, status.st_ino
        found = ["in use as swap"] if file in self.swap_files else []
        if upper := self._loops_where(lambda backing: backing.file == file):
            found.append("backs " + ", ".join(upper))
        return found + self._undetermined()

    def _undetermined(self, but: str | None = None) -> list[str]:
        """Loop devices that might lie on anything."""
        unknown = self._loops_where(lambda backing: not backing.is_known)
        names = ", ".join(loop for loop in unknown if loop != but)
        return [f"backing of {names} cannot be determined"] if names else []

    def _loops_on(self, name: str) -> list[str]:
        return self._loops_where(lambda backing: backing.device == name)

    def _loops_where(self, applies: Callable[[Backing], bool]) -> list[str]:
        found = (loop for loop, backing in self.backings.items() if applies(backing))
        return sorted(found, key=sysfs.natural_key)

    def _children(self, name: str) -> list[str]:
        return [
            *sysfs.partitions(self.root, name),
            *sysfs.holders(self.root, name),
            *self._loops_on(name),
        ]

    def _foundations(self, name: str) -> list[str]:
        disk = sysfs.parent(self.root, name)
        lower = self.backings.get(name, Backing()).device
        return [*sysfs.slaves(self.root, name), *filter(None, (lower, disk))]

    def _concerned(self, name: str) -> list[str]:
        """The device, what is on it, and, for a partition, its disk used as a whole."""
        disk = sysfs.parent(self.root, name)
        return self.above(name) + ([disk] if disk else [])

    def _mounts_on(self, name: str) -> list[Mount]:
        return [mount for place in self._concerned(name) for mount in self.mounts.get(place, ())]

    def _root_chain(self) -> set[str]:
        roots = [
            name
            for name, mounts in self.mounts.items()
            if any(mount.mount_point == "/" for mount in mounts)
        ]
        return {lower for name in roots for lower in self.below(name)}

    def _holders_of(self, name: str) -> list[str]:
        return [
            f"{holder} ({mapped})" if (mapped := sysfs.mapped_name(self.root, holder)) else holder
            for holder in self._each(name, lambda place: sysfs.holders(self.root, place))
        ]

    def _each(self, name: str, look: Callable[[str], Iterable[str]]) -> list[str]:
        """What `look` finds on the device, its partitions and, for a partition, its disk."""
        disk = sysfs.parent(self.root, name)
        places = [name, *sysfs.partitions(self.root, name), *([disk] if disk else [])]
        return list(dict.fromkeys(found for place in places for found in look(place)))


def survey(root: Path) -> Usage:
    """Read mounts of all mount namespaces, swap areas and loop devices once."""
    mounts: dict[str, list[Mount]] = {}
    groups = sysfs.btrfs_groups(root)
    for mount in procfs.mounts(root):
        for name in _devices_of(root, mount, groups):
            mounts.setdefault(name, []).append(mount)
    swaps = procfs.swaps(root)
    return Usage(
        root=root,
        mounts={name: tuple(found) for name, found in mounts.items()},
        swaps=frozenset(filter(None, (sysfs.name_at(root, path) for path in swaps))),
        swap_files=frozenset(filter(None, (_file_at(root, path) for path in swaps))),
        backings=loops.backings(root),
    )


def _file_at(root: Path, path: str) -> tuple[int, int] | None:
    try:
        status = (root / path.lstrip("/")).stat()
    except OSError:
        return None  # the kernel itself refuses to write to one that has lost its name
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _devices_of(root: Path, mount: Mount, groups: list[frozenset[str]]) -> set[str]:
    """The block devices under a mount, by number; by source where there is no number."""
    major, _, minor = mount.number.partition(":")
    if major != "0":
        name = sysfs.name_of(root, os.makedev(int(major), int(minor)))
        return {name} if name else set()
    if not mount.source.startswith("/dev/"):
        return set()
    # bcachefs names all its devices in the source, btrfs only one of them.
    named = {sysfs.name_at(root, source) for source in mount.source.split(":")} - {None}
    members = (group for group in groups if group & named)
    return {name for name in named if name}.union(*members)


def _places(mounts: list[Mount]) -> str:
    shown: dict[str, str] = {}
    for mount in mounts:
        seen_by = "" if mount.pid is None else f" (as process {mount.pid} sees it)"
        shown.setdefault(mount.mount_point, mount.mount_point + seen_by)
    texts = list(shown.values())
    rest = len(texts) - _MOUNTS_SHOWN
    return ", ".join(texts[:_MOUNTS_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _closure(start: str, step: Callable[[str], Iterable[str]]) -> list[str]:
    """`start` and all that `step` leads to from it, each once, nearest first."""
    found = [start]
    for name in found:
        found += dict.fromkeys(item for item in step(name) if item not in found)
    return found
