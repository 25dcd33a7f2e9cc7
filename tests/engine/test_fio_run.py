"""fio measures on the open target, is stopped with the run, and cannot outlive it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from anvil_engine import fio_run, histogram, native, session
from anvil_engine.errors import DeviceError, EngineError
from anvil_engine.plan import expand
from anvil_engine.results import PhaseResult
from anvil_engine.target import create_file_target, open_target
from anvil_engine.workload import Phase, Profile, Workload

pytestmark = pytest.mark.fio
MIB = 1 << 20
RANDOM_4K: dict[str, Any] = {
    "rw": "randread", "bs": 4096, "iodepth": 4, "size": 8 * MIB, "runtime": 0.3,
}  # fmt: skip


@pytest.fixture
def a_file() -> Iterator[int]:
    """A file of 8 MiB in memory, opened for reading and writing; it has no name any more."""
    path = Path("/dev/shm") / f"anvil-test-{os.getpid()}"
    path.write_bytes(bytes(8 * MIB))
    fd = os.open(path, os.O_RDWR)
    path.unlink()
    yield fd
    os.close(fd)


def measure(
    fd: int, stop: threading.Event | None = None, **workload: Any
) -> tuple[list[native.Interval], PhaseResult | None]:
    measurement = fio_run.Measurement(Workload(**{**RANDOM_4K, **workload}), fd=fd, randseed=1)
    run, intervals = measurement.run(stop or threading.Event()), []
    while True:
        try:
            intervals.append(next(run))
        except StopIteration as end:
            return intervals, end.value


def result_of(fd: int, **workload: Any) -> PhaseResult:
    _, result = measure(fd, **workload)
    assert result is not None
    return result


def fios() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.mark.parametrize("rw", ["read", "randwrite", "randrw"])
def test_everything_that_completed_was_recorded(a_file: int, rw: str) -> None:
    """recorded == completed in each direction, bytes follow from it, and an idle one is None."""
    result = result_of(a_file, rw=rw)
    workload = Workload(rw=rw, bs=4096)
    assert (result.read is not None) == workload.reads
    assert (result.write is not None) == workload.writes
    for side in filter(None, (result.read, result.write)):
        assert histogram.total(histogram.unpack(side.histogram)) == side.ios > 0
        assert side.io_bytes == side.ios * 4096
        assert side.lat_min_ns <= side.percentiles["50"] <= side.lat_max_ns
        assert side.iops == pytest.approx(side.ios / result.elapsed_s)
    assert result.errors == {}
    assert 0 < result.mean_depth <= 4.1
    assert result.engine["version"].startswith("fio-")
    assert result.randseed == 1


def test_intervals_add_up_to_the_result(a_file: int) -> None:
    """Each I/O is in one interval, also with two jobs and a ramp, and none is a sliver."""
    intervals, result = measure(a_file, rw="randrw", runtime=3, ramp_time=0.4, numjobs=2)
    assert result is not None
    assert len(intervals) in (2, 3)
    for name in ("read", "write"):
        merged = histogram.merge(
            histogram.unpack(getattr(interval, name).histogram) for interval in intervals
        )
        assert (merged == histogram.unpack(getattr(result, name).histogram)).all()
    assert intervals[-1].elapsed_s == result.elapsed_s == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("ramp_time", [0.0, 60.0])
def test_a_stop_is_obeyed(a_file: int, ramp_time: float) -> None:
    """A stop ends a minute's run at once; what was measured is kept, and a ramp is not."""
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    started = time.monotonic()
    _, result = measure(a_file, stop, runtime=60, ramp_time=ramp_time)
    assert time.monotonic() - started < 5
    assert (result is None) == bool(ramp_time)
    assert not fios()


def test_a_stop_before_fio_runs_measures_nothing(a_file: int) -> None:
    """Whenever the stop comes, it is no failure."""
    stop = threading.Event()
    stop.set()
    assert measure(a_file, stop, runtime=60) == ([], None)
    assert not fios()


def test_abandoning_a_measurement_kills_fio(a_file: int) -> None:
    """Closing the iterator leaves no process behind."""
    workload = Workload(**{**RANDOM_4K, "runtime": 60})
    run = fio_run.Measurement(workload, fd=a_file, randseed=1).run(threading.Event())
    next(run)
    assert fios()
    run.close()
    assert not fios()


def test_fio_dies_with_anvil(tmp_path: Path) -> None:
    """After kill -9 of the program there is no fio that goes on."""
    create_file_target(tmp_path / "target", MIB)
    command = ["-m", "anvil_engine.cli", "bench", str(tmp_path / "target"), "--engine=fio"]
    program = subprocess.Popen([sys.executable, *command, "--time-based", "--runtime=60"])
    found: list[psutil.Process] = []
    while not any(process.name() == "fio" for process in found):
        assert program.poll() is None
        found = psutil.Process(program.pid).children(recursive=True)
        time.sleep(0.05)
    program.send_signal(signal.SIGKILL)
    program.wait()
    _, alive = psutil.wait_procs(found, timeout=5)
    assert not alive


