"""Tables for people: results, profiles, devices."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console
from rich.table import Table

from anvil_engine.cli_measure import PhaseRecord, Record
from anvil_engine.inventory import Device
from anvil_engine.results import DirectionResult
from anvil_engine.units import (
    format_binary,
    format_count,
    format_decimal,
    format_duration,
    format_ns,
    format_size,
)
from anvil_engine.workload import DIRECTIONS, Profile, Workload

PIPE_WIDTH = 160
"""Columns where no terminal says how many it has; a table in a log is not cut at 80."""


def console(*, to_stderr: bool = False) -> Console:
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPE_WIDTH)


def run_table(record: Record) -> Table:
    """A row for each phase and direction, with the target in the title."""
    assert record.started is not None
    started = record.started
    place = "SIMULATION: no storage was touched" if started.simulation else started.device_path
    table = new_table(f"{started.profile.name} on {place}")
    for heading in ("phase", "rw", "bs", "depth", ""):
        table.add_column(heading)
    for heading in ("IOPS", "bandwidth", "mean", "p50", "p99", "p99.9", "p99.99", "max"):
        table.add_column(heading, justify="right")
    for phase in record.phases:
        for row in _rows(phase):
            table.add_row(*row)
    return table


def _rows(phase: PhaseRecord) -> Iterator[list[str]]:
    name, workload, result = phase.phase.name, phase.phase.workload, phase.result
    start = [name, workload.rw, workload.sizes_text, _depth(workload)]
    if result is None:
        yield [*start, "failed" if phase.error else "not measured"]
        return
    for direction in DIRECTIONS:
        side: DirectionResult | None = getattr(result, direction)
        if side is not None:
            yield [*start, direction, *_numbers(side)]
            start = [""] * len(start)


def _numbers(side: DirectionResult) -> list[str]:
    # What another program measured may lack some.
    percentiles = (side.percentiles.get(name) for name in ("50", "99", "99.9", "99.99"))
    return [
        format_count(side.iops),
        f"{format_binary(side.bw_bytes)}/s",
        format_ns(side.lat_mean_ns),
        *("-" if value is None else format_ns(value) for value in percentiles),
        format_ns(side.lat_max_ns),
    ]


def profile_table(profiles: Iterable[Profile]) -> Table:
    table = new_table()
    for heading in ("profile", "phases", "takes", "", "what it does"):
        table.add_column(heading)
    for profile in profiles:
        table.add_row(
            profile.name,
            str(len(profile.phases)),
            format_duration(profile.estimated_duration_seconds),
            "[red]writes[/]" if profile.destructive else "reads",
            profile.description,
        )
    return table


def phase_table(profile: Profile) -> Table:
    table = new_table(f"{profile.title}: {profile.description}")
    for heading in ("phase", "rw", "bs", "depth", "span", "takes"):
        table.add_column(heading)
    for phase in profile:
        workload = phase.workload
        mix = f" {workload.rwmixread}%" if workload.reads and workload.writes else ""
        table.add_row(
            phase.name,
            f"{workload.rw}{mix}",
            workload.sizes_text,
            _depth(workload),
            format_size(workload.size) if workload.size else "all",
            format_duration(phase.duration),
        )
    return table


def device_table(devices: Iterable[Device]) -> Table:
    table = new_table()
    for heading in ("device", "protocol", "model", "serial", "firmware", "capacity", "testable"):
        table.add_column(heading)
    for device in devices:
        table.add_row(
            device.path,
            device.protocol,
            device.model,
            device.serial or "-",
            device.firmware or "-",
            format_decimal(device.capacity_bytes),
            "yes" if device.is_testable else f"no: {device.exclusion_reason}",
        )
    return table


def _depth(workload: Workload) -> str:
    return (
        f"{workload.iodepth}x{workload.numjobs}" if workload.numjobs > 1 else str(workload.iodepth)
    )


def new_table(title: str | None = None) -> Table:
    """A table in the one style, without columns."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
