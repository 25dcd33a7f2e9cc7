"""I/Os of several sizes, on real files."""

import os
import threading

import numpy as np
import pytest

from anvil_engine import histogram, native
from anvil_engine.errors import InvalidWorkload
from anvil_engine.plan import expand
from anvil_engine.workload import Phase, Profile, Workload

MIB = 1 << 20
engines = pytest.mark.parametrize(
    "engine", [pytest.param("native", marks=pytest.mark.uring), "sync"]
)


def run(fd, engine, **fields):
    """The intervals and the result of a run of 0.3 s on 8 MiB."""
    fields = {"iodepth": 8, "size": 8 * MIB, "runtime": 0.3, "bs": 1, **fields}
    measurement = native.Measurement(Workload(**fields), fd=fd, engine=engine, randseed=1)
    loop, intervals = measurement.run(threading.Event()), []
    while True:
        try:
            intervals.append(next(loop))
        except StopIteration as end:
            return intervals, end.value


@pytest.fixture
def a_file(tmp_path):
    fd = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 8 * MIB)
    yield fd
    os.close(fd)


@engines
@pytest.mark.parametrize("sizes", [{"bssplit": "512/50:16k/50"}, {"bsrange": "4k-64k"}])
@pytest.mark.parametrize("rw", ["randrw", "rw"])
def test_bytes_are_counted_as_they_were_moved(a_file, engine, sizes, rw):
    """Bytes are between what the smallest and the largest size would give; intervals agree."""
    intervals, result = run(a_file, engine, rw=rw, **sizes)
    workload = Workload(rw=rw, bs=1, **sizes)
    middle = (workload.bs + workload.largest_bs) / 2
    for name in ("read", "write"):
        side = getattr(result, name)
        assert histogram.total(histogram.unpack(side.histogram)) == side.ios > 100
        assert abs(side.io_bytes / side.ios - middle) < middle / 2
        (sample,) = [getattr(interval, name) for interval in intervals]
        assert sample.bw_bytes == pytest.approx(side.bw_bytes, rel=0.05)


@engines
def test_every_write_is_whole_and_inside(a_file, engine):
    """Writes of mixed sizes stay inside of the range, and each sector carries its offset."""
    run(a_file, engine, rw="randwrite", bssplit="4k/50:64k/50", offset=MIB, size=4 * MIB)
    content = np.fromfile(f"/proc/self/fd/{a_file}", dtype=np.uint64).reshape(-1, 512)
    assert not content[:256].any()
    assert not content[5 * 256 :].any()
    written = np.flatnonzero(content.any(axis=1))
    assert len(written) > 900
    assert (content[written, 0] == written * 4096).all()


def test_sizes_have_to_fit_the_target():
    """A size that is no multiple of a sector, or larger than the target, is refused by name."""
    for sizes, size, word in (
        ({"bssplit": "4k/50:4608/50"}, MIB, "bssplit=4608 is not a multiple"),
        ({"bsrange": "1k-64k"}, MIB, "bs=1024 is not a multiple"),
        ({"bsrange": "4k-64k"}, 32 << 10, "a block of 65536 bytes"),
    ):
        phase = Phase("p", Workload(rw="read", bs=1, **sizes))
        with pytest.raises(InvalidWorkload, match=word):
            expand(Profile("p", "p", "", (phase,)), target_size=size, lba_size=4096)


def test_bs_is_the_smallest_and_no_map_is_claimed():
    """What the workload says is what will be done."""
    workload = Workload(rw="randread", bs=1 << 20, bssplit="64k/10:4k/90", norandommap=False)
    assert (workload.bs, workload.largest_bs, workload.norandommap) == (4096, 65536, True)
    assert not Workload(rw="randread", bs=4096, norandommap=False).norandommap
