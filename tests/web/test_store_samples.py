"""The time series: what one sample gives, and thinning without losing the extremes."""

from __future__ import annotations

import datetime as dt

import pytest
import recorded
from hypothesis import given
from hypothesis import strategies as st

from anvil_web.config import Config
from anvil_web.store.samples import Point, thin, timeseries
from anvil_web.wire import SERIES


def at(second: int) -> dt.datetime:
    return recorded.START + dt.timedelta(seconds=second)


def test_points_come_by_time_and_an_idle_direction_gives_none(store: Config) -> None:
    """Three read-only samples give three metrics each, three mixed ones six."""
    run = recorded.a_complete_run()
    points = list(timeseries(run.id))
    assert len(points) == 3 * 3 + 3 * 6
    assert [point["ts"] for point in points] == sorted(point["ts"] for point in points)
    assert {point["metric_name"] for point in points} == set(SERIES)
    assert {point["metric_name"] for point in points[:9]} == {
        "read_iops",
        "read_bw_bytes",
        "read_clat_mean_ns",
    }


def test_one_metric(store: Config) -> None:
    """A metric's points are its interval values; an unknown metric has none."""
    run = recorded.a_complete_run()
    points = list(timeseries(run.id, "write_iops"))
    assert [point["value"] for point in points] == [100.0, 101.0, 102.0]
    assert {point["metric_name"] for point in points} == {"write_iops"}
    assert list(timeseries(run.id, "phase_order")) == []


def test_since_leaves_out_what_is_known(store: Config) -> None:
    """Only points after `since` are given."""
    run = recorded.a_complete_run()
    every = list(timeseries(run.id, "read_iops"))
    known = dt.datetime.fromisoformat(every[3]["ts"])
    assert list(timeseries(run.id, "read_iops", since=known)) == every[4:]


def test_max_points_counts_per_metric(store: Config) -> None:
    """A thinned series keeps each metric's extremes and stays in order."""
    run = recorded.a_complete_run()
    points = list(timeseries(run.id, max_points=2))
    assert [point["ts"] for point in points] == sorted(point["ts"] for point in points)
    values = [point["value"] for point in points if point["metric_name"] == "write_iops"]
    assert values == [100.0, 102.0]


numbers = st.lists(st.floats(0, 1e9), max_size=200)


@given(numbers, st.integers(1, 50))
def test_thinning_keeps_extremes_order_and_limit(values: list[float], limit: int) -> None:
    """At most `limit` of the points, in order, the highest and the lowest among them."""
    series: list[Point] = [(at(index), value) for index, value in enumerate(values)]
    kept = thin(series, limit)
    assert len(kept) <= limit
    assert kept == sorted(kept, key=lambda point: point[0])
    assert set(kept) <= set(series)
    if values:
        assert max(value for _, value in kept) == max(values)
        if limit > 1:
            assert min(value for _, value in kept) == min(values)


@pytest.mark.parametrize("limit", [5, 6, 100])
def test_a_short_series_is_left_alone(limit: int) -> None:
    """Thinning to no less than there is changes nothing."""
    series: list[Point] = [(at(index), float(index)) for index in range(5)]
    assert thin(series, limit) == series
