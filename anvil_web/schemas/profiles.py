"""The catalogue of profiles."""

from __future__ import annotations

from pydantic import Field, RootModel

from anvil_engine.workload import Phase, Profile
from anvil_web.schemas.base import Wire
from anvil_web.schemas.phases import PATTERNS
from anvil_web.wire import phase_columns


class ProfilePhase(Wire):
    """What one phase of a profile does."""

    name: str = Field(description="Name, unique within the profile.")
    pattern: str = Field(description=PATTERNS)
    block_size: int = Field(description="Bytes per I/O.")
    iodepth: int = Field(description="I/Os in flight per job.")
    numjobs: int = Field(description="Parallel jobs.")
    runtime_s: float = Field(description="Measured seconds.")
    rwmix_write_pct: int = Field(description="Percent of I/Os that write, 0 to 100.")
    ramp_time_s: float = Field(description="Seconds of I/O before the measurement.")
    offset_bytes: int = Field(description="Start of the range that is used.")
    size_bytes: int | None = Field(description="Length of the range; null for the whole target.")
    read_only: bool = Field(description="Whether the profile never writes.")


class ProfileOut(Wire):
    """A recipe of phases."""

    name: str = Field(description="Name to start it by.")
    title: str = Field(description="Name for people.")
    description: str = Field(description="What it is for.")
    estimated_duration_seconds: int = Field(description="Ramps and runtimes plus ten seconds.")
    destructive: bool = Field(description="Whether it overwrites the device.")
    phases: list[ProfilePhase] = Field(description="Its phases, in order.")


class ProfileList(RootModel[list[ProfileOut]]):
    """The catalogue."""


def profile_out(profile: Profile) -> ProfileOut:
    """A profile of the engine in the wire's words."""
    return ProfileOut(
        name=profile.name,
        title=profile.title,
        description=profile.description,
        estimated_duration_seconds=profile.estimated_duration_seconds,
        destructive=profile.destructive,
        phases=[_phase(phase, read_only=not profile.destructive) for phase in profile],
    )


def _phase(phase: Phase, *, read_only: bool) -> ProfilePhase:
    columns = phase_columns(phase)
    return ProfilePhase(
        name=columns.pop("phase_name"),
        **columns,
        ramp_time_s=phase.workload.ramp_time,
        offset_bytes=phase.workload.offset,
        size_bytes=phase.workload.size,
        read_only=read_only,
    )
