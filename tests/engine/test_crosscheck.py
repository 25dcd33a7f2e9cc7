"""A crosscheck measures in turn, decides by the statistics, and says so by its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from anvil_engine import crosscheck, histogram, session, summary
from anvil_engine.cli import main
from anvil_engine.crosscheck_stats import MIN_PAIRS, TOLERANCES
from anvil_engine.errors import DeviceError, EngineError
from anvil_engine.results import PhaseResult
from anvil_engine.target import create_file_target, open_target
from anvil_engine.workload import Phase, Workload

WORKLOAD = Workload(rw="randread", bs=4096, size=1 << 20, runtime=0.3)
PHASE = Phase("cell", WORKLOAD)


def a_result(workload: Workload, *, latency_ns: int, busy_pct: float) -> PhaseResult:
    """What a tool with this latency measures in a second at depth 1."""
    counts = histogram.empty()
    histogram.record(counts, [latency_ns] * 100)
    service = summary.latencies(
        counts,
        ios=100,
        sum_ns=100 * latency_ns,
        min_ns=latency_ns,
        max_ns=latency_ns,
        clamped=0,
    )
    assert service is not None
    side = summary.direction_result(
        service, io_bytes=100 * workload.bs, seconds=100 * latency_ns / 1e9
    )
    return PhaseResult(
        workload={},
        elapsed_s=1.0,
        read=side if workload.reads else None,
        write=side if workload.writes else None,
        errors={},
        mean_depth=1.0,
        cpu_user_pct=busy_pct / 2 * workload.numjobs,
        cpu_system_pct=busy_pct / 2 * workload.numjobs,
        randseed=1,
        engine={},
    )


@dataclass
class Tools:
    """Two tools of known speed instead of the real ones, and in which order they were asked."""

    native_ns: int = 100_000
    fio_ns: int = 100_000
    busy_pct: float = 20.0
    is_idle: bool = False
    asked: tuple[str, ...] = ()

    def measurement(self, workload: Workload, target: Any, *, engine: str, randseed: int) -> Any:
        self.asked += (engine,)
        latency = self.native_ns if engine == "native" else self.fio_ns
        result = a_result(workload, latency_ns=latency, busy_pct=self.busy_pct)
        if self.is_idle:
            result = replace(result, read=None, write=None)

        class Measurement:
            def run(self, stop: threading.Event) -> Iterator[None]:
                yield
                return result

        return Measurement()


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Tools:
    made = Tools()
    monkeypatch.setattr(session, "measurement", made.measurement)
    return made


def cell_of(phase: Phase = PHASE, pairs: int = 7) -> crosscheck.Cell:
    (cell,) = crosscheck.measure_cells(
        [phase],
        None,  # type: ignore[arg-type]  # the tools of these tests open nothing
        pairs=pairs,
        tolerances=TOLERANCES,
        randseed=1,
        paced=False,
        stop=threading.Event(),
        on_pair=lambda *_: None,
    )
    return cell


def test_the_tools_take_turns(tools: Tools) -> None:
    """A B, B A, A B: what drifts with time hits both alike."""
    cell_of(pairs=3)
    assert tools.asked == ("native", "fio", "fio", "native", "native", "fio")


def test_equal_tools_agree(tools: Tools) -> None:
    """All six metrics are compared, and each agrees."""
    cell = cell_of()
    assert cell.verdict == "agree"
    assert list(cell.metrics) == ["iops", "bw", "mean", "p50", "p99", "p99.9"]


def test_a_slower_tool_differs_and_the_ratio_is_its_own(tools: Tools) -> None:
    """Half the latency is twice the IOPS, from native to fio."""
    tools.fio_ns = 200_000
    cell = cell_of()
    assert cell.verdict == "differ"
    assert cell.metrics["iops"].ratio == pytest.approx(2)
    assert cell.metrics["mean"].ratio == pytest.approx(0.5)


def test_each_metric_has_its_own_tolerance(tools: Tools) -> None:
    """8 % is too much for the mean, and nothing for a p99."""
    tools.fio_ns = 108_000
    metrics = cell_of().metrics
    assert metrics["mean"].verdict == metrics["iops"].verdict == "differ"
    assert metrics["p99"].verdict == metrics["p99.9"].verdict == "agree"


@pytest.mark.parametrize(("busy_pct", "verdict"), [(79.0, "differ"), (80.0, "overhead")])
@pytest.mark.parametrize("numjobs", [1, 4])
def test_a_busy_thread_makes_it_overhead(
    tools: Tools, busy_pct: float, verdict: str, numjobs: int
) -> None:
    """From 80 % of a core and job on, a cell is about the tools and decides nothing."""
    tools.fio_ns, tools.busy_pct = 200_000, busy_pct
    assert cell_of(Phase("x", replace(WORKLOAD, numjobs=numjobs))).verdict == verdict


def test_a_closed_loop_is_followed_by_its_paced_cell(tools: Tools) -> None:
    """Half of the slower tool's rate, by job, of all directions; and busy threads decide, too."""
    tools.fio_ns, tools.busy_pct = 200_000, 95.0
    workload = replace(WORKLOAD, rw="randrw", numjobs=2, iodepth=4, iodepth_batch_complete_min=4)
    closed, paced = crosscheck.measure_cells(
        [Phase("x", workload)],
        None,  # type: ignore[arg-type]  # the tools of these tests open nothing
        pairs=7,
        tolerances=TOLERANCES,
        randseed=1,
        paced=True,
        stop=threading.Event(),
        on_pair=lambda *_: None,
    )
    assert paced.phase.workload.rate_iops == (5000 + 5000) * 0.5 / 2
    assert (closed.is_paced, paced.is_paced) == (False, True)
    assert (closed.verdict, paced.verdict) == ("overhead", "differ")


