"""Devices over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import recorded

from anvil_web import db
from anvil_web.api import devices as devices_api
from anvil_web.models import AuditLog, Command
from anvil_web.store import commands, devices, runners

pytestmark = pytest.mark.usefixtures("each_database")

KEYS = {
    "id", "host", "fingerprint", "model", "serial", "firmware", "vendor", "brand", "protocol",
    "form_factor", "capacity_bytes", "sector_size_logical", "sector_size_physical", "wwid",
    "current_device_path", "is_testable", "exclusion_reason", "first_seen", "last_seen",
    "metadata_json", "physical_location",
}  # fmt: skip


@pytest.fixture
def runner() -> Iterator[list[str]]:
    """A runner of the host `lab` that answers rescans; the commands that it took."""
    runners.register("r", host="lab", pid=1, version="1", simulation_mode=False)
    taken: list[str] = []
    stop = threading.Event()

    def answer() -> None:
        with db.connection():
            while not stop.wait(0.01):
                command = commands.claim_next("lab")
                if command is not None:
                    taken.append(command.kind)
                    devices.record_scan("lab", [recorded.a_found_device()])
                    commands.finish(command.id, result={})

    thread = threading.Thread(target=answer)
    thread.start()
    yield taken
    stop.set()
    thread.join()


def test_a_device_has_every_field(viewer: Any) -> None:
    """The list and the single device are the same object, with every key of the contract."""
    made = recorded.a_device()
    listed = viewer.get("/api/devices").json
    assert len(listed) == 1
    assert set(listed[0]) == KEYS
    assert viewer.get(f"/api/devices/{made.id}").json == listed[0]
    assert listed[0]["brand"] == "Samsung"
    assert listed[0]["metadata_json"]["mount_points"] == []
    assert listed[0]["last_seen"].endswith("Z")
    assert len(listed[0]["last_seen"]) == len("2026-11-23T22:00:07.339823Z")


def test_the_latest_seen_come_first(viewer: Any) -> None:
    """Devices of a newer scan stand above those of an older one."""
    recorded.a_device("one", serial="A1")
    recorded.a_device("two", serial="B2")
    assert [device["serial"] for device in viewer.get("/api/devices").json] == ["B2", "A1"]


def test_an_unknown_device(viewer: Any) -> None:
    """It is 404."""
    response = viewer.get("/api/devices/unknown")
    assert (response.status_code, response.json) == (404, {"detail": "Device not found"})


def test_rescan_gives_the_new_list(operator: Any, runner: list[str]) -> None:
    """A rescan is done by the runner, answers with all devices, and is noted."""
    response = operator.post("/api/devices/rescan")
    assert response.status_code == 200
    assert [device["serial"] for device in response.json] == ["S7KXNE0W500123"]
    assert runner == ["rescan"]
    noted = AuditLog.get(AuditLog.action == "devices_rescanned")
    assert noted.actor == "a-operator"


def test_rescan_without_a_runner(operator: Any) -> None:
    """Without a live runner it is 503 at once, and nothing is left to be done later."""
    response = operator.post("/api/devices/rescan")
    assert response.status_code == 503
    assert response.json["detail"].startswith("Runner unreachable: ")
    assert Command.select().count() == 0


def test_rescan_that_nobody_takes(operator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that does not take the command in time is 503; it will not take it later."""
    monkeypatch.setattr(devices_api, "RESCAN_TIMEOUT_S", 0.1)
    runners.register("r", host="lab", pid=1, version="1", simulation_mode=False)
    response = operator.post("/api/devices/rescan")
    assert response.status_code == 503
    assert response.json["detail"].startswith("Runner unreachable: ")
    assert commands.claim_next("lab") is None
