"""The only reader of /proc: mounts, swap, and the facts of the host.

As in `sysfs`, every function takes `root`; what is missing is None, what is malformed raises
ValueError.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from anvil_engine import sysfs


@dataclass(frozen=True)
class Mount:
    """One line of a mountinfo file.

    `number` is "major:minor"; a major of 0 means that the file system has no single block
    device (btrfs, overlay, tmpfs).  `pid` is a process that sees the mount when our own
    mount namespace does not.
    """

    number: str
    mount_point: str
    fs_type: str
    source: str
    pid: int | None = None


def mounts(root: Path) -> list[Mount]:
    """The mounts of every mount namespace that some process lives in, our own first."""
    seen: set[object] = set()
    found: list[Mount] = []
    for process in ["self", *_processes(root)]:
        view = _view(root, process)
        if view is not None and view in seen:
            continue
        text = _read(root / "proc" / process / "mountinfo")
        if text is None or text in seen:
            continue
        # A view that may not be named is told apart by what it shows.
        seen |= {view, text}
        pid = None if process == "self" else int(process)
        found += (_parse_mount(line, pid) for line in text.splitlines())
    return found


def mount_of(root: Path, path: Path) -> Mount | None:
    """The mount that `path` lies on, in our own mount namespace."""
    text = _read(root / "proc/self/mountinfo") or ""
    place = PurePosixPath(path.resolve())
    lines = (_parse_mount(line, None) for line in text.splitlines())
    holding = [mount for mount in lines if place.is_relative_to(mount.mount_point)]
    # The sort is stable: of equally deep ones the last was mounted over the others.
    return sorted(holding, key=lambda mount: len(mount.mount_point))[-1] if holding else None


def swaps(root: Path) -> list[str]:
    """Paths of the active swap areas, devices and files alike."""
    lines = (_read(root / "proc/swaps") or "").splitlines()[1:]
    return [_unescape(line.split()[0]) for line in lines if line.strip()]


def io_uring_disabled(root: Path) -> int | None:
    """The sysctl: 0 allowed, 1 only for privileged and the group, 2 for nobody; None before 6.6."""
    text = _read(root / "proc/sys/kernel/io_uring_disabled")
    return None if text is None else int(text)


def host_facts(root: Path = Path("/")) -> dict[str, str | int | None]:
    """The machine as it is stored with every run."""
    uname = os.uname()
    return {
        "platform": _distribution(root) or uname.sysname,
        "kernel": uname.release,
        "python": platform.python_version(),
        "architecture": uname.machine,
        "cpu_model": _cpu_model(root),
        "memory_bytes": _memory_bytes(root),
        "clocksource": sysfs.clocksource(root),
    }


def memory_available_bytes(root: Path) -> int | None:
    """What can be allocated without swapping, as the kernel estimates it."""
    return _meminfo_bytes(root, "MemAvailable")


def cpu_flags(root: Path) -> frozenset[str]:
    """What the first CPU says it can do; empty where the kernel does not tell."""
    text = _read(root / "proc/cpuinfo") or ""
    match = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    return frozenset(match.group(1).split()) if match else frozenset()


def ring_workers(root: Path) -> dict[int, float]:
    """The kernel's io_uring workers of this process, by thread id: CPU seconds of each so far.

    They do I/O that a target does not take without blocking.
    """
    per_second = os.sysconf("SC_CLK_TCK")
    tasks = root / "proc/self/task"
    found = {}
    try:
        threads = os.listdir(tasks)
    except OSError:
        return {}
    for thread in threads:
        # The name is in brackets and may itself contain some.
        name, _, rest = (_read(tasks / thread / "stat") or "").partition("(")[2].rpartition(") ")
        if name.startswith("iou-wrk-"):
            fields = rest.split()
            found[int(thread)] = (int(fields[11]) + int(fields[12])) / per_second
    return found


def descriptor_path(fd: int) -> str:
    """A path that opens again exactly what `fd` refers to, whatever its name is by now."""
    return f"/proc/self/fd/{fd}"


def process_descriptor_path(pid: int, fd: int) -> str:
    """The same for another process, which `pid` lets look."""
    return f"/proc/{pid}/fd/{fd}"


def _read(path: Path) -> str | None:
    # A process may end, or be a zombie, at any moment of the walk.
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:
        return None


def _processes(root: Path) -> Iterator[str]:
    try:
        names = os.listdir(root / "proc")
    except OSError:
        return
    yield from sorted(filter(str.isdecimal, names), key=int)


def _view(root: Path, process: str) -> tuple[str, str] | None:
    """What decides the mounts that a process sees: its namespace, and its root inside it."""
    base = root / "proc" / process
    try:
        return os.readlink(base / "ns/mnt"), os.readlink(base / "root")
    except OSError:
        return None


def _parse_mount(line: str, pid: int | None) -> Mount:
    fields = line.split(" ")
    try:
        dash = fields.index("-", 6)  # an unknown number of optional fields ends with "-"
        number, mount_point = fields[2], fields[4]
        fs_type, source = fields[dash + 1], fields[dash + 2]
    except (ValueError, IndexError):
        raise ValueError(f"not a line of mountinfo: {line!r}") from None
    return Mount(number, _unescape(mount_point), fs_type, _unescape(source), pid)


def _unescape(text: str) -> str:
    """Undo the octal escapes that the kernel writes for blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def _distribution(root: Path) -> str | None:
    text = _read(root / "etc/os-release") or ""
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
    return match.group(1) if match else None


def _cpu_model(root: Path) -> str | None:
    text = _read(root / "proc/cpuinfo") or ""
    match = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1).strip() if match else None


def _memory_bytes(root: Path) -> int | None:
    return _meminfo_bytes(root, "MemTotal")


def _meminfo_bytes(root: Path, name: str) -> int | None:
    text = _read(root / "proc/meminfo") or ""
    match = re.search(rf"^{name}:\s*(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None
