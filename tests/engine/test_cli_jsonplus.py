"""json+ is fio's form, to the key and to the type."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anvil_engine.cli import main

FIO_PLOT_READS = {
    "job options": ("iodepth", "numjobs", "bs", "rw"),
    "read": ("bw", "iops", "iops_stddev", "lat_ns"),
}
"""What fio-plot looks up in a job (fio_plot/fiolib/jsonparsing_support.py)."""


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "out.json"
    options = ["--rw=randrw", "--runtime=1", "--iodepth=4", "--output-format=json+"]
    assert main(["bench", "none", "--engine=null", *options, f"--output={path}"]) == 0
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def shape(value: Any) -> Any:
    """Types by key; fio writes whole floats and ints alike, and its bins are what they are."""
    if isinstance(value, dict):
        return {name: "bins" if name == "bins" else shape(inner) for name, inner in value.items()}
    return "number" if isinstance(value, int | float) else type(value).__name__


def is_part(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and all(
            name in theirs and is_part(inner, theirs[name]) for name, inner in ours.items()
        )
    return bool(ours == theirs)


@pytest.mark.fio
def test_every_key_is_fios_with_fios_type(document: dict[str, Any], tmp_path: Path) -> None:
    """Apart from `anvil` and our percentiles there is nothing that fio does not write."""
    command = ["fio", "--name=bench", "--filename=/dev/zero", "--size=1m", "--rw=randread",
               "--runtime=1", "--time_based", "--lat_percentiles=1", "--output-format=json+"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    theirs = json.loads(done.stdout)
    del document["anvil"]
    (job,), (their_job,) = document.pop("jobs"), theirs.pop("jobs")
    assert is_part(shape(document), shape(theirs))
    assert {type(value) for value in job.pop("job options").values()} == {str}
    assert {"mean_depth", "errors", "randseed", "engine"} == job.pop("anvil").keys()
    for side in (job["read"], job["write"]):
        assert side["lat_ns"].pop("clamped") == 0
        percentiles = side["lat_ns"].pop("percentile")
        assert their_job["read"]["lat_ns"]["percentile"].keys() <= percentiles.keys()
    job["write"]["lat_ns"].pop("bins")  # fio only read
    assert is_part(shape(job), shape(their_job))


def test_bins_have_every_io(document: dict[str, Any]) -> None:
    """The bins add up to the I/Os, and the shares to a hundred percent."""
    (job,) = document["jobs"]
    for side in (job["read"], job["write"]):
        assert sum(side["lat_ns"]["bins"].values()) == side["total_ios"] == side["lat_ns"]["N"] > 0
    shares = [*job["latency_ns"].values(), *job["latency_us"].values()]
    assert sum([*shares, *job["latency_ms"].values()]) == pytest.approx(100)
    assert job["read"]["bw_agg"] + job["write"]["bw_agg"] == pytest.approx(100)


def test_what_was_not_recorded_says_so(document: dict[str, Any]) -> None:
    """slat and clat, which nobody measured, have no samples, and trim is idle."""
    (job,) = document["jobs"]
    assert job["read"]["clat_ns"]["N"] == job["read"]["slat_ns"]["N"] == 0
    assert job["trim"]["total_ios"] == 0
    assert document["anvil"]["simulation"] is True


def test_fio_plot_finds_what_it_reads(document: dict[str, Any]) -> None:
    """The keys that fio-plot needs are there, and of the type that it expects."""
    assert {"fio version", "jobs"} <= document.keys()
    (job,) = document["jobs"]
    for name, keys in FIO_PLOT_READS.items():
        assert not set(keys) - job[name].keys()
    assert int(job["job options"]["iodepth"]) == 4
    assert {"latency_ns", "latency_us", "latency_ms", "usr_cpu", "sys_cpu"} <= job.keys()


@pytest.mark.fio
def test_fio_jsonplus_clat2csv_reads_it(document: dict[str, Any], tmp_path: Path) -> None:
    """fio's own converter makes a table of it, and finds it equal to the bins."""
    script = shutil.which("fio_jsonplus_clat2csv")
    if script is None:
        pytest.skip("fio: this package of fio has no fio_jsonplus_clat2csv")
    for more in ([], ["--validate"]):
        command = [sys.executable, script, str(tmp_path / "out.json"), str(tmp_path / "x.csv")]
        done = subprocess.run([*command, *more], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "x_job0.csv validated" in done.stdout
    rows = (tmp_path / "x_job0.csv").read_text().splitlines()
    assert len(rows) - 1 >= len(document["jobs"][0]["read"]["lat_ns"]["bins"])
