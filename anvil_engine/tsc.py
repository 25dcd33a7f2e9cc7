"""The TSC as a clock: whether it may be used, how fast it ticks, how far it drifted.

It may be used where the kernel itself keeps time by it and the CPU says that it neither
changes its rate nor stops.  Elsewhere CLOCK_MONOTONIC is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from anvil_engine import procfs, sysfs

CALIBRATION_S = 0.05
NEEDED_FLAGS = frozenset({"constant_tsc", "nonstop_tsc"})

Pair = tuple[int, int, int]
"""TSC ticks, CLOCK_MONOTONIC ns, uncertainty in ticks."""


@dataclass(frozen=True)
class Rate:
    """A calibrated TSC: its rate, and the reading that the drift is judged by."""

    ticks_per_second: int
    first: Pair

    def drift_ppm(self, later: Pair) -> float:
        """How far the two clocks moved apart since the calibration, in parts per million."""
        ticks, ns = later[0] - self.first[0], later[1] - self.first[1]
        return (ticks / self.ticks_per_second * 1e9 / ns - 1) * 1e6


def is_trusted(root: Path = Path("/")) -> bool:
    """Whether kernel and CPU vouch for the TSC."""
    return sysfs.clocksource(root) == "tsc" and procfs.cpu_flags(root) >= NEEDED_FLAGS


def calibrate(read: Callable[[], Pair | None]) -> Rate | None:
    """Compare both clocks over 50 ms; None where there is no TSC."""
    first = read()
    time.sleep(CALIBRATION_S)
    last = read()
    if first is None or last is None:
        return None
    rate = (last[0] - first[0]) * 1e9 / (last[1] - first[1])
    return Rate(round(rate), first)


@cache
def rate(read: Callable[[], Pair | None]) -> Rate | None:
    """The rate of this machine's TSC, calibrated once; None where it is not to be trusted."""
    return calibrate(read) if is_trusted() else None
