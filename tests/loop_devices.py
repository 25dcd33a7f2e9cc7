"""Real loop devices, file systems and mounts over a test's own files; for tests marked `root`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def run(*command: str | Path) -> str:
    """Output of a system program; a machine that cannot (no such driver) skips the test."""
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        pytest.skip(f"root: {command[0]} does not work here: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def a_loop(backing: Path, *options: str, inside: tuple[str, ...] = ()) -> Iterator[Path]:
    """A loop device over `backing`, set up by a losetup that runs `inside` another program."""
    device = Path(run(*inside, "losetup", "--find", "--show", *options, backing))
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], env=ENVIRONMENT, check=True)


@contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    """`mount` with these arguments, of which the last is the place."""
    run("mount", *arguments)
    try:
        yield
    finally:
        subprocess.run(["umount", arguments[-1]], env=ENVIRONMENT, check=True)


@contextmanager
def a_mount(device: Path, place: Path, *options: str) -> Iterator[None]:
    """A new ext4 on the device, mounted."""
    run("mkfs.ext4", "-q", device)
    place.mkdir()
    with mounted(*options, device, place):
        yield
