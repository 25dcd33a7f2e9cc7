"""Whose drive it is, from what the drive calls itself (API.md §5 and §7)."""

from __future__ import annotations

_VENDORS = {
    keyword: keyword.title()
    for keyword in (
        "SAMSUNG",
        "INTEL",
        "SOLIDIGM",
        "MICRON",
        "CRUCIAL",
        "KIOXIA",
        "TOSHIBA",
    )
} | {
    "WESTERN DIGITAL": "WDC",
    "SANDISK": "SanDisk",
    "HGST": "HGST",
    "SEAGATE": "Seagate",
    "KINGSTON": "Kingston",
    "SK HYNIX": "SK Hynix",
    "HYNIX": "SK Hynix",
    "DAPUSTOR": "DapuStor",
    "HUAWEI": "Huawei",
    "ADATA": "ADATA",
    "CORSAIR": "Corsair",
    "LEXAR": "Lexar",
    "PHISON": "Phison",
    "MAXIO": "Maxio",
    "REALTEK": "Realtek",
}
_BRANDS = (
    "SAMSUNG",
    "INTEL",
    "SOLIDIGM",
    "MICRON",
    "WESTERN DIGITAL",
    "WDC",
    "WD",
    "SEAGATE",
    "HITACHI",
    "HGST",
    "TOSHIBA",
    "KIOXIA",
    "CRUCIAL",
    "SANDISK",
    "KINGSTON",
    "CORSAIR",
    "SK HYNIX",
    "HYNIX",
    "DAPUSTOR",
    "HUAWEI",
    "LEXAR",
    "ADATA",
)


def vendor(model: str) -> str | None:
    """The first vendor whose keyword the product name contains."""
    upper = model.upper()
    return next((name for keyword, name in _VENDORS.items() if keyword in upper), None)


def brand(vendor_name: str | None, model: str) -> str:
    """The model library's brand: the vendor, else a keyword, else the model's first word."""
    if vendor_name and vendor_name.strip():
        return vendor_name.strip()
    upper = model.upper()
    for keyword in _BRANDS:
        if keyword in upper:
            return keyword if keyword == "WDC" else keyword.title()
    words = model.split()
    return words[0] if words else "Unknown"
