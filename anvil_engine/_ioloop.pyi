from typing import Final

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

READ: Final[int]
WRITE: Final[int]
RESPONSE: Final[int]
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
def probe() -> None: ...

@disjoint_base
class Job:
    notes: dict[str, object]
    @property
    def hung(self) -> bool: ...
    @property
    def iodepth(self) -> int: ...
    def __new__(
        cls,
        *,
        engine: str,
        fd: int,
        bs: int,
        blocks: int,
        offset: int,
        iodepth: int,
        batch_submit: int,
        batch_complete: int,
        read_pct: int,
        is_random: bool,
        runtime_ns: int,
        ramp_ns: int,
        drain_ns: int,
        null_latency_ns: int,
        ticks_per_second: int,
        seed: int,
        continue_on_error: bool,
        rate: int,
        is_poisson: bool,
        live: npt.NDArray[np.uint64],
        ramp: npt.NDArray[np.uint64],
        control: npt.NDArray[np.uint64],
    ) -> Job: ...
    def run(self) -> None: ...
