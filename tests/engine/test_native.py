"""The native loop measures what it did, on real files."""

import os
import re
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anvil_engine import _ioloop, histogram, native
from anvil_engine.errors import DeviceError, RingUnavailable
from anvil_engine.workload import Workload

MIB = 1 << 20
RANDOM_4K = {"rw": "randread", "bs": 4096, "iodepth": 8, "size": 8 * MIB, "runtime": 0.3}

engines = pytest.mark.parametrize(
    "engine", [pytest.param("native", marks=pytest.mark.uring), "sync", "null"]
)
storing_engines = pytest.mark.parametrize(
    "engine", [pytest.param("native", marks=pytest.mark.uring), "sync"]
)


@pytest.fixture
def a_file(tmp_path):
    """A file of 8 MiB, opened for reading and writing, O_DIRECT where the file system takes it."""
    path = tmp_path / "target"
    path.write_bytes(bytes(8 * MIB))
    try:
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    except OSError:
        fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def measure(fd, engine="native", stop=None, **workload):
    """All intervals and the result of one measurement."""
    measurement = native.Measurement(Workload(**workload), fd=fd, engine=engine, randseed=1)
    run, intervals = measurement.run(stop or threading.Event()), []
    while True:
        try:
            intervals.append(next(run))
        except StopIteration as end:
            return intervals, end.value


def recorded(direction):
    return 0 if direction is None else histogram.total(histogram.unpack(direction.histogram))


@given(st.integers(0, (1 << 64) - 1))
def test_the_loop_and_its_slow_twin_choose_the_same_bucket(value):
    """bucket_index in C is bucket_index in Python, for every uint64."""
    assert _ioloop.bucket_index(value) == histogram.bucket_index(value)


@engines
@pytest.mark.parametrize("rw", ["read", "write", "randread", "randwrite", "rw", "randrw"])
def test_everything_that_completed_was_recorded(a_file, engine, rw):
    """recorded == completed in each direction, and bytes follow from it."""
    _, result = measure(a_file, engine, **RANDOM_4K | {"rw": rw})
    workload = Workload(rw=rw, bs=4096)
    assert (result.read is not None) == workload.reads
    assert (result.write is not None) == workload.writes
    for direction in filter(None, (result.read, result.write)):
        assert recorded(direction) == direction.ios > 0
        assert direction.io_bytes == direction.ios * 4096
        assert direction.lat_min_ns <= direction.lat_mean_ns <= direction.lat_max_ns
    assert result.errors == {}


@pytest.mark.uring
def test_intervals_add_up_to_the_result(a_file):
    """Every I/O of a phase is in exactly one interval, also with two jobs and a ramp."""
    intervals, result = measure(
        a_file, **RANDOM_4K | {"rw": "randrw", "runtime": 2.2, "ramp_time": 0.2, "numjobs": 2}
    )
    assert len(intervals) == 2
    for name in ("read", "write"):
        parts = [getattr(interval, name) for interval in intervals]
        assert sum(part.ios for part in parts) == getattr(result, name).ios
        merged = histogram.merge(histogram.unpack(part.histogram) for part in parts)
        assert (merged == histogram.unpack(getattr(result, name).histogram)).all()
        assert max(part.lat_max_ns for part in parts) >= getattr(result, name).lat_max_ns


@pytest.mark.uring
def test_the_ramp_is_not_measured(a_file):
    """With a ramp as long as the run, the result holds about half of the I/Os and of the time."""
    _, result = measure(a_file, **RANDOM_4K | {"runtime": 0.5, "ramp_time": 0.5})
    assert 0.5 <= result.elapsed_s < 0.9
    assert recorded(result.read) == result.read.ios


@engines
def test_a_stop_is_obeyed(a_file, engine):
    """A stop ends a minute's run within a fraction of a second and keeps what was measured."""
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    started = time.monotonic()
    _, result = measure(a_file, engine, stop, **RANDOM_4K | {"runtime": 60})
    assert time.monotonic() - started < 2
    assert result.read.ios == recorded(result.read) > 0


@engines
def test_a_stop_within_the_ramp_measures_nothing(a_file, engine):
    """Nothing was measured before the ramp ended, so there is no result."""
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    intervals, result = measure(a_file, engine, stop, **RANDOM_4K | {"ramp_time": 60})
    assert (intervals, result) == ([], None)


def test_abandoning_a_measurement_stops_its_threads(a_file):
    """Closing the iterator leaves no job behind."""
    workload = Workload(**RANDOM_4K | {"runtime": 60})
    run = native.Measurement(workload, fd=a_file, engine="sync", randseed=1).run(threading.Event())
    next(run)
    run.close()
    assert not [t for t in threading.enumerate() if isinstance(t, native._JobThread)]


@pytest.mark.parametrize("pct", [1, 30, 70, 99])
def test_a_mix_has_its_share_of_reads(pct):
    """The measured share of reads is rwmixread, within five standard deviations."""
    fd = os.open("/dev/zero", os.O_RDWR)
    try:
        _, result = measure(fd, "sync", rw="randrw", bs=512, size=MIB, rwmixread=pct, runtime=0.2)
    finally:
        os.close(fd)
    total = result.read.ios + result.write.ios
    deviation = 100 * (pct / 100 * (1 - pct / 100) / total) ** 0.5
    assert abs(100 * result.read.ios / total - pct) < 5 * deviation


@storing_engines
def test_writes_stay_in_their_range_and_no_two_blocks_are_equal(a_file, engine):
    """Bytes outside of offset … offset+size are untouched; blocks inside carry their offset."""
    offset, size = 2 * MIB, 3 * MIB
    measure(
        a_file, engine, **RANDOM_4K | {"rw": "write", "offset": offset, "size": size, "bs": 8192}
    )
    content = np.fromfile(f"/proc/self/fd/{a_file}", dtype=np.uint64).reshape(-1, 512)
    first, past = offset // 4096, (offset + size) // 4096
    assert not content[:first].any()
    assert not content[past:].any()
    assert (content[first:past, 0] == np.arange(offset, offset + size, 4096)).all()
    assert len(np.unique(content[first:past], axis=0)) == past - first


