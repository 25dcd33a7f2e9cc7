"""The options of `anvil bench` that choose offsets, sizes and the end of a run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anvil_engine import cli_bench
from anvil_engine.cli import main
from anvil_engine.cli_bench import bench


@pytest.fixture
def simulated(capsys):
    """Run bench on the null engine; gives the document and its only job."""

    def run(*args):
        words = ["bench", "none", "--engine=null", "--output-format=json"]
        assert main([*words, *args]) == 0
        document = json.loads(capsys.readouterr().out)
        (job,) = document["jobs"]
        return document, job

    return run


def test_bench_keeps_a_map_unless_told_otherwise(simulated):
    """As in fio, random offsets come from a map; --norandommap draws them independently."""
    options = ["--rw=randread", "--runtime=50ms"]
    for given, expected in ([], False), (["--norandommap"], True):
        _, job = simulated(*options, *given)
        assert job["job options"]["norandommap"] is expected


def test_a_distribution_reaches_the_result(simulated):
    """The distribution that was used is in the result, as it was written."""
    _, job = simulated(
        "--rw=randwrite", "--runtime=50ms", "--random-distribution=zoned:60/10:40/90"
    )
    assert job["job options"]["random_distribution"] == "zoned:60/10:40/90"


@pytest.mark.parametrize("given", ["--bssplit=4k/70:64k/30", "--bsrange=4k-64k"])
def test_several_sizes_reach_the_result(simulated, given):
    """Sizes are in the result as they were written; bytes are not a multiple of one size."""
    _, job = simulated("--rw=randread", "--runtime=100ms", "--iodepth=64", given)
    name, value = given.lstrip("-").split("=")
    assert job["job options"][name] == value
    assert job["job options"]["bs"] == 4096
    assert 4096 < job["read"]["io_bytes"] / job["read"]["total_ios"] < 65536


def test_text_shows_the_sizes(capsys):
    """The job's line says the sizes, not the smallest of them."""
    assert (
        main(["bench", "none", "--engine=null", "--runtime=50ms", "--bssplit=4k/70:64k/30"]) == 0
    )
    assert "bs=4k/70:64k/30," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "runtime", "time_based"),
    [
        ([], 10, True),
        (["--size=1m"], 10, True),
        (["--time-based"], 10, True),
        (["--runtime=3"], 3, False),
        (["--runtime=3", "--time-based"], 3, True),
        (["--io-size=1m"], 0, False),
        (["--loops=1"], 0, False),
        (["--loops=2", "--runtime=3"], 3, False),
        (["--loops=2", "--time-based"], 10, True),
    ],
)
def test_what_ends_a_run(given, runtime, time_based):
    """fio's rule; and ten seconds for a run for which nothing was said."""
    options = bench.make_context("bench", ["none", *given]).params
    (phase,) = cli_bench.single_phase("bench", options)
    assert (phase.workload.runtime, phase.workload.time_based) == (runtime, time_based)


def test_a_run_ends_with_its_bytes(simulated):
    """--loops without a runtime does so many passes, and the result shows them."""
    _, job = simulated("--rw=randread", "--size=64k", "--loops=3", "--iodepth=8")
    assert job["read"]["total_ios"] == 48
    assert job["job options"]["loops"] == 3


def test_a_new_file_has_room_for_every_job(tmp_path, capsys):
    """A target that is laid out holds the last job's span, and every job writes its own."""
    target = tmp_path / "new"
    options = ["--size=64k", "--numjobs=3", "--offset-increment=128k", "--loops=1"]
    words = ["bench", str(target), "--rw=write", "--engine=sync", *options]
    assert main([*words, "--output-format=json"]) == 0
    (job,) = json.loads(capsys.readouterr().out)["jobs"]
    assert job["job options"]["offset_increment"] == 128 << 10
    assert target.stat().st_size == 320 << 10
    blocks = np.fromfile(target, np.uint64).reshape(-1, 512)
    written = {i for i in range(80) if blocks[i, 0] == i * 4096 and blocks[i, 1] < 16}
    assert written >= {first + i for first in (0, 32, 64) for i in range(1, 16)}
