"""What a workload may ask for beside reads and writes, and what is refused with a way out."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from anvil_engine import checks, failures, histogram, native
from anvil_engine.errors import DeviceError, EngineError
from anvil_engine.workload import Workload

MIB = 1 << 20
WRITE_4K = {"rw": "randwrite", "bs": 4096, "size": 8 * MIB, "iodepth": 8, "runtime": 0.3}

every_engine = pytest.mark.parametrize(
    "engine", [pytest.param("native", marks=pytest.mark.uring), "sync", "null"]
)


@pytest.fixture
def a_file(tmp_path):
    """A file of 8 MiB, opened for reading and writing."""
    path = tmp_path / "target"
    path.write_bytes(bytes(8 * MIB))
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def measure(fd, engine="native", stop=None, **workload):
    """The result of one measurement."""
    measurement = native.Measurement(Workload(**workload), fd=fd, engine=engine, randseed=1)
    run = measurement.run(stop or threading.Event())
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value


def recorded(latencies):
    return histogram.total(histogram.unpack(latencies.histogram))


# fsync ----------------------------------------------------------------------------------------


@every_engine
@pytest.mark.parametrize("paced", [{}, {"rate_iops": 500}], ids=["closed", "open"])
def test_an_fsync_follows_every_so_many_writes(a_file, engine, paced):
    """One for each three writes; its latency is not among the writes', nor on the schedule."""
    result = measure(a_file, engine, **WRITE_4K, fsync=3, **paced)
    assert recorded(result.write) == result.write.ios > 0
    assert recorded(result.sync) == result.sync.ios
    # At the end up to iodepth writes may still wait for theirs.
    assert result.write.ios // 3 - 1 <= result.sync.ios <= result.write.ios // 3
    assert result.write.io_bytes == result.write.ios * 4096
    if paced:
        assert result.write.response.ios == result.pace.started == result.write.ios


@every_engine
def test_fsyncs_leave_several_sizes_alone(a_file, engine):
    """An fsync takes a slot and no bytes; the writes keep the sizes that were drawn for them."""
    ends = {"bsrange": "4k-16k", "rw": "write", "runtime": 0.0, "time_based": False}
    result = measure(a_file, engine, **WRITE_4K | ends, fsync=2)
    assert result.write.io_bytes == WRITE_4K["size"]
    assert result.write.ios // 2 - 1 <= result.sync.ios <= result.write.ios // 2


def test_an_fsync_that_fails_is_called_one():
    """The sentence does not speak of bytes at an offset."""
    assert str(failures.device_error(errno.EIO, 0, 0)).startswith("an fsync failed with EIO")


@pytest.mark.uring
def test_only_writes_count_towards_an_fsync(a_file):
    """Reads of a mix are not counted."""
    result = measure(a_file, **WRITE_4K | {"rw": "randrw"}, fsync=2)
    assert result.read.ios > 0
    assert abs(result.sync.ios - result.write.ios // 2) <= 1


def test_without_fsync_there_is_no_sync_class(a_file):
    """None, not zero."""
    assert measure(a_file, "sync", **WRITE_4K).sync is None


# thinktime ------------------------------------------------------------------------------------


@every_engine
@pytest.mark.parametrize(("iodepth", "blocks"), [(1, 1), (4, 1), (4, 10)])
def test_a_job_pauses_between_ios(a_file, engine, iodepth, blocks):
    """No more rounds than pauses fit into the time; a round is the blocks and what was in flight."""
    pauses = {"iodepth": iodepth, "thinktime": 0.02, "thinktime_blocks": blocks}
    result = measure(a_file, engine, **WRITE_4K | pauses)
    rounds = WRITE_4K["runtime"] / 0.02 + 1
    assert blocks <= result.write.ios <= rounds * (blocks + iodepth)
    assert result.write.ios == recorded(result.write)
    assert not any("mean depth" in text for text in result.warnings)


@every_engine
def test_a_stop_ends_a_long_thought(a_file, engine):
    """A pause of a minute does not keep the user waiting."""
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    before = time.monotonic()
    result = measure(a_file, engine, stop, **WRITE_4K | {"runtime": 60.0, "thinktime": 60.0})
    assert time.monotonic() - before < 2
    assert 1 <= result.write.ios <= WRITE_4K["iodepth"]


# slat and clat --------------------------------------------------------------------------------


@pytest.mark.uring
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"iodepth_batch_submit": 4, "iodepth_batch_complete_min": 4},
        {"rate_iops": 2000},
        {"fsync": 4},
        {"numjobs": 2, "ramp_time": 0.1},
    ],
    ids=lambda more: " ".join(more) or "plain",
)
def test_slat_and_clat_enclose_lat(a_file, more):
    """Each I/O has all three; slat + clat begin before lat does, clat after, and all end together."""
    result = measure(a_file, **WRITE_4K | {"rw": "randrw", "slat_percentiles": True} | more)
    for side in (result.read, result.write):
        assert recorded(side.slat) == recorded(side.clat) == recorded(side) == side.ios > 0
        assert side.clat.mean_ns <= side.lat_mean_ns <= side.slat.mean_ns + side.clat.mean_ns
        assert side.clat.min_ns <= side.lat_min_ns
        assert side.clat.max_ns <= side.lat_max_ns
        assert side.slat.min_ns > 0


