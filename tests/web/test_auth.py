"""Who may call what, and what the others are told."""

from __future__ import annotations

import base64
import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import recorded
from flask import Flask
from werkzeug.security import generate_password_hash

from anvil_web import auth
from anvil_web.clock import utcnow
from anvil_web.models import AuditLog, User

ROOT = Path(__file__).parents[2]
STATIC_TOKEN = "static-token-0123456789"
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}

# Every route with the least role that may call it: the table of docs and contract.
ROLES = {
    ("GET", "/api/health"): None,
    ("POST", "/api/auth/login"): None,
    ("GET", "/docs/swagger/<path:name>"): None,
    ("GET", "/static/<path:name>"): None,
    ("GET", "/api/status"): "viewer",
    ("GET", "/api/auth/me"): "viewer",
    ("GET", "/api/devices"): "viewer",
    ("POST", "/api/devices/rescan"): "operator",
    ("GET", "/api/devices/<device_id>"): "viewer",
    ("GET", "/api/runs"): "viewer",
    ("POST", "/api/runs"): "operator",
    ("GET", "/api/runs/profiles"): "viewer",
    ("GET", "/api/runs/<run_id>"): "viewer",
    ("POST", "/api/runs/<run_id>/abort"): "operator",
    ("GET", "/api/runs/<run_id>/phases"): "viewer",
    ("GET", "/api/runs/<run_id>/timeseries"): "viewer",
    ("GET", "/api/runs/<run_id>/phases/<phase_id>/histogram"): "viewer",
    ("GET", "/api/runs/<run_id>/export.json"): "viewer",
    ("GET", "/ws/runs/<run_id>"): "viewer",
    ("GET", "/openapi.json"): "admin",
    ("GET", "/docs"): "admin",
}
GUARDED = [(method, rule, role) for (method, rule), role in ROLES.items() if role]


def routes(app: Flask) -> Iterator[tuple[str, str]]:
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD"}):
            yield method, rule.rule


def call(client: Any, method: str, rule: str, token: str | None) -> Any:
    headers = WEBSOCKET if rule.startswith("/ws/") else {}
    headers = headers | ({"Authorization": f"Bearer {token}"} if token is not None else {})
    path = rule.replace("<run_id>", "unknown").replace("<device_id>", "unknown")
    return client.open(path.replace("<phase_id>", "unknown"), method=method, headers=headers)


def test_the_table_has_every_route(app: Flask) -> None:
    """A new route needs a row here, so nobody adds one without deciding who may call it."""
    assert set(routes(app)) == set(ROLES)


def test_a_route_without_a_declaration_stops_the_app(app: Flask) -> None:
    """An app with a view that names neither a role nor `public` is not built."""
    app.add_url_rule("/forgotten", "forgotten", lambda: "secret")
    with pytest.raises(RuntimeError, match="/forgotten"):
        auth.check_declared(app)


def forged(app: Flask, user: User, key: bytes | None = None, **claims: Any) -> str:
    """A JWT like the server's own, but for `claims`; a claim of None is left out."""
    now = utcnow()
    own = {
        "iss": "anvil",
        "sub": user.id,
        "username": user.username,
        "role": user.role,
        "pwv": user.password_version,
        "iat": now,
        "exp": now + dt.timedelta(hours=1),
    }
    body = {name: value for name, value in {**own, **claims}.items() if value is not None}
    return jwt.encode(body, key or app.config["ANVIL"].jwt_key, algorithm="HS256")


def unsigned(token: str) -> str:
    """The token with `alg` none and no signature."""
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return f"{header}.{token.split('.')[1]}."


def promoted(app: Flask) -> str:
    user = recorded.an_account("viewer")
    token = forged(app, user)
    User.update(role="admin").where(User.id == user.id).execute()
    return token


def reset(app: Flask) -> str:
    user = recorded.an_account("admin")
    token = forged(app, user)
    User.update(password_version=1).where(User.id == user.id).execute()
    return token


def by(role: str, /, **claims: Any) -> Callable[[Flask], str]:
    return lambda app: forged(app, recorded.an_account(role), **claims)


INVALID = (401, "Invalid credential")
INACTIVE = (403, "User inactive or unknown")
CREDENTIALS: dict[str, tuple[Callable[[Flask], str | None], tuple[int, str]]] = {
    "none": (lambda _app: None, (401, "Missing bearer token")),
    "empty": (lambda _app: "", (401, "Missing bearer token")),
    "garbage": (lambda _app: "garbage", INVALID),
    "almost the static token": (lambda _app: STATIC_TOKEN[:-1], INVALID),
    "expired": (by("admin", exp=utcnow() - dt.timedelta(seconds=1)), INVALID),
    "without exp": (by("admin", exp=None), INVALID),
    "wrong issuer": (by("admin", iss="other"), INVALID),
    "wrong key": (by("admin", key=b"k" * 32), INVALID),
    "the static token as key": (by("admin", key=STATIC_TOKEN.encode().ljust(32)), INVALID),
    "alg none": (lambda app: unsigned(by("admin")(app)), INVALID),
    "without sub": (by("admin", sub=None), (403, "Invalid token claims")),
    "sub is no text": (by("admin", sub=7), (403, "Invalid token claims")),
    "unknown user": (by("admin", sub="gone"), INACTIVE),
    "inactive user": (
        lambda app: forged(app, recorded.an_account("admin", is_active=False)),
        INACTIVE,
    ),
    "promoted since": (promoted, (403, "Role changed; sign in again")),
    "claims a higher role": (by("viewer", role="admin"), (403, "Role changed; sign in again")),
    "password reset since": (reset, INVALID),
    "odd role": (by("owner"), (403, "role '{role}' required")),
}


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize(("method", "rule", "role"), GUARDED)
def test_bad_credentials_are_refused(
    app: Flask, client: Any, kind: str, method: str, rule: str, role: str
) -> None:
    """Each bad credential gets its status and its words, on every route, before anything else."""
    make, (status, detail) = CREDENTIALS[kind]
    response = call(client, method, rule, make(app))
    assert (response.status_code, response.json) == (
        status,
        {"detail": detail.format(role=role)},
    )
    challenge = {INVALID: 'Bearer error="invalid_token"'}.get((status, detail), "Bearer")
    assert response.headers.get("WWW-Authenticate") == (challenge if status == 401 else None)


