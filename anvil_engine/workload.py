"""Workload, phase and profile: frozen, and valid once constructed.

A `Workload` says what one kind of I/O is, in fio's words.  A `Phase` is a named workload,
a `Profile` a named list of phases.  Nobody downstream checks them again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from anvil_engine import blocksizes, distribution
from anvil_engine.errors import InvalidWorkload
from anvil_engine.units import format_size

READS = frozenset({"read", "randread", "rw", "randrw"})
WRITES = frozenset({"write", "randwrite", "rw", "randrw"})
TRIMS = frozenset({"trim", "randtrim"})
RANDOM = frozenset({"randread", "randwrite", "randrw", "randtrim"})
DIRECTIONS = ("read", "write", "trim")
SIDES = ("read", "write")  # what moves data; fio is compared on these
ESTIMATE_OVERHEAD_S = 10
MAX_IODEPTH = 32768  # IORING_MAX_ENTRIES
MAX_NUMJOBS = 1024
MAX_BS = 1 << 30
MAX_TIME_S = 366 * 86400
DEFAULT_BATCH = 8
"""I/Os handed over by one system call unless the workload says otherwise.

A whole queue at once costs the least CPU but reaches an asynchronous device late: on a virtio
disk at depth 32 the median latency rose by a third against one at a time, by a tenth with
eight; on targets that complete inline eight keep most of the rate.
"""
MAX_RATE_IOPS = 1_000_000_000
RATE_PROCESSES = ("linear", "poisson")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidWorkload(message)


def _parse_cpus(text: str) -> frozenset[int]:
    cpus: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        _require(match is not None, f"cpus_allowed={text} is not a list of CPUs like 0-3,7")
        assert match is not None
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        _require(first <= last, f"cpus_allowed={text} has a range that ends before it begins")
        cpus.update(range(first, last + 1))
    return frozenset(cpus)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One kind of I/O.  Sizes are bytes, times seconds, `rwmixread` percent.

    `bssplit` and `bsrange` draw each I/O's size, and `bs` is then their smallest.

    `size` is the span from `offset` that is used, None for all that the target has.  Every
    further job's span begins `offset_increment` bytes after the one before; all are of one
    size, so that None is what the last job has.

    With `time_based` a phase lasts `runtime`.  Without, a job ends after `loops` passes of
    `size` bytes, or what `io_size` says instead (see `total_bytes`), or after `runtime`,
    where 0 sets no limit.  What the ramp does is not counted.

    With `norandommap` random offsets are drawn independently of each other; without, a job
    takes every block of its span once before it takes one again.  There is no map for
    several block sizes, nor for a `random_distribution` other than `random`: `norandommap`
    is then always set.  `rwmixread` counts for `rw` and `randrw` only.  `randseed` None takes
    a fresh seed, which the result states.  `iodepth_batch_submit` None submits as many I/Os
    at once as are free, in system calls of at most `DEFAULT_BATCH`.

    `rate_iops` makes an open loop of it: each job means to start that many I/Os a second,
    reads and writes together, at intervals that are equal (`rate_process` linear) or
    independent (poisson), whatever the device does.

    The jobs' threads run on the CPUs of `cpus_allowed` only, a list like "0-3,7".
    After every `fsync` writes of a job, an fsync is started beside what is in flight; 0 for
    none.  After every `thinktime_blocks` I/Os a job lets what is in flight complete and then
    pauses for `thinktime` seconds.  `slat_percentiles` has slat and clat recorded beside lat.

    `hipri` polls the device for completions (IOPOLL), `sqthread_poll` leaves submitting to a
    thread of the kernel (SQPOLL).  Raises `InvalidWorkload`.
    """

    rw: str
    bs: int
    bssplit: str | None = None
    bsrange: str | None = None
    iodepth: int = 1
    numjobs: int = 1
    runtime: float = 10.0
    time_based: bool = True
    ramp_time: float = 0.0
    rwmixread: int = 50
    norandommap: bool = True
    random_distribution: str = "random"
    offset: int = 0
    offset_increment: int = 0
    size: int | None = None
    io_size: int | None = None
    loops: int = 1
    randseed: int | None = None
    direct: bool = True
    continue_on_error: bool = False
    iodepth_batch_submit: int | None = None
    iodepth_batch_complete_min: int = 1
    rate_iops: int | None = None
    rate_process: str = "linear"
    cpus_allowed: str | None = None
    fsync: int = 0
    thinktime: float = 0.0
    thinktime_blocks: int = 1
    slat_percentiles: bool = False
    hipri: bool = False
    sqthread_poll: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rw", "rw" if self.rw == "readwrite" else self.rw)
        self._require_types()
        self._settle_sizes()
        if distribution.parse(self.random_distribution).kind == "random":
            object.__setattr__(self, "random_distribution", "random")
        if self.is_random and (self.random_distribution != "random" or self.bs < self.largest_bs):
            object.__setattr__(self, "norandommap", True)
        _require(
            self.rw in READS | WRITES | TRIMS,
            f"rw={self.rw} is not known; use read, write, randread, randwrite, rw, randrw, trim "
            "or randtrim",
        )
        for size in (self.bs, self.largest_bs):
            _require(0 < size <= MAX_BS, f"bs={size} is not in 1..{MAX_BS}")
        _require(
            1 <= self.iodepth <= MAX_IODEPTH, f"iodepth={self.iodepth} is not in 1..{MAX_IODEPTH}"
        )
        _require(
            1 <= self.numjobs <= MAX_NUMJOBS, f"numjobs={self.numjobs} is not in 1..{MAX_NUMJOBS}"
        )
        _require(
            (self.runtime > 0 or (self.runtime == 0 and not self.time_based))
            and self.runtime <= MAX_TIME_S,
            f"runtime={self.runtime} is not in 0..{MAX_TIME_S} seconds (0 only without "
            "time_based)",
        )
        _require(self.loops >= 1, f"loops={self.loops} must be above 0")
        _require(
            self.io_size is None or self.io_size >= self.bs,
            f"io_size={self.io_size} is smaller than one block (bs={self.bs})",
        )
        _require(
            0 <= self.ramp_time <= MAX_TIME_S,
            f"ramp_time={self.ramp_time} is not in 0..{MAX_TIME_S} seconds",
        )
        _require(0 <= self.rwmixread <= 100, f"rwmixread={self.rwmixread} is not in 0..100")
        for name in ("offset", "offset_increment"):
            value = getattr(self, name)
            _require(value >= 0, f"{name}={value} must not be negative")
        _require(
            self.size is None or self.size >= self.largest_bs,
            f"size={self.size} is smaller than one block (bs={self.largest_bs})",
        )
        _require(
            self.randseed is None or 0 <= self.randseed < 1 << 64,
            f"randseed={self.randseed} does not fit in 64 bits",
        )
        for batch in ("iodepth_batch_submit", "iodepth_batch_complete_min"):
            value = getattr(self, batch)
            _require(
                value is None or 1 <= value <= self.iodepth,
                f"{batch}={value} is not in 1..iodepth ({self.iodepth})",
            )
        self._check_pace()
        self._check_thinktime()
        self._check_polling()
        _require(0 <= self.fsync < 1 << 32, f"fsync={self.fsync} is not in 0..{(1 << 32) - 1}")
        _require(not self.fsync or self.rw in WRITES, f"fsync={self.fsync} has no writes to sync")
        if self.cpus_allowed is not None:
            _parse_cpus(self.cpus_allowed)

    def _check_thinktime(self) -> None:
        _require(
            0 <= self.thinktime <= MAX_TIME_S,
            f"thinktime={self.thinktime} is not in 0..{MAX_TIME_S} seconds",
        )
        _require(
            1 <= self.thinktime_blocks < 1 << 32,
            f"thinktime_blocks={self.thinktime_blocks} is not in 1..{(1 << 32) - 1}",
        )
        _require(
            not self.thinktime or self.rate_iops is None,
            f"thinktime={self.thinktime} and rate_iops={self.rate_iops} both decide when an I/O "
            "starts; use one of them",
        )

    def _check_polling(self) -> None:
        _require(
            self.direct or not self.hipri, "hipri=True polls the device itself and needs direct=1"
        )
        _require(
            not (self.hipri and self.fsync),
            f"fsync={self.fsync} cannot be polled for; leave it or hipri out",
        )
        _require(
            not (self.trims and (self.hipri or self.sqthread_poll)),
            f"rw={self.rw} cannot be polled for; leave out hipri and sqthread_poll",
        )
        _require(
            not (self.sqthread_poll and self.slat_percentiles),
            "slat_percentiles=True has no meaning with sqthread_poll, where the kernel submits",
        )

    def _check_pace(self) -> None:
        _require(
            self.rate_iops is None or 1 <= self.rate_iops <= MAX_RATE_IOPS,
            f"rate_iops={self.rate_iops} is not in 1..{MAX_RATE_IOPS}",
        )
        _require(
            self.rate_process in RATE_PROCESSES,
            f"rate_process={self.rate_process} is not known; use {' or '.join(RATE_PROCESSES)}",
        )
        _require(
            self.rate_iops is None or self.iodepth_batch_complete_min == 1,
            f"iodepth_batch_complete_min={self.iodepth_batch_complete_min} makes I/Os wait for "
            "each other; leave it out with rate_iops",
        )

    def _require_types(self) -> None:
        """A profile from a file may hold 1.5 or "4k" where a whole number is meant."""
        for field in fields(self):
            value = getattr(self, field.name)
            kind = str(field.type)
            if kind == "float":
                fits = _is_whole(value) or isinstance(value, float)
            elif kind.startswith("int"):
                fits = _is_whole(value)
            else:
                fits = isinstance(value, bool if kind == "bool" else str)
            fits = fits or (value is None and kind.endswith("None"))
            _require(fits, f"{field.name}={value!r} is not of type {kind}")

    @property
    def last_offset(self) -> int:
        """Where the last job's span begins."""
        return self.offset + (self.numjobs - 1) * self.offset_increment

    @property
    def total_bytes(self) -> int | None:
        """What each job does before it ends; None when its time or the target decides.

        As in fio: `loops` passes of `size`, or of `io_size` where that is less, and at least
        `io_size`.
        """
        if self.time_based or self.size is None:
            return None
        io_size = self.io_size or self.size
        return max(self.loops * min(self.size, io_size), io_size)

    def _settle_sizes(self) -> None:
        _require(
            self.bssplit is None or self.bsrange is None,
            f"bssplit={self.bssplit} and bsrange={self.bsrange} exclude each other",
        )
        if self.bssplit is not None:
            object.__setattr__(self, "bs", min(self.split))
        elif self.bsrange is not None:
            object.__setattr__(self, "bs", blocksizes.parse_range(self.bsrange)[0])

    @property
    def split(self) -> dict[int, Fraction]:
        """Percent of the I/Os by size in bytes; empty without `bssplit`."""
        return {} if self.bssplit is None else blocksizes.parse_split(self.bssplit)

    @property
    def largest_bs(self) -> int:
        """Bytes of the largest I/O."""
        if self.bsrange is not None:
            return blocksizes.parse_range(self.bsrange)[1]
        return max(self.split, default=self.bs)

    @property
    def sizes_text(self) -> str:
        """The block sizes for people: `4k`, `4k-64k`, `4k/90:64k/10`."""
        return self.bssplit or self.bsrange or format_size(self.bs)

    @property
    def batch_submit(self) -> int:
        """How many I/Os one system call hands over at most."""
        return self.iodepth_batch_submit or min(DEFAULT_BATCH, self.iodepth)

    @property
    def writes(self) -> bool:
        """Whether it can change what is on the target; a trim does."""
        return self.rw in WRITES | TRIMS

    @property
    def trims(self) -> bool:
        """Whether its I/Os are trims."""
        return self.rw in TRIMS

    @property
    def reads(self) -> bool:
        """Whether it can read at all."""
        return self.rw in READS

    @property
    def is_random(self) -> bool:
        """Whether offsets are drawn at random."""
        return self.rw in RANDOM

    @property
    def cpus(self) -> frozenset[int] | None:
        """The CPUs of `cpus_allowed`; None for all that the process may use."""
        return None if self.cpus_allowed is None else _parse_cpus(self.cpus_allowed)

    @property
    def is_paced(self) -> bool:
        """Whether fewer than `iodepth` I/Os in flight are meant."""
        return self.rate_iops is not None or self.thinktime > 0

    @property
    def read_pct(self) -> int:
        """Percent of I/Os that read: 100 or 0 unless the workload mixes."""
        if self.reads and self.writes:
            return self.rwmixread
        return 100 if self.reads else 0


