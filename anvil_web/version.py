"""The version of this installation."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def anvil_version() -> str:
    """Version of the installed distribution; `0+source` when Anvil runs from a bare tree."""
    try:
        return version("anvil")
    except PackageNotFoundError:
        return "0+source"
