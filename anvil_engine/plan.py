"""Profile and target facts to the exact phases that will run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from anvil_engine.errors import InvalidWorkload
from anvil_engine.units import format_size
from anvil_engine.workload import Phase, Profile


@dataclass(frozen=True)
class Plan:
    """What will run: every phase with a definite `size`, and what differs from the profile."""

    profile: Profile
    phases: tuple[Phase, ...]
    warnings: tuple[str, ...]

    @property
    def writes(self) -> bool:
        """Whether any phase writes."""
        return self.profile.destructive


def expand(profile: Profile, *, target_size: int, lba_size: int) -> Plan:
    """Fit `profile` to a target of `target_size` bytes with logical blocks of `lba_size` bytes.

    A phase's range is the smaller of its limit and what the target has after its offset (the
    last job's, where they differ), in whole blocks.  A range that was cut is said in `warnings`.  Raises
    `InvalidWorkload` where a phase cannot run on this target at all.
    """
    fitted = [_fit(phase, target_size, lba_size) for phase in profile]
    return Plan(
        profile=profile,
        phases=tuple(phase for phase, _ in fitted),
        warnings=tuple(warning for _, warning in fitted if warning),
    )


def _fit(phase: Phase, target_size: int, lba_size: int) -> tuple[Phase, str | None]:
    workload = phase.workload
    if workload.direct or workload.trims:
        _check_alignment(phase, lba_size)
    available = target_size - workload.last_offset
    wanted = available if workload.size is None else workload.size
    size = min(wanted, available) // workload.bs * workload.bs
    if size < workload.largest_bs:
        raise InvalidWorkload(
            f"phase {phase.name}: a block of {workload.largest_bs} bytes at offset "
            f"{workload.last_offset} does not fit a target of {target_size} bytes; use a smaller bs or offset"
        )
    warning = None
    if available < wanted:
        warning = (
            f"phase {phase.name}: range cut from {format_size(wanted)} to {format_size(size)}, "
            "the size of the target"
        )
    return Phase(phase.name, replace(workload, size=size)), warning


def _check_alignment(phase: Phase, lba_size: int) -> None:
    workload = phase.workload
    sizes = [("bssplit", size) for size in workload.split]
    places = [(name, getattr(workload, name)) for name in ("bs", "offset", "offset_increment")]
    for name, value in (*places, *sizes):
        if value % lba_size:
            raise InvalidWorkload(
                f"phase {phase.name}: {name}={value} is not a multiple of the target's logical "
                f"block size ({lba_size}); use a multiple of {format_size(lba_size)}"
            )
