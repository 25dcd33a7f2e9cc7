"""Engine events into rows: once each, in order, whatever happened before."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from itertools import pairwise

import pytest
import recorded
from hypothesis import given, settings
from hypothesis import strategies as st

from anvil_engine import results
from anvil_web.models import Run, RunEvent, RunPhase, Sample
from anvil_web.store import claims, events, recording, runs
from anvil_web.store.recording import Numbered

pytestmark = pytest.mark.usefixtures("store")


def numbered(new: list[results.Event]) -> list[Numbered]:
    start = recorded.START
    return [(n, start + dt.timedelta(seconds=n), event) for n, event in enumerate(new, start=1)]


def a_claimed_run() -> str:
    run = recorded.a_queued_run()
    claims.claim_next(run.host, "r")
    return run.id


def content(run_id: str) -> list[object]:
    """All that was recorded, in comparable form."""
    return [
        [(row.seq, row.ts, row.event, row.payload) for row in RunEvent.select()],
        [(row.seq, row.phase_order, row.interval, row.read_iops) for row in Sample.select()],
        [(row.phase_order, row.read_iops, row.result) for row in RunPhase.select()],
        Run.get_by_id(run_id).status,
    ]


def test_phases_exist_once_the_run_is_running() -> None:
    """The engine's first event makes the run `running`, with all phases and the host's facts."""
    run_id = a_claimed_run()
    recording.record(run_id, numbered([recorded.started()]))
    run = Run.get_by_id(run_id)
    assert run.status == "running"
    assert run.host_system == {"platform": "Linux", "kernel": "6.1"}
    assert run.warnings == ["size was cut"]
    phases = runs.phases(run_id)
    assert [(p.phase_order, p.phase_name, p.pattern, p.rwmix_write_pct) for p in phases] == [
        (0, "seq", "read", 0),
        (1, "mix", "randrw", 30),
    ]
    assert all(phase.started_at is None for phase in phases)


def test_a_whole_run() -> None:
    """A recorded run is complete, with its phases' numbers and every frame in order."""
    run_id = a_claimed_run()
    recording.record(run_id, numbered(recorded.whole_run()))
    assert Run.get_by_id(run_id).status == "complete"
    frames = events.tail(run_id, 0)
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    kinds = ["phase_started", *["phase_sample"] * 3, "phase_complete"]
    assert [f["event"] for f in frames] == ["run_started", *kinds, *kinds, "run_complete"]
    seq, mix = runs.phases(run_id)
    assert (seq.read_iops, seq.read_clat_p9999_ns, seq.write_iops) == (101.0, 1e5, None)
    assert mix.write_bw_bytes == 413_696
    assert seq.started_at < seq.finished_at <= mix.started_at
    whole = runs.get_phase(run_id, mix.id)
    assert whole is not None
    assert whole.jobfile == "[job]"
    assert whole.result["randseed"] == 7
    assert "histogram" not in whole.result["read"]


def test_sample_frames_are_rebuilt_from_their_columns() -> None:
    """A sample's frame has the contract's fields; the direction that is idle is null."""
    run_id = a_claimed_run()
    recording.record(run_id, numbered(recorded.whole_run()))
    frame = next(f for f in events.tail(run_id, 0) if f["event"] == "phase_sample")
    assert frame["payload"] == {
        "phase_name": "seq",
        "elapsed_s": 1.0,
        "eta_s": 2.0,
        "read_iops": 100.0,
        "read_bw_bytes": 409600.0,
        "read_clat_mean_ns": 26000.0,
        "read_clat_p99_ns": 1e5,
        "write_iops": None,
        "write_bw_bytes": None,
        "write_clat_mean_ns": None,
        "write_clat_p99_ns": None,
    }


def test_tail_resumes_and_pages() -> None:
    """Reading page by page from a cursor gives what one read gives."""
    run_id = a_claimed_run()
    recording.record(run_id, numbered(recorded.whole_run()))
    paged, cursor = [], 0
    while page := events.tail(run_id, cursor, limit=4):
        paged += page
        cursor = page[-1]["seq"]
    assert paged == events.tail(run_id, 0)
    assert cursor == events.last_seq(run_id)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=5))
