"""Anvil's engine: issues I/O, records the latency of every I/O, and does the statistics.

It knows nothing of HTTP, SQL or users.  Names are resolved on first use, so importing a
pure module loads neither numpy nor the compiled loop.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "AnvilError": "errors",
    "Workload": "workload",
    "Phase": "workload",
    "Profile": "workload",
    "Plan": "plan",
    "expand": "plan",
    "CATALOGUE": "profiles",
    "open_target": "target",
    "Consent": "target",
    "run": "session",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
