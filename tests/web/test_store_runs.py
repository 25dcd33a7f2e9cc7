"""Runs in the store: queue, list, abort, end; claims; runs whose runner is gone."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest
import recorded
from outages import locked

from anvil_web import db
from anvil_web.clock import utcnow
from anvil_web.config import Config
from anvil_web.models import AuditLog, Run
from anvil_web.store import claims, events, runs

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("store")


def later(seconds: float) -> dt.datetime:
    return utcnow() + dt.timedelta(seconds=seconds)


def names(run_id: str) -> list[str]:
    return [frame["event"] for frame in events.tail(run_id, 0)]


def status(run_id: str) -> str:
    return Run.get_by_id(run_id).status


def test_a_new_run_keeps_its_own_copy_of_the_profile() -> None:
    """A queued run holds profile snapshot, host, path and actor, and is in the audit log."""
    device = recorded.a_device()
    run = runs.get_run(recorded.a_queued_run(device, confirm_serial_last6="500123").id)
    assert run is not None
    assert run.profile_snapshot == recorded.PROFILE.to_dict()
    assert (run.status, run.host, run.queued_by) == ("queued", "lab", "someone")
    assert run.device_path_at_run == device.current_device_path
    assert run.confirm_serial_last6 == "500123"
    row = AuditLog.get()
    assert (row.action, row.actor, row.target) == ("run_queued", "someone", run.id)
    assert row.details == {"device_id": device.id, "profile": "quick"}


def test_list_is_newest_first_filtered_and_counted() -> None:
    """A page holds the newest runs that match, the total counts all that match."""
    device = recorded.a_device()
    made = [recorded.a_queued_run(device).id for _ in range(5)]
    runs.finish(made[0], "failed", "x")
    page, total = runs.list_runs(offset=1, limit=2, status="queued", device_id=device.id)
    assert [run.id for run in page] == [made[3], made[2]]
    assert total == 4
    assert page[0].device.model == device.model
    assert runs.list_runs(profile_name="other") == ([], 0)
    assert runs.counts() == {"queued": 4, "running": 0}


def test_phase_lists_leave_out_the_heavy_columns() -> None:
    """A list of phases loads no histogram; one phase by itself has everything."""
    run = recorded.a_complete_run()
    listed = runs.phases(run.id)
    assert [phase.phase_name for phase in listed] == ["seq", "mix"]
    assert listed[0].read_histogram is None
    whole = runs.get_phase(run.id, listed[0].id)
    assert whole is not None
    assert bytes(whole.read_histogram or b"") == recorded.packed()
    assert runs.get_phase("another", listed[0].id) is None


def test_aborting_a_queued_run_ends_it_at_once() -> None:
    """A queued run is aborted by the request itself, with its terminal event and the actor."""
    run = recorded.a_queued_run()
    assert runs.request_abort(run.id, actor="boss") == "aborted_queued"
    run = Run.get_by_id(run.id)
    assert (run.status, run.error_message) == ("aborted", "aborted by user")
    assert run.finished_at is not None
    assert events.tail(run.id, 0)[-1] == {
        "seq": 1,
        "event": "run_aborted",
        "payload": {"run_id": run.id, "reason": "aborted by user"},
    }
    assert AuditLog.get(AuditLog.action == "run_aborted").actor == "boss"
    assert claims.claim_next("lab", "r") is None


def test_aborting_a_running_run_asks_its_runner() -> None:
    """A run that is under way stays so until its runner ends it; asking twice is one request."""
    run = recorded.a_running_run()
    assert not claims.abort_requested(run.id)
    assert runs.request_abort(run.id, actor="boss") == "aborting"
    assert runs.request_abort(run.id, actor="boss") == "aborting"
    assert claims.abort_requested(run.id)
    assert status(run.id) == "running"
    assert AuditLog.select().where(AuditLog.action == "run_aborted").count() == 1


@pytest.mark.parametrize("end", ["complete", "failed", "aborted"])
def test_a_finished_run_cannot_be_aborted(end: str) -> None:
    """The refusal names how the run ended."""
    run = recorded.a_running_run()
    runs.finish(run.id, end)
    with pytest.raises(runs.RunFinished) as refusal:
        runs.request_abort(run.id, actor="boss")
    assert refusal.value.status == end
    with pytest.raises(runs.RunNotFound):
        runs.request_abort("unknown", actor="boss")


def test_a_run_ends_once() -> None:
    """The first end wins: one terminal event, and the status that came with it."""
    run = recorded.a_running_run()
    assert runs.finish(run.id, "failed", "first")
    assert not runs.finish(run.id, "complete")
    assert not runs.finish(run.id, "aborted", "third")
    assert status(run.id) == "failed"
    assert [name for name in names(run.id) if name in events.TERMINAL] == ["run_failed"]


def test_claiming_takes_the_oldest_run_of_the_host() -> None:
    """A runner gets its own host's runs, oldest first, each once, with what identifies the device."""
    here = recorded.a_device("lab")
    there = recorded.a_device("other", serial="OTHER")
    elsewhere = recorded.a_queued_run(there)
    first, second = recorded.a_queued_run(here), recorded.a_queued_run(here)
    claim = claims.claim_next("lab", "r1")
    assert claim is not None
    assert (claim.run_id, claim.serial, claim.wwid) == (first.id, here.serial, here.wwid)
    assert claim.device_path == here.current_device_path
    run = Run.get_by_id(first.id)
    assert (run.status, run.runner_id) == ("preflight", "r1")
    assert run.started_at is not None
    assert events.tail(first.id, 0) == [
        {
            "seq": 1,
            "event": "run_started",
            "payload": {"run_id": first.id, "device_path": here.current_device_path},
        }
    ]
    claim = claims.claim_next("lab", "r1")
    assert claim is not None
    assert claim.run_id == second.id
    assert claims.claim_next("lab", "r1") is None
    assert status(elsewhere.id) == "queued"
    assert runs.counts() == {"queued": 1, "running": 2}


