"""The numbers in fio's clothes: each comes from the result, in the unit that its line says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from anvil_engine import histogram, summary
from anvil_engine.cli_measure import PhaseRecord, Record
from anvil_engine.cli_text import phase_text
from anvil_engine.results import (
    DirectionResult,
    DirectionSample,
    Latencies,
    PhaseComplete,
    PhaseFailed,
    PhaseResult,
    PhaseSample,
    PhaseStarted,
    RunComplete,
    RunFailed,
    RunStarted,
)
from anvil_engine.workload import Phase, Profile, Workload

PHASE = Phase("job", Workload(rw="randread", bs=4096, iodepth=4, numjobs=2, runtime=2))
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_direction(
    latencies_ns: list[int], seconds: float, response: Latencies | None = None
) -> DirectionResult:
    """The result of I/Os of 4 KiB with these latencies."""
    counts = histogram.empty()
    clamped = histogram.record(counts, latencies_ns)
    lat = summary.latencies(
        counts,
        ios=len(latencies_ns),
        sum_ns=sum(latencies_ns),
        min_ns=min(latencies_ns),
        max_ns=max(latencies_ns),
        clamped=clamped,
    )
    assert lat is not None
    io_bytes = 4096 * len(latencies_ns)
    return summary.direction_result(lat, io_bytes=io_bytes, seconds=seconds, response=response)


def a_sample(interval: int, ios: int) -> PhaseSample:
    """A second in which `ios` reads of 4 KiB completed."""
    read = DirectionSample(
        ios=ios, iops=ios, bw_bytes=ios * 4096.0, lat_mean_ns=0, lat_p50_ns=0, lat_p99_ns=0,
        lat_p999_ns=0, lat_p9999_ns=0, lat_max_ns=0, histogram=b"",
    )  # fmt: skip
    return PhaseSample(
        phase_order=0, phase_name="job", interval=interval, elapsed_s=interval + 1.0, eta_s=0,
        read=read, write=None,
    )  # fmt: skip


def a_result(read: DirectionResult) -> PhaseResult:
    return PhaseResult(
        workload={}, elapsed_s=2.0, read=read, write=None, errors={}, mean_depth=7.5,
        cpu_user_pct=10.0, cpu_system_pct=50.0, randseed=1, engine={"iodepth": 4},
    )  # fmt: skip


def a_record(result: PhaseResult | None) -> tuple[Record, PhaseRecord]:
    """A run of one phase of two seconds, complete with `result` or failed without."""
    record = Record()
    record(
        RunStarted(
            profile=Profile("job", "job", "", (PHASE,)), phases=(PHASE,), engine="native",
            simulation=False, device_path="/dev/x", host={},
            target={"path": "/dev/x", "size_bytes": 1 << 30, "model": "M", "serial": "S"},
            warnings=("range cut",),
        )
    )  # fmt: skip
    record(PhaseStarted(phase_order=0, phase_name="job", jobfile="", expected_runtime_s=2))
    record(a_sample(0, 400))
    record(a_sample(1, 600))
    if result is None:
        record(PhaseFailed(phase_order=0, phase_name="job", error="it broke", errno=61))
        record(RunFailed(error="phase job: it broke"))
    else:
        record(PhaseComplete(phase_order=0, phase_name="job", result=result))
        record(RunComplete())
    return record, record.phases[0]


def lines(result: PhaseResult | None) -> list[str]:
    return phase_text(*a_record(result), AT).splitlines()


def test_lines_carry_the_results_numbers() -> None:
    """1000 reads, 900 of 90 us and 100 of 3 ms: the numbers can be done by hand.

    Percentiles and deviation come from the histogram, so they may be off by a 128th.
    """
    shown = lines(a_result(a_direction([90_000] * 900 + [3_000_000] * 100, seconds=2.0)))
    assert shown[0].startswith("job: (g=0): rw=randread, bs=4096B, ioengine=native, iodepth=4")
    assert "Target: /dev/x, 1.00 GiB, M, S" in shown
    for line in [
        "  read: IOPS=500, BW=1.95MiB/s (2.05MB/s)(3.91MiB/2000msec)",
        "     lat (usec): min=90, max=3000, avg=381.00, stdev=872.60",
        "     | 70.00th=[   90], 80.00th=[   90], 90.00th=[   90], 95.00th=[ 2998],",
        "     | 99.99th=[ 2998]",
        "   bw (  KiB/s): min=1600, max=2400, per=100.00%, avg=2000.00, stdev=565.69, samples=2",
        "   iops        : min=400, max=600, avg=500.00, stdev=141.42, samples=2",
        "  lat (usec)   : 100=90.00%",
        "  lat (msec)   : 4=10.00%",
        "  cpu          : usr=5.00%, sys=25.00%",
        "  IO depths    : mean=7.50 of 8",
        "     issued rwts: total=1000,0,0,0",
        "   READ: bw=1.95MiB/s (2.05MB/s), io=3.91MiB (4.10MB), run=2000-2000msec",
        "warning: range cut",
    ]:
        assert line in shown, "\n".join(shown)


def test_idle_direction_has_no_lines() -> None:
    """What did not happen is not shown as zero."""
    shown = "\n".join(lines(a_result(a_direction([90_000], seconds=2.0))))
    assert "write" not in shown
    assert "WRITE" not in shown


def test_errors_and_clamped_latencies_are_beside_the_numbers() -> None:
    """Failed I/Os and latencies past the last bucket never hide."""
    result = a_result(a_direction([90_000, histogram.CLAMP_NS], seconds=2.0))
    shown = lines(replace(result, errors={"EIO": 3, "SHORT": 1}))
    assert "     errors     : EIO=3, SHORT=1" in shown
    assert "     clamped    : 1 latencies beyond 2199 s" in shown
    assert "  lat (msec)   : >=2000=50.00%" in shown


def test_failed_run_cannot_look_finished() -> None:
    """Without a result there are no numbers, and the error stands where fio has err=."""
    shown = lines(None)
    assert any("err= 61 (it broke)" in line for line in shown)
    assert "failed: phase job: it broke" in shown
    assert not any("IOPS" in line for line in shown)


def test_latencies_are_shown_in_a_unit_that_fits() -> None:
    """Nanoseconds for a null device, milliseconds for a disk."""
    fast = lines(a_result(a_direction([300, 900], seconds=2.0)))
    slow = lines(a_result(a_direction([5_000_000, 900_000_000], seconds=2.0)))
    assert "     lat (nsec): min=300, max=900, avg=600.00, stdev=299.00" in fast
    assert any(line.startswith("     lat (msec): min=5, max=900, ") for line in slow)
