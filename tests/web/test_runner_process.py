"""The runner as a process, with the real engine on real files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import programs
import psutil
import pytest
from outages import locked
from programs import a_run, ended, scanned, status, wait_for

from anvil_engine import histogram
from anvil_engine.inventory import discover
from anvil_web.clock import utcnow
from anvil_web.config import Config, load
from anvil_web.models import Device, Run, Runner, Sample
from anvil_web.store import devices, events, runners, runs

LONG = 60.0


@pytest.fixture
def start(store: Config) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts runners, and stops them at the end."""
    started: list[subprocess.Popen[str]] = []

    def go() -> subprocess.Popen[str]:
        started.append(programs.start_runner(store))
        return started[-1]

    yield go
    for process in started:
        if process.stdout is not None and not process.stdout.closed:
            programs.stop(process)


@pytest.fixture
def runner(start: Callable[[], subprocess.Popen[str]]) -> subprocess.Popen[str]:
    return start()


@pytest.fixture
def device(store: Config, runner: subprocess.Popen[str]) -> Device:
    """A file target that the runner has found."""
    return scanned(programs.a_file_target(store))


def engine_of(runner: subprocess.Popen[str]) -> psutil.Process:
    """The runner's engine, once it measures."""
    return wait_for(psutil.Process(runner.pid).children)[0]


def samples(run: Run) -> int:
    return int(Sample.select().where(Sample.run == run.id).count())


def measuring(run: Run) -> None:
    """Wait until the run has its first sample."""
    wait_for(lambda: samples(run) > 0)


def assert_no_engine(runner: subprocess.Popen[str]) -> None:
    assert psutil.Process(runner.pid).children() == []


def assert_contiguous(run: Run, phases: int, least: int) -> None:
    """Frames without gaps, and each phase's intervals counted from 0 without gaps."""
    seqs = [frame["seq"] for frame in events.tail(run.id, 0, limit=100_000)]
    assert seqs == list(range(1, len(seqs) + 1))
    for order in range(phases):
        query = Sample.select().where(Sample.run == run.id, Sample.phase_order == order)
        intervals = [row.interval for row in query.order_by(Sample.seq)]
        assert intervals == list(range(len(intervals)))
        assert len(intervals) >= least


def test_a_run_is_measured_and_recorded(device: Device) -> None:
    """A queued run is executed and complete, and every I/O of each phase is in its histogram."""
    run = ended(a_run(device, 2.0, phases=2))
    assert (run.status, run.error_message) == ("complete", None)
    assert run.host_system["kernel"] == os.uname().release
    assert run.device_path_at_run == device.current_device_path
    for phase in runs.phases(run.id):
        whole = runs.get_phase(run.id, phase.id)
        assert whole is not None
        assert (whole.read_iops or 0) > 0
        assert whole.write_iops is None
        counts = histogram.unpack(bytes(whole.read_histogram or b""))
        assert histogram.total(counts) == whole.result["read"]["ios"]
        assert "rw=randread" in (whole.jobfile or "")
    assert_contiguous(run, phases=2, least=1)
    assert events.tail(run.id, 0, limit=1000)[-1]["event"] == "run_complete"


@pytest.mark.uring
def test_a_run_on_io_uring(device: Device) -> None:
    """The native engine works as the runner's child."""
    run = ended(a_run(device, 1.0, engine="native"))
    assert (run.status, run.error_message) == ("complete", None)


def test_a_host_without_io_uring_can_measure(store: Config) -> None:
    """A runner that was told `--engine sync` executes ordinary runs that way."""
    runner = programs.start_runner(replace(store, engine="sync"))
    try:
        run = a_run(scanned(programs.a_file_target(store)), LONG, engine="native")
        measuring(run)
        words = engine_of(runner).cmdline()
        assert words[words.index("--engine") + 1] == "sync"
    finally:
        programs.stop(runner)


def test_samples_are_stored_while_the_run_goes_on(device: Device) -> None:
    """A sample is in the database within two seconds of its time."""
    run = a_run(device, LONG)
    measuring(run)
    newest = Sample.select().order_by(Sample.seq.desc()).get()
    assert (utcnow() - newest.ts).total_seconds() < 2.0
    assert status(run) == "running"
    assert len(runs.phases(run.id)) == 1


def test_a_read_only_run_holds_its_target_read_only(
    device: Device, runner: subprocess.Popen[str]
) -> None:
    """While a profile reads, no descriptor of the engine on the target can write."""
    measuring(a_run(device, LONG))
    process = engine_of(runner)
    modes = []
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        if os.readlink(entry) == device.current_device_path:
            text = Path(f"/proc/{process.pid}/fdinfo/{entry.name}").read_text()
            flags = next(line for line in text.splitlines() if line.startswith("flags:"))
            modes.append(int(flags.split()[1], 8) & os.O_ACCMODE)
    assert modes
    assert set(modes) == {os.O_RDONLY}