def test_few_pairs_are_no_evidence(tools: Tools) -> None:
    """Below the minimum it is inconclusive, and the missing pairs are named."""
    cell = cell_of(pairs=MIN_PAIRS - 2)
    assert (cell.verdict, cell.more_pairs) == ("inconclusive", 2)


def test_both_directions_of_a_mix_are_compared(tools: Tools) -> None:
    """Reads with reads and writes with writes."""
    metrics = cell_of(Phase("x", replace(WORKLOAD, rw="randrw"))).metrics
    assert {"read iops", "write iops", "read p99.9", "write p99.9"} <= metrics.keys()
    assert metrics["write p99"].tolerance == TOLERANCES["p99"]


def test_a_direction_without_io_is_no_verdict(tools: Tools) -> None:
    """A tool that completed nothing in the time fails with the way out."""
    tools.is_idle = True
    with pytest.raises(EngineError, match=r"completed no read in 0\.3 s; use a longer runtime"):
        cell_of()


@pytest.mark.fio
@pytest.mark.uring
def test_a_failed_io_is_no_verdict(tmp_path: Path) -> None:
    """The real tools on a target that lost its end: an error, not a difference."""
    create_file_target(tmp_path / "target", 1 << 20)
    with open_target(tmp_path / "target", write=False) as target:
        os.truncate(tmp_path / "target", 4096)
        cells = crosscheck.measure_cells(
            [PHASE],
            target,
            pairs=1,
            tolerances=TOLERANCES,
            randseed=1,
            paced=False,
            stop=threading.Event(),
            on_pair=lambda *_: None,
        )
        with pytest.raises(DeviceError, match="shorter than it was"):
            list(cells)


def test_matrices_say_what_they_write() -> None:
    """quick only reads, so that it needs no consent; full does not."""
    assert not crosscheck.matrix("quick", WORKLOAD).destructive
    assert crosscheck.matrix("full", WORKLOAD).destructive
    assert {phase.workload.runtime for phase in crosscheck.matrix("full", WORKLOAD)} == {0.3}


# The program -----------------------------------------------------------------------------------


@pytest.fixture
def made_target(tmp_path: Path) -> Path:
    create_file_target(tmp_path / "target", 1 << 20)
    return tmp_path / "target"


@pytest.fixture
def real_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "check_available", lambda engine, workload, fd: None)


QUICK = ["--rw=randread", "--runtime=100ms", "--no-paced"]


