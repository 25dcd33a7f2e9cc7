"""Everything that is stored about a run, as JSON: the content of export.json."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any

from anvil_engine.results import format_time
from anvil_web.clock import utcnow
from anvil_web.models import Base, DeviceSnapshot, RunEvent, RunPhase, Sample
from anvil_web.store.runs import get_run
from anvil_web.store.samples import timeseries

SCHEMA_VERSION = 1
SECRETS = ("share_slug",)  # opens the public report; who may read a run may not know it


def run_bundle(run_id: str, *, anvil_version: str) -> dict[str, Any] | None:
    """The run with phases, samples, events, time series and device; None when unknown.

    Rows are complete but for `SECRETS`: every column under its own name.  Histograms are packed
    (`anvil_engine.histogram`) and in base64.
    """
    run = get_run(run_id)
    if run is None:
        return None
    return {
        "schema_version": SCHEMA_VERSION,
        "anvil_version": anvil_version,
        "generated_at": format_time(utcnow()),
        "run": {name: value for name, value in _row(run).items() if name not in SECRETS},
        "phases": _rows(RunPhase.select(), RunPhase, run_id, RunPhase.phase_order),
        "samples": _rows(Sample.select(), Sample, run_id, Sample.seq),
        "events": _rows(RunEvent.select(), RunEvent, run_id, RunEvent.seq),
        "timeseries": list(timeseries(run_id)),
        "device": _row(run.device),
        "device_snapshots": [
            _row(snapshot)
            for snapshot in DeviceSnapshot.select()
            .where(DeviceSnapshot.device == run.device.id)
            .order_by(DeviceSnapshot.captured_at)
        ],
    }


def _rows(query: Any, model: Any, run_id: str, order: Any) -> list[dict[str, Any]]:
    return [_row(row) for row in query.where(model.run == run_id).order_by(order).iterator()]


def _row(row: Base) -> dict[str, Any]:
    """Every column of the row; a foreign key under its column's name."""
    return {
        field.column_name: _plain(row.__data__[name])
        for name, field in type(row)._meta.fields.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return format_time(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    return value
