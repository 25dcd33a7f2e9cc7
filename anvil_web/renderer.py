"""The renderer: draws queued documents, with the lowest priority and no privileges.

Any number may run, on any host.  A renderer that dies leaves its claim to expire, and
another takes the document.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from anvil_web import db
from anvil_web.config import Config
from anvil_web.store import render

log = logging.getLogger(__name__)

NICE = 19
POLL_S = 0.5
RENEW_S = 5.0


@dataclass(frozen=True)
class Document:
    """A drawn document."""

    content: bytes
    media_type: str
    etag: str


Draw = Callable[[str, str], Document]
"""Draws one variant of one subject: `(subject_id, variant)`."""

KINDS: Mapping[str, Draw] = {}


def run(config: Config, stop: threading.Event, kinds: Mapping[str, Draw] = KINDS) -> None:
    """Draw until `stop` is set."""
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    db.connect(config.database_url, role="runner")
    with db.connection():
        db.require_schema()
        while not stop.is_set():
            try:
                if draw_next(kinds):
                    continue
            except db.DatabaseUnavailable as error:
                log.warning("documents wait: %s", error)
            except Exception:
                log.exception("a document could not be served")
            stop.wait(POLL_S)


def draw_next(kinds: Mapping[str, Draw] = KINDS) -> bool:
    """Draw one document, if one waits; whether one did.

    What cannot be drawn is finished with the reason: trying again would not help.
    """
    claimed = render.claim_next()
    if claimed is None:
        return False
    draw = kinds.get(claimed.kind)
    if draw is None:
        render.finish(claimed.id, error=f"no renderer for kind {claimed.kind}")
        return True
    with _KeptClaim(claimed.id):
        try:
            document = draw(claimed.subject_id, claimed.variant)
        except db.DatabaseUnavailable:
            raise
        except Exception as error:
            log.exception("%s %s cannot be drawn", claimed.kind, claimed.subject_id)
            render.finish(claimed.id, error=str(error) or type(error).__name__)
            return True
    render.finish(
        claimed.id,
        content=document.content,
        media_type=document.media_type,
        etag=document.etag,
    )
    return True


class _KeptClaim:
    """Keeps the claim alive while the block draws."""

    def __init__(self, render_id: str) -> None:
        self._id = render_id
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_exc: object) -> None:
        self._done.set()
        self._thread.join()

    def _renew(self) -> None:
        with db.connection():
            while not self._done.wait(RENEW_S):
                try:
                    render.renew(self._id)
                except db.DatabaseUnavailable as error:
                    log.warning("the claim of %s is not renewed: %s", self._id, error)