@dataclass(frozen=True)
class Phase:
    """A named workload: one stage of a profile."""

    name: str
    workload: Workload

    def __post_init__(self) -> None:
        _require(bool(self.name.strip()), "a phase needs a name")

    @property
    def duration(self) -> float:
        """Seconds from the first I/O to the end of the measurement."""
        return self.workload.ramp_time + self.workload.runtime

    def to_dict(self) -> dict[str, Any]:
        """The phase as JSON: its name and its workload in fio's words."""
        return {"name": self.name, **asdict(self.workload)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Phase:
        """The phase of `to_dict`.  Raises `InvalidWorkload` on missing or unknown keys."""
        values = dict(data)
        name = values.pop("name", "")
        unknown = values.keys() - {field.name for field in fields(Workload)}
        _require(not unknown, f"phase {name!r} has unknown keys: {', '.join(sorted(unknown))}")
        try:
            return cls(name, Workload(**values))
        except TypeError as error:
            raise InvalidWorkload(f"phase {name!r}: {error}") from error


@dataclass(frozen=True)
class Profile:
    """A named recipe of phases with unique names."""

    name: str
    title: str
    description: str
    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        _require(bool(self.phases), f"profile {self.name!r} has no phases")
        names = [phase.name for phase in self.phases]
        _require(
            len(set(names)) == len(names),
            f"profile {self.name!r} uses a phase name more than once",
        )
        # The target is opened once; half of the phases would measure the page cache.
        _require(
            len({phase.workload.direct for phase in self.phases}) == 1,
            f"profile {self.name!r} mixes direct=1 and direct=0; make two profiles of it",
        )

    def __iter__(self) -> Iterator[Phase]:
        return iter(self.phases)

    @property
    def destructive(self) -> bool:
        """Whether any phase writes.  Derived, so that no profile can claim otherwise."""
        return any(phase.workload.writes for phase in self.phases)

    @property
    def estimated_duration_seconds(self) -> int:
        """Sum of all runtimes and ramps, plus ten seconds (API.md §4.2)."""
        return round(sum(phase.duration for phase in self.phases)) + ESTIMATE_OVERHEAD_S

    def to_dict(self) -> dict[str, Any]:
        """The profile as JSON: what a run stores as its snapshot and later executes."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "phases": [phase.to_dict() for phase in self.phases],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Profile:
        """The profile of `to_dict`.  Raises `InvalidWorkload` for anything else."""
        try:
            name, phases = str(data["name"]), data["phases"]
            return cls(
                name=name,
                title=str(data.get("title", name)),
                description=str(data.get("description", "")),
                phases=tuple(Phase.from_dict(phase) for phase in phases),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InvalidWorkload(f"this is not a profile: {error!r}") from error
