"""`/api/auth/login` and `/api/auth/me`."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, g, request

from anvil_web import db
from anvil_web.api.reply import BEARER, GUARDED, noun, reply
from anvil_web.auth import issue_token, password_opens, public, requires
from anvil_web.clock import utcnow
from anvil_web.errors import NotSignedIn
from anvil_web.schemas.auth import Account, LoginBody, Me, Session
from anvil_web.schemas.base import ErrorBody, IssuesBody
from anvil_web.store import audit, users

bp = noun("auth", "/api/auth", tag="Accounts")


@bp.post("/login", responses={200: Session, 401: ErrorBody, 422: IssuesBody, 503: ErrorBody})
@public
def login(body: LoginBody) -> Response:
    """Exchange name and password for a token."""
    user: Any = users.by_username(body.username)
    # Back to the pool: hashing is slow, and many may sign in at once.
    db.close_connection()
    if not password_opens(user, body.password):
        _note_failure(body.username, user)
        raise NotSignedIn("invalid credentials")
    with db.write_transaction():
        users.touch_login(user)
        audit.record("login", actor=user.username, target=user.id)
    token = issue_token(current_app.config["ANVIL"], user, now=utcnow())
    return reply(Session(token=token, user=Account.model_validate(user)))


def _note_failure(username: str, user: Any) -> None:
    audit.record(
        "login_failed",
        actor=username,
        target=None if user is None else user.id,
        details={"address": request.remote_addr},
    )


@bp.get("/me", security=BEARER, responses={200: Me, **GUARDED})
@requires("viewer")
def me() -> Response:
    """Whom this request's credential stands for."""
    return reply(Me.model_validate(g.principal))
