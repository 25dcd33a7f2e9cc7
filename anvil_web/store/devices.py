"""Devices as the runners' scans found them."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ulid import ULID

from anvil_web import brands, db
from anvil_web.clock import utcnow
from anvil_web.models import Device, DeviceSnapshot

NOT_PRESENT = "not present at last scan"
METADATA = ("rotational", "partitions", "mount_points", "pcie")
_NAMESPACE = re.compile(r"/nvme\d+n(\d+)$")


def list_devices() -> list[Device]:
    """Every device ever seen, the latest seen first."""
    return list(Device.select().order_by(Device.last_seen.desc(), Device.id))


def get_device(device_id: str) -> Device | None:
    """The device, None when it is unknown."""
    return Device.get_or_none(Device.id == device_id)


def count() -> int:
    """How many devices are known."""
    return int(Device.select().count())


def fingerprint(found: Mapping[str, Any]) -> str:
    """What makes a device itself, as hex SHA-256 of `model|serial`.

    A device without a serial is told apart by its WWID, else by its path; the further
    namespaces of one controller by their number.
    """
    identity = found["serial"] or found.get("wwid") or found["path"]
    parts = [str(found["model"] or ""), str(identity)]
    namespace = _NAMESPACE.search(str(found["path"]))
    if namespace and int(namespace[1]) > 1:
        parts.append(namespace[1])
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def record_scan(
    host: str, found: Iterable[Mapping[str, Any]], *, now: dt.datetime | None = None
) -> list[Device]:
    """Store what a scan of `host` found (`Device.to_dict` of the inventory), a snapshot each.

    Its devices that were not found lose their path and cannot be tested.  Returns every
    known device.
    """
    now = now or utcnow()
    with db.write_transaction():
        present = [_upsert(host, data, now) for data in found]
        Device.update(
            current_device_path=None, is_testable=False, exclusion_reason=NOT_PRESENT
        ).where(Device.host == host, Device.id.not_in(present)).execute()
        return list_devices()


def _upsert(host: str, data: Mapping[str, Any], now: dt.datetime) -> str:
    mark = fingerprint(data)
    known = Device.get_or_none(Device.host == host, Device.fingerprint == mark)
    columns = _columns(data, known)
    if known is None:
        device_id = str(ULID())
        Device.create(
            id=device_id, host=host, fingerprint=mark, first_seen=now, last_seen=now, **columns
        )
    else:
        device_id = known.id
        Device.update(last_seen=now, **columns).where(Device.id == device_id).execute()
    DeviceSnapshot.create(id=str(ULID()), device=device_id, captured_at=now, parsed=_parsed(data))
    return device_id


def _columns(data: Mapping[str, Any], known: Device | None) -> dict[str, Any]:
    model = str(data["model"] or "")
    vendor = brands.vendor(model) or data.get("vendor") or (known.vendor if known else None)
    return {
        "model": model,
        "serial": str(data["serial"] or ""),
        "firmware": data.get("firmware"),
        "vendor": vendor,
        "brand": brands.brand(vendor, model),
        "protocol": data["protocol"],
        "form_factor": data.get("form_factor"),
        "capacity_bytes": data.get("capacity_bytes"),
        "sector_size_logical": data.get("sector_size_logical"),
        "sector_size_physical": data.get("sector_size_physical"),
        "wwid": data.get("wwid"),
        "current_device_path": data["path"],
        "is_testable": data["is_testable"],
        "exclusion_reason": data.get("exclusion_reason"),
        "metadata_json": {
            "product_name": model,
            **{name: data[name] for name in METADATA if data.get(name) is not None},
        },
    }


def _parsed(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "path": data["path"],
        "is_testable": data["is_testable"],
        "exclusion_reason": data.get("exclusion_reason"),
        "firmware": data.get("firmware"),
        "size_bytes": data.get("capacity_bytes"),
    }
