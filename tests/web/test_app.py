"""What building, importing and serving the application does, and does not do."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anvil_web.app import create_app
from anvil_web.config import Config, InvalidConfig
from anvil_web.logs import HideTokens
from anvil_web.models import AuditLog, User

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "matplotlib", "anvil_engine._ioloop", "anvil_engine.native", "gevent")


def test_importing_the_app_loads_nothing_heavy() -> None:
    """A worker starts without numpy, the extension or matplotlib."""
    code = f"import sys, anvil_web.app; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_building_the_app_creates_nothing(settings: Config) -> None:
    """No account and no row appears because a worker started."""
    create_app(settings)
    assert User.select().count() == AuditLog.select().count() == 0


def test_an_app_without_secrets_is_refused(settings: Config) -> None:
    """It says what to run."""
    for incomplete in (replace(settings, bearer_token=None), replace(settings, jwt_key=None)):
        with pytest.raises(InvalidConfig, match="anvil migrate"):
            create_app(incomplete)


def test_answers_are_not_cached(client: Any) -> None:
    """What the API says is neither kept by caches nor guessed at by browsers."""
    response = client.get("/api/health")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("message", "args", "shown"),
    [
        ("GET %s", ("/ws/runs/1?token=abc.def&since=0",), "/ws/runs/1?token=[hidden]&since=0"),
        ("Invalid line 'GET /x?a=1&token=abc'", (), "/x?a=1&token=[hidden]'"),
        ("%d%% done", (5,), "5% done"),
    ],
)
def test_logs_hide_tokens(message: str, args: tuple[Any, ...], shown: str) -> None:
    """A token in an address never reaches a log; other messages stay as they are."""
    record = logging.LogRecord("x", logging.INFO, "", 0, message, args, None)
    assert HideTokens().filter(record)
    assert record.getMessage().endswith(shown)


def test_gunicorn_serves_it(serve: Callable[..., Any], settings: Config) -> None:
    """The configuration's worker answers, its control socket is in the data directory."""
    service = serve(2)
    request = urllib.request.Request(
        service.url("/api/auth/me"), headers={"Authorization": f"Bearer {settings.bearer_token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.headers["Server"] is not None
        assert b"operator-token" in response.read()
    assert "Using worker: gevent" in service.stop()
    control = settings.data_dir / "gunicorn.ctl"
    assert f"Control socket listening at {control}" in service.lines
    assert "Error" not in service.lines


def test_a_broken_request_line_does_not_spill_its_token(serve: Callable[..., Any]) -> None:
    """gunicorn's own complaint about a request leaves the token out."""
    service = serve()
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(b"G@T /x?token=very-secret HTTP/1.1\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 400")
    assert "very-secret" not in service.stop()