@pytest.mark.parametrize("who", ["viewer", "operator", "admin", "static"])
@pytest.mark.parametrize(("method", "rule", "role"), GUARDED)
def test_roles_are_enough_or_named(
    client: Any, token_of: Callable[..., str], who: str, method: str, rule: str, role: str
) -> None:
    """A sufficient role passes; a lower one learns which is needed, also with a bad body."""
    rank = {"viewer": 1, "operator": 2, "admin": 3, "static": 3}
    response = call(client, method, rule, token_of(who))
    if rank[who] < rank[role]:
        assert (response.status_code, response.json) == (
            403,
            {"detail": f"role '{role}' required"},
        )
    else:
        assert response.status_code not in (401, 403)
    response.close()


@pytest.mark.parametrize(("method", "rule", "role"), GUARDED)
def test_tokens_in_the_query_only_read(client: Any, method: str, rule: str, role: str) -> None:
    """`?token=` counts for GET, HEAD and the WebSocket, and for nothing that changes things."""
    response = call(client, method, f"{rule}?token={STATIC_TOKEN}", None)
    assert (response.status_code == 401) == (method not in ("GET", "HEAD"))
    response.close()


def test_the_header_wins_over_the_query(client: Any) -> None:
    """A bad header is not rescued by a good query; another scheme is no bearer token."""
    path = f"/api/auth/me?token={STATIC_TOKEN}"
    assert client.get(path, headers={"Authorization": "bEaReR x"}).status_code == 401
    assert client.get(path, headers={"Authorization": "Basic x"}).status_code == 200
    header = {"Authorization": f"bEaReR {STATIC_TOKEN}"}
    assert client.get("/api/auth/me", headers=header).status_code == 200


def test_me_of_an_account_and_of_the_token(bot: Any, caller: Any) -> None:
    """Who one is: an account with its id, or the static token with none."""
    user = recorded.an_account("operator", name="olga")
    assert caller(user).get("/api/auth/me").json == {
        "user_id": user.id,
        "username": "olga",
        "role": "operator",
        "is_token": False,
    }
    assert bot.get("/api/auth/me").json == {
        "user_id": None,
        "username": "operator-token",
        "role": "admin",
        "is_token": True,
    }


def login(client: Any, username: str, password: str) -> Any:
    return client.post("/api/auth/login", json={"username": username, "password": password})


def test_login_gives_a_token_that_works(client: Any) -> None:
    """A right password gives a 12 hour JWT and the account; both are noted."""
    user = recorded.an_account("operator", name="olga", display_name="Olga")
    response = login(client, "olga", recorded.PASSWORD)
    token = response.json["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert response.status_code == 200
    assert response.json["user"] == {
        "id": user.id,
        "username": "olga",
        "role": "operator",
        "display_name": "Olga",
    }
    assert claims["exp"] - claims["iat"] == 43_200
    assert (claims["iss"], claims["sub"], claims["role"]) == ("anvil", user.id, "operator")
    me = client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert me.json["username"] == "olga"
    assert User.get_by_id(user.id).last_login_at is not None
    noted = AuditLog.get()
    assert (noted.action, noted.actor, noted.target) == ("login", "olga", user.id)


@pytest.mark.parametrize("username", ["unknown", "olga", "gone", "sso"])
def test_a_failed_login_tells_nothing(client: Any, username: str) -> None:
    """Unknown, wrong password, inactive, without password: one answer, noted, no session."""
    recorded.an_account("viewer", name="olga", password_hash=generate_password_hash("else"))
    recorded.an_account("viewer", name="gone", is_active=False)
    recorded.an_account("viewer", name="sso", password_hash=None)
    response = login(client, username, recorded.PASSWORD)
    assert (response.status_code, response.json) == (401, {"detail": "invalid credentials"})
    assert response.headers["WWW-Authenticate"] == "Bearer"
    noted = AuditLog.get()
    assert (noted.action, noted.actor) == ("login_failed", username)
    assert recorded.PASSWORD not in json.dumps(noted.details)
    assert User.select().where(User.last_login_at.is_null(False)).count() == 0


def test_hashing_does_not_stop_a_gevent_worker() -> None:
    """While a password is checked, the other requests of the worker go on."""
    code = """
from gevent import monkey
monkey.patch_all()
import gevent
from anvil_web.auth import password_opens
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0.001)
ticker = gevent.spawn(tick)
assert not password_opens(None, "x")
print(ticks)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(found.stdout) > 3


def test_an_account_without_a_password_has_no_password(client: Any) -> None:
    """The hash that stands in for a missing one opens nothing."""
    user = recorded.an_account("viewer", password_hash=None)
    assert not auth.password_opens(user, "")
    assert not auth.password_opens(None, "anvil")


@pytest.mark.parametrize("sizes", [(0, 1), (129, 1), (1, 0), (1, 257)])
def test_login_bodies_have_limits(client: Any, sizes: tuple[int, int]) -> None:
    """Names have 1 to 128 characters, passwords 1 to 256; no password comes back."""
    response = login(client, "u" * sizes[0], "p" * sizes[1])
    assert response.status_code == 422
    assert "pp" not in response.text
    assert login(client, "u" * 128, "p" * 256).status_code == 401
