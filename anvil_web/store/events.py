"""The events of a run, in order: what the WebSocket replays.

`(run_id, seq)` is the authority.  Numbers rise by one without gaps, and since a writer holds
the run's row (SQLite: the whole database) until its commit, a reader that has seen `seq`
never misses a smaller one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from peewee import JOIN, fn

from anvil_web import db
from anvil_web.clock import utcnow
from anvil_web.models import Run, RunEvent, RunPhase, Sample
from anvil_web.wire import LIVE

SAMPLE = "phase_sample"
TERMINAL = frozenset({"run_complete", "run_failed", "run_aborted"})


def last_seq(run_id: str) -> int:
    """The number of the run's latest event, 0 when there is none."""
    query = RunEvent.select(fn.MAX(RunEvent.seq)).where(RunEvent.run == run_id)
    return int(query.scalar() or 0)


def append(
    run_id: str,
    events: Sequence[tuple[str, dict[str, Any] | None]],
    *,
    at: dt.datetime | None = None,
) -> int:
    """Append `(name, payload)` pairs in order and return the last number.

    A sample's payload is None; its row in `sample` has the same key.
    """
    with db.write_transaction():
        if db.locks_rows():
            Run.select(Run.id).where(Run.id == run_id).for_update().execute()
        seq = last_seq(run_id)
        for name, payload in events:
            seq += 1
            RunEvent.create(run=run_id, seq=seq, ts=at or utcnow(), event=name, payload=payload)
    return seq


def tail(run_id: str, after_seq: int, limit: int = 500) -> list[dict[str, Any]]:
    """Up to `limit` frames `{"seq", "event", "payload"}` after `after_seq`, in order."""
    query = (
        RunEvent.select(RunEvent.seq, RunEvent.event, RunEvent.payload, *_SAMPLE_COLUMNS)
        .join(
            Sample,
            JOIN.LEFT_OUTER,
            on=((Sample.run == RunEvent.run) & (Sample.seq == RunEvent.seq)),
        )
        .join(
            RunPhase,
            JOIN.LEFT_OUTER,
            on=((RunPhase.run == Sample.run) & (RunPhase.phase_order == Sample.phase_order)),
        )
        .where(RunEvent.run == run_id, RunEvent.seq > after_seq)
        .order_by(RunEvent.seq)
        .limit(limit)
    )
    rows: Any = query.tuples()
    return [_frame(*row) for row in rows]


def terminal(run_id: str) -> dict[str, Any] | None:
    """The frame that ended the run, None while it is not over."""
    query = RunEvent.select(RunEvent.seq, RunEvent.event, RunEvent.payload).where(
        RunEvent.run == run_id, RunEvent.event.in_(TERMINAL)
    )
    row = query.tuples().first()
    return None if row is None else _frame(*row)


_SAMPLE_COLUMNS = (
    RunPhase.phase_name,
    Sample.elapsed_s,
    Sample.eta_s,
    *(getattr(Sample, metric) for metric in LIVE),
)


def _frame(seq: int, event: str, payload: dict[str, Any] | None, *sample: Any) -> dict[str, Any]:
    if event == SAMPLE:
        payload = dict(zip(("phase_name", "elapsed_s", "eta_s", *LIVE), sample, strict=True))
    return {"seq": seq, "event": event, "payload": payload or {}}