def test_an_abort_is_quick_and_the_next_run_starts(
    device: Device, runner: subprocess.Popen[str]
) -> None:
    """An aborted run is over within five seconds, its engine gone, and the next one runs."""
    first, second = a_run(device, LONG), a_run(device, 1.0)
    measuring(first)
    begun = time.monotonic()
    assert runs.request_abort(first.id, actor="tester") == "aborting"
    run = ended(first, seconds=5.0)
    assert time.monotonic() - begun < 5.0
    assert (run.status, run.error_message) == ("aborted", "aborted by user")
    assert ended(second).status == "complete"
    assert_no_engine(runner)


def test_a_killed_engine_fails_its_run_and_the_next_one_runs(
    device: Device, runner: subprocess.Popen[str]
) -> None:
    """`kill -9` of the engine: the run is failed with the signal's name, the service goes on."""
    first, second = a_run(device, LONG), a_run(device, 1.0)
    measuring(first)
    engine_of(runner).kill()
    run = ended(first)
    assert run.status == "failed"
    assert "SIGKILL" in (run.error_message or "")
    assert ended(second).status == "complete"


def test_a_killed_runner_takes_its_engine_with_it(
    device: Device, runner: subprocess.Popen[str], start: Callable[[], subprocess.Popen[str]]
) -> None:
    """`kill -9` of the runner: the engine dies at once, the next runner fails the run and goes on."""
    first, second = a_run(device, LONG), a_run(device, 1.0)
    measuring(first)
    engine = engine_of(runner)
    runner.kill()
    runner.wait()
    wait_for(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE, 5.0)
    assert status(first) == "running"
    start()
    run = ended(first)
    assert run.status == "failed"
    assert "runner restarted" in (run.error_message or "")
    assert ended(second).status == "complete"


def test_a_stopped_runner_fails_its_run_and_says_goodbye(
    device: Device, runner: subprocess.Popen[str]
) -> None:
    """SIGTERM: the run is failed with the reason, the queued one waits, the runner is gone."""
    first, second = a_run(device, LONG), a_run(device, 1.0)
    measuring(first)
    engine = engine_of(runner)
    programs.stop(runner)
    assert runner.returncode == 0
    run = Run.get_by_id(first.id)
    assert (run.status, run.error_message) == ("failed", "runner stopped")
    assert status(second) == "queued"
    assert not engine.is_running()
    assert runners.live() == []


def test_commands_are_served_during_a_run(device: Device, store: Config) -> None:
    """A rescan answers while a run is measured, and the heartbeats go on."""
    run = a_run(device, LONG)
    measuring(run)
    assert scanned(programs.a_file_target(store, "second.dat")).is_testable
    before = Runner.get().heartbeat_at
    wait_for(lambda: Runner.get().heartbeat_at > before)
    assert Run.get_by_id(run.id).heartbeat_at > before
    assert status(run) == "running"


def test_a_rescan_lists_this_hosts_devices(device: Device, store: Config) -> None:
    """The runner's scan is the inventory's, and untestable devices say why."""
    listed = {d.current_device_path: d for d in devices.list_devices()}
    assert set(listed) == {d.path for d in discover()} | {device.current_device_path}
    assert device.protocol == "file"
    assert device.host == store.host
    assert all(d.is_testable or d.exclusion_reason for d in listed.values())


def lock_for(path: Path, seconds: float) -> threading.Thread:
    """A thread that holds the database's write lock for so long."""

    def hold() -> None:
        with locked(path):
            time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("away", "length"), [(5.0, 8.0), pytest.param(60.0, 70.0, marks=pytest.mark.slow)]
)
def test_no_sample_is_lost_while_the_database_is_away(
    device: Device, store: Config, away: float, length: float
) -> None:
    """With the database locked in mid-run the run completes, and no interval is missing."""
    run = a_run(device, length)
    measuring(run)
    lock = lock_for(store.data_dir / "anvil.db", away)
    spool = store.data_dir / "spool" / f"{run.id}.jsonl"
    wait_for(spool.exists, seconds=away)
    lock.join()
    assert ended(run, seconds=length).status == "complete"
    assert_contiguous(run, phases=1, least=int(length) - 1)
    assert not spool.exists()


