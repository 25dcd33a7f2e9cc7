"""The first schema: accounts, devices, runs with their events and samples, the queues."""

from typing import Any

from peewee import (
    AutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    CompositeKey,
    DoubleField,
    ForeignKeyField,
    IntegerField,
    JSONField,
    Model,
    TextField,
)

# A frozen copy, on purpose: models.py moves on, what this migration made does not.
# Times are microseconds since 1970.


class Base(Model):
    class Meta:
        legacy_table_names = False


class User(Base):
    id = TextField(primary_key=True)
    username = TextField(unique=True)
    display_name = TextField(null=True)
    password_hash = TextField(null=True)
    password_version = IntegerField(default=0)
    role = TextField()
    is_active = BooleanField(default=True)
    created_at = BigIntegerField()
    last_login_at = BigIntegerField(null=True)


class AuditLog(Base):
    id = AutoField()
    ts = BigIntegerField(index=True)
    actor = TextField(null=True)
    action = TextField()
    target = TextField(null=True)
    details = JSONField(null=True)


class Device(Base):
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
    first_seen = BigIntegerField()
    last_seen = BigIntegerField(index=True)
    metadata_json = JSONField()
    physical_location = JSONField(null=True)

    class Meta:
        indexes = ((("host", "fingerprint"), True),)


class DeviceSnapshot(Base):
    id = TextField(primary_key=True)
    device = ForeignKeyField(Device, on_delete="CASCADE")
    captured_at = BigIntegerField()
    parsed = JSONField()


class Run(Base):
    id = TextField(primary_key=True)
    device = ForeignKeyField(Device, on_delete="RESTRICT")
    host = TextField()
    profile_name = TextField(index=True)
    profile_snapshot = JSONField()
    engine = TextField(default="native")
    simulation = BooleanField(default=False)
    confirm_serial_last6 = TextField(null=True)
    status = TextField(index=True)
    queued_by = TextField(null=True)
    queued_at = BigIntegerField()
    started_at = BigIntegerField(null=True)
    finished_at = BigIntegerField(null=True)
    abort_requested_at = BigIntegerField(null=True)
    runner_id = TextField(null=True)
    heartbeat_at = BigIntegerField(null=True)
    missed_at = BigIntegerField(null=True)
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
    id = TextField(primary_key=True)
    run = ForeignKeyField(Run, on_delete="CASCADE", index=False)
    phase_order = IntegerField()
    phase_name = TextField()
    pattern = TextField()
    block_size = IntegerField()
    iodepth = IntegerField()
    numjobs = IntegerField()
    rwmix_write_pct = IntegerField()
    runtime_s = DoubleField()
    started_at = BigIntegerField(null=True)
    finished_at = BigIntegerField(null=True)
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
    run = ForeignKeyField(Run, on_delete="CASCADE", index=False)
    seq = IntegerField()
    ts = BigIntegerField()
    event = TextField()
    payload = JSONField(null=True)

    class Meta:
        primary_key = CompositeKey("run", "seq")


class Sample(Base):
    run = ForeignKeyField(Run, on_delete="CASCADE", index=False)
    seq = IntegerField()
    ts = BigIntegerField()
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
    id = TextField(primary_key=True)
    host = TextField()
    pid = IntegerField()
    version = TextField()
    simulation_mode = BooleanField(default=False)
    started_at = BigIntegerField()
    heartbeat_at = BigIntegerField(index=True)


class Command(Base):
    id = TextField(primary_key=True)
    host = TextField(null=True)
    kind = TextField()
    args = JSONField(default=dict)
    state = TextField(index=True)
    created_at = BigIntegerField()
    claimed_at = BigIntegerField(null=True)
    finished_at = BigIntegerField(null=True)
    result = JSONField(null=True)
    error = TextField(null=True)


class Render(Base):
    id = TextField(primary_key=True)
    kind = TextField()
    subject_id = TextField()
    variant = TextField()
    state = TextField(index=True)
    requested_at = BigIntegerField()
    claimed_at = BigIntegerField(null=True)
    finished_at = BigIntegerField(null=True)
    media_type = TextField(null=True)
    etag = TextField(null=True)
    content = BlobField(null=True)
    error = TextField(null=True)

    class Meta:
        indexes = ((("kind", "subject_id", "variant"), True),)


class Setting(Base):
    key = TextField(primary_key=True)
    value = JSONField()


TABLES = (
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


def up(_migrator: Any, db: Any) -> None:
    with db.bind_ctx(TABLES):
        db.create_tables(TABLES)


def down(_migrator: Any, db: Any) -> None:
    with db.bind_ctx(TABLES):
        db.drop_tables(TABLES)
