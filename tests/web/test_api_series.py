"""What a run recorded, over HTTP."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
import recorded

from anvil_engine import histogram
from anvil_web.models import RunPhase

pytestmark = pytest.mark.usefixtures("each_database")

ACTIVE = {"read_iops", "read_bw_bytes", "read_clat_mean_ns"}


def test_points_of_every_second(viewer: Any) -> None:
    """Points come by time, per interval, and an idle direction has none."""
    made = recorded.a_complete_run()
    points = viewer.get(f"/api/runs/{made.id}/timeseries").json
    assert [set(point) for point in points] == [{"ts", "metric_name", "value"}] * len(points)
    assert [point["ts"] for point in points] == sorted(point["ts"] for point in points)
    reading = [point["metric_name"] for point in points[:9]]
    assert set(reading) == ACTIVE
    assert len(points) == 3 * 3 + 3 * 6
    iops = [point["value"] for point in points if point["metric_name"] == "read_iops"]
    assert iops == [100.0, 101.0, 102.0] * 2
    assert points[0]["ts"] == "2026-11-23T22:00:03.000000Z"


def test_one_metric(viewer: Any) -> None:
    """`metric` keeps one; a name that there is not gives nothing."""
    made = recorded.a_complete_run()
    path = f"/api/runs/{made.id}/timeseries"
    only = viewer.get(f"{path}?metric=write_iops").json
    assert {point["metric_name"] for point in only} == {"write_iops"}
    assert len(only) == 3
    assert viewer.get(f"{path}?metric=unknown").json == []


def test_points_since_a_time(viewer: Any) -> None:
    """`since` keeps what is after it, so that a client can go on where it stopped."""
    path = f"/api/runs/{recorded.a_complete_run().id}/timeseries?metric=read_iops"
    points = viewer.get(path).json
    later = viewer.get(f"{path}&since={quote(points[2]['ts'])}").json
    assert later == points[3:]
    assert viewer.get(f"{path}&since=2026-11-23T22:00:03").status_code == 422


def test_fewer_points(viewer: Any) -> None:
    """`max_points` thins each metric and keeps its extremes."""
    path = f"/api/runs/{recorded.a_complete_run().id}/timeseries?metric=read_iops"
    points = viewer.get(f"{path}&max_points=2").json
    assert sorted(point["value"] for point in points) == [100.0, 102.0]
    assert viewer.get(f"{path}&max_points=1").status_code == 422


def test_a_series_that_has_not_grown(viewer: Any) -> None:
    """The ETag spares it, until another event is recorded."""
    made = recorded.a_running_run()
    recorded.record(made.id, recorded.whole_run()[1:3])
    path = f"/api/runs/{made.id}/timeseries"
    first = viewer.get(path)
    known = {"If-None-Match": first.headers["ETag"]}
    again = viewer.get(path, headers=known)
    assert (again.status_code, again.data) == (304, b"")
    recorded.record(made.id, [recorded.sample(0, 1)])
    grown = viewer.get(path, headers=known)
    assert grown.status_code == 200
    assert len(grown.json) == len(first.json) + 3


def test_a_long_series_is_streamed(viewer: Any) -> None:
    """A long series comes in pieces, and is one JSON array all the same."""
    made = recorded.a_running_run()
    samples = [recorded.sample(0, n) for n in range(500)]
    recorded.record(made.id, [*recorded.whole_run()[1:2], *samples])
    with viewer.get(f"/api/runs/{made.id}/timeseries", buffered=False) as response:
        pieces = list(response.iter_encoded())
    assert len(pieces) > 1
    assert len(json.loads(b"".join(pieces))) == 1500
    assert viewer.head(f"/api/runs/{made.id}/timeseries").status_code == 200


def phases_of(viewer: Any, run_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = viewer.get(f"/api/runs/{run_id}/phases").json
    return found


def test_a_histogram(viewer: Any) -> None:
    """Every I/O is in an ascending bin; the distribution ends at 1; idle is absent."""
    made = recorded.a_complete_run()
    phase = phases_of(viewer, made.id)[0]
    body = viewer.get(f"/api/runs/{made.id}/phases/{phase['id']}/histogram").json
    assert {key: body[key] for key in ("run_id", "phase_id", "phase_name")} == {
        "run_id": made.id,
        "phase_id": phase["id"],
        "phase_name": "seq",
    }
    assert set(body["directions"]) == {"read"}
    read = body["directions"]["read"]
    assert read["total_ios"] == 4
    assert [entry["count"] for entry in read["histogram"]] == [2, 1, 1]
    for entry, latency in zip(read["histogram"], (1000, 2000, 100_000), strict=True):
        assert abs(entry["bin_ns"] - latency) <= latency / 128
    assert [point["cdf"] for point in read["cdf"]] == [0.5, 0.75, 1.0]
    assert [point["exceedance"] for point in read["cdf"]] == [0.5, 0.25, 0.0]
    assert [point["bin_ns"] for point in read["cdf"]] == [
        entry["bin_ns"] for entry in read["histogram"]
    ]


def test_both_directions_of_a_mix(viewer: Any) -> None:
    """A mixed phase has both histograms."""
    made = recorded.a_complete_run()
    phase = phases_of(viewer, made.id)[1]
    body = viewer.get(f"/api/runs/{made.id}/phases/{phase['id']}/histogram").json
    assert set(body["directions"]) == {"read", "write"}


@pytest.mark.parametrize("packed", [None, histogram.pack(histogram.empty())])
def test_a_phase_without_ios(viewer: Any, packed: bytes | None) -> None:
    """A phase that has recorded nothing has no directions, and is no error."""
    made = recorded.a_complete_run()
    RunPhase.update(read_histogram=packed).execute()
    phase = phases_of(viewer, made.id)[0]
    response = viewer.get(f"/api/runs/{made.id}/phases/{phase['id']}/histogram")
    assert (response.status_code, response.json["directions"]) == (200, {})


def test_the_phase_of_another_run(viewer: Any) -> None:
    """A phase is found under its own run only."""
    made, other = recorded.a_complete_run(), recorded.a_complete_run()
    phase = phases_of(viewer, other.id)[0]
    response = viewer.get(f"/api/runs/{made.id}/phases/{phase['id']}/histogram")
    assert (response.status_code, response.json) == (404, {"detail": "Phase not found"})


def test_the_export_is_lossless(viewer: Any) -> None:
    """The bundle has what the API shows, and the histogram computed from it is the API's."""
    made = recorded.a_complete_run()
    response = viewer.get(f"/api/runs/{made.id}/export.json")
    assert response.mimetype == "application/json"
    assert response.headers["Content-Disposition"] == (
        f'attachment; filename="anvil-run-{made.id}.json"'
    )
    bundle = response.json
    assert bundle["schema_version"] == 1
    assert bundle["timeseries"] == viewer.get(f"/api/runs/{made.id}/timeseries").json
    assert bundle["run"]["profile_snapshot"] == recorded.PROFILE.to_dict()
    assert bundle["device"]["serial"] == "S7KXNE0W500123"
    shown = viewer.get(f"/api/runs/{made.id}").json
    for phase, seen in zip(bundle["phases"], shown["phases"], strict=True):
        assert seen.items() <= phase.items()
        assert phase["jobfile"] == "[job]"
    phase = bundle["phases"][0]
    path = f"/api/runs/{made.id}/phases/{phase['id']}/histogram"
    bins = viewer.get(path).json["directions"]["read"]["histogram"]
    counts = histogram.unpack(base64.b64decode(phase["read_histogram"]))
    assert [(entry["bin_ns"], entry["count"]) for entry in bins] == histogram.bins(counts)
