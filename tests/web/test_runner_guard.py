"""The runner's last check, and what it offers as targets."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import a_file_target, a_profile

from anvil_engine import procfs
from anvil_engine.errors import AnvilError
from anvil_engine.inventory import Device
from anvil_web import config
from anvil_web.runner import guard, loop
from anvil_web.store.claims import Claim

DRIVE = Device(
    path="/dev/nvme0n1",
    protocol="nvme",
    model="PM9A3",
    serial="S7KXNE0W500123",
    firmware="1",
    vendor=None,
    wwid="eui.01",
    form_factor=None,
    capacity_bytes=1 << 30,
    sector_size_logical=512,
    sector_size_physical=512,
    rotational=False,
    partitions=(),
    mount_points=(),
    is_testable=True,
    exclusion_reason=None,
)
CLAIM = Claim(
    run_id="run",
    profile_snapshot={},
    engine="native",
    simulation=False,
    confirm_serial_last6=None,
    device_path="/dev/nvme0n1",
    model="PM9A3",
    serial="S7KXNE0W500123",
    wwid="eui.01",
)
READS, WRITES = a_profile(1.0), a_profile(1.0, "randwrite")


def test_an_unchanged_device_passes() -> None:
    """The device that the run was queued for is found and returned."""
    other = dataclasses.replace(DRIVE, path="/dev/nvme1n1", serial="X")
    assert guard.check(CLAIM, READS, [other, DRIVE]) is DRIVE


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": "/dev/nvme1n1"}, "not there any more"),
        ({"serial": "ANOTHER"}, "serial is ANOTHER"),
        ({"serial": None}, "serial is missing"),
        ({"wwid": "eui.02"}, "WWID is eui.02"),
        ({"model": "PM1733"}, "model is PM1733"),
        ({"is_testable": False, "exclusion_reason": "mounted at /srv"}, "mounted at /srv"),
    ],
)
def test_a_changed_device_is_refused(change: dict[str, object], says: str) -> None:
    """Another path, identity or use since the run was queued refuses it, in words."""
    changed = dataclasses.replace(DRIVE, **change)  # type: ignore[arg-type]
    with pytest.raises(guard.Refused, match=says):
        guard.check(CLAIM, READS, [changed])


@pytest.mark.parametrize("confirm", [None, "", "500124", "S7KXNE0W500123", "S7KXNE"])
def test_writing_needs_the_serials_last_six(confirm: str | None) -> None:
    """A profile that writes is refused without the right confirmation; one that reads is not."""
    claim = dataclasses.replace(CLAIM, confirm_serial_last6=confirm)
    with pytest.raises(guard.Refused, match="nobody confirmed"):
        guard.check(claim, WRITES, [DRIVE])
    assert guard.check(claim, READS, [DRIVE]) is DRIVE


def test_writing_passes_with_confirmation() -> None:
    """Case and blanks around the confirmation do not matter."""
    drive = dataclasses.replace(DRIVE, serial="SERIALABC12F")
    claim = dataclasses.replace(CLAIM, serial="SERIALABC12F", confirm_serial_last6=" abc12f ")
    assert guard.check(claim, WRITES, [drive]) is drive


def test_a_device_without_serial_is_never_written_to() -> None:
    """Nothing confirms a device that has no serial."""
    drive = dataclasses.replace(DRIVE, serial=None)
    for confirm in (None, "", " "):
        claim = dataclasses.replace(CLAIM, serial="", confirm_serial_last6=confirm)
        with pytest.raises(guard.Refused, match="nobody confirmed"):
            guard.check(claim, WRITES, [drive])


def test_a_run_whose_device_has_no_path_is_refused() -> None:
    """A device that the last scan did not find cannot be run."""
    claim = dataclasses.replace(CLAIM, device_path=None)
    with pytest.raises(guard.Refused, match="rescan"):
        guard.check(claim, READS, [DRIVE])


def test_only_plain_files_are_targets(tmp_path: Path) -> None:
    """Anvil's own files are offered; links and files with a second name never are."""
    settings = config.load({}, data_dir=tmp_path)
    target = a_file_target(settings)
    sidecar = target.with_name(f"{target.name}.anvil.json")
    for name in ("link", "hard", "orphan"):
        (tmp_path / f"{name}.anvil.json").write_bytes(sidecar.read_bytes())
    (tmp_path / "link").symlink_to(target)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.link(victim, tmp_path / "hard")
    assert guard.file_targets(tmp_path) == [target]
    found = guard.scan(Path("/"), tmp_path)
    assert [device.path for device in found if device.protocol == "file"] == [str(target)]


@pytest.fixture
def impatience() -> Iterator[None]:
    """A test that waits for something is failed, not waited for."""

    def fail(*_: object) -> None:
        pytest.fail("the scan hangs")  # no OSError, which a scan may swallow

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def files_of_scan(folder: Path) -> list[str]:
    return [device.path for device in guard.scan(Path("/"), folder) if device.protocol == "file"]


@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize("kind", ["fifo", "link", "deep", "deeper", "long", "surrogate", "number"])
def test_a_planted_sidecar_does_not_stop_the_scan(kind: str, tmp_path: Path) -> None:
    """Whatever is put in a sidecar's place, the scan ends, without it and with the others."""
    target = a_file_target(config.load({}, data_dir=tmp_path))
    good = a_file_target(config.load({}, data_dir=tmp_path), "good.dat")
    sidecar = target.with_name(f"{target.name}.anvil.json")
    text = sidecar.read_text()
    serial = json.loads(text)["serial"]
    sidecar.unlink()
    if kind == "fifo":
        os.mkfifo(sidecar)
    elif kind == "link":
        (tmp_path / "elsewhere").write_text(text)
        sidecar.symlink_to("elsewhere")
    else:
        sidecar.write_text(
            {
                "deep": "[" * 4000,
                "deeper": "[" * 200_000,
                "long": " " * 4096 + text,
                "surrogate": text.replace(serial, r"\ud800\u0000"),
                "number": text.replace(f'"{serial}"', "1" * 5000),
            }[kind]
        )
    assert files_of_scan(tmp_path) == [str(good)]


def test_names_that_are_none_do_not_stop_the_scan(tmp_path: Path) -> None:
    """A sidecar of nothing, and a name that is no text, are no targets."""
    target = a_file_target(config.load({}, data_dir=tmp_path))
    text = target.with_name(f"{target.name}.anvil.json").read_bytes()
    for name in (b"", b".", b"..", b"\xff"):
        (tmp_path / os.fsdecode(name + b".anvil.json")).write_bytes(text)
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"data")
    assert files_of_scan(tmp_path) == [str(target)]


@pytest.mark.parametrize("fs_type", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_sqlite_on_a_network_file_system_is_refused(
    fs_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal names mount, kind, reason and the way out."""
    mount = procfs.Mount("0:1", "/mnt/share", fs_type, "server:/share")
    monkeypatch.setattr(procfs, "mount_of", lambda _root, _path: mount)
    with pytest.raises(AnvilError, match=f"/mnt/share.*{fs_type}.*locks.*PostgreSQL"):
        loop.refuse_network_file_system(f"sqlite:///{tmp_path}/anvil.db")
    loop.refuse_network_file_system("postgresql://localhost/anvil")


def test_sqlite_on_a_local_file_system_is_fine(tmp_path: Path) -> None:
    """Where this test's files lie a runner would start."""
    loop.refuse_network_file_system(f"sqlite:///{tmp_path}/anvil.db")
