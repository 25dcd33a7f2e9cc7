"""Runs over HTTP: queue, list, show, abort."""

from __future__ import annotations

from typing import Any

import pytest
import recorded

from anvil_engine.profiles import CATALOGUE
from anvil_web.models import AuditLog, Run
from anvil_web.store import devices
from anvil_web.wire import METRICS

pytestmark = pytest.mark.usefixtures("each_database")

SUMMARY = {
    "id", "device_id", "device_model", "device_serial", "profile_name", "status", "queued_at",
    "started_at", "finished_at",
}  # fmt: skip
DETAIL = {
    "id", "device_id", "profile_name", "status", "queued_at", "started_at", "finished_at",
    "error_message", "device_path_at_run", "phases", "host_system", "smart_before", "smart_after",
    "engine", "simulation", "warnings", "queued_by",
}  # fmt: skip
PHASE_HEAD = {
    "id", "phase_order", "phase_name", "pattern", "block_size", "iodepth", "numjobs",
    "rwmix_write_pct", "runtime_s", "started_at", "finished_at",
}  # fmt: skip
LISTED_METRICS = {metric for metric in METRICS if not metric.endswith(("p50_ns", "p999_ns"))}


def test_a_run_in_a_list(viewer: Any) -> None:
    """A page echoes its window, counts all, and names each run's device."""
    made = recorded.a_queued_run()
    body = viewer.get("/api/runs").json
    assert {key: body[key] for key in ("total", "offset", "limit")} == {
        "total": 1,
        "offset": 0,
        "limit": 50,
    }
    (item,) = body["items"]
    assert set(item) == SUMMARY
    assert (item["id"], item["device_model"]) == (made.id, "Samsung PM9A3")
    assert item["started_at"] is None


def test_runs_are_paged_newest_first(viewer: Any) -> None:
    """The newest run is first; offset and limit cut a window out of the same order."""
    device = recorded.a_device()
    ids = [recorded.a_queued_run(device).id for _ in range(5)]
    listed = [run["id"] for run in viewer.get("/api/runs").json["items"]]
    assert listed == ids[::-1]
    window = viewer.get("/api/runs?offset=1&limit=2").json
    assert [run["id"] for run in window["items"]] == listed[1:3]
    assert (window["total"], window["offset"], window["limit"]) == (5, 1, 2)


def test_filters_match_exactly(viewer: Any) -> None:
    """A filter keeps what equals it and counts only that; an unknown value keeps nothing."""
    made = recorded.a_complete_run()
    other = recorded.a_queued_run()
    for query, expected in (
        ("status=complete", [made.id]),
        (f"status=queued&device_id={made.device.id}", [other.id]),
        ("profile_name=quick", [other.id, made.id]),
        ("profile_name=qui", []),
        ("status=nonsense", []),
        ("device_id=unknown", []),
    ):
        body = viewer.get(f"/api/runs?{query}").json
        assert [run["id"] for run in body["items"]] == expected
        assert body["total"] == len(expected)


def test_a_complete_run_in_detail(viewer: Any) -> None:
    """Every key is there; phases have 14 metrics, and an idle direction's are null, not 0."""
    made = recorded.a_complete_run()
    body = viewer.get(f"/api/runs/{made.id}").json
    assert set(body) == DETAIL
    assert (body["status"], body["engine"], body["simulation"]) == ("complete", "native", False)
    assert body["host_system"]["kernel"] == "6.1"
    assert body["warnings"] == ["size was cut"]
    assert body["device_path_at_run"] == "/dev/nvme0n1"
    reading, mixed = body["phases"]
    assert set(reading) == PHASE_HEAD | set(METRICS)
    assert {reading[metric] for metric in METRICS if metric.startswith("write")} == {None}
    assert reading["read_iops"] == 101.0
    assert reading["read_clat_p9999_ns"] == 100_000.0
    assert mixed["write_clat_p50_ns"] == 1000.0
    assert (mixed["pattern"], mixed["rwmix_write_pct"], mixed["iodepth"]) == ("randrw", 30, 4)
    assert mixed["finished_at"].endswith("Z")


def test_phases_alone(viewer: Any) -> None:
    """The phase list is in order and has the ten metrics that charts need."""
    made = recorded.a_complete_run()
    body = viewer.get(f"/api/runs/{made.id}/phases").json
    assert [phase["phase_order"] for phase in body] == [0, 1]
    assert set(body[0]) == PHASE_HEAD | LISTED_METRICS
    assert len(LISTED_METRICS) == 10


@pytest.mark.parametrize("rest", ["", "/phases", "/timeseries", "/export.json"])
def test_an_unknown_run(viewer: Any, rest: str) -> None:
    """It is 404 on every view of it."""
    response = viewer.get(f"/api/runs/unknown{rest}")
    assert (response.status_code, response.json) == (404, {"detail": "Run not found"})


def test_the_catalogue(viewer: Any) -> None:
    """Every profile of the engine is offered, in the wire's words."""
    body = viewer.get("/api/runs/profiles").json
    assert [profile["name"] for profile in body] == list(CATALOGUE)
    quick = body[0]
    assert set(quick) == {
        "name", "title", "description", "estimated_duration_seconds", "destructive", "phases",
    }  # fmt: skip
    assert (quick["estimated_duration_seconds"], quick["destructive"]) == (54, False)
    assert quick["phases"][1] == {
        "name": "rnd_4k_q32t1_read",
        "pattern": "randread",
        "block_size": 4096,
        "iodepth": 32,
        "numjobs": 1,
        "runtime_s": 20.0,
        "rwmix_write_pct": 0,
        "ramp_time_s": 2.0,
        "offset_bytes": 0,
        "size_bytes": 4 << 30,
        "read_only": True,
    }
    for profile in body:
        assert {phase["read_only"] for phase in profile["phases"]} == {not profile["destructive"]}


