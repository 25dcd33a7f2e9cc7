"""Events survive the pipe."""

import datetime as dt
import json
from dataclasses import replace

import pytest

from anvil_engine import results
from anvil_engine.profiles import get

AT = dt.datetime(2026, 11, 23, 22, 0, 7, 339823, tzinfo=dt.UTC)
SAMPLE = results.DirectionSample(
    ios=3,
    iops=3.0,
    bw_bytes=12288.0,
    lat_mean_ns=5.5,
    lat_p50_ns=5.0,
    lat_p99_ns=6.0,
    lat_p999_ns=6.0,
    lat_p9999_ns=6.0,
    lat_max_ns=6.0,
    histogram=b"\x00\xff",
)
DIRECTION = results.DirectionResult(
    ios=3,
    io_bytes=12288,
    iops=3.0,
    bw_bytes=12288.0,
    lat_min_ns=5,
    lat_max_ns=6,
    lat_mean_ns=5.5,
    lat_stddev_ns=0.4,
    percentiles={"50": 5.0},
    clamped=0,
    histogram=b"\x00\xff",
)
LATENCIES = results.Latencies(
    ios=3,
    min_ns=5,
    max_ns=6,
    mean_ns=5.5,
    stddev_ns=0.4,
    percentiles={"50": 5.0},
    clamped=0,
    histogram=b"\x01\xff",
)
PACE = results.Pace(rate_iops=10, rate_process="linear", due=4, started=3, late=1, behind_s=0.5)
RESULT = results.PhaseResult(
    workload={"rw": "read"},
    elapsed_s=1.0,
    read=DIRECTION,
    write=None,
    errors={"EIO": 1},
    mean_depth=1.0,
    cpu_user_pct=1.0,
    cpu_system_pct=2.0,
    randseed=7,
    engine={"name": "native"},
    warnings=("w",),
)
PACED = replace(RESULT, read=replace(DIRECTION, response=LATENCIES), pace=PACE)
NAMED = {"phase_order": 0, "phase_name": "p"}
EVENTS = [
    results.RunStarted(
        profile=get("quick"),
        phases=get("quick").phases,
        engine="native",
        simulation=False,
        device_path="/dev/null",
        target={},
        host={},
        warnings=("cut",),
    ),
    results.PhaseStarted(**NAMED, jobfile="[p]\n", expected_runtime_s=22.0),
    results.PhaseSample(**NAMED, interval=0, elapsed_s=1.0, eta_s=0.0, read=SAMPLE, write=None),
    results.PhaseComplete(**NAMED, result=RESULT),
    results.PhaseComplete(**NAMED, result=PACED),
    results.PhaseFailed(**NAMED, error="no", errno=5),
    results.RunComplete(),
    results.RunFailed(error="no"),
    results.RunAborted(reason="aborted by user", partial=RESULT),
    results.RunAborted(reason="aborted by user"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event)
def test_an_event_survives_json(event):
    """decode(encode(e)) is e, with its number and time."""
    line = json.dumps(results.encode(event, 17, AT), allow_nan=False)
    assert results.decode(json.loads(line)) == (17, AT, event)


def test_times_are_utc_with_microseconds():
    """One form of time stamp, whatever the zone it came in."""
    east = AT.astimezone(dt.timezone(dt.timedelta(hours=3)))
    assert results.format_time(east) == "2026-11-23T22:00:07.339823Z"
    assert results.format_time(AT.replace(microsecond=0)) == "2026-11-23T22:00:07.000000Z"


@pytest.mark.parametrize(
    "junk",
    [
        {},
        {"event": "nonsense"},
        {"event": "run_failed", "n": 1, "ts": "x"},
        {"event": "phase_sample"},
    ],
)
def test_junk_is_not_an_event(junk):
    """A line that is no event raises ValueError."""
    with pytest.raises(ValueError, match=r"not an event|isoformat"):
        results.decode(junk)
