"""Accounts, devices and recorded runs for the web tests, made by the store itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import count
from typing import Any

from ulid import ULID

from anvil_engine import histogram, results
from anvil_engine.workload import Phase, Profile, Workload
from anvil_web.clock import utcnow
from anvil_web.models import Device, Run, User
from anvil_web.store import claims, devices, recording, runs

PASSWORD = "correct horse"
# scrypt with the least work, because hashing is not what most tests are about.
PASSWORD_HASH = (
    "scrypt:256:8:1$salt$"
    "72aa569340211f71041c7143ecc6e325094cd7b244da3092b58609b5e15212e9"
    "a9c749790096b1c30ea3698ac38690be60c54f1c4b791b4d75cee61420242c4b"
)
START = dt.datetime(2026, 11, 23, 22, 0, 0, tzinfo=dt.UTC)
READ_LATENCIES_NS = (1000, 1000, 2000, 100_000)

READ = Phase("seq", Workload(rw="read", bs=4096, runtime=3.0))
MIXED = Phase("mix", Workload(rw="randrw", bs=8192, iodepth=4, rwmixread=70, runtime=3.0))
PROFILE = Profile("quick", "Quick look", "Two phases that tests know.", (READ, MIXED))


def an_account(role: str, *, name: str | None = None, **columns: Any) -> User:
    """A stored account whose password is `PASSWORD`."""
    defaults = {"password_hash": PASSWORD_HASH, "created_at": utcnow()}
    return User.create(
        id=str(ULID()), username=name or f"a-{role}", role=role, **{**defaults, **columns}
    )


def a_found_device(**facts: Any) -> dict[str, Any]:
    """What the inventory says of one drive."""
    return {
        "path": "/dev/nvme0n1",
        "protocol": "nvme",
        "model": "Samsung PM9A3",
        "serial": "S7KXNE0W500123",
        "firmware": "GDC5",
        "vendor": None,
        "wwid": "eui.0123",
        "form_factor": None,
        "capacity_bytes": 960_197_124_096,
        "sector_size_logical": 512,
        "sector_size_physical": 4096,
        "rotational": False,
        "partitions": [],
        "mount_points": [],
        "is_testable": True,
        "exclusion_reason": None,
        **facts,
    }


def a_device(host: str = "lab", **facts: Any) -> Device:
    """A device that a scan of `host` found."""
    found = a_found_device(**facts)
    listed = devices.record_scan(host, [found])
    return next(device for device in listed if device.serial == found["serial"])


def a_queued_run(device: Device | None = None, **options: Any) -> Run:
    """A run of `PROFILE` that waits."""
    return runs.create_run(
        device=device or a_device(), profile=PROFILE, **{"actor": "someone", **options}
    )


def a_running_run(**options: Any) -> Run:
    """A run that a runner has claimed and whose engine has said what it will do."""
    run = a_queued_run(**options)
    claims.claim_next(run.host, "a-runner")
    record(run.id, [started()])
    return Run.get_by_id(run.id)


def a_complete_run(**options: Any) -> Run:
    """A run of two phases with three samples each, recorded to its end."""
    run = a_queued_run(**options)
    claims.claim_next(run.host, "a-runner")
    record(run.id, whole_run())
    return Run.get_by_id(run.id)


def record(run_id: str, new: list[results.Event] | Iterator[results.Event]) -> None:
    """Record engine events after those that the run has, one second apart."""
    first = Run.get_by_id(run_id).engine_events + 1
    numbers = count(first)
    recording.record(
        run_id,
        [
            (n, START + dt.timedelta(seconds=n), event)
            for n, event in zip(numbers, new, strict=False)
        ],
    )


def started() -> results.Event:
    """The engine has opened its target."""
    return results.RunStarted(
        profile=PROFILE,
        phases=PROFILE.phases,
        engine="native",
        simulation=False,
        device_path="/dev/nvme0n1",
        target={},
        host={"platform": "Linux", "kernel": "6.1"},
        warnings=("size was cut",),
    )


def whole_run() -> list[results.Event]:
    """Every event of a run that goes well."""
    events = [started()]
    for order, phase in enumerate(PROFILE.phases):
        events += [
            results.PhaseStarted(
                phase_order=order, phase_name=phase.name, jobfile="[job]", expected_runtime_s=3.0
            ),
            *(sample(order, interval) for interval in range(3)),
            complete(order),
        ]
    return [*events, results.RunComplete()]


def sample(order: int, interval: int) -> results.Event:
    """One second of a phase; the second phase writes too."""
    phase = PROFILE.phases[order]
    direction = results.DirectionSample(
        ios=4,
        iops=100.0 + interval,
        bw_bytes=4096.0 * (100 + interval),
        lat_mean_ns=26_000.0,
        lat_p50_ns=1000.0,
        lat_p99_ns=100_000.0,
        lat_p999_ns=100_000.0,
        lat_p9999_ns=100_000.0,
        lat_max_ns=100_000.0,
        histogram=packed(),
    )
    return results.PhaseSample(
        phase_order=order,
        phase_name=phase.name,
        interval=interval,
        elapsed_s=interval + 1.0,
        eta_s=2.0 - interval,
        read=direction,
        write=direction if phase.workload.writes else None,
    )


def complete(order: int) -> results.Event:
    """The end of a phase."""
    phase = PROFILE.phases[order]
    direction = results.DirectionResult(
        ios=4,
        io_bytes=16384,
        iops=101.0,
        bw_bytes=413_696.0,
        lat_min_ns=1000,
        lat_max_ns=100_000,
        lat_mean_ns=26_000.0,
        lat_stddev_ns=42_000.0,
        percentiles={"50": 1000.0, "99": 1e5, "99.9": 1e5, "99.99": 1e5},
        clamped=0,
        histogram=packed(),
    )
    result = results.PhaseResult(
        workload={"rw": phase.workload.rw},
        elapsed_s=3.0,
        read=direction,
        write=direction if phase.workload.writes else None,
        errors={},
        mean_depth=1.0,
        cpu_user_pct=1.0,
        cpu_system_pct=2.0,
        randseed=7,
        engine={"name": "native"},
    )
    return results.PhaseComplete(phase_order=order, phase_name=phase.name, result=result)


def packed() -> bytes:
    """The histogram of `READ_LATENCIES_NS`."""
    counts = histogram.empty()
    histogram.record(counts, READ_LATENCIES_NS)
    return histogram.pack(counts)