def test_a_new_run(operator: Any) -> None:
    """A run is queued with the profile as it is now, for the one who asked, and is noted."""
    device = recorded.a_device()
    response = operator.post("/api/runs", json={"device_id": device.id})
    body: dict[str, Any] = response.json
    assert response.status_code == 201
    assert set(body) == DETAIL
    assert (body["status"], body["phases"], body["profile_name"]) == ("queued", [], "quick")
    assert body["queued_by"] == "a-operator"
    stored = Run.get_by_id(body["id"])
    assert stored.profile_snapshot == CATALOGUE["quick"].to_dict()
    noted = AuditLog.get(AuditLog.action == "run_queued")
    assert (noted.actor, noted.target) == ("a-operator", stored.id)
    assert noted.details == {"device_id": device.id, "profile": "quick"}


def test_a_simulated_run_is_marked(operator: Any) -> None:
    """`simulation` is stored with the run and shown."""
    body = {"device_id": recorded.a_device().id, "simulation": True, "engine": "native"}
    made = operator.post("/api/runs", json=body).json
    assert made["simulation"] is True
    assert Run.get_by_id(made["id"]).simulation


NOT_TESTABLE = {"is_testable": False, "exclusion_reason": "mounted at /srv"}
CONSENT = "Destructive run requires last-6 of device serial for confirmation"


@pytest.mark.parametrize(
    ("facts", "body", "status", "detail"),
    [
        ({}, {"device_id": "unknown", "profile_name": "unknown"}, 404, "Device not found"),
        (NOT_TESTABLE, {"profile_name": "unknown"}, 400, "Unknown profile"),
        (NOT_TESTABLE, {"profile_name": "standard"}, 400,
         "Device is not testable: mounted at /srv"),
        ({}, {"profile_name": "standard"}, 400, CONSENT),
        ({}, {"profile_name": "standard", "confirm_serial_last6": "500124"}, 400, CONSENT),
        ({}, {"profile_name": "standard", "confirm_serial_last6": "00123"}, 400, CONSENT),
        ({"serial": " "}, {"profile_name": "standard", "confirm_serial_last6": ""}, 400, CONSENT),
        ({}, {"profile_name": "standard", "confirm_serial_last6": " 500123 "}, 201, None),
        ({"serial": "abCDeF "}, {"profile_name": "standard", "confirm_serial_last6": "ABcdEF"},
         201, None),
        ({}, {"profile_name": "standard", "simulation": True}, 400, CONSENT),
    ],
)  # fmt: skip
def test_what_may_not_begin(
    operator: Any, facts: dict[str, Any], body: dict[str, Any], status: int, detail: Any
) -> None:
    """Rules are judged in the contract's order, and consent is trimmed and case-folded."""
    device = recorded.a_device(**facts)
    response = operator.post("/api/runs", json={"device_id": device.id} | body)
    assert response.status_code == status
    assert response.json.get("detail") == detail
    assert Run.select().count() == (1 if status == 201 else 0)


def test_a_device_that_is_gone(operator: Any) -> None:
    """A device that the last scan did not find has lost its path and is refused."""
    device = recorded.a_device()
    devices.record_scan("lab", [])
    response = operator.post("/api/runs", json={"device_id": device.id})
    assert (response.status_code, response.json) == (
        400,
        {"detail": "Device is not testable: not present at last scan"},
    )
    type(device).update(is_testable=True).execute()
    response = operator.post("/api/runs", json={"device_id": device.id})
    assert response.json == {"detail": "Device has no current path; rescan before running"}


def test_aborting_a_queued_run(operator: Any) -> None:
    """It is aborted at once, for a reason, by somebody; again is 409."""
    made = recorded.a_queued_run()
    response = operator.post(f"/api/runs/{made.id}/abort")
    assert response.json == {"run_id": made.id, "result": "aborted_queued"}
    body = operator.get(f"/api/runs/{made.id}").json
    assert (body["status"], body["error_message"]) == ("aborted", "aborted by user")
    assert body["finished_at"] is not None
    assert AuditLog.get(AuditLog.action == "run_aborted").actor == "a-operator"
    again = operator.post(f"/api/runs/{made.id}/abort")
    assert (again.status_code, again.json) == (
        409,
        {"detail": "Run already in terminal status: aborted"},
    )


def test_aborting_a_running_run(operator: Any) -> None:
    """It goes on until the engine is gone; asking twice is fine and noted once."""
    made = recorded.a_running_run()
    for _ in range(2):
        response = operator.post(f"/api/runs/{made.id}/abort")
        assert (response.status_code, response.json["result"]) == (200, "aborting")
    assert operator.get(f"/api/runs/{made.id}").json["status"] == "running"
    assert Run.get_by_id(made.id).abort_requested_at is not None
    assert AuditLog.select().where(AuditLog.action == "run_aborted").count() == 1


def test_aborting_an_unknown_run(operator: Any) -> None:
    """It is 404."""
    assert operator.post("/api/runs/unknown/abort").status_code == 404
