"""fio's JSON: its documents read as results.

What is read is lat, from submission to completion; slat and clat are other quantities
(fio's clat has no submission in it) and never stand in for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from anvil_engine import histogram, summary
from anvil_engine.histogram import Counts
from anvil_engine.results import DirectionResult

FIO_LAST_BUCKET = 29 * histogram.SUB_BUCKETS - 1
"""fio counts all that is slower than 17 s here (stat.h: FIO_IO_U_PLAT_GROUP_NR = 29)."""


class Documents:
    """Splits fio's output, as it comes, into JSON documents and the messages among them."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._rest = b""
        self._lines: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """The documents that are complete with `chunk`."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield from self._take(line.decode(errors="replace"))

    def _take(self, line: str) -> Iterator[dict[str, Any]]:
        if self._lines or line == "{":
            self._lines.append(line)
        elif line.strip():
            self.messages.append(line.strip())
        if self._lines and line == "}":
            document: dict[str, Any] = json.loads("\n".join(self._lines))
            self._lines.clear()
            yield document


def documents(text: str) -> list[dict[str, Any]]:
    """All documents of a whole output.  Raises `ValueError` when one of them is not JSON."""
    return list(Documents().feed(text.encode() + b"\n"))


def counts(lat: Mapping[str, Any]) -> Counts:
    """The histogram in a json+ latency object (`lat_ns`); empty when it has no bins."""
    found = histogram.empty()
    for midpoint, count in lat.get("bins", {}).items():
        found[histogram.bucket_index(int(midpoint))] += count
    return found


def bins(recorded: Counts) -> dict[str, int]:
    """The `bins` of a json+ latency object; what is slower than fio's range is in the last."""
    fitted = recorded.copy()
    fitted[FIO_LAST_BUCKET] = recorded[FIO_LAST_BUCKET:].sum()
    fitted[FIO_LAST_BUCKET + 1 :] = 0
    return {str(middle): count for middle, count in histogram.bins(fitted)}


def runtime_s(job: Mapping[str, Any]) -> float:
    """Seconds that were measured, without the ramp; fio counts them for each direction."""
    return max(float(job[direction]["runtime"]) for direction in ("read", "write")) / 1000


def direction_result_without_bins(side: Mapping[str, Any], seconds: float) -> DirectionResult:
    """One direction of a plain json job: without a histogram, and with fio's own percentiles.

    `percentiles` is empty when fio was not told `lat_percentiles=1`.
    """
    lat, ios = side["lat_ns"], int(side["lat_ns"]["N"])
    return DirectionResult(
        ios=ios,
        io_bytes=int(side["io_bytes"]),
        iops=ios / seconds,
        bw_bytes=int(side["io_bytes"]) / seconds,
        lat_min_ns=int(lat["min"]),
        lat_max_ns=int(lat["max"]),
        lat_mean_ns=float(lat["mean"]),
        lat_stddev_ns=float(lat["stddev"]),
        percentiles={
            f"{float(name):g}": float(value) for name, value in lat.get("percentile", {}).items()
        },
        clamped=0,
        histogram=histogram.pack(histogram.empty()),
    )


def direction_result(side: Mapping[str, Any], seconds: float) -> DirectionResult | None:
    """One direction of a json+ job; None when it recorded nothing.

    Only I/Os whose latency was recorded count, so that `ios` is the histogram's total.
    `clamped` has all of fio's last bucket, as fio does not tell the clamped ones apart.
    """
    lat = side["lat_ns"]
    recorded = counts(lat)
    ios = histogram.total(recorded)
    found = summary.latencies(
        recorded,
        ios=ios,
        sum_ns=round(float(lat["mean"]) * ios),
        min_ns=int(lat["min"]),
        max_ns=int(lat["max"]),
        clamped=int(recorded[FIO_LAST_BUCKET:].sum()),
    )
    if found is None:
        return None
    return summary.direction_result(found, io_bytes=int(side["io_bytes"]), seconds=seconds)
