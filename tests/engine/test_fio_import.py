"""What fio wrote is read back with its numbers, and what it did not record is not invented."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from anvil_engine import fio_import, histogram
from anvil_engine.cli import main
from anvil_engine.errors import InvalidWorkload
from anvil_engine.results import PhaseComplete, PhaseFailed, RunStarted

LAT = {"min": 10, "max": 30, "mean": 20.0, "stddev": 5.0, "N": 4}
IDLE = {"io_bytes": 0, "runtime": 0, "total_ios": 0, "lat_ns": {"N": 0}}


def a_document(lat: dict[str, Any], **job: Any) -> dict[str, Any]:
    read = {"io_bytes": 16384, "runtime": 2000, "total_ios": 4, "lat_ns": LAT | lat}
    entry = {
        "jobname": "j", "error": 0, "job options": {"rw": "randread", "bs": "4k", "iodepth": "8"},
        "usr_cpu": 1.0, "sys_cpu": 2.0, "read": read, "write": IDLE,
    }  # fmt: skip
    return {"fio version": "fio-3.33", "global options": {"direct": "1"}, "jobs": [entry | job]}


def completed(document: dict[str, Any]) -> list[PhaseComplete]:
    found = fio_import.events(json.dumps(document, indent=2))
    return [event for event in found if isinstance(event, PhaseComplete)]


def test_numbers_and_options_are_read() -> None:
    """Workload from global and job options, latencies from lat's bins, idle is None."""
    document = a_document({"bins": {"10": 1, "20": 2, "30": 1}})
    (phase,) = completed(document)
    assert phase.result.read is not None
    assert (phase.result.read.ios, phase.result.read.iops) == (4, 2.0)
    assert phase.result.read.percentiles["50"] == 20
    assert phase.result.write is None
    assert phase.result.workload["iodepth"] == 8
    assert phase.result.workload["direct"] is True
    assert phase.result.workload["runtime"] == 2.0
    assert phase.result.warnings == ()


def test_a_plain_json_has_no_histogram_and_says_so() -> None:
    """Percentiles are fio's own; bins are not made up from them."""
    (phase,) = completed(a_document({"percentile": {"50.000000": 21, "99.900000": 30}}))
    side = phase.result.read
    assert side is not None
    assert side.percentiles == {"50": 21.0, "99.9": 30.0}
    assert not histogram.unpack(side.histogram).any()
    assert "has no bins" in phase.result.warnings[0]


def test_clat_does_not_stand_in_for_lat() -> None:
    """Without lat_percentiles fio has those of clat only, and there are none here."""
    document = a_document({})
    document["jobs"][0]["read"]["clat_ns"] = LAT | {"percentile": {"50.000000": 1}}
    (phase,) = completed(document)
    assert phase.result.read is not None
    assert phase.result.read.percentiles == {}
    assert "run it with --lat_percentiles=1" in phase.result.warnings[0]


def test_jobs_of_one_name_are_told_apart() -> None:
    """Without group_reporting fio lists each of numjobs."""
    document = a_document({"bins": {"10": 4}})
    document["jobs"][0]["job options"]["numjobs"] = "2"
    document["jobs"] *= 2
    first, second = completed(document)
    assert (first.phase_name, second.phase_name) == ("j 1", "j 2")
    assert first.result.workload["numjobs"] == 1


def test_a_failed_job_fails_the_run() -> None:
    """An error in the file cannot look like a finished run."""
    *_, failed, end = fio_import.events(json.dumps(a_document({}, error=5), indent=2))
    assert isinstance(failed, PhaseFailed)
    assert failed.errno == 5
    assert end.event == "run_failed"


def test_what_has_no_place_is_named() -> None:
    """Options that Anvil does not know are listed beside the result."""
    document = a_document({"bins": {"10": 4}})
    document["jobs"][0]["job options"]["zonemode"] = "zbd"
    started = fio_import.events(json.dumps(document, indent=2))[0]
    assert isinstance(started, RunStarted)
    assert started.warnings == ("options that Anvil does not know: zonemode",)


@pytest.mark.parametrize(
    "text", ["", "no json", "{}", "[]", '{\n"jobs": []\n}', '{\n"jobs": 3\n}']
)
def test_junk_is_refused(text: str) -> None:
    """Anything else is a sentence with the way out."""
    with pytest.raises(InvalidWorkload, match="not a result of fio"):
        fio_import.events(text)


def test_our_own_json_plus_comes_back_as_it_was(tmp_path: Path, capsys) -> None:
    """Every number of a run survives json+ and import."""
    path, again = tmp_path / "x.json", tmp_path / "y.json"
    options = ["--engine=null", "--rw=randrw", "--iodepth=4", "--runtime=1", "--randseed=7"]
    assert main(["bench", "none", *options, "--output-format=json+", f"--output={path}"]) == 0
    assert main(["import", str(path), f"--json={again}"]) == 0
    written = json.loads(path.read_text())["jobs"][0]
    read = json.loads(again.read_text())
    assert read["simulation"] is True
    result = read["phases"][0]["result"]
    assert result["workload"]["randseed"] == 7
    for name in ("read", "write"):
        assert result[name]["ios"] == written[name]["total_ios"]
        assert result[name]["lat_max_ns"] == written[name]["lat_ns"]["max"]
        assert result[name]["lat_mean_ns"] == pytest.approx(written[name]["lat_ns"]["mean"])
        assert (
            result[name]["percentiles"]["99"] == written[name]["lat_ns"]["percentile"]["99.000000"]
        )


@pytest.mark.fio
@pytest.mark.parametrize("form", ["json", "json+"])
def test_fios_own_output_is_read(form: str, tmp_path: Path, capsys) -> None:
    """The real program's file, with two jobs and a status report in between."""
    path = tmp_path / "fio.json"
    command = [
        "fio", "--filename=/dev/zero", "--size=1m", "--runtime=1200ms", "--time_based",
        "--lat_percentiles=1", "--status-interval=1", f"--output-format={form}",
        "--name=a", "--rw=randread", "--bs=8k", "--name=b", "--stonewall", "--rw=read",
        "--iodepth=2",
    ]  # fmt: skip
    with path.open("w") as file:
        subprocess.run(command, stdout=file, check=True, cwd=tmp_path)
    assert main(["import", str(path)]) == 0
    out = capsys.readouterr().out
    assert "import on /dev/zero" in out
    assert "8k" in out
    assert ("has no bins" in out) == (form == "json")
