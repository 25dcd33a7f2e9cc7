"""The tables.

Rows that runners and web workers share.  `run_event` orders everything that happens in
a run: `(run_id, seq)` is its primary key, so two writers can never take one number.
A sample is an event whose content lives in typed columns of `sample` under the same key.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from peewee import (
    AutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    CompositeKey,
    DatabaseProxy,
    DoubleField,
    ForeignKeyField,
    IntegerField,
    JSONField,
    Model,
    TextField,
)

database = DatabaseProxy()

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)


class UtcDateTimeField(BigIntegerField):
    """An aware UTC `datetime`, stored as microseconds since 1970 on every database."""

    def db_value(self, value: dt.datetime | int | None) -> int | None:
        """Microseconds of an aware datetime; a naive one raises `TypeError`."""
        if value is None or isinstance(value, int):
            return value
        return (value - EPOCH) // MICROSECOND

    def python_value(self, value: int | None) -> dt.datetime | None:
        """The aware datetime of stored microseconds."""
        return None if value is None else EPOCH + value * MICROSECOND


class Base(Model):
    """Every table lives in the one configured database."""

    class Meta:
        database = database
        legacy_table_names = False


class User(Base):
    """An account.  No password hash means that only single sign-on can open it."""

    id = TextField(primary_key=True)
    username = TextField(unique=True)
    display_name = TextField(null=True)
    password_hash = TextField(null=True)
    password_version = IntegerField(default=0)
    role = TextField()
    is_active = BooleanField(default=True)
    created_at = UtcDateTimeField()
    last_login_at = UtcDateTimeField(null=True)


class AuditLog(Base):
    """Who did what.  `actor` is the account that asked, never the process that carried it out."""

    id = AutoField()
    ts = UtcDateTimeField(index=True)
    actor = TextField(null=True)
    action = TextField()
    target = TextField(null=True)
    details = JSONField(null=True)


class Device(Base):
    """A drive or file as the runner of `host` saw it last."""

    id = TextField(primary_key=True)
    host = TextField()
    fingerprint = TextField()
    model = TextField()
    serial = TextField()
    firmware = TextField(null=True)
    vendor = TextField(null=True)
    brand = TextField(null=True)
    protocol = TextField()
    form_factor = TextField(null=True)
    capacity_bytes = BigIntegerField(null=True)
    sector_size_logical = IntegerField(null=True)
    sector_size_physical = IntegerField(null=True)
    wwid = TextField(null=True)
    current_device_path = TextField(null=True)
    is_testable = BooleanField(default=False)
    exclusion_reason = TextField(null=True)
    first_seen = UtcDateTimeField()
    last_seen = UtcDateTimeField(index=True)
    metadata_json = JSONField()
    physical_location = JSONField(null=True)

    class Meta:
        indexes = ((("host", "fingerprint"), True),)


class DeviceSnapshot(Base):
    """What one rescan found of one device."""

    id = TextField(primary_key=True)
    device = ForeignKeyField(Device, backref="snapshots", on_delete="CASCADE")
    captured_at = UtcDateTimeField()
    parsed = JSONField()


class Run(Base):
    """One execution of a profile on a device; it executes `profile_snapshot`, never the catalogue."""

    id = TextField(primary_key=True)
    device = ForeignKeyField(Device, backref="runs", on_delete="RESTRICT")
    host = TextField()
    profile_name = TextField(index=True)
    profile_snapshot = JSONField()
    engine = TextField(default="native")
    simulation = BooleanField(default=False)
    confirm_serial_last6 = TextField(null=True)
    status = TextField(index=True)
    queued_by = TextField(null=True)
    queued_at = UtcDateTimeField()
    started_at = UtcDateTimeField(null=True)
    finished_at = UtcDateTimeField(null=True)
    abort_requested_at = UtcDateTimeField(null=True)
    runner_id = TextField(null=True)
    heartbeat_at = UtcDateTimeField(null=True)
    missed_at = UtcDateTimeField(null=True)
    engine_events = IntegerField(default=0)
    error_message = TextField(null=True)
    device_path_at_run = TextField(null=True)
    warnings = JSONField(default=list)
    host_system = JSONField(null=True)
    smart_before = JSONField(null=True)
    smart_after = JSONField(null=True)
    env_before = JSONField(null=True)
    env_after = JSONField(null=True)
    share_slug = TextField(null=True, unique=True)

    class Meta:
        indexes = ((("queued_at", "id"), False),)


class RunPhase(Base):
    """One phase of a run.  Histograms are packed (`anvil_engine.histogram.pack`).

    The `*_clat_*` columns keep the contract's names and hold lat: submission to reaping.
    """

    id = TextField(primary_key=True)
    run = ForeignKeyField(Run, backref="phases", on_delete="CASCADE", index=False)
    phase_order = IntegerField()
    phase_name = TextField()
    pattern = TextField()
    block_size = IntegerField()
    iodepth = IntegerField()
    numjobs = IntegerField()
    rwmix_write_pct = IntegerField()
    runtime_s = DoubleField()
    started_at = UtcDateTimeField(null=True)
    finished_at = UtcDateTimeField(null=True)
    jobfile = TextField(null=True)
    read_iops = DoubleField(null=True)
    read_bw_bytes = BigIntegerField(null=True)
    read_clat_mean_ns = DoubleField(null=True)
    read_clat_p50_ns = DoubleField(null=True)
    read_clat_p99_ns = DoubleField(null=True)
    read_clat_p999_ns = DoubleField(null=True)
    read_clat_p9999_ns = DoubleField(null=True)
    write_iops = DoubleField(null=True)
    write_bw_bytes = BigIntegerField(null=True)
    write_clat_mean_ns = DoubleField(null=True)
    write_clat_p50_ns = DoubleField(null=True)
    write_clat_p99_ns = DoubleField(null=True)
    write_clat_p999_ns = DoubleField(null=True)
    write_clat_p9999_ns = DoubleField(null=True)
    read_histogram = BlobField(null=True)
    write_histogram = BlobField(null=True)
    result = JSONField(null=True)

    class Meta:
        indexes = ((("run", "phase_order"), True),)


class RunEvent(Base):
    """What happened in a run, in order.  `payload` is null for samples: see `Sample`."""

    run = ForeignKeyField(Run, backref="events", on_delete="CASCADE", index=False)
    seq = IntegerField()
    ts = UtcDateTimeField()
    event = TextField()
    payload = JSONField(null=True)

    class Meta:
        primary_key = CompositeKey("run", "seq")


class Sample(Base):
    """One interval of one phase.  `interval` counts from 0 within the phase, without gaps.

    An idle direction is null.  Histograms are packed and hold this interval's I/Os only.
    """

    run = ForeignKeyField(Run, backref="samples", on_delete="CASCADE", index=False)
    seq = IntegerField()
    ts = UtcDateTimeField()
    phase_order = IntegerField()
    interval = IntegerField()
    elapsed_s = DoubleField()
    eta_s = DoubleField()
    read_iops = DoubleField(null=True)
    read_bw_bytes = DoubleField(null=True)
    read_clat_mean_ns = DoubleField(null=True)
    read_clat_p50_ns = DoubleField(null=True)
    read_clat_p99_ns = DoubleField(null=True)
    read_clat_p999_ns = DoubleField(null=True)
    read_clat_p9999_ns = DoubleField(null=True)
    read_clat_max_ns = DoubleField(null=True)
    read_histogram = BlobField(null=True)
    write_iops = DoubleField(null=True)
    write_bw_bytes = DoubleField(null=True)
    write_clat_mean_ns = DoubleField(null=True)
    write_clat_p50_ns = DoubleField(null=True)
    write_clat_p99_ns = DoubleField(null=True)
    write_clat_p999_ns = DoubleField(null=True)
    write_clat_p9999_ns = DoubleField(null=True)
    write_clat_max_ns = DoubleField(null=True)
    write_histogram = BlobField(null=True)

    class Meta:
        primary_key = CompositeKey("run", "seq")


class Runner(Base):
    """A runner process and its last sign of life."""

    id = TextField(primary_key=True)
    host = TextField()
    pid = IntegerField()
    version = TextField()
    simulation_mode = BooleanField(default=False)
    started_at = UtcDateTimeField()
    heartbeat_at = UtcDateTimeField(index=True)


class Command(Base):
    """A request from the web side to a runner: rescan, and what later issues add."""

    id = TextField(primary_key=True)
    host = TextField(null=True)
    kind = TextField()
    args = JSONField(default=dict)
    state = TextField(index=True)
    created_at = UtcDateTimeField()
    claimed_at = UtcDateTimeField(null=True)
    finished_at = UtcDateTimeField(null=True)
    result = JSONField(null=True)
    error = TextField(null=True)


class Render(Base):
    """One document to draw, and the drawn document once a renderer made it."""

    id = TextField(primary_key=True)
    kind = TextField()
    subject_id = TextField()
    variant = TextField()
    state = TextField(index=True)
    requested_at = UtcDateTimeField()
    claimed_at = UtcDateTimeField(null=True)
    finished_at = UtcDateTimeField(null=True)
    media_type = TextField(null=True)
    etag = TextField(null=True)
    content = BlobField(null=True)
    error = TextField(null=True)

    class Meta:
        indexes = ((("kind", "subject_id", "variant"), True),)


class Setting(Base):
    """One named value that all processes share."""

    key = TextField(primary_key=True)
    value: Any = JSONField()


TABLES: tuple[type[Base], ...] = (
    User,
    AuditLog,
    Device,
    DeviceSnapshot,
    Run,
    RunPhase,
    RunEvent,
    Sample,
    Runner,
    Command,
    Render,
    Setting,
)
