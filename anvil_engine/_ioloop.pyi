from typing import Final

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

READ: Final[int]
WRITE: Final[int]
TRIM: Final[int]
FSYNC: Final[int]
RESPONSE: Final[int]
SLAT: Final[int]
CLAT: Final[int]
N_BUCKETS: Final[int]
N_ERRNOS: Final[int]
IOS: Final[int]
BYTES: Final[int]
LAT_SUM: Final[int]
CLAMPED: Final[int]
LAT_MIN: Final[int]
LAT_MAX: Final[int]
EPOCH_MAX: Final[int]
ERRORS: Final[int]
COUNTS: Final[int]
HEAD_SIZE: Final[int]
BLOCK_SIZE: Final[int]
CONTROL_SIZE: Final[int]
MEASURED_FROM: Final[int]
ENDED_AT: Final[int]
FIRST_ERRNO: Final[int]
FIRST_ERROR_OFFSET: Final[int]
FIRST_ERROR_LENGTH: Final[int]
STARTED: Final[int]
LATE: Final[int]
MISSED: Final[int]
BEHIND_NS: Final[int]
STOP: Final[int]
EPOCH: Final[int]
EPOCHS: Final[int]
ENGINES: Final[dict[str, int]]

def live_size(n_blocks: int) -> int: ...
def bucket_index(value_ns: int) -> int: ...
def intended_starts(
    rate: int, ticks_per_second: int, seed: int, count: int, *, is_poisson: bool
) -> list[int]: ...
def read_clocks() -> tuple[int, int, int] | None: ...
def probe(*, hipri: bool = False, sqthread_poll: bool = False) -> None: ...
def probe_polled_read(fd: int, offset: int, n_bytes: int) -> None: ...

@disjoint_base
class Job:
    notes: dict[str, object]
    @property
    def hung(self) -> bool: ...
    @property
    def finished(self) -> bool: ...
    @property
    def iodepth(self) -> int: ...
    def __new__(
        cls,
        *,
        engine: str,
        fd: int,
        bs: int,
        largest_bs: int,
        sizes: npt.NDArray[np.uint64] | None,
        blocks: int,
        offset: int,
        iodepth: int,
        batch_submit: int,
        batch_complete: int,
        read_pct: int,
        is_random: bool,
        norandommap: bool,
        distribution: str,
        shape: float,
        centre: float,
        zones: npt.NDArray[np.uint64] | None,
        total_bytes: int,
        runtime_ns: int,
        ramp_ns: int,
        drain_ns: int,
        null_latency_ns: int,
        ticks_per_second: int,
        seed: int,
        continue_on_error: bool,
        rate: int,
        is_poisson: bool,
        fsync_every: int,
        trims: bool,
        think_ns: int,
        think_every: int,
        slat: bool,
        hipri: bool,
        sqthread_poll: bool,
        live: npt.NDArray[np.uint64],
        ramp: npt.NDArray[np.uint64],
        control: npt.NDArray[np.uint64],
    ) -> Job: ...
    def preview(self, ios: npt.NDArray[np.uint64]) -> int: ...
    def open(self) -> None: ...
    def register(self) -> None: ...
    def run(self) -> None: ...
