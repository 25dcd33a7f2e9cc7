"""`anvil bench`: fio's words in, fio's words out."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anvil_engine.cli import main
from anvil_engine.cli_bench import bench

OURS = {
    "confirm_serial",
    "engine",
    "output",
    "output_format",
    "show_fio",
    "yes_destroy_data",
}
"""Options of bench that fio does not have, or means otherwise."""
FLAGS = {"time_based", "group_reporting", "norandommap"}
VALUES = {
    "rw": "randread", "bs": "4k", "size": "1m", "name": "x", "random_distribution": "zipf:1.2",
    "bssplit": "4k/70:8k/30", "bsrange": "4k-8k", "rate_process": "linear",
}  # fmt: skip


def measured(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main(["bench", *args, "--output-format", "json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_text_has_fios_words_in_fios_order(capsys: pytest.CaptureFixture[str]) -> None:
    """A reader of fio's output finds each line where fio has it."""
    options = ["--rw=randrw", "--rwmixread=70", "--bs=4k", "--iodepth=4", "--runtime=1"]
    assert main(["bench", "none", "--engine", "null", *options]) == 0
    direction = [
        r"IOPS=[\d.]+k?, BW=[\d.]+[KMG]iB/s \([\d.]+[kMG]B/s\)\([\d.]+[KMG]iB/\d+msec\)",
        r"     lat \(usec\): min=\d+, max=\d+, avg=\d+\.\d\d, stdev=\d+\.\d\d",
        r"    lat percentiles \(usec\):",
        r"     \|  1\.00th=\[ *\d+\],  5\.00th=\[ *\d+\], 10\.00th=\[ *\d+\], 20\.00th=\[ *\d+\],",
        r"     \| 99\.99th=\[ *\d+\]$",
        r"   bw \(  KiB/s\): min=\d+, max=\d+, per=\d+\.\d\d%, avg=[\d.]+, stdev=[\d.]+, samples=1",
        r"   iops        : min=\d+, max=\d+, avg=[\d.]+, stdev=[\d.]+, samples=1",
    ]
    expected = [
        r"bench: \(g=0\): rw=randrw, bs=4096B, ioengine=null, iodepth=4, ",
        r"SIMULATION",
        r"bench: \(groupid=0, jobs=1\): err= 0: pid=\d+: ",
        rf"  read: {direction[0]}",
        *direction[1:],
        rf"  write: {direction[0]}",
        *direction[1:],
        r"  lat \(usec\)   : .*250=\d+\.\d\d%",
        r"  cpu          : usr=\d+\.\d\d%, sys=\d+\.\d\d%",
        r"  IO depths    : mean=\d\.\d\d of 4",
        r"     issued rwts: total=\d+,\d+,0,0",
        r"Run status group 0 \(all jobs\):",
        r"   READ: bw=[\d.]+[KMG]iB/s \([\d.]+[kMG]B/s\), io=[\d.]+[KMG]iB \([\d.]+[kMG]B\), run=",
        r"  WRITE: bw=",
    ]
    text, position = capsys.readouterr().out, 0
    for pattern in expected:
        found = re.compile(pattern, re.MULTILINE).search(text, position)
        assert found, f"{pattern} is not after:\n{text[:position]}\nbut in:\n{text[position:]}"
        position = found.end()


def test_json_is_alone_on_stdout_and_counts_every_io(capsys: pytest.CaptureFixture[str]) -> None:
    """stdout is one document; what was recorded is what completed, and an idle side is null."""
    result = measured(capsys, "none", "--engine=null", "--rw=randread", "--runtime=1")
    (job,) = result["jobs"]
    assert job["write"] is None
    assert job["read"]["total_ios"] == job["read"]["lat_ns"]["N"] > 1000
    assert job["read"]["io_bytes"] == job["read"]["total_ios"] * 4096
    assert job["read"]["iops"] == pytest.approx(job["read"]["total_ios"], rel=0.01)
    assert sum(sample["ios"] for sample in job["read"]["samples"]) == job["read"]["total_ios"]
    assert result["simulation"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"cpus_allowed": "0"},
        {"fsync": 3},
        {"thinktime": 0.0005, "thinktime_blocks": 2},
        {"iodepth_batch_complete_min": 1, "rate_iops": 2000, "rate_process": "poisson"},
    ],
    ids=lambda more: " ".join(more),
)
def test_options_reach_the_workload(
    capsys: pytest.CaptureFixture[str], more: dict[str, Any]
) -> None:
    """Every option is in the workload that ran, in base units."""
    given = {
        "rw": "randrw", "bs": 8192, "iodepth": 8, "numjobs": 2, "runtime": 0.25, "ramp_time": 0.05,
        "rwmixread": 70, "offset": 1 << 20, "size": 1 << 30, "randseed": 7,
        "iodepth_batch_submit": 4, "iodepth_batch_complete_min": 2,
        **more,
    }  # fmt: skip
    words = {
        "bs": "8k",
        "runtime": "250ms",
        "ramp_time": "50ms",
        "offset": "1m",
        "size": "1g",
        "thinktime": "500",
    }
    options = [f"--{name}={words.get(name, value)}" for name, value in given.items()]
    result = measured(capsys, "none", "--engine=null", *options, "--direct=0")
    (job,) = result["jobs"]
    ran = job["job options"]
    assert {name: ran[name] for name in given} == given
    assert not ran["direct"]
    assert job["randseed"] == 7