@storing_engines
def test_random_offsets_reach_the_whole_range(a_file, engine):
    """Every block of a small range is written at least once, the last one included."""
    measure(a_file, engine, **RANDOM_4K | {"rw": "randwrite", "size": 16 * 4096, "runtime": 0.5})
    content = np.fromfile(f"/proc/self/fd/{a_file}", dtype=np.uint64).reshape(-1, 512)
    assert (content[1:16, 0] == np.arange(4096, 16 * 4096, 4096)).all()
    assert not content[16:].any()


@storing_engines
def test_a_short_read_is_an_error(a_file, engine):
    """A target that shrank gives 0 bytes for ever; that must not count as I/O."""
    os.ftruncate(a_file, MIB)
    with pytest.raises(DeviceError, match=re.escape("shorter than it was")) as caught:
        measure(a_file, engine, **RANDOM_4K | {"rw": "read"})
    assert caught.value.errno is None


@storing_engines
def test_errors_are_counted_when_told_to_continue(a_file, engine):
    """With continue_on_error short reads are counted as SHORT, beside the good ones."""
    os.ftruncate(a_file, 4 * MIB)
    _, result = measure(a_file, engine, **RANDOM_4K | {"continue_on_error": True})
    assert result.errors.keys() == {"SHORT"}
    assert result.errors["SHORT"] > 0
    assert recorded(result.read) == result.read.ios > 0


@storing_engines
def test_a_refused_write_names_the_errno(tmp_path, engine):
    """Writing through a descriptor that only reads fails the phase with EBADF."""
    path = tmp_path / "read-only"
    path.write_bytes(bytes(8 * MIB))
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(DeviceError, match="EBADF") as caught:
            measure(fd, engine, **RANDOM_4K | {"rw": "write"})
    finally:
        os.close(fd)
    assert caught.value.errno == 9
    assert path.read_bytes() == bytes(8 * MIB)


@pytest.mark.uring
@pytest.mark.parametrize("iodepth", [1, 3, 64])
@pytest.mark.parametrize("batch", [1, 2])
def test_minimum_batches_lose_nothing(a_file, iodepth, batch):
    """Any depth with any batch ends with everything reaped."""
    batch = min(batch, iodepth)
    _, result = measure(
        a_file,
        **RANDOM_4K
        | {
            "iodepth": iodepth,
            "iodepth_batch_submit": batch,
            "iodepth_batch_complete_min": batch,
        },
    )
    assert recorded(result.read) == result.read.ios > 0
    assert result.mean_depth <= iodepth + 0.01


@pytest.mark.uring
def test_the_result_says_what_the_kernel_granted(a_file):
    """Ring flags and registrations in effect are part of the result."""
    _, result = measure(a_file, **RANDOM_4K)
    assert result.engine["name"] == "native"
    assert isinstance(result.engine["setup_flags"], list)
    assert result.engine["registered_files"] is True


def test_sync_says_that_it_has_no_depth(a_file):
    """The sync engine has one I/O in flight per job and says so."""
    _, result = measure(a_file, "sync", **RANDOM_4K)
    assert result.engine["iodepth"] == 1
    assert "iodepth 8 was not used" in result.warnings[0]


def test_a_queue_that_was_not_full_is_told(a_file):
    """Where the loop's own time counts, the mean depth is below 95 % and the result says so."""
    fd = os.open("/dev/zero", os.O_RDWR)
    try:
        _, result = measure(fd, "sync", **RANDOM_4K)
    finally:
        os.close(fd)
    assert result.mean_depth < 0.95
    assert any(f"mean depth was {result.mean_depth:.1f} of 1 (" in t for t in result.warnings)
    _, full = measure(-1, "null", **RANDOM_4K)
    assert (full.mean_depth < 0.95 * 8) == any("mean depth" in text for text in full.warnings)


def test_null_answers_no_sooner_than_it_says():
    """The simulated device takes its latency for every I/O."""
    _, result = measure(-1, "null", **RANDOM_4K)
    assert result.read.lat_min_ns >= native.NULL_LATENCY_NS


def test_a_forbidden_ring_names_the_cause_and_the_way_out(monkeypatch):
    """EPERM and ENOSYS become a sentence that offers --engine sync."""
    for number, cause in ((1, "forbids it|io_uring_disabled"), (38, "has no io_uring")):
        error = native._ring_refused(OSError(number, os.strerror(number)))
        assert isinstance(error, RingUnavailable)
        assert re.search(cause, str(error))
        assert "--engine sync" in str(error)


@engines
def test_jobs_run_where_they_may(a_file, engine):
    """cpus_allowed binds the jobs' threads, and leaves the process as it was."""
    before = os.sched_getaffinity(0)
    cpu = max(before)
    workload = Workload(**RANDOM_4K, cpus_allowed=str(cpu), numjobs=2)
    run = native.Measurement(workload, fd=a_file, engine=engine, randseed=1)
    seen = set()
    stop = threading.Event()
    threads = run.run(stop)
    watcher = threading.Timer(0.1, lambda: seen.update(affinities()))
    watcher.start()
    list(threads)
    watcher.join()
    assert seen == {frozenset({cpu})}
    assert os.sched_getaffinity(0) == before


def affinities():
    jobs = [t for t in threading.enumerate() if isinstance(t, native._JobThread)]
    return [frozenset(os.sched_getaffinity(job.native_id)) for job in jobs]