def test_fio_gets_what_was_opened_not_what_has_the_name(tmp_path: Path) -> None:
    """A file that takes the target's name during the run is not written to."""
    path = tmp_path / "target"
    path.write_bytes(bytes(8 * MIB))
    fd = os.open(path, os.O_RDWR)
    path.rename(tmp_path / "opened")
    path.write_bytes(bytes(8 * MIB))
    try:
        result_of(fd, rw="randwrite")
    finally:
        os.close(fd)
    assert path.read_bytes() == bytes(8 * MIB)
    assert (tmp_path / "opened").read_bytes() != bytes(8 * MIB)


def test_a_descriptor_for_reading_is_not_written_through(tmp_path: Path) -> None:
    """fio could open the descriptor's path for writing; a run that may not write refuses."""
    path = tmp_path / "precious"
    path.write_bytes(bytes(8 * MIB))
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(DeviceError, match="EBADF"):
            measure(fd, rw="randwrite")
    finally:
        os.close(fd)
    assert path.read_bytes() == bytes(8 * MIB)


@pytest.mark.parametrize("length", [0, MIB])
@pytest.mark.parametrize("rw", ["randread", "randwrite"])
def test_a_target_that_shrank_is_refused_and_not_extended(
    a_file: int, length: int, rw: str
) -> None:
    """fio would fill it up, or count reads past its end."""
    os.ftruncate(a_file, length)
    with pytest.raises(DeviceError, match=re.escape("shorter than it was")):
        measure(a_file, rw=rw)
    assert os.fstat(a_file).st_size == length


def test_a_target_that_shrinks_fails_the_phase(a_file: int) -> None:
    """fio reports success and a higher speed; this does not."""
    threading.Timer(0.5, os.ftruncate, (a_file, MIB)).start()
    with pytest.raises(DeviceError, match=re.escape("shorter than it was")):
        measure(a_file, runtime=1)


def test_a_span_that_is_not_all_there_counts_short_reads(a_file: int) -> None:
    """Reads that ended early are seen even when the target has its length again."""
    threading.Timer(0.4, os.ftruncate, (a_file, 0)).start()
    threading.Timer(0.7, os.ftruncate, (a_file, 8 * MIB)).start()
    result = result_of(a_file, runtime=1.2, continue_on_error=True)
    assert result.errors["SHORT"] > 0


def test_a_paced_phase_keeps_its_rate(a_file: int) -> None:
    """rate_iops is for each job and both directions together, as for the native loop."""
    result = result_of(a_file, rw="randrw", rwmixread=70, numjobs=2, runtime=1, rate_iops=500)
    assert result.read is not None
    assert result.write is not None
    assert result.read.iops + result.write.iops == pytest.approx(1000, rel=0.1)
    assert result.read.ios / (result.read.ios + result.write.ios) == pytest.approx(0.7, abs=0.05)


def test_writes_stay_in_their_range(a_file: int) -> None:
    """Bytes outside of offset … offset+size are untouched."""
    result_of(a_file, rw="write", offset=2 * MIB, size=3 * MIB, bs=65536)
    content = os.pread(a_file, 8 * MIB, 0)
    assert content[: 2 * MIB] == bytes(2 * MIB)
    assert content[5 * MIB :] == bytes(3 * MIB)
    assert any(content[2 * MIB : 5 * MIB])


def test_the_direct_flag_is_the_descriptors(tmp_path: Path) -> None:
    """fio opens /dev/zero as it was opened, which knows no O_DIRECT."""
    with open_target("/dev/zero", write=False) as target:
        result = result_of(target.fd, direct=True, size=MIB)
    assert result.workload["direct"] is False


def test_a_run_on_fio_is_a_run(tmp_path: Path) -> None:
    """The same events come in the same order, whichever engine it is."""
    create_file_target(tmp_path / "target", 4 * MIB)
    phases = tuple(Phase(rw, Workload(rw=rw, bs=4096, runtime=0.3)) for rw in ("read", "randrw"))
    profile = Profile("p", "P", "for a test", phases)
    with open_target(tmp_path / "target", write=True) as target:
        plan = expand(profile, target_size=4 * MIB, lba_size=target.facts.lba_size)
        names = [event.event for event in session.run(plan, target, engine="fio")]
    phase = ["phase_started", "phase_sample", "phase_complete"]
    assert names == ["run_started", *phase, *phase, "run_complete"]


def test_what_fio_says_is_the_error(a_file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of fio itself ends the phase with fio's own words."""
    measurement = fio_run.Measurement(Workload(**RANDOM_4K), fd=a_file, randseed=1)
    command = [*measurement.command(), "--ioengine=nonsense"]
    monkeypatch.setattr(measurement, "command", lambda: command)
    with pytest.raises(EngineError, match="nonsense"):
        list(measurement.run(threading.Event()))


def test_a_missing_fio_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fio the run is refused before it begins."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineError, match="fio is not installed; install it"):
        session.check_available("fio", Workload(**RANDOM_4K), -1)
