"""The kernel's io_uring workers (iou-wrk), as seen while jobs run."""

from __future__ import annotations

import time
from pathlib import Path

from anvil_engine import procfs

LOOK_S = 0.25


class RingWorkers:
    """The most that was seen of the kernel's io_uring workers; they end with their ring."""

    def __init__(self) -> None:
        self.cpu_s: dict[int, float] = {}
        self._next_look = 0.0

    def look(self) -> None:
        """Look, but not more often than a few times a second."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            self.cpu_s |= procfs.ring_workers(Path("/"))
