"""`anvil run`: profiles, the event stream that the runner reads, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from anvil_engine.cli import main
from anvil_engine.results import decode
from anvil_engine.workload import Phase, Profile, Workload


@pytest.fixture
def a_profile(tmp_path: Path) -> Path:
    """A file with a profile of two phases of 0.3 s that read."""
    phases = tuple(
        Phase(name, Workload(rw=rw, bs=4096, iodepth=2, runtime=0.3))
        for name, rw in (("one", "read"), ("two", "randread"))
    )
    return write_profile(tmp_path / "short.json", phases)


@pytest.fixture
def a_long_profile(tmp_path: Path) -> Path:
    """A file with a profile of one phase of a minute that reads."""
    phase = Phase("long", Workload(rw="randread", bs=4096, iodepth=2, runtime=60))
    return write_profile(tmp_path / "long.json", (phase,))


def write_profile(path: Path, phases: tuple[Phase, ...]) -> Path:
    path.write_text(json.dumps(Profile("mine", "Mine", "for a test", phases).to_dict()))
    return path


def program(profile: Path, *args: str) -> list[str]:
    verb = ["run", str(profile), "none", "--engine", "null", *args]
    return [sys.executable, "-m", "anvil_engine.cli", *verb]


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_table_has_a_row_for_each_phase(
    a_profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """People get a table with every phase; a simulation says that it is one."""
    assert main(["run", str(a_profile), "none", "--engine", "null"]) == 0
    shown = capsys.readouterr()
    assert "SIMULATION: no storage was touched" in shown.out
    rows = [line.split()[:3] for line in shown.out.splitlines()]
    assert ["one", "read", "4k"] in rows
    assert ["two", "randread", "4k"] in rows
    assert "phase 2/2 two" in shown.err


def test_json_file_holds_the_whole_run(a_profile: Path, tmp_path: Path) -> None:
    """--json keeps the profile, each phase's result and the fio job that asks for the same."""
    path = tmp_path / "result.json"
    assert main(["run", str(a_profile), "none", "--engine", "null", "--json", str(path)]) == 0
    document = json.loads(path.read_text())
    assert document["outcome"] == "complete"
    assert document["profile"] == json.loads(a_profile.read_text())
    assert [phase["phase"]["name"] for phase in document["phases"]] == ["one", "two"]
    assert all(phase["result"]["read"]["ios"] > 0 for phase in document["phases"])
    assert "rw=randread" in document["phases"][1]["jobfile"]


def test_json_on_stdout_is_alone_there(
    a_profile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json -` leaves stdout to the document and moves the table to stderr."""
    assert main(["run", str(a_profile), "none", "--engine", "null", "--json", "-"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["simulation"] is True
    assert "IOPS" in shown.err


def test_events_are_numbered_and_end_once(a_profile: Path) -> None:
    """Every line decodes, `n` rises by one from 1, and the one terminal event is the last."""
    done = subprocess.run(
        program(a_profile, "--events", "jsonl"), capture_output=True, text=True, check=True
    )
    events = lines_of(done.stdout)
    assert [decode(event)[0] for event in events] == list(range(1, len(events) + 1))
    assert [event["event"] for event in events if event["event"] != "phase_sample"] == [
        "run_started",
        "phase_started",
        "phase_complete",
        "phase_started",
        "phase_complete",
        "run_complete",
    ]
    assert done.stderr == ""


def test_events_come_while_it_runs_and_a_signal_aborts(a_long_profile: Path) -> None:
    """A sample is readable within its second; SIGTERM gives `run_aborted` and exit code 130."""
    with subprocess.Popen(
        program(a_long_profile, "--events", "jsonl"), stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        names = [json.loads(child.stdout.readline())["event"] for _ in range(3)]
        assert names == ["run_started", "phase_started", "phase_sample"]
        asked = time.monotonic()
        child.send_signal(signal.SIGTERM)
        rest = lines_of(child.stdout.read())
        assert child.wait(timeout=10) == 130
        assert time.monotonic() - asked < 2
    assert rest[-1]["event"] == "run_aborted"
    assert rest[-1]["partial"]["read"]["ios"] > 0


def test_run_ends_when_its_reader_is_gone(a_long_profile: Path) -> None:
    """A closed event pipe ends the engine quietly, without a traceback."""
    with subprocess.Popen(
        program(a_long_profile, "--events", "jsonl"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.wait(timeout=10) == 1
        assert child.stderr.read() == ""


def test_failed_phase_fails_the_run(tmp_path: Path) -> None:
    """A target that ends early is an error: the stream ends in `run_failed` and exit code 1."""
    target = tmp_path / "shrinking"
    phase = Phase("reads", Workload(rw="read", bs=4096, runtime=30, direct=False))
    profile = write_profile(tmp_path / "p.json", (phase,))
    target.write_bytes(bytes(1 << 20))
    args = ["run", str(profile), str(target), "--engine", "sync", "--events", "jsonl"]
    with subprocess.Popen(
        [sys.executable, "-m", "anvil_engine.cli", *args], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        os.truncate(target, 4096)
        events = lines_of(child.stdout.read())
        assert child.wait(timeout=10) == 1
    assert [event["event"] for event in events][-2:] == ["phase_failed", "run_failed"]
    assert "reads" in events[-1]["error"]


@pytest.mark.parametrize("option", ["--expect-serial", "--expect-wwid"])
def test_exchanged_target_is_refused(
    option: str, a_profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A target with another identity than the runner expects is refused before any I/O."""
    target = tmp_path / "file"
    target.write_bytes(bytes(1 << 20))
    args = ["run", str(a_profile), str(target), option, "SOMEBODY-ELSE", "--events", "jsonl"]
    assert main(args) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "expected SOMEBODY-ELSE" in shown.err


def test_engine_dies_with_its_parent(a_long_profile: Path) -> None:
    """kill -9 of the process that started it takes the engine along, whatever it was doing."""
    parent_code = (
        "import os, subprocess, sys;"
        "child = subprocess.Popen([*sys.argv[1:], '--die-with-parent', str(os.getpid())],"
        " stdout=open(os.devnull, 'w'));"
        "print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent_code, *program(a_long_profile, "--events", "jsonl")],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        engine = psutil.Process(int(parent.stdout.readline()))
        wait_until_loaded(engine)
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 5
    while is_alive(engine) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(engine)


def wait_until_loaded(engine: psutil.Process) -> None:
    """Until the run's threads exist, which is well after the call of prctl."""
    deadline = time.monotonic() + 10
    while engine.num_threads() < 2 and time.monotonic() < deadline:
        time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
