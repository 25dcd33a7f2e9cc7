"""What a run recorded: `/api/runs/{id}/timeseries`, `…/histogram` and `…/export.json`."""

from __future__ import annotations

import json

from flask import Response, abort, request, stream_with_context

from anvil_web.api.reply import noun, reply, stream_array
from anvil_web.api.runs import existing_run
from anvil_web.auth import requires
from anvil_web.schemas.base import ErrorBody
from anvil_web.schemas.phases import Bin, CdfPoint, Distribution, PhaseHistogram, PhasePath
from anvil_web.schemas.runs import Bundle, PointList, RunPath, TimeseriesQuery
from anvil_web.store import events, export, runs, samples
from anvil_web.version import anvil_version

bp = noun("series", "/api/runs/<run_id>", tag="Runs", guarded=True)


@bp.get("/timeseries", responses={200: PointList, 404: ErrorBody})
@requires("viewer")
def timeseries(path: RunPath, query: TimeseriesQuery) -> Response:
    """The values of every second.  `If-None-Match` spares a series that has not grown."""
    run = existing_run(path.run_id)
    etag = f"{run.id}-{events.last_seq(run.id)}"
    if request.if_none_match.contains_weak(etag):
        response = Response(status=304)
    else:
        points = samples.timeseries(run.id, query.metric, query.since, query.max_points)
        body = stream_with_context(stream_array(points))
        response = Response(body, mimetype="application/json")
    response.set_etag(etag, weak=True)
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@bp.get("/phases/<phase_id>/histogram", responses={200: PhaseHistogram, 404: ErrorBody})
@requires("viewer")
def histogram(path: PhasePath) -> Response:
    """The latency of every I/O of a phase, all jobs together."""
    phase = runs.get_phase(path.run_id, path.phase_id)
    if phase is None:
        abort(404, "Phase not found")
    packed = {"read": phase.read_histogram, "write": phase.write_histogram}
    directions = {name: _distribution(bytes(data)) for name, data in packed.items() if data}
    return reply(
        PhaseHistogram(
            run_id=path.run_id,
            phase_id=phase.id,
            phase_name=phase.phase_name,
            directions={name: found for name, found in directions.items() if found.total_ios},
        )
    )


def _distribution(packed: bytes) -> Distribution:
    # numpy comes with it, and most workers are never asked for a histogram.
    from anvil_engine import histogram as histograms

    bins = histograms.bins(histograms.unpack(packed))
    total = sum(count for _, count in bins)
    cdf, seen = [], 0
    for bin_ns, count in bins:
        seen += count
        share = seen / total
        cdf.append(CdfPoint(bin_ns=bin_ns, cdf=share, exceedance=max(0.0, 1.0 - share)))
    buckets = [Bin(bin_ns=bin_ns, count=count) for bin_ns, count in bins]
    return Distribution(total_ios=total, histogram=buckets, cdf=cdf)


@bp.get("/export.json", responses={200: Bundle, 404: ErrorBody})
@requires("viewer")
def export_json(path: RunPath) -> Response:
    """Everything that is stored about the run, as a file."""
    bundle = export.run_bundle(path.run_id, anvil_version=anvil_version())
    if bundle is None:
        abort(404, "Run not found")
    response = Response(json.dumps(bundle), mimetype="application/json")
    name = f"anvil-run-{bundle['run']['id']}.json"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
