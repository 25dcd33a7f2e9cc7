"""Drives and files that can be measured."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, RootModel

from anvil_web.schemas.base import Utc, Wire


class DevicePath(BaseModel):
    """Which device."""

    device_id: str = Field(description="Id of the device.")


class DeviceOut(Wire):
    """A device as the last scan of its host found it."""

    id: str = Field(description="Opaque id.")
    host: str = Field(description="Host that has the device.")
    fingerprint: str = Field(description="SHA-256 in hex over model and serial.")
    model: str = Field(description="Model as the device reports it.")
    serial: str = Field(description="Serial number as the device reports it.")
    firmware: str | None = Field(description="Firmware revision.")
    vendor: str | None = Field(description="Vendor, where it is known.")
    brand: str | None = Field(description="Brand under which the model library lists it.")
    protocol: str = Field(
        description="nvme, sata, sas, usb, iscsi, virtio, loop, md, dm, zram, file or unknown."
    )
    form_factor: str | None = Field(description="Form factor, where it is known.")
    capacity_bytes: int | None = Field(description="Size in bytes.")
    sector_size_logical: int | None = Field(description="Logical block size in bytes.")
    sector_size_physical: int | None = Field(description="Physical block size in bytes.")
    wwid: str | None = Field(description="World-wide id (EUI-64, NGUID, NAA or similar).")
    current_device_path: str | None = Field(
        description="Path on its host; null when the last scan did not find the device."
    )
    is_testable: bool = Field(description="Whether runs on it are accepted.")
    exclusion_reason: str | None = Field(description="Why it is not testable, in words.")
    first_seen: Utc = Field(description="First scan that found it.")
    last_seen: Utc = Field(description="Last scan that found it.")
    metadata_json: dict[str, Any] = Field(
        description="rotational, partitions, mount_points, product_name; pcie where known."
    )
    physical_location: dict[str, Any] | None = Field(
        description="chassis, bay, tray, port and notes, as entered by people."
    )


class DeviceList(RootModel[list[DeviceOut]]):
    """Devices, last seen first."""
