"""export.json: nothing that is stored about a run is missing from it."""

from __future__ import annotations

import base64
import json

import pytest
import recorded

from anvil_web.models import Device, Run, RunEvent, RunPhase, Sample
from anvil_web.store import export
from anvil_web.store.samples import timeseries

pytestmark = pytest.mark.usefixtures("store")


def test_every_column_of_every_row_is_in_the_bundle() -> None:
    """Run, phases, samples, events and device are there with all their columns."""
    run = recorded.a_complete_run()
    bundle = json.loads(json.dumps(export.run_bundle(run.id, anvil_version="1.2")))
    assert (bundle["schema_version"], bundle["anvil_version"]) == (1, "1.2")
    for model, rows in (
        (Run, [bundle["run"]]),
        (RunPhase, bundle["phases"]),
        (Sample, bundle["samples"]),
        (RunEvent, bundle["events"]),
        (Device, [bundle["device"]]),
    ):
        columns = {field.column_name for field in model._meta.fields.values()}
        columns -= {"share_slug"} if model is Run else set()
        assert [set(row) for row in rows] == [columns] * model.select().count()
    assert bundle["timeseries"] == list(timeseries(run.id))
    assert len(bundle["device_snapshots"]) == 1


def test_histograms_come_back_bit_for_bit() -> None:
    """Packed histograms survive as base64."""
    run = recorded.a_complete_run()
    bundle = export.run_bundle(run.id, anvil_version="1")
    assert bundle is not None
    packed = base64.b64decode(bundle["phases"][0]["read_histogram"])
    assert packed == recorded.packed()
    assert bundle["phases"][0]["write_histogram"] is None


def test_the_share_link_is_not_in_it() -> None:
    """Everybody who may read a run may have the bundle, but not the secret of its link."""
    run = recorded.a_complete_run()
    Run.update(share_slug="a-secret-slug").execute()
    assert "a-secret-slug" not in json.dumps(export.run_bundle(run.id, anvil_version="1"))


def test_other_runs_are_not_in_it() -> None:
    """A bundle holds the rows of its own run only."""
    run = recorded.a_complete_run()
    other = recorded.a_complete_run(device=run.device)
    bundle = export.run_bundle(run.id, anvil_version="1")
    assert bundle is not None
    assert other.id not in json.dumps(bundle)
    assert export.run_bundle("unknown", anvil_version="1") is None
