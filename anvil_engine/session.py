"""A run as an iterator of events: `for event in run(plan, target): …`.

The shell, the runner's child process and the tests consume the same stream.  Closing the
iterator stops the engine.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from anvil_engine import checks, fio, fio_run, native, procfs
from anvil_engine.errors import AnvilError, DeviceError, InvalidWorkload, RingUnavailable
from anvil_engine.plan import Plan
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
)
from anvil_engine.target import Target
from anvil_engine.workload import Phase, Workload

Measurement = native.Measurement | fio_run.Measurement

SIMULATION_ENGINE = "null"
ENGINES = ("native", "sync", fio_run.ENGINE, SIMULATION_ENGINE)
SIMULATED_PATH = "simulation"
SIMULATED_SIZE = 1 << 40
SIMULATED_LBA_SIZE = 512
ZERO_BYTES = 4096
ABORTED_BY_USER = "aborted by user"


def run(
    plan: Plan,
    target: Target | None,
    *,
    engine: str = "native",
    randseed: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """Execute `plan` on `target` and yield what happens, ending with one terminal event.

    `target` None is a simulation: the null engine, which touches no storage and answers
    every I/O after `native.NULL_LATENCY_NS`.  Setting `stop` ends the run as aborted,
    within 100 ms plus the I/O in flight.  Errors become `PhaseFailed` and `RunFailed`;
    nothing is raised for them.
    """
    stop = stop or threading.Event()
    engine = engine if target else SIMULATION_ENGINE
    seed = secrets.randbits(64) if randseed is None else randseed
    yield _started(plan, target, engine)
    # What the last phase lacks is better known before the first one takes an hour.
    for phase in plan.phases:
        try:
            _check_phase(phase, target, engine)
        except RingUnavailable as error:
            yield RunFailed(error=str(error))  # it is not the phase that cannot be
            return
        except AnvilError as error:
            yield RunFailed(error=f"phase {phase.name}: {error}")
            return
    partial: PhaseResult | None = None
    for order, phase in enumerate(plan.phases):
        try:
            partial = yield from _phase(order, phase, target, engine, seed, stop)
        except AnvilError as error:
            yield from _failed(order, phase, error)
            return
        if stop.is_set():
            yield RunAborted(reason=ABORTED_BY_USER, partial=partial)
            return
    yield RunComplete()


def _check_zero(phase: Phase, target: Target | None, engine: str) -> None:
    """Refuse what /dev/zero cannot do through io_uring.

    It may stop after any page when the kernel wants the CPU (drivers/char/mem.c,
    read_iter_zero), and io_uring does not ask it for the rest.
    """
    if target is None or target.facts.kind != "char" or engine != "native":
        return
    if phase.workload.reads and phase.workload.largest_bs > ZERO_BYTES:
        raise InvalidWorkload(
            f"{target.facts.path} may answer reads of more than 4k short through io_uring; "
            "use --bs 4k, or --engine sync"
        )


def _failed(order: int, phase: Phase, error: AnvilError) -> Iterator[Event]:
    number = error.errno if isinstance(error, DeviceError) else None
    yield PhaseFailed(phase_order=order, phase_name=phase.name, error=str(error), errno=number)
    yield RunFailed(error=f"phase {phase.name}: {error}")


def _check_phase(phase: Phase, target: Target | None, engine: str) -> None:
    """Raise `AnvilError` for what the phase cannot have on this target."""
    check_available(engine, phase.workload, target.fd if target else -1)
    _check_zero(phase, target, engine)


def check_available(engine: str, workload: Workload, fd: int) -> None:
    """Raise `EngineError`, with the way out, when `engine` cannot run `workload` here."""
    if engine == fio_run.ENGINE:
        fio_run.check_available()
        fio_run.check_workload(workload)
    else:
        checks.require_available(engine, workload, fd)


def measurement(
    workload: Workload, target: Target | None, *, engine: str, randseed: int
) -> Measurement:
    """`workload` on `target`, ready to run."""
    if engine == fio_run.ENGINE:
        assert target is not None
        return fio_run.Measurement(workload, fd=target.fd, randseed=randseed)
    fd = target.fd if target else -1
    return native.Measurement(workload, fd=fd, engine=engine, randseed=randseed)


def _started(plan: Plan, target: Target | None, engine: str) -> RunStarted:
    return RunStarted(
        profile=plan.profile,
        phases=plan.phases,
        engine=engine,
        simulation=target is None,
        device_path=target.facts.path if target else SIMULATED_PATH,
        target=target.facts.to_dict() if target else {},
        host={**procfs.host_facts(Path("/")), "engine_version": version("anvil")},
        warnings=plan.warnings,
    )


def _phase(
    order: int,
    phase: Phase,
    target: Target | None,
    engine: str,
    seed: int,
    stop: threading.Event,
) -> Generator[Event, None, PhaseResult | None]:
    """Run one phase; returns its result when it was stopped early."""
    workload = phase.workload
    yield PhaseStarted(
        phase_order=order,
        phase_name=phase.name,
        jobfile=_jobfile(phase, target),
        expected_runtime_s=phase.duration,
    )
    measured = measurement(
        workload,
        target,
        engine=engine,
        randseed=seed if workload.randseed is None else workload.randseed,
    )
    result = yield from _samples(order, phase, measured, stop)
    if stop.is_set() or result is None:
        return result
    yield PhaseComplete(phase_order=order, phase_name=phase.name, result=result)
    return None


def _jobfile(phase: Phase, target: Target | None) -> str:
    if target is None:
        return fio.job_text(phase, SIMULATED_PATH)
    # fio, too, opens /dev/zero without O_DIRECT.
    as_opened = replace(phase.workload, direct=target.direct)
    return fio.job_text(replace(phase, workload=as_opened), target.facts.path)


def _samples(
    order: int, phase: Phase, measured: Measurement, stop: threading.Event
) -> Generator[Event, None, PhaseResult | None]:
    intervals = measured.run(stop)
    number = 0
    try:
        while True:
            try:
                interval = next(intervals)
            except StopIteration as end:
                result: PhaseResult | None = end.value
                return result
            yield PhaseSample(
                phase_order=order,
                phase_name=phase.name,
                interval=number,
                elapsed_s=interval.elapsed_s,
                eta_s=interval.eta_s,
                read=interval.read,
                write=interval.write,
                trim=interval.trim,
            )
            number += 1
    finally:
        intervals.close()
