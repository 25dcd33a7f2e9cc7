"""A crosscheck for people, for programs (JSON) and for CI (JUnit XML)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from xml.etree import ElementTree

from anvil_engine import procfs
from anvil_engine.cli_tables import console, new_table
from anvil_engine.crosscheck import CPU_BOUND_PCT, TOOLS, Cell, Measured, Pair
from anvil_engine.crosscheck_stats import CONFIDENCE, Comparison, Verdict, combine
from anvil_engine.results import format_time
from anvil_engine.units import format_binary, format_count, format_ns
from anvil_engine.workload import Phase

_COLOURS = {"agree": "green", "differ": "red", "inconclusive": "yellow", "overhead": "dim"}
_SENTENCES = {
    "agree": "the native engine and fio agree",
    "differ": "the native engine and fio differ",
    "inconclusive": "there is not enough evidence for a verdict",
    "overhead": "every cell was limited by a core, so that nothing was learnt about the target: "
    "leave out --no-paced, or use a smaller iodepth or a larger bs",
}


@dataclass
class Report:
    """What was measured and decided so far."""

    target: Mapping[str, Any]
    pairs: int
    tolerances: Mapping[str, float]
    randseed: int
    warnings: list[str]
    cells: list[Cell] = field(default_factory=list)
    stopped: bool = False

    @property
    def verdict(self) -> Verdict:
        return combine(cell.verdict for cell in self.cells)


class Shown:
    """Prints pairs to standard error, and cells and the verdict to standard output."""

    def __init__(self, report: Report, n_cells: int) -> None:
        self._report, self._n_cells = report, n_cells
        self._out = console()
        self._out.print(
            f"crosscheck of {report.target['path']}: {n_cells} cells, {report.pairs} pairs each, "
            f"native against {fio_version()}",
            highlight=False,
        )

    def pair(self, phase: Phase, number: int, pair: Pair) -> None:
        ratios = (
            f"{name} {pair[0].values[name] / pair[1].values[name]:.3f}" for name in pair[0].values
        )
        print(
            f"cell {len(self._report.cells) + 1}/{self._n_cells} {phase.name}, "
            f"pair {number + 1}/{self._report.pairs}: native/fio {', '.join(ratios)}",
            file=sys.stderr,
            flush=True,
        )

    def cell(self, cell: Cell) -> None:
        colour = _COLOURS[cell.verdict]
        table = new_table(f"{cell.phase.name}: [{colour}]{cell.verdict}[/]")
        for heading in ("metric", *TOOLS, "native/fio", f"{CONFIDENCE:.0%} interval", "tolerance"):
            table.add_column(heading, justify="left" if heading == "metric" else "right")
        table.add_column("")
        for name, found in cell.metrics.items():
            table.add_row(*_row(name, found, is_decisive=cell.verdict != "overhead"))
        self._out.print(table)
        self._out.print(_note(cell), highlight=False)

    def verdict(self) -> None:
        report = self._report
        for warning in report.warnings:
            self._out.print(f"warning: {warning}", markup=False, highlight=False)
        if report.stopped:
            done = f"{len(report.cells)} of {self._n_cells}"
            self._out.print(f"stopped by the user; cells measured: {done}", highlight=False)
        else:
            self._out.print(f"{report.verdict}: {_SENTENCES[report.verdict]}", highlight=False)


def report_json(report: Report) -> str:
    """Everything that was measured, and the statistics of it."""
    document = {
        "anvil version": version("anvil"),
        "fio version": fio_version(),
        "time": format_time(datetime.now(UTC)),
        "target": dict(report.target),
        "host": procfs.host_facts(),
        "pairs": report.pairs,
        "confidence": CONFIDENCE,
        "cpu_bound_pct": CPU_BOUND_PCT,
        "tolerances": dict(report.tolerances),
        "randseed": report.randseed,
        "warnings": report.warnings,
        "cells": [_cell_json(cell) for cell in report.cells],
        "stopped": report.stopped,
        "verdict": None if report.stopped else report.verdict,
    }
    return json.dumps(document, indent=2) + "\n"


def junit(report: Report) -> str:
    """A test case for each cell: a difference is a failure, no verdict is an error."""
    counts = {
        "tests": len(report.cells),
        "failures": sum(cell.verdict == "differ" for cell in report.cells),
        "errors": sum(cell.verdict == "inconclusive" for cell in report.cells),
        "skipped": sum(cell.verdict == "overhead" for cell in report.cells),
    }
    suite = ElementTree.Element(
        "testsuite", {"name": f"anvil crosscheck {report.target['path']}"} | _texts(counts)
    )
    for cell in report.cells:
        suite.append(_test_case(cell))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def fio_version() -> str:
    """Such as `fio-3.33`."""
    done = subprocess.run(
        ["fio", "--version"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def _row(name: str, found: Comparison, *, is_decisive: bool) -> list[str]:
    verdict: str = found.verdict
    if found.more_pairs is not None:
        verdict += f" (about {found.more_pairs} pairs more)"
    return [
        name,
        _value(name, found.first),
        _value(name, found.second),
        f"{found.ratio:.3f}",
        f"{found.low:.3f} … {found.high:.3f}",
        f"{100 * found.tolerance:g} %",
        f"[{_COLOURS[found.verdict]}]{verdict}[/]" if is_decisive else "",
    ]


def _value(name: str, value: float) -> str:
    metric = name.rpartition(" ")[2]
    if metric == "iops":
        return format_count(value)
    return f"{format_binary(value)}/s" if metric == "bw" else format_ns(value)


def _note(cell: Cell) -> str:
    native, fio = cell.busy_pct
    text = f"  threads busy: native {native:.0f} %, fio {fio:.0f} % of a core"
    text += "; in flight: native {:.1f}, fio {:.1f}".format(*cell.mean_depth)
    if cell.is_paced:
        text = (
            f"  paced at {format_count(cell.phase.workload.rate_iops or 0)} IOPS a job;{text[1:]}"
        )
    if cell.is_paced and cell.phase.workload.iodepth > 1:
        # io_u.c, rate_ddir: before it waits for the next start, it quiesces.
        text += " (fio lets them all finish before it pauses, so that fewer meet a slow moment)"
    if cell.verdict == "overhead":
        text += "; this compares what the tools cost, and has no part in the verdict"
    elif cell.verdict == "inconclusive" and cell.more_pairs is not None:
        text += f"; about {cell.more_pairs} pairs more would decide (--pairs)"
    elif cell.verdict == "inconclusive":
        text += "; the ratio is too near to the tolerance, or too noisy, for more pairs to help"
    return text + "\n"


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "name": cell.phase.name,
        "workload": asdict(cell.phase.workload),
        "paced": cell.is_paced,
        "verdict": cell.verdict,
        "more_pairs": cell.more_pairs,
        "busy_pct": dict(zip(TOOLS, cell.busy_pct, strict=True)),
        "mean_depth": dict(zip(TOOLS, cell.mean_depth, strict=True)),
        "metrics": {name: asdict(found) for name, found in cell.metrics.items()},
        "measured": [
            dict(zip(TOOLS, (_measured_json(one) for one in pair), strict=True))
            for pair in cell.pairs
        ],
    }


def _measured_json(measured: Measured) -> dict[str, float]:
    return {
        **measured.values,
        "busy_pct": measured.busy_pct,
        "mean_depth": measured.mean_depth,
    }


def _test_case(cell: Cell) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": "crosscheck", "name": cell.phase.name})
    lines = [_line(name, found) for name, found in cell.metrics.items()]
    kind = {"differ": "failure", "inconclusive": "error", "overhead": "skipped"}.get(cell.verdict)
    if kind is None:
        ElementTree.SubElement(case, "system-out").text = "\n".join(lines)
        return case
    undecided = [
        line
        for line, found in zip(lines, cell.metrics.values(), strict=True)
        if found.verdict == cell.verdict
    ]
    message = "; ".join(undecided) or _note(cell).strip()
    ElementTree.SubElement(case, kind, {"message": message}).text = "\n".join(lines)
    return case


def _line(name: str, found: Comparison) -> str:
    return (
        f"{name}: native/fio {found.ratio:.3f} [{found.low:.3f}, {found.high:.3f}], "
        f"tolerance {100 * found.tolerance:g} %: {found.verdict}"
    )


def _texts(counts: Mapping[str, int]) -> dict[str, str]:
    return {name: str(count) for name, count in counts.items()}
