"""A profile on a target, as every verb that measures does it: opened once, recorded, shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anvil_engine.plan import Plan, expand
from anvil_engine.results import (
    Event,
    PhaseComplete,
    PhaseFailed,
    PhaseResult,
    PhaseSample,
    PhaseStarted,
    RunAborted,
    RunComplete,
    RunFailed,
    RunStarted,
    plain,
)
from anvil_engine.workload import Phase, Profile

Observer = Callable[[Event], None]


@dataclass
class PhaseRecord:
    """What one phase said; `result` is that of a part when the run was aborted in it."""

    phase: Phase
    started: PhaseStarted
    samples: list[PhaseSample] = field(default_factory=list)
    result: PhaseResult | None = None
    error: str | None = None
    errno: int | None = None


class Record:
    """The events of a run, gathered: an observer."""

    def __init__(self) -> None:
        self.started: RunStarted | None = None
        self.phases: list[PhaseRecord] = []
        self.end: RunComplete | RunFailed | RunAborted | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.started = event
            case PhaseStarted():
                assert self.started is not None
                phase = self.started.phases[event.phase_order]
                self.phases.append(PhaseRecord(phase, event))
            case PhaseSample():
                self.phases[-1].samples.append(event)
            case PhaseComplete():
                self.phases[-1].result = event.result
            case PhaseFailed():
                self.phases[-1].error, self.phases[-1].errno = event.error, event.errno
            case RunAborted():
                self.end = event
                if event.partial is not None:
                    self.phases[-1].result = event.partial
            case RunComplete() | RunFailed():
                self.end = event

    @property
    def outcome(self) -> str:
        """`complete`, `failed` or `aborted`."""
        return {RunComplete: "complete", RunAborted: "aborted"}.get(type(self.end), "failed")

    @property
    def error(self) -> str | None:
        """Why the run is not complete."""
        if isinstance(self.end, RunAborted):
            return self.end.reason
        return self.end.error if isinstance(self.end, RunFailed) else None

    @property
    def warnings(self) -> list[str]:
        """What the plan and the phases recorded beside their numbers."""
        found = list(self.started.warnings) if self.started else []
        for record in self.phases:
            if record.result is not None:
                found += [f"phase {record.phase.name}: {text}" for text in record.result.warnings]
        return found

    def to_dict(self) -> dict[str, Any]:
        """The whole run as JSON; histograms are packed, in base64."""
        assert self.started is not None
        return {
            "outcome": self.outcome,
            "error": self.error,
            "warnings": self.warnings,
            **{
                name: plain(getattr(self.started, name))
                for name in ("profile", "engine", "simulation", "device_path", "target", "host")
            },
            "phases": [
                {
                    "phase": record.phase.to_dict(),
                    "jobfile": record.started.jobfile,
                    "result": plain(record.result),
                    "samples": plain(record.samples),
                    "error": record.error,
                }
                for record in self.phases
            ],
        }


def measure(
    profile: Profile,
    path: Path,
    observers: Iterable[Observer],
    *,
    engine: str,
    randseed: int | None = None,
    expect_serial: str | None = None,
    expect_wwid: str | None = None,
    confirm_serial: str | None = None,
    yes_destroy_data: bool = False,
) -> Record:
    """Run `profile` on what is at `path` and pass each event on; a simulation opens nothing.

    SIGINT and SIGTERM end it as aborted.  Raises what `open_target` and `expand` raise.
    """
    from anvil_engine import lifeline, session
    from anvil_engine.target import Consent, open_target

    record = Record()
    everybody: list[Observer] = [record, *observers]
    with ExitStack() as held:
        target = None
        if engine != session.SIMULATION_ENGINE:
            target = held.enter_context(
                open_target(
                    path,
                    read=any(phase.workload.reads for phase in profile),
                    write=profile.destructive,
                    direct=all(phase.workload.direct for phase in profile),
                    consent=Consent(confirm_serial, yes_destroy_data),
                    expect_serial=expect_serial,
                    expect_wwid=expect_wwid,
                )
            )
        size = target.facts.size_bytes if target else session.SIMULATED_SIZE
        lba_size = target.facts.lba_size if target else session.SIMULATED_LBA_SIZE
        plan: Plan = expand(profile, target_size=size, lba_size=lba_size)
        stop = held.enter_context(lifeline.stop_on_signals())
        for event in session.run(plan, target, engine=engine, randseed=randseed, stop=stop):
            for observe in everybody:
                observe(event)
    return record