def test_a_run_that_ends_during_an_outage_is_recorded_by_the_next_runner(
    device: Device,
    store: Config,
    runner: subprocess.Popen[str],
    start: Callable[[], subprocess.Popen[str]],
) -> None:
    """Runner stopped while the database is away: its successor has the spool and its end."""
    run = a_run(device, LONG)
    measuring(run)
    known = samples(run)
    with locked(store.data_dir / "anvil.db"):
        spool = store.data_dir / "spool" / f"{run.id}.jsonl"
        wait_for(spool.exists)
        programs.stop(runner)
        spooled = spool.read_text().splitlines()
        assert json.loads(spooled[-1])["event"] == "run_failed"
        assert status(run) == "running"
    start()
    assert ended(run).error_message == "runner stopped"
    assert samples(run) > known
    assert_contiguous(run, phases=1, least=known)


def test_a_runner_waits_for_its_database(store: Config) -> None:
    """A runner that starts while the database is away is there once it returns."""
    with locked(store.data_dir / "anvil.db"):
        process = programs.start(store, "runner")
        time.sleep(3.0)
        assert process.poll() is None
        assert runners.live() == []
    wait_for(runners.live)
    programs.stop(process)


@pytest.mark.parametrize("part", ["runner", "renderer"])
def test_a_part_without_a_schema_names_the_way_out(tmp_path: Path, part: str) -> None:
    """On a database that was never set up a part ends, and says which command sets it up."""
    process = programs.start(load({}, data_dir=tmp_path), part)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "anvil migrate" in output


def test_a_second_runner_is_refused(runner: subprocess.Popen[str], store: Config) -> None:
    """Two runners on one data directory would fail each other's runs."""
    second = programs.start(store, "runner")
    output, _ = second.communicate(timeout=20)
    assert second.returncode == 1
    assert "another runner" in output
    assert runner.poll() is None


def test_a_destructive_row_without_consent_is_refused(device: Device) -> None:
    """A destructive run that was put into the table by hand is failed, and writes nothing."""
    path = Path(str(device.current_device_path))
    before = path.read_bytes()
    refused = [
        ended(a_run(device, 1.0, rw="randwrite", confirm_serial_last6=confirm))
        for confirm in (None, "", "WRONG1", device.serial[:6])
    ]
    assert {run.status for run in refused} == {"failed"}
    assert all("nobody confirmed" in (run.error_message or "") for run in refused)
    assert path.read_bytes() == before


def test_a_confirmed_destructive_run_writes(device: Device) -> None:
    """With the serial's last six the same run is executed."""
    path = Path(str(device.current_device_path))
    before = path.read_bytes()
    run = ended(
        a_run(device, 1.0, rw="randwrite", confirm_serial_last6=device.serial[-6:].lower())
    )
    assert (run.status, run.error_message) == ("complete", None)
    assert path.read_bytes() != before
    phase = runs.phases(run.id)[0]
    assert phase.read_iops is None
    assert (phase.write_iops or 0) > 0


def test_a_target_that_changed_is_refused(device: Device, store: Config) -> None:
    """A run queued for a file that was replaced by another is failed before it is opened."""
    path = Path(str(device.current_device_path))
    path.unlink()
    path.with_name(f"{path.name}.anvil.json").unlink()
    run = ended(a_run(device, 1.0))
    assert run.status == "failed"
    assert "not there any more" in (run.error_message or "")
    programs.a_file_target(store)
    run = ended(a_run(device, 1.0))
    assert run.status == "failed"
    assert "another device" in (run.error_message or "")


def test_a_simulated_run_touches_no_storage(device: Device) -> None:
    """A simulation runs though its device is gone, and says that it is one."""
    Path(str(device.current_device_path)).unlink()
    run = ended(a_run(device, 1.0, simulation=True))
    assert (run.status, run.error_message) == ("complete", None)
    assert run.simulation
    assert run.device_path_at_run == "simulation"


@pytest.mark.root
def test_a_destructive_run_on_a_block_device_needs_its_serial(
    runner: subprocess.Popen[str], loop_device: Path
) -> None:
    """A block device without a serial can be read, and never be written to by the service."""
    device = scanned(loop_device)
    assert device.is_testable
    before = loop_device.read_bytes()
    refused = ended(a_run(device, 1.0, rw="write", confirm_serial_last6=""))
    assert refused.status == "failed"
    assert "nobody confirmed" in (refused.error_message or "")
    assert ended(a_run(device, 1.0)).status == "complete"
    assert loop_device.read_bytes() == before


def test_signals_other_than_the_known_ones_are_harmless(runner: subprocess.Popen[str]) -> None:
    """Ctrl-C ends a runner as orderly as SIGTERM does."""
    runner.send_signal(signal.SIGINT)
    assert runner.wait(timeout=10) == 0
    assert runners.live() == []
