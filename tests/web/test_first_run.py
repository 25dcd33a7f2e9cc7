"""The first start's client of the API: what it shows and what it concludes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import recorded

from anvil_engine.errors import AnvilError
from anvil_engine.results import PhaseSample, PhaseStarted
from anvil_web import first_run
from anvil_web.config import Config
from anvil_web.first_run import Api
from anvil_web.models import Device, Run
from anvil_web.store import runs

STATIC_TOKEN = "static-token-0123456789"
Serve = Callable[..., Any]


@pytest.fixture
def never() -> threading.Event:
    """Nobody says stop."""
    return threading.Event()


def shown(api: Api, run_id: str, stop: threading.Event) -> list[str]:
    return [frame["event"] for frame in api.frames(run_id, stop)]


def test_the_frames_of_a_run_end_with_its_end(
    store: Config, serve: Serve, never: threading.Event
) -> None:
    """A run that is over is shown from its first frame to its terminal one."""
    run = recorded.a_complete_run()
    names = shown(Api(serve().url(""), STATIC_TOKEN), run.id, never)
    assert names[:2] == ["connected", "run_started"]
    assert names[-1] == "run_complete"
    assert names.count("phase_sample") == 6


def test_a_killed_web_worker_interrupts_nothing(
    store: Config, serve: Serve, never: threading.Event
) -> None:
    """When the worker dies the client goes on at another one, and gets nothing twice."""
    run = recorded.a_running_run()
    service = serve(2)
    frames = Api(service.url(""), STATIC_TOKEN).frames(run.id, never)
    seen = [next(frames), next(frames)]
    for worker in psutil.Process(service.process.pid).children():
        os.kill(worker.pid, signal.SIGKILL)
    recorded.record(run.id, recorded.whole_run()[1:])
    seen += frames
    events = [frame for frame in seen if frame["event"] not in ("connected", "ping")]
    assert [frame["seq"] for frame in events] == list(range(1, len(recorded.whole_run()) + 1))


def test_stop_ends_the_frames(store: Config, serve: Serve, never: threading.Event) -> None:
    """Ctrl-C is not held up by a run that goes on."""
    run = recorded.a_running_run()
    frames = Api(serve().url(""), STATIC_TOKEN).frames(run.id, never)
    next(frames)
    never.set()
    assert len(list(frames)) <= 1


@pytest.mark.parametrize(("end", "complete"), [("complete", True), ("failed", False)])
def test_what_was_measured_is_not_measured_again(
    store: Config, serve: Serve, never: threading.Event, end: str, complete: bool
) -> None:
    """With runs in the database nothing is started; the first of them decides."""
    first = recorded.a_running_run()
    runs.finish(first.id, end)
    recorded.a_queued_run(first.device)
    assert first_run.run(store, serve().url(""), never) is complete
    assert Run.select().count() == 2
    assert not (store.data_dir / first_run.SCRATCH_NAME).exists()


def test_errors_are_the_services_words(store: Config, serve: Serve) -> None:
    """What the service refuses is told in its own words."""
    api = Api(serve().url(""), STATIC_TOKEN)
    with pytest.raises(AnvilError, match=r"404.*Device not found"):
        api.call("POST", "/api/runs", {"device_id": "none"})


def test_a_service_that_does_not_come_up_is_noticed(
    never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for a web side that never answers ends with an error, at once after `stop`."""
    monkeypatch.setattr(first_run, "START_S", 0.3)
    with pytest.raises(AnvilError, match="did not come up"):
        first_run.wait_until_up("http://127.0.0.1:9", never)
    never.set()
    assert not first_run.wait_until_up("http://127.0.0.1:9", never)


def test_frames_become_what_the_progress_display_knows() -> None:
    """Phase, seconds left, IOPS, bandwidth and p99 of a frame reach the display."""
    order: dict[str, int] = {}
    started = {"phase_name": "seq", "jobfile": "[job]", "expected_runtime_s": 3.0}
    event = first_run._event({"event": "phase_started", "payload": started}, order)
    assert isinstance(event, PhaseStarted)
    payload = {"phase_name": "seq", "elapsed_s": 1.0, "eta_s": 2.0}
    payload |= {
        f"{direction}_{metric}": value
        for direction, value in (("read", 5.0), ("write", None))
        for metric in ("iops", "bw_bytes", "clat_mean_ns", "clat_p99_ns")
    }
    event = first_run._event({"event": "phase_sample", "payload": payload}, order)
    assert isinstance(event, PhaseSample)
    assert (event.phase_order, event.eta_s, event.write) == (0, 2.0, None)
    assert event.read is not None
    assert (event.read.iops, event.read.lat_p99_ns) == (5.0, 5.0)
    assert first_run._event({"event": "run_complete", "payload": {}}, order) is None


def test_the_table_has_every_direction_that_worked(
    store: Config, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each phase is a line per direction, below the profile, the device and the outcome."""
    run = recorded.a_complete_run()
    api = Api(serve().url(""), STATIC_TOKEN)
    detail = api.call("GET", f"/api/runs/{run.id}")
    device = api.call("GET", f"/api/devices/{Device.get().id}")
    first_run._print_result(detail, device)
    lines = capsys.readouterr().out.splitlines()
    assert "quick on Samsung PM9A3" in lines[0]
    assert "complete" in lines[0]
    assert sum("read" in line for line in lines) == 2
    assert sum("write" in line for line in lines) == 1


def test_a_scratch_target_that_cannot_be_made_names_the_option(tmp_path: Path) -> None:
    """Where the file cannot be created the error says which option chooses another place."""
    with pytest.raises(AnvilError, match="--data-dir"):
        first_run._ensure_scratch(tmp_path / "missing" / "scratch.dat")