def test_slat_is_refused_where_there_is_none(a_file):
    """One system call per I/O has no submission apart; the sentence names what works."""
    workload = Workload(**WRITE_4K, slat_percentiles=True)
    for engine in ("sync", "null"):
        with pytest.raises(EngineError, match="--engine native"):
            checks.require_available(engine, workload, a_file)


def test_without_being_asked_there_is_no_slat(a_file):
    """None, not zero."""
    result = measure(a_file, "sync", **WRITE_4K)
    assert (result.write.slat, result.write.clat) == (None, None)


# The kernel's workers -------------------------------------------------------------------------


@pytest.mark.uring
def test_io_that_the_kernel_gave_to_workers_is_told(tmp_path):
    """tmpfs with O_DIRECT blocks: workers are seen, and the result offers --engine sync."""
    path = Path("/dev/shm") / f"anvil-test-{os.getpid()}"
    path.write_bytes(bytes(MIB))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        pytest.skip("tmpfs has no O_DIRECT here (Linux 6.6)")
    finally:
        path.unlink()
    result = measure(fd, rw="randread", bs=4096, size=MIB, runtime=0.8)
    os.close(fd)
    assert result.engine["iou_wrk"]["threads"] >= 1
    assert any("--engine sync may be faster" in text for text in result.warnings)


@pytest.mark.uring
def test_io_that_the_submitter_does_itself_names_no_workers():
    """Where nothing blocks there is nothing to say."""
    fd = os.open("/dev/zero", os.O_RDONLY)
    result = measure(fd, rw="randread", bs=4096, size=MIB, runtime=0.4)
    os.close(fd)
    assert "iou_wrk" not in result.engine
    assert not any("iou-wrk" in text for text in result.warnings)


# Polling --------------------------------------------------------------------------------------


@pytest.mark.uring
@pytest.mark.parametrize("rw", ["randread", "randwrite", "randrw"])
@pytest.mark.parametrize("more", [{}, {"iodepth": 1}, {"rate_iops": 1000}, {"numjobs": 2}])
def test_the_kernels_thread_submits_everything(a_file, rw, more):
    """With SQPOLL nothing is lost or counted twice, at any depth, in either loop."""
    result = measure(a_file, **WRITE_4K | {"rw": rw, "sqthread_poll": True} | more)
    assert "SQPOLL" in result.engine["setup_flags"]
    for side in filter(None, (result.read, result.write)):
        assert recorded(side) == side.ios > 0
    assert result.errors == {}
    assert any("sqpoll" in text for text in result.warnings)


@pytest.mark.uring
def test_a_sleeping_submission_thread_is_woken(a_file):
    """It sleeps after a second without work; the I/O that comes later is done all the same."""
    paced = {"rate_iops": 1, "runtime": 2.5, "sqthread_poll": True}
    result = measure(a_file, **WRITE_4K | paced)
    assert result.write.ios == result.pace.due == 3


@pytest.mark.uring
def test_a_target_without_poll_queues_is_refused_with_the_way_out():
    """The errno, the reason and what works; known before any I/O of the phase."""
    fd = os.open("/dev/zero", os.O_RDONLY)
    with pytest.raises(EngineError, match=r"EOPNOTSUPP.*poll_queues.*works without"):
        checks.require_available("native", Workload(**WRITE_4K, hipri=True), fd)
    os.close(fd)


@pytest.mark.nvme
def test_a_drive_with_poll_queues_is_polled():
    """IOPOLL is in effect and every I/O is recorded."""
    fd = os.open(os.environ["ANVIL_TEST_NVME"], os.O_RDONLY | os.O_DIRECT)
    polled = {"rw": "randread", "bs": 4096, "size": MIB, "runtime": 0.5, "hipri": True}
    try:
        checks.require_available("native", Workload(**polled), fd)
    except EngineError as error:
        pytest.skip(f"nvme: {error}")
    result = measure(fd, **polled)
    os.close(fd)
    assert "IOPOLL" in result.engine["setup_flags"]
    assert recorded(result.read) == result.read.ios > 0


@pytest.mark.parametrize("option", ["hipri", "sqthread_poll"])
@pytest.mark.parametrize("engine", ["sync", "null"])
def test_an_engine_without_a_ring_cannot_poll(a_file, engine, option):
    """And says which engine can."""
    with pytest.raises(EngineError, match="--engine native"):
        checks.require_available(engine, Workload(**WRITE_4K, **{option: True}), a_file)