def test_any_replay_gives_the_same_rows(stops: list[int]) -> None:
    """Recording from any earlier event on, any number of times, adds nothing twice."""
    everything = numbered(recorded.whole_run())
    run_id = a_claimed_run()
    reached = 0
    for stop in stops:
        begin = min(stop, reached)
        recording.record(run_id, everything[begin : begin + 4])
        reached = max(reached, min(begin + 4, len(everything)))
    recording.record(run_id, everything)
    seqs = [frame["seq"] for frame in events.tail(run_id, 0)]
    assert seqs == list(range(1, len(everything) + 1))
    assert Sample.select().where(Sample.run == run_id).count() == 6


def test_a_missing_event_is_refused_and_nothing_of_the_batch_stays() -> None:
    """A gap in the numbers raises, and leaves the database as it was."""
    run_id = a_claimed_run()
    everything = numbered(recorded.whole_run())
    recording.record(run_id, everything[:2])
    before = content(run_id)
    with pytest.raises(recording.EventGap):
        recording.record(run_id, [everything[2], everything[4]])
    assert content(run_id) == before


def test_what_was_measured_is_stored_though_the_run_was_lost() -> None:
    """A run that was failed meanwhile keeps its status and its one end, and gets its samples."""
    run_id = a_claimed_run()
    everything = numbered(recorded.whole_run())
    recording.record(run_id, everything[:3])
    runs.finish(run_id, "failed", "lost: nobody there")
    recording.record(run_id, everything)
    run = Run.get_by_id(run_id)
    assert (run.status, run.error_message) == ("failed", "lost: nobody there")
    assert Sample.select().count() == 6
    names = [row.event for row in RunEvent.select()]
    assert [name for name in names if name in events.TERMINAL] == ["run_failed"]


def test_an_aborted_phase_keeps_what_it_had() -> None:
    """The partial result of the phase that was stopped is stored with it."""
    run_id = a_claimed_run()
    started = recorded.whole_run()[:3]
    complete = recorded.complete(0)
    assert isinstance(complete, results.PhaseComplete)
    ended = results.RunAborted(reason="aborted by user", partial=complete.result)
    recording.record(run_id, numbered([*started, ended]))
    run = Run.get_by_id(run_id)
    assert (run.status, run.error_message) == ("aborted", "aborted by user")
    phase = runs.phases(run_id)[0]
    assert phase.read_iops == 101.0
    assert phase.finished_at is None


def test_a_failed_phase_is_followed_by_a_failed_run() -> None:
    """The frames of a failure name phase, error and errno."""
    run_id = a_claimed_run()
    failed = results.PhaseFailed(phase_order=0, phase_name="seq", error="EIO", errno=5)
    ended = results.RunFailed(error="phase seq: EIO")
    recording.record(run_id, numbered([*recorded.whole_run()[:2], failed, ended]))
    phase_failed, run_failed = events.tail(run_id, 0)[-2:]
    assert phase_failed["payload"] == {"phase_name": "seq", "error": "EIO", "errno": 5}
    assert run_failed["payload"] == {"run_id": run_id, "error": "phase seq: EIO"}


def test_a_simulated_run_says_so() -> None:
    """What the engine says about simulation is what the run says."""
    run_id = a_claimed_run()
    started = recorded.started()
    assert isinstance(started, results.RunStarted)
    recording.record(run_id, numbered([replace(started, simulation=True)]))
    assert Run.get_by_id(run_id).simulation


def test_an_unknown_run_is_refused() -> None:
    """Events of a run that was deleted meanwhile have nowhere to go."""
    with pytest.raises(runs.RunNotFound):
        recording.record("gone", numbered([recorded.started()]))


def test_sample_times_rise() -> None:
    """Events keep the time at which the engine wrote them."""
    run_id = a_claimed_run()
    recording.record(run_id, numbered(recorded.whole_run()))
    times = [row.ts for row in Sample.select().order_by(Sample.seq)]
    assert all(after - before >= dt.timedelta(seconds=1) for before, after in pairwise(times))
