"""Start a program as an unprivileged account that can reach what the program needs.

    python -m anvil_web.privileges --user nobody --needs DATA_DIR -- PROGRAM ARGUMENT…

`anvil serve`, started as root, runs its web and render processes this way.  The interpreter,
the installation or the data directory may lie below a directory that only root may enter:
a home of mode 0700, a `mktemp -d` folder.  Then the program gets a mount namespace of its
own, in which each such directory is an empty one of mode 0755 that holds nothing but what
is needed, bound back in its place.  The program sees less of the machine than before, and
nothing on the machine changes.

With `--die-with-parent` the program gets SIGTERM when its parent is gone.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import pwd
import signal
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anvil_engine import procfs
from anvil_engine.errors import AnvilError

# linux/sched.h, sys/mount.h, linux/prctl.h
CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38

MAX_ROUNDS = 16  # a blocked directory inside a needed one takes another round
PACKAGES = ("anvil_engine", "anvil_web")

_libc = ctypes.CDLL(None, use_errno=True)


class PrivilegeError(AnvilError):
    """The program cannot be started with the account's rights; the text names the way out."""


@dataclass(frozen=True)
class Account:
    """A user without further groups."""

    name: str
    uid: int
    gid: int

    def may_enter(self, directory: Path) -> bool:
        """Whether the mode bits let the account list and pass the directory."""
        status = directory.stat()
        if status.st_uid == self.uid:
            bits = status.st_mode >> 6
        elif status.st_gid == self.gid:
            bits = status.st_mode >> 3
        else:
            bits = status.st_mode
        return bits & 0o5 == 0o5


def account(user: str) -> Account:
    """The account of a name or number.  Raises `PrivilegeError`, for root too."""
    try:
        found = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError as error:
        raise PrivilegeError(
            f"there is no user {user!r} here; name another with --user"
        ) from error
    if found.pw_uid == 0:
        raise PrivilegeError(f"user {user!r} is root; name an unprivileged one with --user")
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def needed_paths(more: Iterable[Path]) -> list[Path]:
    """What a Python program of this installation reads, and `more`; without links."""
    paths = [Path(sys.base_prefix), Path(sys.prefix), *more]
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            paths += map(Path, spec.submodule_search_locations)
    return sorted({path.resolve() for path in paths})


def blocked(path: Path, who: Account) -> Path | None:
    """The topmost directory on the way to `path`, itself included, that stops the account."""
    for place in (*reversed(path.parents), path):
        if place.is_dir() and not who.may_enter(place):
            return place
    return None


def expose(paths: Sequence[Path], who: Account) -> None:
    """Make every path reachable for the account, in a mount namespace of this process.

    Does nothing when all are.  Raises `PrivilegeError`.
    """
    for attempt in range(MAX_ROUNDS):
        barriers = {path: blocked(path, who) for path in paths}
        top = min((barrier for barrier in barriers.values() if barrier is not None), default=None)
        if top is None:
            return
        if attempt == 0:
            _own_namespace(top, who)
        _replace(top, [path for path in paths if path.is_relative_to(top)])
    raise PrivilegeError(f"{who.name} cannot be given access to {top}; use --user or move it")


def _own_namespace(top: Path, who: Account) -> None:
    try:
        _check(_libc.unshare(CLONE_NEWNS), "unshare")
        _mount("none", Path("/"), None, MS_REC | MS_PRIVATE)
    except OSError as error:
        mode = stat.filemode(top.stat().st_mode)
        raise PrivilegeError(
            f"{who.name} may not enter {top} ({mode}), where this installation or its data "
            f"lies, and mounts are not permitted here ({error.strerror}); name an account "
            f"that may with --user, or move the installation, or: chmod o+rx {top}"
        ) from error


def _replace(directory: Path, paths: Iterable[Path]) -> None:
    """Put an empty directory in the place of `directory` and bind only `paths` back.

    Where `directory` itself is wanted, that is each of its entries.
    """
    wanted: set[Path] = set()
    for path in paths:
        wanted |= set(directory.iterdir()) if path == directory else {path}
    links = {path: os.readlink(path) for path in wanted if path.is_symlink()}
    held = {path: os.open(path, os.O_PATH) for path in wanted - links.keys()}
    _mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    for path, target in links.items():
        path.symlink_to(target)
    for path in sorted(held):
        source = procfs.descriptor_path(held[path])
        if stat.S_ISDIR(os.fstat(held[path]).st_mode):
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif not path.exists():
            path.touch(mode=0o644)
        _mount(source, path, None, MS_BIND | MS_REC)
        os.close(held[path])


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    arguments = (
        source.encode(),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode(),
    )
    _check(_libc.mount(*arguments), str(target))


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def drop(who: Account) -> None:
    """Become the account for good: no other groups, no way back, no set-user-ID program."""
    os.setgroups([])
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise PrivilegeError(f"root's rights came back after they were dropped for {who.name}")


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel send SIGTERM to this process when `parent_pid` is gone.

    A change of user clears the wish, so it comes after `drop`.
    """
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0), "prctl")
    # A parent that ended before the call sends no signal.
    if os.getppid() != parent_pid:
        raise PrivilegeError(f"the parent process {parent_pid} is gone")


def _require_usable(program: str, paths: Iterable[Path], who: Account) -> None:
    """Raise `PrivilegeError` where more than the ways is closed, as after `umask 077`."""
    if not os.access(program, os.X_OK):
        raise PrivilegeError(f"{who.name} may not execute {program}; name another with --user")
    for path in paths:
        if not os.access(path, os.R_OK | os.X_OK):
            raise PrivilegeError(
                f"{who.name} may not read {path}; chmod -R go+rX {path}, or name another "
                "account with --user"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the module says; returns only when it could not."""
    parser = argparse.ArgumentParser(prog="python -m anvil_web.privileges")
    parser.add_argument("--user", help="the account to become; without it nothing is dropped")
    parser.add_argument("--needs", action="append", default=[], type=Path)
    parser.add_argument("--die-with-parent", type=int, metavar="PID")
    parser.add_argument("program", nargs="+")
    options = parser.parse_args(argv)
    program: list[str] = options.program
    try:
        if options.user is not None:
            _become(account(options.user), options.needs, program[0])
        if options.die_with_parent is not None:
            die_with_parent(options.die_with_parent)
        os.execv(program[0], program)  # noqa: S606 - the list is the supervisor's own
    except (AnvilError, OSError) as error:
        print(f"anvil: {error}", file=sys.stderr)  # noqa: T201
    return 1


def _become(who: Account, needs: Iterable[Path], program: str) -> None:
    here = Path.cwd()
    paths = needed_paths(needs)
    expose(paths, who)
    drop(who)
    try:
        # By name: the descriptor of the working directory would lead past the mounts.
        os.chdir(here)
    except OSError:
        os.chdir("/")
    _require_usable(program, paths, who)


if __name__ == "__main__":
    sys.exit(main())
