"""The queue of documents to draw, and the drawn documents."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ulid import ULID

from anvil_web import db
from anvil_web.clock import utcnow
from anvil_web.models import Render

# A renderer renews its claim while it draws; a claim this old belongs to a dead one.
CLAIM_EXPIRES_S = 30.0


def request(kind: str, subject_id: str, variant: str = "") -> Render:
    """Queue a document, or queue it again if it was drawn before; the row."""
    with db.write_transaction():
        known = get(kind, subject_id, variant)
        if known is None:
            return Render.create(
                id=str(ULID()),
                kind=kind,
                subject_id=subject_id,
                variant=variant,
                state="queued",
                requested_at=utcnow(),
            )
        Render.update(state="queued", requested_at=utcnow()).where(
            Render.id == known.id, Render.state == "finished"
        ).execute()
        return Render.get_by_id(known.id)


def get(kind: str, subject_id: str, variant: str = "") -> Render | None:
    """The document's row, None when nobody asked for it."""
    return Render.get_or_none(
        Render.kind == kind, Render.subject_id == subject_id, Render.variant == variant
    )


def claim_next(now: dt.datetime | None = None) -> Render | None:
    """Take the oldest document that nobody draws; None when there is none."""
    now = now or utcnow()
    if not _open(now).exists():
        return None
    with db.write_transaction():
        query = _open(now).order_by(Render.requested_at, Render.id).limit(1)
        if db.locks_rows():
            query = query.for_update("FOR UPDATE SKIP LOCKED")
        found = query.first()
        if found is None:
            return None
        Render.update(state="claimed", claimed_at=now).where(Render.id == found.id).execute()
        return Render.get_by_id(found.id)


def _open(now: dt.datetime) -> Any:
    expired = Render.claimed_at < now - dt.timedelta(seconds=CLAIM_EXPIRES_S)
    return Render.select(Render.id).where(
        (Render.state == "queued") | ((Render.state == "claimed") & expired)
    )


def renew(render_id: str) -> bool:
    """Keep a claim while drawing; False when the document is not being drawn any more."""
    with db.write_transaction():
        renewed = (
            Render.update(claimed_at=utcnow())
            .where(Render.id == render_id, Render.state == "claimed")
            .execute()
        )
    return bool(renewed == 1)


def finish(
    render_id: str,
    *,
    content: bytes | None = None,
    media_type: str | None = None,
    etag: str | None = None,
    error: str | None = None,
) -> None:
    """Store the document, or in words why it could not be drawn."""
    with db.write_transaction():
        Render.update(
            state="finished",
            finished_at=utcnow(),
            content=content,
            media_type=media_type,
            etag=etag,
            error=error,
        ).where(Render.id == render_id).execute()