CLAIMER = """
import sys
from anvil_web import db
from anvil_web.store import claims
db.connect(sys.argv[1], role="tool")
print("ready", flush=True)
sys.stdin.readline()
while claim := claims.claim_next("lab", sys.argv[2]):
    print(claim.run_id)
"""


def test_eight_processes_claim_each_run_once(store: Config) -> None:
    """However many claim at once, every run goes to exactly one of them."""
    device = recorded.a_device()
    queued = [recorded.a_queued_run(device).id for _ in range(80)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, store.database_url, f"r{n}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0].split() for process in processes]
    assert sorted(run_id for output in outputs for run_id in output) == sorted(queued)
    assert all(process.returncode == 0 for process in processes)
    for n, output in enumerate(outputs):
        assert all(Run.get_by_id(run_id).runner_id == f"r{n}" for run_id in output)


def test_left_over_runs_fail_and_queued_ones_stay() -> None:
    """A restarted runner fails what was under way on its host, and nothing else."""
    running = recorded.a_running_run()
    waiting = recorded.a_queued_run(running.device)
    other = recorded.a_queued_run(recorded.a_device("other", serial="OTHER"))
    claims.claim_next("other", "r")
    assert claims.fail_left_over("lab", "runner restarted") == [running.id]
    run = Run.get_by_id(running.id)
    assert (run.status, run.error_message) == ("failed", "runner restarted")
    assert names(run.id)[-1] == "run_failed"
    assert status(waiting.id) == "queued"
    assert status(other.id) == "preflight"


def test_a_silent_run_is_lost_in_two_steps() -> None:
    """30 s after a reader first found the heartbeat missing, and not before, the run is lost."""
    run = recorded.a_running_run()
    assert runs.fail_stale(later(5)) == 0
    assert runs.fail_stale(later(60)) == 0
    assert Run.get_by_id(run.id).missed_at is not None
    assert runs.fail_stale(later(80)) == 0
    assert runs.fail_stale(later(91)) == 1
    run = Run.get_by_id(run.id)
    assert run.status == "failed"
    assert (run.error_message or "").startswith("lost")
    assert names(run.id)[-1] == "run_failed"
    assert runs.fail_stale(later(200)) == 0


def test_a_late_heartbeat_starts_the_judgement_over() -> None:
    """A runner that comes back after an outage keeps its run."""
    run = recorded.a_running_run()
    runs.fail_stale(later(60))
    Run.update(heartbeat_at=later(61)).execute()
    assert runs.fail_stale(later(95)) == 0
    assert runs.fail_stale(later(120)) == 0
    assert status(run.id) == "running"
    assert runs.fail_stale(later(130)) == 1


def test_a_row_without_heartbeat_is_lost_too() -> None:
    """A running row that nobody ever kept alive does not stay running."""
    run = recorded.a_running_run()
    Run.update(heartbeat_at=None).execute()
    runs.fail_stale(later(60))
    assert runs.fail_stale(later(91)) == 1
    assert Run.get_by_id(run.id).error_message == "lost: its runner never showed a sign of life"


def test_an_old_outage_does_not_cost_the_run() -> None:
    """A heartbeat that is old because the database was away is not enough to fail a run."""
    run = recorded.a_running_run()
    assert runs.fail_stale(later(3600)) == 0
    assert claims.heartbeat(run.id, "a-runner")
    assert status(run.id) == "running"


def test_nobody_is_judged_while_the_database_is_locked(store: Config) -> None:
    """A reader that cannot write neither waits nor judges, for 30 s after."""
    run = recorded.a_running_run()
    Run.update(missed_at=later(-40), heartbeat_at=later(-50)).execute()
    with locked(store.data_dir / "anvil.db"):
        assert runs.fail_stale() == 0
    assert runs.fail_stale() == 0
    assert status(run.id) == "running"
    db.connect(store.database_url, role="web")
    assert runs.fail_stale() == 1


def test_queued_and_finished_runs_are_never_lost() -> None:
    """Only a run that somebody executes can lose its runner."""
    done = recorded.a_complete_run()
    recorded.a_queued_run(done.device)
    for seconds in (60, 120):
        runs.fail_stale(later(seconds))
    assert status(done.id) == "complete"
    assert runs.counts()["queued"] == 1


def test_a_heartbeat_of_another_runner_does_not_count() -> None:
    """Only the runner that claimed a run can keep it alive, and only until its end."""
    run = recorded.a_running_run()
    assert not claims.heartbeat(run.id, "impostor")
    assert claims.heartbeat(run.id, "a-runner")
    runs.finish(run.id, "failed", "lost")
    assert not claims.heartbeat(run.id, "a-runner")
