#!/usr/bin/env python3
"""Does `anvil bench` agree with fio?  The same file and settings, in turn.

    scripts/bench/engine_vs_fio.py FILE [--rw randread --bs 4k --iodepth 32 --pairs 5]

Runs pairs in the order A B, B A, A B …, so that a drift of the machine hits both, pinned to one
core and with priority where that is allowed, and prints each pair, the medians, and the median
of the paired ratios.  The file is only read.  fio's
`lat` is compared with ours (both run from submission to completion); clat is another quantity.

Not a test: the numbers belong to the machine and the moment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ANVIL = Path(sys.executable).with_name("anvil")
FIELDS = ("iops", "mean", "p50", "p99", "cpu")
UNITS = {"iops": "1/s", "mean": "us", "p50": "us", "p99": "us", "cpu": "ns/IO"}
Numbers = dict[str, float]


def output_of(command: list[str]) -> dict[str, Any]:
    pinned = ["taskset", "-c", str(max(os.sched_getaffinity(0))), *command]
    nice = ["nice", "-n", "-20"] if os.geteuid() == 0 else []
    done = subprocess.run(nice + pinned, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def common_options(options: argparse.Namespace) -> list[str]:
    names = (
        "rw", "bs", "iodepth", "iodepth_batch_submit", "numjobs", "size", "runtime", "direct",
    )  # fmt: skip
    given = [
        f"--{name}={value}" for name in names if (value := getattr(options, name)) is not None
    ]
    return [*given, "--time_based", "--norandommap"]


def by_anvil(options: argparse.Namespace) -> Numbers:
    engine = f"--engine={options.engine} --output-format=json"
    command = [str(ANVIL), "bench", options.file, *common_options(options), *engine.split()]
    return numbers(output_of(command))


def by_fio(options: argparse.Namespace) -> Numbers:
    # `anvil bench` reaps whatever has completed; fio one I/O at a time unless told otherwise.
    ring = (
        "--ioengine=io_uring --registerfiles=1 --fixedbufs=1 --nonvectored=1 "
        f"--iodepth_batch_complete_min=1 --iodepth_batch_complete_max={options.iodepth}"
    )
    engine = ring if options.engine == "native" else "--ioengine=psync"
    rest = (
        "--thread --invalidate=0 --readonly --group_reporting "
        "--clocksource=clock_gettime --lat_percentiles=1 --output-format=json"
    )
    command = ["fio", "--name=fio", f"--filename={options.file}", *common_options(options)]
    return numbers(output_of([*command, *engine.split(), *rest.split()]))


def numbers(output: dict[str, Any]) -> Numbers:
    """What is compared, of either program's JSON: they use the same words."""
    (job,) = output["jobs"]
    read = job["read"]
    lat = read["lat_ns"]
    busy_ns = (job["usr_cpu"] + job["sys_cpu"]) / 100 * read["runtime"] * 1e6
    return {
        "iops": read["iops"],
        "mean": lat["mean"] / 1e3,
        "p50": lat["percentile"]["50.000000"] / 1e3,
        "p99": lat["percentile"]["99.000000"] / 1e3,
        "cpu": busy_ns / read["total_ios"],
    }


def compare(options: argparse.Namespace) -> list[tuple[Numbers, Numbers]]:
    tools: list[Callable[[argparse.Namespace], Numbers]] = [by_anvil, by_fio]
    pairs = []
    for number in range(options.pairs):
        order = tools if number % 2 == 0 else tools[::-1]
        found = {tool: tool(options) for tool in order}
        pairs.append((found[by_anvil], found[by_fio]))
        if not options.json:
            print(row(f"pair {number + 1}", *pairs[-1]), flush=True)
    return pairs


def row(name: str, anvil: Numbers, fio: Numbers) -> str:
    cells = (f"{anvil[field]:>10.1f} {fio[field]:>10.1f}" for field in FIELDS)
    return f"{name:<10}" + "  ".join(cells)


def medians(pairs: list[tuple[Numbers, Numbers]], tool: int) -> Numbers:
    return {field: median(pair[tool][field] for pair in pairs) for field in FIELDS}


def ratios(pairs: list[tuple[Numbers, Numbers]]) -> Numbers:
    return {field: median(anvil[field] / fio[field] for anvil, fio in pairs) for field in FIELDS}


def environment() -> dict[str, Any]:
    fio = subprocess.run(["fio", "--version"], capture_output=True, text=True).stdout.strip()
    return {
        "machine": platform.machine(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "fio": fio,
        "load": os.getloadavg()[0],
    }


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("file", help="an existing file; it is only read")
    parser.add_argument("--rw", default="randread", choices=("read", "randread"))
    parser.add_argument("--bs", default="4k")
    parser.add_argument("--iodepth", type=int, default=32)
    parser.add_argument(
        "--iodepth_batch_submit", type=int, default=1, help="the same on both sides"
    )
    parser.add_argument("--numjobs", type=int, default=1)
    parser.add_argument("--size", default=None)
    parser.add_argument("--direct", type=int, default=1)
    parser.add_argument("--runtime", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--engine", default="native", choices=("native", "sync"))
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    return parser.parse_args(argv)


def main() -> None:
    options = parse(sys.argv[1:])
    if not options.json:
        print("environment: " + ", ".join(f"{k} {v}" for k, v in environment().items()))
        print("each pair of columns: anvil, fio")
        print(" " * 10 + "  ".join(f"{f'{field} ({UNITS[field]})':>21}" for field in FIELDS))
    pairs = compare(options)
    summary = {"anvil": medians(pairs, 0), "fio": medians(pairs, 1), "ratio": ratios(pairs)}
    if options.json:
        print(json.dumps({"environment": environment(), "pairs": pairs, **summary}, indent=2))
        return
    print(row("median", summary["anvil"], summary["fio"]))
    print("ratio     " + "  ".join(f"{summary['ratio'][field]:>21.3f}" for field in FIELDS))


if __name__ == "__main__":
    main()
