"""When a run ends: with its time, with its bytes, or with whichever comes first."""

import json
import os
import subprocess
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anvil_engine import native
from anvil_engine.workload import Workload

KIB, MIB = 1 << 10, 1 << 20
engines = pytest.mark.parametrize(
    "engine", [pytest.param("native", marks=pytest.mark.uring), "sync", "null"]
)


@pytest.fixture
def a_file(tmp_path):
    fd = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 2 * MIB)
    yield fd
    os.close(fd)


def run(fd, engine="sync", **fields):
    """The intervals and the result of a run that its bytes end."""
    fields = {
        "rw": "randread", "bs": 4096, "size": MIB, "runtime": 0, "time_based": False,
        "norandommap": False, **fields,
    }  # fmt: skip
    measurement = native.Measurement(Workload(**fields), fd=fd, engine=engine, randseed=1)
    loop, intervals = measurement.run(threading.Event()), []
    while True:
        try:
            intervals.append(next(loop))
        except StopIteration as end:
            return intervals, end.value


@engines
@pytest.mark.parametrize("iodepth", [1, 7, 64, 300])
def test_a_pass_is_done_exactly(a_file, engine, iodepth):
    """256 blocks are 256 I/Os at any depth, and each block is written once."""
    intervals, result = run(a_file, engine, rw="randwrite", iodepth=iodepth)
    assert result.write.ios == sum(interval.write.ios for interval in intervals) == 256
    assert result.read is None
    if engine != "null":
        content = np.fromfile(f"/proc/self/fd/{a_file}", dtype=np.uint64).reshape(-1, 512)
        assert (content[:256, 0] == np.arange(0, MIB, 4096)).all()
        assert sorted(content[:256, 1]) == list(range(256))
        assert not content[256:].any()


@pytest.mark.uring
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_batches_end_exactly(a_file, batch):
    """Minimum batches that do not divide the work leave nothing over and hang on nothing."""
    _, result = run(
        a_file,
        "native",
        rw="rw",
        iodepth=8,
        iodepth_batch_submit=batch,
        iodepth_batch_complete_min=batch,
        io_size=101 * 4096,
    )
    assert result.read.ios + result.write.ios == 101


ENDS = [
    {},
    {"loops": 3},
    {"io_size": 2 * MIB},
    {"io_size": 2 * MIB, "loops": 3},
    {"io_size": 256 * KIB},
    {"io_size": 256 * KIB, "loops": 3},
    {"io_size": 1539 * KIB},
    {"io_size": 6 * KIB},
]


@pytest.mark.parametrize("fields", ENDS)
def test_loops_and_io_size_have_their_numbers(a_file, fields):
    """I/Os are those of total_bytes, the last of them whole."""
    _, result = run(a_file, **fields)
    total = Workload(rw="read", bs=4096, size=MIB, runtime=0, time_based=False, **fields)
    assert result.read.ios == -(-total.total_bytes // 4096)


@pytest.mark.fio
@pytest.mark.parametrize("fields", ENDS)
def test_fio_does_as_many(a_file, fields):
    """fio issues the same number of I/Os for the same size, io_size and loops."""
    _, result = run(a_file, **fields)
    options = [f"--{name}={value}" for name, value in fields.items()]
    job = ["fio", "--name=x", "--filename=/dev/zero", "--rw=randread", "--bs=4k", "--size=1m"]
    answer = subprocess.run(
        [*job, *options, "--output-format=json"], capture_output=True, check=True
    )
    (theirs,) = json.loads(answer.stdout)["jobs"]
    assert theirs["read"]["total_ios"] == result.read.ios


def test_time_based_repeats_its_size(a_file):
    """With time_based the size, io_size and loops do not end the run."""
    _, result = run(a_file, time_based=True, runtime=0.2, io_size=8192, size=8192, loops=2)
    assert result.elapsed_s >= 0.2
    assert result.read.ios > 4
    assert not any("bytes were done" in text for text in result.warnings)


@engines
def test_the_runtime_ends_what_takes_longer(a_file, engine):
    """Whichever comes first: time ends a run of many bytes, and nothing is claimed about them."""
    _, result = run(a_file, engine, runtime=0.2, io_size=1 << 50)
    assert 0.2 <= result.elapsed_s < 2
    assert not any("bytes were done" in text for text in result.warnings)


def test_the_bytes_end_what_has_more_time(a_file):
    """Whichever comes first: a run that its bytes end before its runtime says so."""
    _, result = run(a_file, runtime=60)
    assert result.read.ios == 256
    assert "--time-based" in result.warnings[0]


@engines
def test_the_ramp_is_not_counted(a_file, engine):
    """The measured part issues all bytes, whatever the ramp did."""
    _, result = run(a_file, engine, ramp_time=0.2, loops=2)
    issued_before = result.read.ios - 512
    assert 0 <= issued_before <= 1


def test_every_job_does_all_of_its_bytes(a_file):
    """Two jobs do twice the size."""
    _, result = run(a_file, numjobs=2)
    assert result.read.ios == 512


@engines
def test_errors_count_as_done(a_file, engine):
    """A run over a target that shrank ends with its bytes too, good or failed."""
    os.ftruncate(a_file, MIB // 2)
    _, result = run(a_file, engine, continue_on_error=True)
    good = result.read.ios
    assert good + result.errors.get("SHORT", 0) == 256


@given(
    st.sampled_from(["write", "randwrite", "rw", "randrw"]),
    st.sampled_from([{}, {"bssplit": "4k/60:12k/40"}, {"bsrange": "512-16k"}]),
    st.integers(16 * KIB, MIB),
)
def test_the_last_io_reaches_the_total_and_no_other_does(rw, sizes, total):
    """The bytes of a job are at least its total, and fall short of it without the last I/O."""
    workload = Workload(
        rw=rw, bs=4096, size=32 * KIB, io_size=max(total, 32 * KIB), time_based=False, **sizes
    )
    rows = native.Measurement(workload, fd=-1, engine="null", randseed=1).preview(0, 4000)
    assert rows[:-1, 1].sum() < workload.total_bytes <= rows[:, 1].sum()


def test_time_left_is_told_by_bytes():
    """Without a runtime the time left comes from the bytes left, and ends at nothing."""
    intervals, result = run(-1, "null", bs=4096, size=4096, io_size=4096 * 15_000)
    first, *_, last = intervals
    assert last.eta_s < 0.1 < first.eta_s
    done = first.read.ios / result.read.ios
    assert first.eta_s == pytest.approx(first.elapsed_s * (1 - done) / done, rel=0.1)
