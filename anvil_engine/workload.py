"""Workload, phase and profile: frozen, and valid once constructed.

A `Workload` says what one kind of I/O is, in fio's words.  A `Phase` is a named workload,
a `Profile` a named list of phases.  Nobody downstream checks them again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from anvil_engine.errors import InvalidWorkload

READS = frozenset({"read", "randread", "rw", "randrw"})
WRITES = frozenset({"write", "randwrite", "rw", "randrw"})
RANDOM = frozenset({"randread", "randwrite", "randrw"})
DIRECTIONS = ("read", "write")
ESTIMATE_OVERHEAD_S = 10
MAX_IODEPTH = 32768  # IORING_MAX_ENTRIES
MAX_NUMJOBS = 1024
MAX_BS = 1 << 30
MAX_RATE_IOPS = 1_000_000_000
RATE_PROCESSES = ("linear", "poisson")


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

    `size` is the span from `offset` that is used, None for all that the target has.
    `rwmixread` counts for `rw` and `randrw` only.  Random offsets are drawn
    independently of each other (fio's `norandommap`).  `randseed` None takes a fresh
    seed, which the result states.  `iodepth_batch_submit` None submits as many I/Os at
    once as are free.

    `rate_iops` makes an open loop of it: each job means to start that many I/Os a second,
    reads and writes together, at intervals that are equal (`rate_process` linear) or
    independent (poisson), whatever the device does.

    The jobs' threads run on the CPUs of `cpus_allowed` only, a list like "0-3,7".  Raises
    `InvalidWorkload`.
    """

    rw: str
    bs: int
    iodepth: int = 1
    numjobs: int = 1
    runtime: float = 10.0
    ramp_time: float = 0.0
    rwmixread: int = 50
    offset: int = 0
    size: int | None = None
    randseed: int | None = None
    direct: bool = True
    continue_on_error: bool = False
    iodepth_batch_submit: int | None = None
    iodepth_batch_complete_min: int = 1
    rate_iops: int | None = None
    rate_process: str = "linear"
    cpus_allowed: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rw", "rw" if self.rw == "readwrite" else self.rw)
        _require(
            self.rw in READS | WRITES,
            f"rw={self.rw} is not known; use read, write, randread, randwrite, rw or randrw",
        )
        _require(0 < self.bs <= MAX_BS, f"bs={self.bs} is not in 1..{MAX_BS}")
        _require(
            1 <= self.iodepth <= MAX_IODEPTH, f"iodepth={self.iodepth} is not in 1..{MAX_IODEPTH}"
        )
        _require(
            1 <= self.numjobs <= MAX_NUMJOBS, f"numjobs={self.numjobs} is not in 1..{MAX_NUMJOBS}"
        )
        _require(self.runtime > 0, f"runtime={self.runtime} must be above 0 seconds")
        _require(self.ramp_time >= 0, f"ramp_time={self.ramp_time} must not be negative")
        _require(0 <= self.rwmixread <= 100, f"rwmixread={self.rwmixread} is not in 0..100")
        _require(self.offset >= 0, f"offset={self.offset} must not be negative")
        _require(
            self.size is None or self.size >= self.bs,
            f"size={self.size} is smaller than one block (bs={self.bs})",
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
        if self.cpus_allowed is not None:
            _parse_cpus(self.cpus_allowed)

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

    @property
    def writes(self) -> bool:
        """Whether it can write at all."""
        return self.rw in WRITES

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
        return self.rate_iops is not None

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
