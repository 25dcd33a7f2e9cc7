"""A result of fio as the events of a run, as if Anvil had watched it.

What the file does not have stays away: no samples, no facts about target and host, and no
percentiles where fio recorded none of lat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from anvil_engine import fio, fio_file, fio_json, histogram
from anvil_engine.errors import InvalidWorkload
from anvil_engine.results import (
    DirectionResult,
    Event,
    PhaseComplete,
    PhaseFailed,
    PhaseResult,
    PhaseStarted,
    RunComplete,
    RunFailed,
    RunStarted,
)
from anvil_engine.workload import SIDES, Phase, Profile

_SHORTEST_S = 1e-3  # fio's clock for runtimes


def events(text: str) -> list[Event]:
    """The run in fio's output: its last report, when it holds several.

    Raises `InvalidWorkload` when there is none, or one that does not say what it measured.
    """
    try:
        document = fio_json.documents(text)[-1]
        jobs = document["jobs"]
        return list(_events(document, jobs))
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidWorkload(
            f"this is not a result of fio ({error!r}); write one with --output-format=json+"
        ) from error


def _events(document: Mapping[str, Any], jobs: list[dict[str, Any]]) -> Iterator[Event]:
    phases, unknown = _phases(document, jobs)
    filename = _options(document, jobs[0]).get("filename", "unknown")
    ours = document.get("anvil", {})
    yield RunStarted(
        profile=Profile("import", "import", f"a result of {document['fio version']}", phases),
        phases=phases,
        engine=ours.get("engine", "fio"),
        simulation=ours.get("simulation", False),
        device_path=filename,
        target=ours.get("target", {}),
        host=ours.get("host", {}),
        warnings=unknown,
    )
    failure = None
    for order, (phase, job) in enumerate(zip(phases, jobs, strict=True)):
        yield PhaseStarted(
            phase_order=order,
            phase_name=phase.name,
            jobfile=fio.job_text(phase, filename),
            expected_runtime_s=phase.duration,
        )
        end = _end(order, phase, job, str(document["fio version"]))
        failure = end.error if isinstance(end, PhaseFailed) else failure
        yield end
    yield RunFailed(error=failure) if failure else RunComplete()


def _end(
    order: int, phase: Phase, job: Mapping[str, Any], version: str
) -> PhaseComplete | PhaseFailed:
    if number := int(job["error"]):
        error = f"phase {phase.name}: fio failed with error {number}"
        return PhaseFailed(phase_order=order, phase_name=phase.name, error=error, errno=number)
    result = _result(phase, job, version)
    return PhaseComplete(phase_order=order, phase_name=phase.name, result=result)


def _options(document: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, str]:
    return {**document.get("global options", {}), **job.get("job options", {})}


def _phases(
    document: Mapping[str, Any], jobs: list[dict[str, Any]]
) -> tuple[tuple[Phase, ...], tuple[str, ...]]:
    """The phases, with unique names, and a sentence about each option without a place."""
    counts = Counter(job["jobname"] for job in jobs)
    seen: Counter[str] = Counter()
    phases, unknown = [], set()
    for job in jobs:
        name = job["jobname"]
        options = _options(document, job)
        options.pop("name", None)
        workload, unplaced = fio_file.workload_of(
            options, runtime=max(fio_json.runtime_s(job), _SHORTEST_S)
        )
        unknown.update(unplaced)
        if counts[name] > 1:  # one entry for each of numjobs, without group_reporting
            seen[name] += 1
            name, workload = f"{name} {seen[name]}", replace(workload, numjobs=1)
        phases.append(Phase(name, workload))
    listed = ", ".join(sorted(unknown))
    return tuple(phases), ((f"options that Anvil does not know: {listed}",) if listed else ())


def _result(phase: Phase, job: Mapping[str, Any], version: str) -> PhaseResult:
    elapsed = max(fio_json.runtime_s(job), _SHORTEST_S)
    sides = {name: _side(job[name], elapsed) for name in SIDES}
    latencies = sum(side.lat_mean_ns * side.ios for side in sides.values() if side)
    return PhaseResult(
        workload=asdict(phase.workload),
        elapsed_s=elapsed,
        read=sides["read"],
        write=sides["write"],
        errors={},
        mean_depth=latencies / 1e9 / elapsed,
        cpu_user_pct=job["usr_cpu"] * phase.workload.numjobs,
        cpu_system_pct=job["sys_cpu"] * phase.workload.numjobs,
        randseed=phase.workload.randseed or 0,
        engine={"name": "fio", "version": version},
        warnings=tuple(_warnings(sides)),
    )


def _side(side: Mapping[str, Any], elapsed: float) -> DirectionResult | None:
    if not side["lat_ns"]["N"]:
        return None
    if side["lat_ns"].get("bins"):
        return fio_json.direction_result(side, elapsed)
    return fio_json.direction_result_without_bins(side, elapsed)


def _warnings(sides: Mapping[str, DirectionResult | None]) -> Iterator[str]:
    found = [side for side in sides.values() if side is not None]
    if any(not side.percentiles for side in found):
        yield (
            "fio recorded no percentiles of lat (those of clat are another quantity): run it with "
            "--lat_percentiles=1"
        )
    elif any(not histogram.unpack(side.histogram).any() for side in found):
        yield "fio's json has no bins, so there is no histogram: use --output-format=json+"
