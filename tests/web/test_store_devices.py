"""Devices in the store: what makes a device itself, and what a scan changes."""

from __future__ import annotations

import datetime as dt
import hashlib

import pytest
from recorded import a_found_device

from anvil_web.clock import utcnow
from anvil_web.models import DeviceSnapshot
from anvil_web.store import devices

pytestmark = pytest.mark.usefixtures("store")


def test_fingerprint_is_model_and_serial() -> None:
    """The fingerprint is the contract's: SHA-256 of `model|serial`, wherever the path is."""
    expected = hashlib.sha256(b"Samsung PM9A3|S7KXNE0W500123").hexdigest()
    assert devices.fingerprint(a_found_device()) == expected
    assert devices.fingerprint(a_found_device(path="/dev/nvme7n1")) == expected


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"path": "/dev/nvme0n1"}, {"path": "/dev/nvme0n2"}),
        ({"serial": None, "wwid": "a"}, {"serial": None, "wwid": "b"}),
        (
            {"serial": None, "wwid": None, "path": "/dev/vda"},
            {"serial": None, "wwid": None, "path": "/dev/vdb"},
        ),
    ],
)
def test_different_devices_have_different_fingerprints(
    one: dict[str, str | None], two: dict[str, str | None]
) -> None:
    """Namespaces of a controller, and devices without a serial, are told apart."""
    assert devices.fingerprint(a_found_device(**one)) != devices.fingerprint(a_found_device(**two))


def test_a_second_scan_updates_the_same_device() -> None:
    """A device keeps its id and first sight, and takes new path and firmware; each scan is kept."""
    [first] = devices.record_scan("lab", [a_found_device()])
    [second] = devices.record_scan("lab", [a_found_device(path="/dev/nvme3n1", firmware="GDC6")])
    assert second.id == first.id
    assert second.first_seen == first.first_seen
    assert second.last_seen > first.last_seen
    assert (second.current_device_path, second.firmware) == ("/dev/nvme3n1", "GDC6")
    firmwares = [row.parsed["firmware"] for row in DeviceSnapshot.select()]
    assert firmwares == ["GDC5", "GDC6"]


def test_a_device_that_is_gone_cannot_be_run() -> None:
    """What a scan of its host does not find loses path and testability, with the reason."""
    devices.record_scan("lab", [a_found_device()])
    devices.record_scan("other", [a_found_device(serial="OTHER")])
    found = {device.serial: device for device in devices.record_scan("lab", [])}
    gone, elsewhere = found["S7KXNE0W500123"], found["OTHER"]
    assert gone.current_device_path is None
    assert not gone.is_testable
    assert gone.exclusion_reason == "not present at last scan"
    assert elsewhere.is_testable


def test_the_same_drive_seen_by_two_hosts_is_two_rows() -> None:
    """A drive that moved to another host is that host's device there."""
    devices.record_scan("lab", [a_found_device()])
    assert len(devices.record_scan("other", [a_found_device()])) == 2


def test_list_is_by_last_sight() -> None:
    """The device seen last comes first."""
    now = utcnow()
    devices.record_scan("a", [a_found_device(serial="OLD")], now=now)
    devices.record_scan("b", [a_found_device(serial="NEW")], now=now + dt.timedelta(seconds=1))
    assert [device.serial for device in devices.list_devices()] == ["NEW", "OLD"]
    assert devices.count() == 2


@pytest.mark.parametrize(
    ("model", "vendor", "brand"),
    [
        ("SAMSUNG MZQL2960HCJR-00A07", "Samsung", "Samsung"),
        ("WESTERN DIGITAL SN640", "WDC", "WDC"),
        ("SK hynix PE8110", "SK Hynix", "SK Hynix"),
        ("WDC WDS100T2B0C", None, "WDC"),
        ("HITACHI HUS72", None, "Hitachi"),
        ("Anvil scratch target", None, "Anvil"),
        ("", None, "Unknown"),
    ],
)
def test_vendor_and_brand(model: str, vendor: str | None, brand: str) -> None:
    """Vendor is the first keyword's, brand the vendor, a keyword or the first word."""
    [device] = devices.record_scan("lab", [a_found_device(model=model)])
    assert (device.vendor, device.brand) == (vendor, brand)


def test_metadata_is_what_the_wire_promises() -> None:
    """Partitions, mount points, rotation and product name are in `metadata_json`."""
    [device] = devices.record_scan("lab", [a_found_device(mount_points=("/srv",))])
    assert device.metadata_json == {
        "product_name": "Samsung PM9A3",
        "rotational": False,
        "partitions": [],
        "mount_points": ["/srv"],
    }
