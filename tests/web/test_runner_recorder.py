"""The recorder: every event once, in order, while the database comes and goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import recorded
from outages import locked

from anvil_engine import results
from anvil_web import db
from anvil_web.config import Config
from anvil_web.models import Run, RunEvent, Sample
from anvil_web.runner.recorder import Recorder, replay_all
from anvil_web.runner.spool import Spool, SpoolFolder
from anvil_web.store import claims, events, recording, runs
from anvil_web.store.recording import Numbered


@pytest.fixture
def folder(store: Config) -> Iterator[SpoolFolder]:
    db.connect(store.database_url, role="runner", patience_s=0.1)
    with SpoolFolder(store.data_dir) as made:
        yield made


@pytest.fixture
def run_id(folder: SpoolFolder) -> str:
    run = recorded.a_queued_run()
    claims.claim_next(run.host, "r")
    return run.id


@pytest.fixture
def start(folder: SpoolFolder, run_id: str) -> Iterator[Callable[..., Recorder]]:
    """Starts recorders of the run, and ends them."""
    made: list[Recorder] = []

    def begin(**options: object) -> Recorder:
        recorder = Recorder(run_id, folder, **options)  # type: ignore[arg-type]
        recorder.start()
        made.append(recorder)
        return recorder

    yield begin
    over = threading.Event()
    over.set()
    for recorder in made:
        recorder.close(over)


def numbered() -> list[Numbered]:
    return [(n, recorded.START, event) for n, event in enumerate(recorded.whole_run(), start=1)]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def assert_whole(run_id: str) -> None:
    """Every event of `recorded.whole_run` is there once, in order, and the run complete."""
    frames = events.tail(run_id, 0)
    assert [frame["seq"] for frame in frames] == list(range(1, len(numbered()) + 1))
    assert [row.interval for row in Sample.select().order_by(Sample.seq)] == [0, 1, 2, 0, 1, 2]
    assert Run.get_by_id(run_id).status == "complete"


def test_events_reach_the_database(start: Callable[..., Recorder], run_id: str) -> None:
    """What was put is recorded when `close` returns, and nothing stays on disk."""
    recorder = start()
    for event in numbered():
        recorder.put(event)
    assert recorder.close(threading.Event())
    assert_whole(run_id)


def test_an_event_is_recorded_within_two_seconds(
    start: Callable[..., Recorder], run_id: str
) -> None:
    """A sample is in the database two seconds after it was put, without any other event."""
    recorder = start()
    for event in numbered()[:3]:
        recorder.put(event)
    until(lambda: Sample.select().count() == 1, seconds=2.0)


def test_an_outage_goes_to_disk_and_comes_back(
    start: Callable[..., Recorder], run_id: str, folder: SpoolFolder, store: Config
) -> None:
    """Events of an outage wait on disk, in order with those after it."""
    recorder, every = start(), numbered()
    for event in every[:3]:
        recorder.put(event)
    until(lambda: events.last_seq(run_id) == 3)
    with locked(store.data_dir / "anvil.db"):
        for event in every[3:6]:
            recorder.put(event)
        until(lambda: folder.run_ids() == [run_id])
        for event in every[6:9]:
            recorder.put(event)
        time.sleep(0.3)
        assert events.last_seq(run_id) == 3
    until(lambda: events.last_seq(run_id) == 9)
    assert folder.run_ids() == []
    for event in every[9:]:
        recorder.put(event)
    assert recorder.close(threading.Event())
    assert_whole(run_id)


def test_putting_never_waits(start: Callable[..., Recorder], store: Config) -> None:
    """The thread that reads the engine's pipe is not held up by a database that is away."""
    recorder = start()
    with locked(store.data_dir / "anvil.db"):
        begun = time.monotonic()
        for event in numbered():
            recorder.put(event)
        assert time.monotonic() - begun < 0.1


def test_closing_waits_for_the_database(
    start: Callable[..., Recorder], run_id: str, store: Config
) -> None:
    """A run that ends during an outage is recorded when the outage ends."""
    recorder = start()
    with locked(store.data_dir / "anvil.db") as other:
        for event in numbered():
            recorder.put(event)
        threading.Timer(1.0, lambda: other.execute("ROLLBACK")).start()
        assert recorder.close(threading.Event())
    assert_whole(run_id)


def test_the_next_runner_replays_what_a_stopped_one_spooled(
    start: Callable[..., Recorder], run_id: str, folder: SpoolFolder, store: Config
) -> None:
    """A runner that stops during an outage leaves the spool to its successor."""
    recorder, stop = start(), threading.Event()
    with locked(store.data_dir / "anvil.db"):
        for event in numbered():
            recorder.put(event)
        stop.set()
        assert not recorder.close(stop)
        assert not replay_all(folder)
    assert folder.run_ids() == [run_id]
    assert replay_all(folder)
    assert folder.run_ids() == []
    assert_whole(run_id)


def test_a_replay_that_was_cut_short_doubles_nothing(run_id: str, folder: SpoolFolder) -> None:
    """A runner killed between the commit and the removal of the spool repeats it harmlessly."""
    Spool(folder, run_id).append(numbered())
    recording.record(run_id, numbered()[:7])
    assert replay_all(folder)
    assert_whole(run_id)


def test_samples_of_a_lost_run_are_stored(run_id: str, folder: SpoolFolder) -> None:
    """The spool of a run that was failed meanwhile is recorded; the status stays."""
    Spool(folder, run_id).append(numbered())
    runs.finish(run_id, "failed", "lost: nobody there")
    assert replay_all(folder)
    assert Sample.select().count() == 6
    assert Run.get_by_id(run_id).error_message == "lost: nobody there"
    terminal = [row for row in RunEvent.select() if row.event in events.TERMINAL]
    assert len(terminal) == 1


def test_a_bad_spool_does_not_stop_the_others(run_id: str, folder: SpoolFolder) -> None:
    """A spool that cannot be recorded is set aside, one of a deleted run removed."""
    Spool(folder, run_id).append(numbered())
    Spool(folder, "00-deleted").append(numbered())
    (folder.path / "00-garbage.jsonl").write_text("{}\n")
    assert replay_all(folder)
    assert_whole(run_id)
    assert [path.name for path in folder.path.iterdir()] == ["00-garbage.jsonl.rejected"]


def test_what_cannot_be_recorded_is_kept_and_named(
    start: Callable[..., Recorder], run_id: str, folder: SpoolFolder
) -> None:
    """An error that waiting cannot cure stops recording, in words, and loses no event."""

    def broken(_run_id: str, _batch: list[Numbered]) -> None:
        raise ValueError("no such column")

    recorder = start(record=broken)
    for event in numbered():
        recorder.put(event)
    until(lambda: recorder.failure is not None)
    assert not recorder.close(threading.Event())
    assert recorder.failure == "recording failed: no such column"
    kept = (folder.path / f"{run_id}.jsonl.rejected").read_text().splitlines()
    assert len(kept) == len(numbered())


def test_a_spool_that_cannot_be_written_keeps_the_events_in_memory(
    start: Callable[..., Recorder],
    run_id: str,
    store: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Database away and disk full at once: the events are recorded when either returns."""
    recorder = start()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spool, "append", full)
    with locked(store.data_dir / "anvil.db"):
        for event in numbered():
            recorder.put(event)
        time.sleep(1.0)
    assert recorder.close(threading.Event())
    assert_whole(run_id)


def test_terminal_event_names_match_the_engines() -> None:
    """The engine's terminal events are the store's."""
    assert {kind.event for kind in results.TERMINAL} == events.TERMINAL
