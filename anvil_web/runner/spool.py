"""Events on disk while the database is away.

One file of JSON lines per run, appended and flushed to the disk, removed once the database
has it all.  Recording is idempotent, so replaying a file that was recorded in part is safe.

The data directory belongs to the web side's account, the spool to the runner's, which may
be root: the folder is opened once, must belong to this process's user, and its files are
opened relative to it and never through a symbolic link.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Self

from anvil_engine import results
from anvil_engine.errors import AnvilError
from anvil_web.store.recording import Numbered

FOLDER = "spool"
SUFFIX = ".jsonl"
REJECTED = ".rejected"
CHUNK = 500  # events a transaction: a long outage must not lock the others out at its end


class SpoolError(AnvilError):
    """The spool cannot be used; the text says why."""


class SpoolFolder:
    """The folder of all spools, and the lock that makes its holder the only runner here."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FOLDER
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise SpoolError(f"{self.path} cannot be opened: {error.strerror}") from error
        owner = os.fstat(self._fd).st_uid
        if owner != os.geteuid():
            self.close()
            raise SpoolError(
                f"{self.path} belongs to user {owner}, not to the runner's user "
                f"{os.geteuid()}; start the runner as that user, or remove the folder when "
                "it holds nothing"
            )

    def close(self) -> None:
        """Give the folder back, and with it the lock."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def lock(self) -> None:
        """Become the only runner of this data directory.  Raises `SpoolError`."""
        # On the folder itself: a lock file could be replaced.
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SpoolError(f"another runner uses {self.path.parent} already") from error

    def run_ids(self) -> list[str]:
        """The runs that have a spool, oldest first."""
        names = os.listdir(self._fd)
        return sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))

    def open(self, name: str, flags: int) -> int:
        """A descriptor of a file in the folder, private to this user."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Remove a file of the folder, if it is there."""
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return

    def rename(self, old: str, new: str) -> None:
        """Rename a file of the folder."""
        os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)


class Spool:
    """The spooled events of one run, in order."""

    def __init__(self, folder: SpoolFolder, run_id: str) -> None:
        self._folder = folder
        self._name = f"{run_id}{SUFFIX}"
        self.is_empty = run_id not in folder.run_ids()

    def append(self, batch: Iterable[Numbered]) -> None:
        """Add events, all or none; on return they are on the disk.  Raises `OSError`."""
        lines = (json.dumps(results.encode(event, number, at)) for number, at, event in batch)
        data = "".join(f"{line}\n" for line in lines).encode()
        descriptor = self._folder.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            before = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, data)
                os.fdatasync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        self.is_empty = False

    def chunks(self) -> Iterator[list[Numbered]]:
        """The events in order, some hundred at a time.

        A last line without an end was being written when its writer died; it is left out.
        """
        descriptor = self._folder.open(self._name, os.O_RDONLY)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            whole = (line for line in file if line.endswith("\n"))
            while chunk := list(islice(whole, CHUNK)):
                yield [results.decode(json.loads(line)) for line in chunk]

    def clear(self) -> None:
        """Remove the file: the database has its content."""
        self._folder.remove(self._name)
        self.is_empty = True

    def set_aside(self) -> str:
        """Keep the file for a person to look at, out of the way of replays; its new name."""
        name = f"{self._name}{REJECTED}"
        self._folder.rename(self._name, name)
        self.is_empty = True
        return name


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