@pytest.mark.parametrize(
    "options",
    [
        ["none", "--engine=null", "--cpus-allowed=8191"],
        ["/dev/zero", "--engine=sync", "--slat-percentiles"],
        pytest.param(["/dev/zero", "--iopoll"], marks=pytest.mark.uring),
        pytest.param(["/dev/zero", "--bs=8k"], marks=pytest.mark.uring),
    ],
    ids=lambda options: options[-1],
)
def test_what_cannot_be_had_is_one_line(
    capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    """No result, no traceback: the reason and the way out, on standard error, and exit 1."""
    assert main(["bench", *options]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"anvil: phase bench: .*; .*\n", shown.err)


def test_open_loop_is_reported_with_both_times(capsys: pytest.CaptureFixture[str]) -> None:
    """The text has resp lines beside lat, and how the schedule was kept; so has the JSON."""
    options = ["none", "--engine=null", "--rw=randread", "--rate-iops=500", "--runtime=500ms"]
    assert main(["bench", *options]) == 0
    text = capsys.readouterr().out
    assert re.search(r"     lat \(usec\).*\n.*    resp \(usec\)", text, re.DOTALL)
    assert re.search(r"  rate         : 500 IOPS linear, started \d+ of 25\d, \d+ late", text)
    (job,) = measured(capsys, *options)["jobs"]
    assert job["read"]["response_ns"]["N"] == job["read"]["lat_ns"]["N"] == job["pace"]["started"]


@pytest.mark.uring
def test_slat_and_clat_are_reported_as_fio_does(capsys: pytest.CaptureFixture[str]) -> None:
    """Three lines and three lists in the text, three keys in the JSON."""
    options = ["/dev/zero", "--rw=randread", "--slat-percentiles", "--runtime=200ms"]
    assert main(["bench", *options]) == 0
    text = capsys.readouterr().out
    found = re.findall(r"^ {4,5}(\w+) \(\w+\): min=|^ {4}(\w+) percentiles", text, re.MULTILINE)
    kinds = ("slat", "clat", "lat")
    assert found == [pair for kind in kinds for pair in ((kind, ""), ("", kind))]
    (job,) = measured(capsys, *options)["jobs"]
    assert {job["read"][f"{kind}_ns"]["N"] for kind in kinds} == {job["read"]["total_ios"]}


def test_missing_target_is_laid_out_when_its_size_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in fio, --size creates the file; Anvil may then write to it without being asked."""
    target = tmp_path / "new"
    options = ["--size=1m", "--rw=randwrite", "--runtime=200ms", "--engine=sync"]
    result = measured(capsys, str(target), *options)
    assert target.stat().st_size == 1 << 20
    assert result["jobs"][0]["write"]["total_ios"] > 0
    assert result["target"]["serial"]


def test_trim_has_to_be_confirmed_like_a_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trim destroys data: a file that Anvil did not create is not even opened for it."""
    target = tmp_path / "theirs"
    target.write_bytes(b"x" * 8192)
    assert main(["bench", str(target), "--rw=trim", "--bs=4k"]) == 2
    assert "--yes-destroy-data" in capsys.readouterr().err
    assert target.read_bytes() == b"x" * 8192


def test_trim_is_reported_where_fio_reports_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own section and the third of the issued counts; in JSON the key trim."""
    options = ["none", "--engine=null", "--rw=randtrim", "--runtime=200ms"]
    assert main(["bench", *options]) == 0
    text = capsys.readouterr().out
    assert "  trim: IOPS=" in text
    assert re.search(r"issued rwts: total=0,0,[1-9]\d*,0", text)
    (job,) = measured(capsys, *options)["jobs"]
    assert job["trim"]["total_ios"] == job["trim"]["lat_ns"]["N"] > 0
    assert job["read"] is None


def test_missing_device_is_not_laid_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped device never becomes a file in memory below /dev."""
    assert main(["bench", "/dev/nvme99n1", "--size=1m"]) == 2
    assert "/dev/nvme99n1 does not exist" in capsys.readouterr().err
    assert not Path("/dev/nvme99n1").exists()


@pytest.mark.parametrize("way", ["dots", "folder", "link"])
def test_missing_device_is_not_laid_out_by_another_way(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does it by a path that leads to /dev over "..", a linked folder or a link."""
    device = Path("/dev/nvme99n1")
    if way == "dots":
        target = tmp_path.joinpath(*[".."] * (len(tmp_path.parts) - 1), "dev", device.name)
    elif way == "folder":
        (tmp_path / "devices").symlink_to("/dev")
        target = tmp_path / "devices" / device.name
    else:
        target = tmp_path / "link"
        target.symlink_to(device)
    try:
        assert main(["bench", str(target), "--size=1m"]) == 2
        assert f"{target} does not exist" in capsys.readouterr().err
        assert not device.exists()
    finally:
        for leftover in (device, Path(f"{device}.anvil.json")):
            leftover.unlink(missing_ok=True)


def test_output_goes_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--output FILE holds the document, and stdout stays empty."""
    path = tmp_path / "result.json"
    options = ["--runtime=100ms", "--engine=null", "--output-format=json", f"--output={path}"]
    assert main(["bench", "none", *options]) == 0
    assert json.loads(path.read_text())["outcome"] == "complete"
    assert capsys.readouterr().out == ""


@pytest.mark.uring
def test_native_engine_measures_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The default engine reads a real file through io_uring at the depth that was asked for."""
    options = ["--size=4m", "--rw=randread", "--iodepth=8", "--runtime=500ms"]
    result = measured(capsys, str(tmp_path / "new"), *options)
    (job,) = result["jobs"]
    assert result["engine"] == "native"
    assert job["read"]["total_ios"] == job["read"]["lat_ns"]["N"] > 0
    assert job["mean_depth"] == pytest.approx(8, rel=0.2)
    assert job["errors"] == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_run_and_prints_what_was_measured(number: signal.Signals) -> None:
    """Ctrl-C loses nothing: the result so far is printed, marked aborted, and the exit is 130."""
    program = [sys.executable, "-m", "anvil_engine.cli", "bench", "none", "--engine=null"]
    code = (
        "import threading, os, sys; from anvil_engine.cli import main;"
        f"threading.Timer(1.5, os.kill, (os.getpid(), {int(number)})).start();"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *program[3:], "--runtime=60"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 130
    assert "  read: IOPS=" in done.stdout
    assert "aborted: aborted by user" in done.stdout


def fio_spellings() -> list[str]:
    named = [option for option in bench.params if option.param_type_name == "option"]
    return [str(option.name) for option in named if option.name not in OURS]


@pytest.mark.fio
@pytest.mark.parametrize("name", fio_spellings())
def test_fio_knows_the_option(name: str) -> None:
    """Every option of bench that is not in the list of our own is fio's, spelled as fio does."""
    spelled = f"--{name}" if name in FLAGS else f"--{name}={VALUES.get(name, '1')}"
    job = [
        "fio",
        "--name=x",
        "--filename=/dev/zero",
        "--size=1m",
        "--ioengine=io_uring",
        spelled,
        "--parse-only",
    ]
    done = subprocess.run(job, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.fio
def test_json_has_fios_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What reads `jobs[0].read.lat_ns.percentile` of fio's JSON reads ours."""
    theirs = json.loads(
        subprocess.run(
            ["fio", "--name=bench", "--filename=/dev/zero", "--size=1m", "--rw=randread",
             "--runtime=1", "--time_based", "--lat_percentiles=1", "--output-format=json"],
            capture_output=True, text=True, check=True, cwd=tmp_path,
        ).stdout
    )["jobs"][0]  # fmt: skip
    ours = measured(capsys, "none", "--engine=null", "--rw=randread", "--runtime=1")["jobs"][0]
    added = {"mean_depth", "randseed", "errors", "engine"}
    assert ours.keys() - added <= theirs.keys()
    assert ours["read"].keys() - {"samples"} <= theirs["read"].keys()
    assert ours["read"]["lat_ns"].keys() - {"clamped"} <= theirs["read"]["lat_ns"].keys()
    percentiles = theirs["read"]["lat_ns"]["percentile"].keys()
    assert percentiles <= ours["read"]["lat_ns"]["percentile"].keys()
