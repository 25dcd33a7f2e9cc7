"""Who asks, and whether they may (API.md §2).

Every view declares with `requires` the least role that may call it, or with `public` that
anyone may; `check_declared` refuses to build an app with a view that does neither.  `guard`
runs before each view, so that no body is looked at before its sender was.
"""

from __future__ import annotations

import datetime as dt
import hmac
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import jwt
from flask import Flask, abort, current_app, g, request
from werkzeug.security import check_password_hash

from anvil_web.config import Config
from anvil_web.errors import NotSignedIn
from anvil_web.store import users

Role = Literal["viewer", "operator", "admin"]
View = TypeVar("View", bound=Callable[..., Any])

RANK = {"viewer": 1, "operator": 2, "admin": 3}
PUBLIC = "public"
ISSUER = "anvil"
ALGORITHM = "HS256"
LIFETIME = dt.timedelta(hours=12)
STATIC_USERNAME = "operator-token"

# A hash of nothing that anyone knows, with werkzeug's own parameters: what a password is
# compared with when there is no account, so that the answer takes as long as always.
DUMMY_HASH = (
    "scrypt:32768:8:1$bKq0dJ1wWb4Tz0Ql$"
    "5a1d0f6be1d5c3f4c1a49b7f2d8e60a3975b16e42cf08d3ba7e6914c50fd2b8e"
    "93c7a2e5d40618fbc1720ae59f3d6b84e0f75a19c26d38b4710fe9ac5d2386bf"
)


@dataclass(frozen=True)
class Principal:
    """Whom a credential stands for.  `user_id` is None for the static token."""

    user_id: str | None
    username: str
    role: str
    is_token: bool

    def may(self, role: Role) -> bool:
        """Whether the principal has the rights of `role`; unknown roles have none."""
        return RANK.get(self.role, 0) >= RANK[role]


STATIC_PRINCIPAL = Principal(None, STATIC_USERNAME, "admin", is_token=True)


def requires(role: Role) -> Callable[[View], View]:
    """Declare the least role that may call the view."""

    def declare(view: View) -> View:
        view.required_role = role  # type: ignore[attr-defined]
        return view

    return declare


def public(view: View) -> View:
    """Declare that anyone may call the view."""
    view.required_role = PUBLIC  # type: ignore[attr-defined]
    return view


def required_role(app: Flask, endpoint: str) -> str | None:
    """What the view behind `endpoint` declared: a role, `public`, or None for nothing."""
    return getattr(app.view_functions[endpoint], "required_role", None)


def check_declared(app: Flask) -> None:
    """Raise `RuntimeError` for an app with a view that does not say who may call it."""
    silent = [rule.rule for rule in app.url_map.iter_rules() if not _declares(app, rule.endpoint)]
    if silent:
        raise RuntimeError(f"no role is declared for {', '.join(silent)}")


def _declares(app: Flask, endpoint: str) -> bool:
    return required_role(app, endpoint) in (PUBLIC, *RANK)


def guard() -> None:
    """Let nobody reach a view that they may not call.  Sets `g.principal`."""
    if request.endpoint is None:
        return  # nothing is here; the answer is a 404 or 405
    role = required_role(current_app, request.endpoint)
    if role == PUBLIC:
        return
    g.principal = admit(current_app.config["ANVIL"], credential(), role)


def credential() -> str | None:
    """The credential of this request: the header's, or `?token=` where nothing is changed."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return request.args.get("token") if request.method in ("GET", "HEAD") else None


def admit(config: Config, presented: str | None, role: Any) -> Principal:
    """The principal of a credential, if it has `role`.  Aborts with 401 or 403."""
    principal = identify(config, presented)
    if not principal.may(role):
        abort(403, f"role '{role}' required")
    return principal


def identify(config: Config, presented: str | None) -> Principal:
    """The principal of a credential.  Aborts with 401 or 403."""
    if not presented:
        raise NotSignedIn("Missing bearer token")
    if _is_static_token(config, presented):
        return STATIC_PRINCIPAL
    return _principal_of(_claims(config, presented))


def _is_static_token(config: Config, presented: str) -> bool:
    assert config.bearer_token is not None
    return hmac.compare_digest(
        presented.encode(errors="surrogatepass"), config.bearer_token.encode()
    )


def _key(config: Config) -> bytes:
    assert config.jwt_key is not None
    return config.jwt_key


def _claims(config: Config, presented: str) -> dict[str, Any]:
    # iat is not judged: hosts that share a database need not share a clock to the second.
    options: Any = {"require": ["exp", "iat", "iss"], "verify_sub": False, "verify_iat": False}
    try:
        return jwt.decode(
            presented, _key(config), algorithms=[ALGORITHM], issuer=ISSUER, options=options
        )
    except (jwt.InvalidTokenError, UnicodeError):
        raise _invalid_credential() from None


def _invalid_credential() -> NotSignedIn:
    return NotSignedIn("Invalid credential", 'Bearer error="invalid_token"')


def _principal_of(claims: dict[str, Any]) -> Principal:
    """The account behind valid claims, as the database knows it now."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        abort(403, "Invalid token claims")
    user = users.get_user(subject)
    if user is None or not user.is_active:
        abort(403, "User inactive or unknown")
    if claims.get("pwv") != user.password_version:
        raise _invalid_credential()
    if claims.get("role") != user.role:
        abort(403, "Role changed; sign in again")
    return Principal(user.id, user.username, user.role, is_token=False)


def issue_token(config: Config, user: Any, *, now: dt.datetime) -> str:
    """A JWT for the account.  It dies with its password (`pwv`), its role and its key."""
    claims = {
        "iss": ISSUER,
        "sub": user.id,
        "username": user.username,
        "role": user.role,
        "pwv": user.password_version,
        "iat": now,
        "exp": now + LIFETIME,
    }
    return jwt.encode(claims, _key(config), algorithm=ALGORITHM)


def password_opens(user: Any, password: str) -> bool:
    """Whether `password` opens the account `user`, which may be None; slow in every case."""
    stored = user.password_hash if user is not None else None
    matches = _off_the_hub(check_password_hash, stored or DUMMY_HASH, password)
    return bool(matches and stored and user.is_active)


def _off_the_hub(function: Callable[..., Any], *args: Any) -> Any:
    """Run slow C code where it does not stop the other requests of a gevent worker."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return function(*args)
    return sys.modules["gevent"].get_hub().threadpool.apply(function, args)