@pytest.mark.fio
@pytest.mark.parametrize(
    ("native_ns", "busy_pct", "verdict", "code", "element"),
    [
        (100_000, 20.0, "agree", 0, "system-out"),
        (150_000, 20.0, "differ", 1, "failure"),
        (104_999, 20.0, "agree", 0, "system-out"),
        (150_000, 95.0, "overhead", 3, "skipped"),
    ],
)
def test_the_exit_code_is_the_verdict(
    tools: Tools,
    real_programs: None,
    made_target: Path,
    tmp_path: Path,
    native_ns: int,
    busy_pct: float,
    verdict: str,
    code: int,
    element: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code, text, JSON and JUnit say the same."""
    tools.native_ns, tools.busy_pct = native_ns, busy_pct
    files = [f"--json={tmp_path / 'x.json'}", f"--junit={tmp_path / 'x.xml'}"]
    assert main(["crosscheck", str(made_target), *QUICK, *files]) == code
    assert f"\n{verdict}: " in capsys.readouterr().out
    document = json.loads((tmp_path / "x.json").read_text())
    assert document["verdict"] == document["cells"][0]["verdict"] == verdict
    assert len(document["cells"][0]["measured"]) == 7
    assert document["cells"][0]["mean_depth"] == {"native": 1.0, "fio": 1.0}
    assert document["cells"][0]["busy_pct"] == {"native": busy_pct, "fio": busy_pct}
    suite = ElementTree.parse(tmp_path / "x.xml").getroot()
    assert suite.get("tests") == "1"
    assert [child.tag for child in suite[0]] == [element]


@pytest.mark.fio
def test_inconclusive_is_three_and_asks_for_more(
    tools: Tools, real_programs: None, made_target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not enough evidence has a code of its own, and says how much more it takes."""
    assert main(["crosscheck", str(made_target), *QUICK, "--pairs=4"]) == 3
    out = capsys.readouterr().out
    assert "about 2 pairs more would decide" in out
    assert "inconclusive: there is not enough evidence" in out


@pytest.mark.fio
def test_tolerances_are_options(tools: Tools, real_programs: None, made_target: Path) -> None:
    """What is tolerated decides."""
    tools.native_ns = 150_000
    wide = [f"--tolerance={name}=60%" for name in TOLERANCES]
    assert main(["crosscheck", str(made_target), *QUICK, *wide]) == 0
    assert main(["crosscheck", str(made_target), *QUICK, *wide[1:]]) == 1


@pytest.mark.fio
@pytest.mark.uring
def test_the_real_tools_on_a_real_target(tmp_path: Path, capsys) -> None:
    """/dev/zero is limited by the core, so it is overhead whoever is faster."""
    path = tmp_path / "x.json"
    options = ["--iodepth=32", "--pairs=2", f"--json={path}"]
    code = main(["crosscheck", "/dev/zero", *QUICK, *options])
    document = json.loads(path.read_text())
    (cell,) = document["cells"]
    # On a machine that is busy with something else the threads do not get a core.
    assert (document["verdict"], code) in (("overhead", 3), ("inconclusive", 3))
    assert cell["workload"]["iodepth"] == 32
    assert min(one[tool]["iops"] for one in cell["measured"] for tool in crosscheck.TOOLS) > 1000
    assert "pair 2/2: native/fio iops" in capsys.readouterr().err


@pytest.mark.fio
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["/nowhere/x"], "/nowhere/x does not exist"),
        (["/dev/zero", "--json=/nowhere/x.json"], "/nowhere/x.json: No such file"),
        (["/dev/zero", "--tolerance=p42=1"], "--tolerance p42=1 is not METRIC=PERCENT"),
        (["/dev/zero", "--tolerance=p50=0"], "--tolerance p50=0 is not METRIC=PERCENT"),
        (["/dev/zero", "--matrix=quick", "--bs=8k"], "--bs is what --matrix varies"),
        (["/dev/zero", "--rw=sideways"], "rw=sideways is not known"),
    ],
)
def test_what_cannot_run_is_two(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 would mean that the tools differ."""
    assert main(["crosscheck", *args]) == 2
    assert message in capsys.readouterr().err


def test_without_fio_it_cannot_run(
    made_target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing tool is not a difference either."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["crosscheck", str(made_target)]) == 2
    assert "cannot be used here" in (err := capsys.readouterr().err) or "not installed" in err


@pytest.mark.fio
@pytest.mark.uring
def test_ctrl_c_stops_both_tools_and_says_so(made_target: Path, tmp_path: Path) -> None:
    """130, without a verdict, and what was decided before is kept."""
    path = tmp_path / "x.json"
    command = [sys.executable, "-m", "anvil_engine.cli", "crosscheck", str(made_target)]
    program = subprocess.Popen(
        [*command, "--runtime=30", f"--json={path}"], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert "crosscheck of" in program.stdout.readline()
    threading.Timer(0.5, program.send_signal, (signal.SIGINT,)).start()
    out, _ = program.communicate(timeout=20)
    assert program.returncode == 130
    assert "stopped by the user; cells measured: 0 of 6" in out
    assert json.loads(path.read_text())["verdict"] is None
