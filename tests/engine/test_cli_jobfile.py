"""`anvil bench job.fio` runs what fio would, and `--show-fio` says what fio would run."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from anvil_engine.cli import main

JOB = """\
[global]
filename={target}
direct=${{DIRECT}}
runtime=200ms
time_based
norandommap
include common.fio
[first]
rw=randread
iodepth=4
[second]
stonewall
rw=read
bs=64k
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "target").write_bytes(bytes(1 << 20))
    (tmp_path / "common.fio").write_text("ioengine=psync\nnumjobs=2\n")
    path = tmp_path / "job.fio"
    path.write_text(JOB.format(target=tmp_path / "target"))
    return path


def test_the_jobs_run_one_after_another(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each section is a job of the result, with the file's options, its includes and variables."""
    monkeypatch.setenv("DIRECT", "0")
    assert main(["bench", str(job), "--output-format=json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    first, second = document["jobs"]
    assert (first["jobname"], second["jobname"]) == ("first", "second")
    assert first["job options"]["numjobs"] == 2
    assert first["job options"]["direct"] is False
    assert second["job options"]["bs"] == 65536
    assert document["engine"] == "sync"
    assert min(first["read"]["total_ios"], second["read"]["total_ios"]) > 0


def test_an_engine_that_was_given_wins(
    job: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line has the last word about how, not about what."""
    monkeypatch.setenv("DIRECT", "0")
    assert main(["bench", str(job), "--engine=null", "--output-format=json"]) == 0
    assert json.loads(capsys.readouterr().out)["simulation"] is True
    assert main(["bench", str(job), "--bs=8k"]) == 2
    assert f"--bs belongs into {job}" in capsys.readouterr().err


def test_a_warning_of_the_file_is_shown(tmp_path: Path, capsys) -> None:
    """What is different from fio is said before the run."""
    path = tmp_path / "x.fio"
    path.write_text("[j]\nfilename=x\nrw=randread\nruntime=50ms\ntime_based\n")
    assert main(["bench", str(path), "--engine=null"]) == 0
    assert "[j] has no norandommap" in capsys.readouterr().err


def test_a_job_file_that_cannot_be_read_is_refused(tmp_path: Path, capsys) -> None:
    """Missing, it is named; so is one that an include names."""
    assert main(["bench", str(tmp_path / "none.fio")]) == 2
    assert "none.fio" in capsys.readouterr().err
    (tmp_path / "a.fio").write_text("[j]\ninclude b.fio\n")
    assert main(["bench", str(tmp_path / "a.fio")]) == 2
    assert f"cannot read the job file {tmp_path / 'b.fio'}" in capsys.readouterr().err


@pytest.mark.fio
def test_the_shown_command_is_one_that_fio_takes(tmp_path: Path, capsys) -> None:
    """--show-fio prints a line for the shell, and touches nothing."""
    target = tmp_path / "with blank"
    options = ["--rw=randwrite", "--bs=8k", "--iodepth=4", "--size=1m", "--show-fio"]
    assert main(["bench", str(target), *options]) == 0
    command = shlex.split(capsys.readouterr().out)
    assert not target.exists()
    assert command[0] == "fio"
    assert {"--rw=randwrite", "--bs=8k", f"--filename={target}"} <= {*command}
    assert "--readonly" not in command
    subprocess.run([*command, "--parse-only"], check=True)


@pytest.mark.fio
def test_the_shown_command_runs_on_dev_zero(capsys) -> None:
    """fio needs a size there, and must not ask for O_DIRECT."""
    assert main(["bench", "/dev/zero", "--rw=randread", "--runtime=100ms", "--show-fio"]) == 0
    command = shlex.split(capsys.readouterr().out)
    assert "--readonly" in command
    done = subprocess.run([*command, "--output-format=json"], capture_output=True, check=True)
    assert json.loads(done.stdout)["jobs"][0]["read"]["total_ios"] > 0
