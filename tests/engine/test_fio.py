"""A workload in fio's words is one that fio itself accepts, and that asks for the same."""

from __future__ import annotations

import subprocess

import pytest

from anvil_engine import fio
from anvil_engine.workload import Phase, Workload


def options_of(filename: str = "/dev/zero", **workload: object) -> list[str]:
    given = {"rw": "randread", "bs": 4096, "size": 1 << 20, "runtime": 1, **workload}
    return fio.job_options(Phase("p", Workload(**given)), filename)  # type: ignore[arg-type]


@pytest.mark.fio
@pytest.mark.parametrize(
    "workload",
    [
        {},
        {"rw": "randrw", "rwmixread": 70, "iodepth": 8, "numjobs": 2, "offset": 4096},
        {"runtime": 0.25, "ramp_time": 1.5, "randseed": (1 << 64) - 1, "continue_on_error": True},
        {"iodepth": 32, "iodepth_batch_submit": 8, "iodepth_batch_complete_min": 4},
    ],
)
def test_fio_parses_what_is_said_to_it(workload: dict[str, object], tmp_path) -> None:
    """Every option and value is one that fio knows, as a job file and as a command."""
    phase = Phase("p", Workload(**{"rw": "read", "bs": 4096, "size": 1 << 20, **workload}))
    path = tmp_path / "job.fio"
    path.write_text(fio.job_text(phase, "/dev/zero"))
    for command in (["fio", str(path)], fio.command(phase, "/dev/zero")):
        done = subprocess.run([*command, "--parse-only"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_fio_submits_and_reaps_like_the_native_loop() -> None:
    """Where nothing else is asked, fio, too, submits what is free and reaps what is there."""
    assert {
        "iodepth_batch_submit=8",
        "iodepth_batch_complete_min=1",
        "iodepth_batch_complete_max=32",
    } <= {*options_of(iodepth=32)}
    batched = options_of(iodepth=32, iodepth_batch_submit=8, iodepth_batch_complete_min=4)
    assert {"iodepth_batch_submit=8", "iodepth_batch_complete_min=4"} <= {*batched}


def test_an_open_loop_does_not_wait_for_a_batch() -> None:
    """fio would hold an I/O back until iodepth of them are due."""
    assert "iodepth_batch_submit=1" in options_of(iodepth=32, rate_iops=100)


def test_only_a_workload_that_writes_may_write() -> None:
    """fio is told --readonly for everything else."""
    for rw in ("read", "randread"):
        assert "--readonly" in fio.command(Phase("p", Workload(rw=rw, bs=4096)), "x")
    for rw in ("write", "randwrite", "rw", "randrw"):
        assert "--readonly" not in fio.command(Phase("p", Workload(rw=rw, bs=4096)), "x")


def test_a_colon_in_a_name_does_not_make_two_files() -> None:
    """fio separates files by colons; a device by path has some in its name."""
    assert "filename=/dev/disk/by-path/pci-0000\\:00\\:1f.2" in options_of(
        "/dev/disk/by-path/pci-0000:00:1f.2"
    )
