"""The time series of a run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any

from anvil_engine.results import format_time
from anvil_web.models import Sample
from anvil_web.wire import SERIES

Point = tuple[dt.datetime, float]


def timeseries(
    run_id: str,
    metric: str | None = None,
    since: dt.datetime | None = None,
    max_points: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Points `{"ts", "metric_name", "value"}` by time; `ts` is RFC 3339 text.

    Idle directions give no points, an unknown metric gives none at all.  `since` leaves
    out what is not after it.  With `max_points` each metric is thinned to at most that
    many points, keeping the minimum and maximum of every stretch.
    """
    metrics = [name for name in SERIES if metric in (None, name)]
    if not metrics:
        return
    rows = _rows(run_id, metrics, since)
    if max_points is None:
        for at, *values in rows:
            yield from _points(at, zip(metrics, values, strict=True))
        return
    table = list(rows)
    kept: list[tuple[dt.datetime, str, float]] = []
    for column, name in enumerate(metrics, start=1):
        series = [(row[0], row[column]) for row in table if row[column] is not None]
        kept += [(at, name, value) for at, value in thin(series, max_points)]
    kept.sort(key=lambda point: (point[0], SERIES.index(point[1])))
    for at, name, value in kept:
        yield from _points(at, [(name, value)])


def _rows(run_id: str, metrics: list[str], since: dt.datetime | None) -> Iterator[tuple[Any, ...]]:
    query = Sample.select(Sample.ts, *(getattr(Sample, name) for name in metrics))
    query = query.where(Sample.run == run_id)
    if since is not None:
        query = query.where(Sample.ts > since)
    rows: Iterator[tuple[Any, ...]] = query.order_by(Sample.ts, Sample.seq).tuples().iterator()
    return rows


def _points(
    at: dt.datetime, values: Iterable[tuple[str, float | None]]
) -> Iterator[dict[str, Any]]:
    for name, value in values:
        if value is not None:
            yield {"ts": format_time(at), "metric_name": name, "value": value}


def thin(series: list[Point], max_points: int) -> list[Point]:
    """At most `max_points` of `series`, in order: the extremes of equal stretches.

    The minimum and maximum of the whole series are always among them, unless
    `max_points` is 1, which leaves the maximum.
    """
    if len(series) <= max_points:
        return series
    if max_points < 2:
        return [max(series, key=lambda point: point[1])][:max_points]
    stretches = max_points // 2
    kept: list[Point] = []
    for index in range(stretches):
        start = index * len(series) // stretches
        end = (index + 1) * len(series) // stretches
        stretch = series[start:end]
        low = min(range(len(stretch)), key=lambda i: stretch[i][1])
        high = max(range(len(stretch)), key=lambda i: stretch[i][1])
        kept += [stretch[i] for i in sorted({low, high})]
    return kept
