"""Engine events into rows.

`run.engine_events` is the number of the last engine event that is in the database.  It is
written in the same transaction as the rows, so an event that is recorded again, after a
crash or from a spool, changes nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

from ulid import ULID

from anvil_engine import results
from anvil_web import db
from anvil_web.models import Run, RunPhase, Sample
from anvil_web.store import events
from anvil_web.store.runs import RunNotFound, finish
from anvil_web.wire import METRICS, phase_columns, result_columns, sample_columns

Numbered = tuple[int, dt.datetime, results.Event]


class EventGap(Exception):
    """An event is missing before this one: recording on would hide the loss."""


def record(run_id: str, batch: Iterable[Numbered]) -> int:
    """Record numbered events, all or none; returns the number of the last one recorded.

    A run that is over keeps its status; what was measured is stored all the same.
    Raises `RunNotFound`, `EventGap` and `DatabaseUnavailable`.
    """
    with db.write_transaction():
        query = Run.select(Run.id, Run.engine_events).where(Run.id == run_id)
        run = (query.for_update() if db.locks_rows() else query).first()
        if run is None:
            raise RunNotFound(run_id)
        done = run.engine_events
        for number, at, event in batch:
            if number <= done:
                continue
            if number != done + 1:
                raise EventGap(f"event {number} of run {run_id} follows event {done}")
            _RECORDERS[type(event)](run_id, at, event)
            done = number
        Run.update(engine_events=done).where(Run.id == run_id).execute()
    return int(done)


def _run_started(run_id: str, _at: dt.datetime, event: results.RunStarted) -> None:
    Run.update(
        host_system=event.host,
        warnings=list(event.warnings),
        device_path_at_run=event.device_path,
        simulation=event.simulation,
    ).where(Run.id == run_id).execute()
    for order, phase in enumerate(event.phases):
        RunPhase.create(id=str(ULID()), run=run_id, phase_order=order, **phase_columns(phase))
    Run.update(status="running").where(Run.id == run_id, Run.status == "preflight").execute()


def _phase_started(run_id: str, at: dt.datetime, event: results.PhaseStarted) -> None:
    _update_phase(run_id, event.phase_order, started_at=at, jobfile=event.jobfile)
    payload = {
        "phase_name": event.phase_name,
        "jobfile": event.jobfile,
        "expected_runtime_s": event.expected_runtime_s,
    }
    events.append(run_id, [(event.event, payload)], at=at)


def _phase_sample(run_id: str, at: dt.datetime, event: results.PhaseSample) -> None:
    seq = events.append(run_id, [(event.event, None)], at=at)
    Sample.create(
        run=run_id,
        seq=seq,
        ts=at,
        phase_order=event.phase_order,
        interval=event.interval,
        elapsed_s=event.elapsed_s,
        eta_s=event.eta_s,
        **sample_columns("read", event.read),
        **sample_columns("write", event.write),
    )


def _phase_complete(run_id: str, at: dt.datetime, event: results.PhaseComplete) -> None:
    columns = _store_result(run_id, event.phase_order, event.result, finished_at=at)
    summary = {metric: columns.get(metric) for metric in METRICS}
    payload = {"phase_name": event.phase_name, "summary": summary}
    events.append(run_id, [(event.event, payload)], at=at)


def _phase_failed(run_id: str, at: dt.datetime, event: results.PhaseFailed) -> None:
    payload = {"phase_name": event.phase_name, "error": event.error, "errno": event.errno}
    events.append(run_id, [(event.event, payload)], at=at)


def _run_complete(run_id: str, at: dt.datetime, _event: results.RunComplete) -> None:
    finish(run_id, "complete", now=at)


def _run_failed(run_id: str, at: dt.datetime, event: results.RunFailed) -> None:
    finish(run_id, "failed", event.error, now=at)


def _run_aborted(run_id: str, at: dt.datetime, event: results.RunAborted) -> None:
    if event.partial is not None:
        order = _open_phase(run_id)
        if order is not None:
            _store_result(run_id, order, event.partial)
    finish(run_id, "aborted", event.reason, now=at)


_RECORDERS: dict[type[results.Event], Callable[[str, dt.datetime, Any], None]] = {
    results.RunStarted: _run_started,
    results.PhaseStarted: _phase_started,
    results.PhaseSample: _phase_sample,
    results.PhaseComplete: _phase_complete,
    results.PhaseFailed: _phase_failed,
    results.RunComplete: _run_complete,
    results.RunFailed: _run_failed,
    results.RunAborted: _run_aborted,
}


def _update_phase(run_id: str, order: int, **columns: Any) -> None:
    RunPhase.update(**columns).where(
        RunPhase.run == run_id, RunPhase.phase_order == order
    ).execute()


def _open_phase(run_id: str) -> int | None:
    """The phase that has begun and not ended."""
    query = RunPhase.select(RunPhase.phase_order).where(
        RunPhase.run == run_id,
        RunPhase.started_at.is_null(False),
        RunPhase.finished_at.is_null(),
    )
    phase = query.order_by(RunPhase.phase_order.desc()).first()
    return None if phase is None else phase.phase_order


def _store_result(
    run_id: str, order: int, result: results.PhaseResult, **more: Any
) -> dict[str, Any]:
    """Write a result's columns and return them; the histograms are columns, not JSON."""
    plain = results.plain(result)
    for direction in ("read", "write"):
        if plain[direction]:
            del plain[direction]["histogram"]
    columns = {
        **result_columns("read", result.read),
        **result_columns("write", result.write),
        "result": plain,
        **more,
    }
    _update_phase(run_id, order, **columns)
    return columns
