"""Where a job's I/Os go and how large they are: from a workload to what the loop is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from anvil_engine import blocksizes, distribution
from anvil_engine.workload import Workload

SPLITMIX_STEP = 0x9E3779B97F4A7C15
WORDS_OF_STATE = 4


def job_options(workload: Workload, index: int, randseed: int) -> dict[str, Any]:
    """The options of `_ioloop.Job` that decide the I/Os of job `index`; `size` is definite."""
    assert workload.size is not None
    blocks = workload.size // workload.bs
    places = distribution.parse(workload.random_distribution)
    return {
        "bs": workload.bs,
        "largest_bs": workload.largest_bs,
        "sizes": _table(blocksizes.split_table(workload.split)),
        "blocks": blocks,
        "offset": workload.offset + index * workload.offset_increment,
        "read_pct": workload.read_pct,
        "is_random": workload.is_random,
        "norandommap": workload.norandommap,
        "distribution": places.kind,
        "shape": distribution.loop_shape(places, blocks),
        "centre": distribution.loop_centre(places),
        "zones": _table(distribution.zone_table(places.zones, blocks)),
        "total_bytes": workload.total_bytes or 0,
        "seed": job_seed(randseed, index),
    }


def job_seed(randseed: int, index: int) -> int:
    """The seed of job `index`: as many steps of splitmix64 on as a job's state has words."""
    return (randseed + index * WORDS_OF_STATE * SPLITMIX_STEP) % (1 << 64)


def _table(rows: list[list[int]]) -> npt.NDArray[np.uint64] | None:
    return np.array(rows, np.uint64) if rows else None
