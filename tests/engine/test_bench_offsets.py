"""The options of `anvil bench` that choose offsets, sizes and the end of a run."""

from __future__ import annotations

import json

import pytest

from anvil_engine.cli import main


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
