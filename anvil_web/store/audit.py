"""The audit log: who asked for what."""

from __future__ import annotations

from typing import Any

from anvil_web import db
from anvil_web.clock import utcnow
from anvil_web.models import AuditLog


def record(
    action: str,
    *,
    actor: str | None,
    target: str | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Add one row.  `actor` is the account that asked; `details` never holds a secret."""
    with db.write_transaction():
        AuditLog.create(ts=utcnow(), actor=actor, action=action, target=target, details=details)
