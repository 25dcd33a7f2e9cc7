"""`/api/runs`: queue a run, list runs, show one, abort it."""

from __future__ import annotations

from typing import Any

from flask import Response, abort, g

from anvil_engine import profiles
from anvil_engine.consent import serial_matches
from anvil_engine.workload import Profile
from anvil_web.api.reply import noun, reply
from anvil_web.auth import requires
from anvil_web.schemas.base import ErrorBody
from anvil_web.schemas.phases import PhaseOut, PhaseSummaries
from anvil_web.schemas.profiles import ProfileList, profile_out
from anvil_web.schemas.runs import (
    Abort,
    NewRunBody,
    RunDetail,
    RunPage,
    RunPath,
    RunsQuery,
    RunSummary,
)
from anvil_web.store import devices, runs

bp = noun("runs", "/api/runs", tag="Runs", guarded=True)


@bp.get("", responses={200: RunPage})
@requires("viewer")
def list_runs(query: RunsQuery) -> Response:
    """One page of runs, newest first."""
    runs.fail_stale()
    page, total = runs.list_runs(**query.model_dump())
    items = [RunSummary.model_validate(run) for run in page]
    return reply(RunPage(items=items, total=total, offset=query.offset, limit=query.limit))


@bp.get("/profiles", responses={200: ProfileList})
@requires("viewer")
def list_profiles() -> Response:
    """The catalogue of profiles."""
    return reply(ProfileList([profile_out(profile) for profile in profiles.CATALOGUE.values()]))


@bp.post("", responses={201: RunDetail, 400: ErrorBody, 404: ErrorBody})
@requires("operator")
def create_run(body: NewRunBody) -> Response:
    """Queue a run.  A destructive profile needs the last six characters of the serial."""
    device = devices.get_device(body.device_id)
    if device is None:
        abort(404, "Device not found")
    profile = profiles.get(body.profile_name)
    _check_startable(device, profile, body.confirm_serial_last6)
    run = runs.create_run(
        device=device,
        profile=profile,
        engine=body.engine,
        simulation=body.simulation,
        confirm_serial_last6=body.confirm_serial_last6,
        actor=g.principal.username,
    )
    return reply(_detail(run, []), 201)


def _check_startable(device: Any, profile: Profile, confirm: str | None) -> None:
    """Abort with 400 for a run that must not begin; the runner checks all of it again."""
    if not device.is_testable:
        abort(400, f"Device is not testable: {device.exclusion_reason or 'reason unknown'}")
    if profile.destructive and not serial_matches(device.serial, confirm):
        abort(400, "Destructive run requires last-6 of device serial for confirmation")
    if device.current_device_path is None:
        abort(400, "Device has no current path; rescan before running")


@bp.get("/<run_id>", responses={200: RunDetail, 404: ErrorBody})
@requires("viewer")
def get_run(path: RunPath) -> Response:
    """One run with its phases."""
    runs.fail_stale()
    run = existing_run(path.run_id)
    return reply(_detail(run, runs.phases(run.id)))


@bp.post("/<run_id>/abort", responses={200: Abort, 404: ErrorBody, 409: ErrorBody})
@requires("operator")
def abort_run(path: RunPath) -> Response:
    """Abort a queued run at once; have one that is under way stopped."""
    result = runs.request_abort(path.run_id, actor=g.principal.username)
    return reply(Abort(run_id=path.run_id, result=result))


@bp.get("/<run_id>/phases", responses={200: PhaseSummaries, 404: ErrorBody})
@requires("viewer")
def list_phases(path: RunPath) -> Response:
    """The phases of a run, in order."""
    run = existing_run(path.run_id)
    return reply(PhaseSummaries.model_validate(runs.phases(run.id)))


def existing_run(run_id: str) -> Any:
    """The run.  Aborts with 404."""
    run = runs.get_run(run_id)
    if run is None:
        abort(404, "Run not found")
    return run


def _detail(run: Any, phases: list[Any]) -> RunDetail:
    facts = {name: getattr(run, name) for name in RunDetail.model_fields if name != "phases"}
    return RunDetail(**facts, phases=[PhaseOut.model_validate(phase) for phase in phases])
