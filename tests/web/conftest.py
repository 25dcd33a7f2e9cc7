"""An application over a real, migrated SQLite file, and callers of every kind."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import recorded
from flask import Flask
from flask.testing import FlaskClient

from anvil_web import auth, config, db
from anvil_web.app import create_app
from anvil_web.clock import utcnow
from anvil_web.config import Config
from anvil_web.models import database

ROOT = Path(__file__).parents[2]
STATIC_TOKEN = "static-token-0123456789"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def each_database() -> None:
    """Has a test run once on each database."""


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with every migration applied; to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "anvil.db"
    db.migrate(f"sqlite:///{path}")
    db.close_connection()
    return path


@pytest.fixture
def settings(tmp_path: Path, migrated: Path, request: pytest.FixtureRequest) -> Iterator[Config]:
    """A configuration with secrets and an empty, migrated database.

    It is SQLite, or for a test with the marker `postgres` the server that tests may empty.
    """
    made = config.ensure_secrets(
        config.load({}, data_dir=tmp_path / "data", bearer_token=STATIC_TOKEN)
    )
    if request.node.get_closest_marker("postgres"):
        made = replace(made, database_url=os.environ["ANVIL_TEST_POSTGRES"])
        _empty(made.database_url)
    else:
        shutil.copy(migrated, made.data_dir / "anvil.db")
    db.connect(made.database_url, role="tool")
    yield made
    _close_pool()


def _empty(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    db.migrate(url)
    _close_pool()


def _close_pool() -> None:
    """Close what a pool keeps open for the next request, of which there is none."""
    db.close_connection()
    if hasattr(database.obj, "close_all"):
        database.obj.close_all()


@pytest.fixture
def store(settings: Config) -> Iterator[Config]:
    """The models bound to an empty, migrated database; the connection is closed at the end."""
    db.connect(settings.database_url, role="tool")
    yield settings
    db.close_connection()


@pytest.fixture
def app(settings: Config) -> Flask:
    """The application, as a worker would make it."""
    _close_pool()
    return create_app(settings)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A caller without a credential."""
    return app.test_client()


@pytest.fixture
def token_of(app: Flask) -> Callable[..., str]:
    """Makes a token: of a role (with an account for it), of an account, or the static one."""

    def make(who: Any) -> str:
        if who == "static":
            return STATIC_TOKEN
        user = recorded.an_account(who) if isinstance(who, str) else who
        return auth.issue_token(app.config["ANVIL"], user, now=utcnow())

    return make


@pytest.fixture
def caller(app: Flask, token_of: Callable[..., str]) -> Callable[..., FlaskClient]:
    """Makes a client that sends the credential of `token_of`'s argument."""

    def make(who: Any) -> FlaskClient:
        made = app.test_client()
        made.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token_of(who)}"
        return made

    return make


@pytest.fixture
def viewer(caller: Callable[..., FlaskClient]) -> FlaskClient:
    """Somebody who may look."""
    return caller("viewer")


@pytest.fixture
def operator(caller: Callable[..., FlaskClient]) -> FlaskClient:
    """Somebody who may start runs."""
    return caller("operator")


@pytest.fixture
def admin(caller: Callable[..., FlaskClient]) -> FlaskClient:
    """Somebody who may do anything."""
    return caller("admin")


@pytest.fixture
def bot(caller: Callable[..., FlaskClient]) -> FlaskClient:
    """The holder of the static token."""
    return caller("static")


@dataclass
class Service:
    """gunicorn with its workers.  `lines` is what it wrote, once it has stopped."""

    process: subprocess.Popen[str]
    port: int
    lines: str = field(default="")

    def url(self, path: str, scheme: str = "http") -> str:
        """The address of `path`."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def stop(self) -> str:
        """Stop it in order; what it wrote."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.lines, _ = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.lines, _ = self.process.communicate()
        return self.lines


def _gunicorn(settings: Config, listener: socket.socket, workers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gunicorn"]
    command += ["-c", str(ROOT / "anvil_web" / "gunicorn.conf.py"), "anvil_web.wsgi:app"]
    command += ["--bind", f"fd://{listener.fileno()}", "--workers", str(workers)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**config.child_environment(settings), "ANVIL_BEARER_TOKEN": STATIC_TOKEN},
        pass_fds=[listener.fileno()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def serve(settings: Config) -> Iterator[Callable[[int], Service]]:
    """Starts gunicorn over the database of `settings`, with so many workers."""
    started: list[Service] = []

    def start(workers: int = 1) -> Service:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            service = Service(_gunicorn(settings, listener, workers), listener.getsockname()[1])
        started.append(service)
        _wait_for_answer(service)
        return service

    yield start
    for service in started:
        service.stop()


def _wait_for_answer(service: Service) -> None:
    """The listening socket takes the request at once; a worker answers it when it is up."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and service.process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
                connection.sendall(b"GET /api/health HTTP/1.0\r\n\r\n")
                if connection.recv(64).split()[1:2] == [b"200"]:
                    return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"gunicorn did not come up:\n{service.stop()}")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's ANVIL_ variables are not the tests'."""
    for name in [name for name in os.environ if name.startswith("ANVIL_")]:
        if not name.startswith("ANVIL_TEST_"):
            monkeypatch.delenv(name)
