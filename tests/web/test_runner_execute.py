"""One run's engine: every way in which it can end, and what the record then says."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import recorded
from engines import an_engine

from anvil_web.config import Config
from anvil_web.models import Run, RunPhase
from anvil_web.runner.execute import STDERR_SHOWN, Orders, death_notice, execute
from anvil_web.runner.recorder import Recorder
from anvil_web.runner.spool import SpoolFolder
from anvil_web.store import claims, events


@pytest.fixture
def run_id(store: Config) -> str:
    run = recorded.a_queued_run()
    claims.claim_next(run.host, "r")
    return run.id


@pytest.fixture
def perform(store: Config, run_id: str) -> Iterator[Callable[..., Run]]:
    """Executes a fake engine to its recorded end and returns the run."""
    with SpoolFolder(store.data_dir) as folder:

        def go(kind: str, **options: Any) -> Run:
            recorder = Recorder(run_id, folder)
            recorder.start()
            execute(an_engine(kind), recorder, orders(**options))
            recorder.close(threading.Event())
            assert folder.run_ids() == []
            return Run.get_by_id(run_id)

        yield go


def orders(**wishes: Any) -> Orders:
    """No orders but those given."""
    defaults = {
        "stop": threading.Event(),
        "abort_requested": lambda: False,
        "is_ours": lambda: True,
    }
    return Orders(**{**defaults, **wishes})


def has_sample(run_id: str) -> bool:
    return events.last_seq(run_id) >= 3


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def frames(run: Run) -> list[str]:
    return [frame["event"] for frame in events.tail(run.id, 0)]


def assert_ends_once(run: Run) -> None:
    """One terminal frame, the last one, that fits the status."""
    names = frames(run)
    assert [name for name in names if name in events.TERMINAL] == [names[-1]]
    assert names[-1] == f"run_{run.status}"
    assert children() == []


def test_a_good_engine_completes(perform: Callable[..., Run]) -> None:
    """Every event is recorded and the run is complete."""
    run = perform("good")
    assert (run.status, run.error_message) == ("complete", None)
    assert_ends_once(run)


@pytest.mark.parametrize("kind", ["obedient", "deaf"])
def test_an_abort_ends_the_engine_within_five_seconds(
    perform: Callable[..., Run], run_id: str, kind: str
) -> None:
    """An engine that obeys SIGTERM, and one that ignores it, are gone when the run is aborted."""
    asked: list[float] = []

    def abort_requested() -> bool:
        if has_sample(run_id):
            asked.append(time.monotonic())
        return bool(asked)

    run = perform(kind, abort_requested=abort_requested)
    assert time.monotonic() - asked[0] < 5.0
    assert (run.status, run.error_message) == ("aborted", "aborted by user")
    assert_ends_once(run)


def test_an_aborted_engines_partial_result_is_stored(
    perform: Callable[..., Run], run_id: str
) -> None:
    """What the engine tells when it is stopped is kept."""
    run = perform("obedient", abort_requested=lambda: has_sample(run_id))
    assert RunPhase.get(RunPhase.run == run.id, RunPhase.phase_order == 0).read_iops == 101.0


def test_a_run_that_was_complete_before_the_abort_is_complete(
    perform: Callable[..., Run], run_id: str
) -> None:
    """An abort that comes too late does not undo what was measured."""
    last = len(recorded.whole_run()) - 1
    run = perform("lingers", abort_requested=lambda: events.last_seq(run_id) >= last)
    assert run.status == "complete"
    assert_ends_once(run)


def test_a_stopping_runner_fails_its_run(perform: Callable[..., Run], run_id: str) -> None:
    """SIGTERM to the runner ends the engine, and the record says why."""
    stop = threading.Event()

    def watch() -> bool:
        if has_sample(run_id):
            stop.set()
        return False

    run = perform("obedient", stop=stop, abort_requested=watch)
    assert (run.status, run.error_message) == ("failed", "runner stopped")
    assert_ends_once(run)


def test_a_run_that_others_ended_is_measured_no_further(
    perform: Callable[..., Run], run_id: str
) -> None:
    """When the run is not this runner's any more its engine is stopped."""
    run = perform("obedient", is_ours=lambda: not has_sample(run_id))
    assert run.status == "failed"
    assert_ends_once(run)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("dies", ["SIGKILL", "a reason\N{REPLACEMENT CHARACTER}on stderr"]),
        ("exits", ["exited with code 1", "the end"]),
        ("mid line", ["exited with code 3"]),
        ("silent", ["exited with code 0"]),
        ("garbage", ["output cannot be read"]),
        ("endless line", ["output cannot be read"]),
        ("gap", ["output cannot be read", "event 5 follows event 3"]),
        ("talks on", ["output cannot be read"]),
        ("says failed", ["phase seq: EIO"]),
        ("complete, then dies", ["SIGSEGV"]),
    ],
)
def test_a_broken_engine_fails_the_run_with_the_reason(
    perform: Callable[..., Run], kind: str, says: list[str]
) -> None:
    """However the engine breaks, the run is failed, and the message says how."""
    run = perform(kind)
    assert run.status == "failed"
    for text in says:
        assert text in (run.error_message or "")
    assert_ends_once(run)


def test_the_phase_under_way_fails_with_the_run(perform: Callable[..., Run]) -> None:
    """The death of an engine is told of its phase first, then of the run."""
    run = perform("dies")
    assert frames(run)[-2:] == ["phase_failed", "run_failed"]
    assert events.tail(run.id, 0)[-2]["payload"]["phase_name"] == "seq"


def test_what_the_engine_leaves_behind_is_killed(perform: Callable[..., Run]) -> None:
    """A process that the engine started and left does not hold the run up."""
    begun = time.monotonic()
    run = perform("leaves a child")
    assert run.status == "complete"
    assert time.monotonic() - begun < 60


def test_an_engine_that_cannot_start_fails_the_run(store: Config, run_id: str) -> None:
    """A missing interpreter is a failed run, not a dead runner."""
    with SpoolFolder(store.data_dir) as folder:
        recorder = Recorder(run_id, folder)
        recorder.start()
        execute(["/nonexistent/python"], recorder, orders())
        recorder.close(threading.Event())
    run = Run.get_by_id(run_id)
    assert run.status == "failed"
    assert "cannot be started" in (run.error_message or "")


def test_stderr_in_a_message_is_bounded() -> None:
    """A death notice quotes the last 2000 characters at most, and survives any bytes."""
    notice = death_notice(-6, b"\xff" * 5000 + b"last words")
    assert notice.startswith("the engine was killed by SIGABRT: ")
    assert notice.endswith("last words")
    assert len(notice) < STDERR_SHOWN + 50
    assert death_notice(2, b"") == "the engine exited with code 2"
    assert "signal 40" in death_notice(-40, b"")


def test_the_engine_leads_its_own_session(perform: Callable[..., Run], run_id: str) -> None:
    """Ctrl-C at the terminal does not reach the engine: its runner decides."""
    sessions: list[int] = []

    def abort_requested() -> bool:
        for child in children():
            with contextlib.suppress(ProcessLookupError):
                sessions.append(os.getsid(child.pid))
        return has_sample(run_id)

    perform("obedient", abort_requested=abort_requested)
    assert os.getsid(0) not in sessions
    assert sessions