def test_a_refused_submission_thread_names_the_errno(monkeypatch):
    """EPERM from the kernel becomes a sentence with the way out."""

    def probe(*, hipri=False, sqthread_poll=False):
        if sqthread_poll:
            raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(checks._ioloop, "probe", probe)
    workload = Workload(**WRITE_4K, sqthread_poll=True)
    with pytest.raises(EngineError, match=r"EPERM .*works without it"):
        checks.require_available("native", workload, -1)


# trim -----------------------------------------------------------------------------------------

TRIM = {"rw": "trim", "bs": 64 << 10, "iodepth": 4, "runtime": 0.5}
storing_engines = pytest.mark.parametrize(
    "engine", [pytest.param("native", marks=pytest.mark.uring), "sync"]
)


@pytest.mark.root
@storing_engines
@pytest.mark.parametrize("rw", ["trim", "randtrim"])
def test_a_trim_discards_its_range_and_nothing_else(loop_device, engine, rw):
    """What was trimmed reads as zeros; the random bytes around it are what they were."""
    before = loop_device.read_bytes()
    fd = os.open(loop_device, os.O_RDWR | os.O_EXCL)
    span = {"offset": 4 * MIB, "size": MIB}
    checks.require_available(engine, Workload(**TRIM | {"rw": rw}), fd)
    result = measure(fd, engine, **TRIM | {"rw": rw} | span)
    os.close(fd)
    after = loop_device.read_bytes()
    assert after[4 * MIB : 5 * MIB] == bytes(MIB)
    assert after[: 4 * MIB] + after[5 * MIB :] == before[: 4 * MIB] + before[5 * MIB :]
    assert recorded(result.trim) == result.trim.ios >= 16
    assert result.trim.io_bytes == result.trim.ios * TRIM["bs"]
    assert (result.read, result.write, result.errors) == (None, None, {})


@pytest.mark.root
@storing_engines
@pytest.mark.parametrize(
    "sizes", [{"bssplit": "4k/50:64k/50"}, {"bsrange": "4k-16k"}], ids=lambda sizes: "".join(sizes)
)
def test_trims_of_several_sizes_end_with_their_bytes(loop_device, engine, sizes):
    """Each trim discards its own length: the bytes in the result are those of the range."""
    before = loop_device.read_bytes()
    fd = os.open(loop_device, os.O_RDWR | os.O_EXCL)
    span = {"offset": 4 * MIB, "size": MIB, "runtime": 0.0, "time_based": False}
    result = measure(fd, engine, **TRIM | span | sizes)
    os.close(fd)
    after = loop_device.read_bytes()
    assert after[4 * MIB : 5 * MIB] == bytes(MIB)
    assert after[: 4 * MIB] + after[5 * MIB :] == before[: 4 * MIB] + before[5 * MIB :]
    assert result.trim.io_bytes == MIB
    assert MIB // (64 << 10) < result.trim.ios < MIB // 4096


@pytest.mark.root
@pytest.mark.uring
def test_the_result_says_how_it_trimmed(loop_device):
    """Through the ring at full depth, or one ioctl at a time where the kernel has nothing else."""
    fd = os.open(loop_device, os.O_RDWR)
    result = measure(fd, **TRIM, size=MIB)
    os.close(fd)
    if result.engine["trim"] == "BLKDISCARD":
        assert result.engine["iodepth"] == 1
        assert any("iodepth 4 was not used" in text for text in result.warnings)
    else:
        assert (result.engine["trim"], result.engine["iodepth"]) == ("BLOCK_URING_CMD_DISCARD", 4)


@storing_engines
@pytest.mark.parametrize("more", [{}, {"continue_on_error": True}])
def test_a_trim_that_did_nothing_is_an_error(engine, more):
    """Where every discard fails the phase fails, also when it goes on after errors."""
    fd = os.open("/dev/zero", os.O_RDWR)
    with pytest.raises(DeviceError, match="nothing was trimmed" if more else "ENOTTY"):
        measure(fd, engine, **TRIM, size=MIB, **more)
    os.close(fd)


@storing_engines
def test_a_file_is_not_trimmed(a_file, engine):
    """As in fio, a trim needs a block device; a file is refused before any I/O."""
    with pytest.raises(EngineError, match="only a block device"):
        checks.require_available(engine, Workload(**TRIM), a_file)


def test_trims_have_samples_and_a_schedule_too():
    """The null device counts them as trims, in intervals and with response times."""
    measurement = native.Measurement(
        Workload(**TRIM | {"rate_iops": 1000}, size=MIB), fd=-1, engine="null", randseed=1
    )
    intervals = list(measurement.run(threading.Event()))
    assert sum(interval.trim.ios for interval in intervals) > 0
    assert all(interval.read is None and interval.write is None for interval in intervals)


@pytest.mark.parametrize("depth", [1, 32])
def test_large_trims_need_no_buffers(depth):
    """A gibibyte a trim, many in flight: there is no data to hold."""
    result = measure(-1, "null", **TRIM | {"bs": 1 << 30, "iodepth": depth}, size=1 << 40)
    assert result.trim.ios > 0
