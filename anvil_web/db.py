"""The one configured database: connecting, writing, waiting for it.

SQLite allows one writer.  Its own busy time-out sleeps in C and would freeze every socket
of a gevent worker, so it is kept at 20 ms and the waiting is done here with `time.sleep`,
which yields.  How long a process waits is its role's patience; after that the caller gets
`DatabaseUnavailable`.  A statement inside a transaction is never repeated.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import random
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from peewee import InterfaceError, OperationalError, SqliteDatabase

from anvil_engine.errors import AnvilError
from anvil_web.models import database

Role = Literal["web", "runner", "tool"]
Result = TypeVar("Result")

# Seconds a statement waits for the database.  A runner gives up early because it has a
# spool to write to; a request must answer before its client gives up.
PATIENCE_S: dict[Role, float] = {"web": 10.0, "runner": 2.0, "tool": 30.0}
BUSY_TIMEOUT_S = 0.02
POOL_SIZE = 20
MIGRATION_LOCK = 0x416E76696C  # "Anvil": the advisory lock's number, any constant would do
MIGRATIONS = Path(__file__).parent / "migrations"

# SQLite result codes (sqlite3.h) that say "not now" about a healthy program.
SQLITE_AWAY = {5: "BUSY", 6: "LOCKED", 8: "READONLY", 10: "IOERR", 13: "FULL", 14: "CANTOPEN"}
SQLITE_AWAY |= {15: "PROTOCOL"}
SQLITE_LOCKED = {5, 6, 15}

_patience: ContextVar[float | None] = ContextVar("patience", default=None)
_last_failure: float | None = None


class DatabaseUnavailable(AnvilError):
    """The database cannot be reached, or stayed locked for longer than this process waits."""


def seconds_since_failure() -> float:
    """Seconds since this process last met an unavailable database; infinite for never."""
    return float("inf") if _last_failure is None else time.monotonic() - _last_failure


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Within the block, wait for the database for `seconds` instead of the role's patience."""
    token = _patience.set(seconds)
    try:
        yield
    finally:
        _patience.reset(token)


def _unavailable(error: BaseException) -> DatabaseUnavailable:
    global _last_failure
    _last_failure = time.monotonic()
    return DatabaseUnavailable(f"the database is unavailable: {error}")


class _Patient:
    """Waiting and error translation over a peewee database; the subclass judges errors."""

    role_patience_s: float = PATIENCE_S["tool"]

    def _is_away(self, error: BaseException) -> bool:
        raise NotImplementedError

    def _is_worth_waiting(self, error: BaseException) -> bool:
        raise NotImplementedError

    def _forget_connection(self) -> None:
        raise NotImplementedError

    def _patiently(self, attempt: Callable[[], Result], *, repeatable: bool) -> Result:
        """The result of `attempt`, tried until the patience ends when it is `repeatable`."""
        override = _patience.get()
        wait = self.role_patience_s if override is None else override
        deadline = time.monotonic() + wait
        while True:
            try:
                return attempt()
            except Exception as error:
                if not self._is_away(error):
                    raise
                if not repeatable or time.monotonic() >= deadline:
                    raise _unavailable(error) from error
                if not self._is_worth_waiting(error):
                    raise _unavailable(error) from error
                self._forget_connection()
            time.sleep(random.uniform(0.002, 0.02))


class PatientSqlite(_Patient, SqliteDatabase):
    """SQLite whose transactions are all `BEGIN IMMEDIATE`."""

    def __init__(self, path: str, role_patience_s: float) -> None:
        self.role_patience_s = role_patience_s
        super().__init__(
            path,
            lock_type="IMMEDIATE",
            timeout=BUSY_TIMEOUT_S,
            pragmas={"journal_mode": "wal", "synchronous": "normal", "foreign_keys": 1},
        )

    @staticmethod
    def _code(error: BaseException) -> int:
        """SQLite's primary result code of a driver error, wrapped by peewee or not; else 0."""
        driver_error = getattr(error, "orig", error)
        return int(getattr(driver_error, "sqlite_errorcode", 0)) & 0xFF

    def _is_away(self, error: BaseException) -> bool:
        return self._code(error) in SQLITE_AWAY

    def _is_worth_waiting(self, error: BaseException) -> bool:
        return self._code(error) in SQLITE_LOCKED

    def _forget_connection(self) -> None:
        """A lock says nothing against the connection."""

    def _connect(self) -> Any:
        return self._patiently(super()._connect, repeatable=True)  # type: ignore[misc]

    def begin(self, lock_type: str | None = None) -> None:
        """Take the write lock, waiting for it."""
        self._patiently(lambda: SqliteDatabase.begin(self, lock_type), repeatable=True)

    def commit(self) -> None:
        """Commit; the lock is held, so only the disk can refuse."""
        self._patiently(super().commit, repeatable=False)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run one statement; outside a transaction a locked database is waited for."""
        return self._patiently(
            lambda: SqliteDatabase.execute_sql(self, sql, params),  # type: ignore[no-untyped-call]
            repeatable=not self.in_transaction(),
        )


def _postgres(url: str, role_patience_s: float) -> Any:
    """A pooled PostgreSQL database over psycopg 3, which is imported here and not before."""
    pool: Any = importlib.import_module("playhouse.pool")
    base: Any = pool.PooledPostgresqlDatabase
    away = (OperationalError, InterfaceError, pool.MaxConnectionsExceeded)

    class PatientPostgres(_Patient, base):  # type: ignore[misc]
        def _is_away(self, error: BaseException) -> bool:
            return isinstance(error, away)

        _is_worth_waiting = _is_away

        def _forget_connection(self) -> None:
            # A server restart kills idle connections too; the pool cannot tell by looking.
            self.close_idle()
            if not self.in_transaction() and not self.is_closed():
                self.manual_close()

        def _connect(self) -> Any:
            try:
                return super()._connect()
            except Exception as error:
                if type(error).__module__.startswith("psycopg"):
                    raise OperationalError(str(error)) from error
                raise

        def begin(self, isolation_level: Any = None) -> None:
            self._patiently(lambda: base.begin(self, isolation_level), repeatable=True)

        def commit(self) -> None:
            self._patiently(super().commit, repeatable=False)

        def rollback(self) -> None:
            # The server has rolled back on its own when the connection is what failed.
            try:
                super().rollback()
            except (OperationalError, InterfaceError):
                self._forget_connection()

        def execute_sql(self, sql: str, params: Any = None) -> Any:
            return self._patiently(
                lambda: base.execute_sql(self, sql, params),
                repeatable=not self.in_transaction(),
            )

    made = PatientPostgres(
        url, prefer_psycopg3=True, max_connections=POOL_SIZE, timeout=role_patience_s
    )
    made.role_patience_s = role_patience_s
    return made


def sqlite_path(url: str) -> Path | None:
    """The file of a `sqlite:///` URL, None for another database.

    `sqlite:///relative` and `sqlite:////absolute` as in SQLAlchemy.  Raises `AnvilError`
    for a URL without a path.
    """
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        return None
    if len(parts.path) < 2:
        raise AnvilError(f"database URL {url!r} names no file; write sqlite:///path/to/anvil.db")
    return Path(unquote(parts.path[1:]))


def connect(url: str, *, role: Role, patience_s: float | None = None) -> None:
    """Bind the models to the database at `url`.  No connection is opened before first use.

    `patience_s` replaces the role's patience.  Raises `AnvilError` for a URL of another kind.
    """
    global _last_failure
    wait = PATIENCE_S[role] if patience_s is None else patience_s
    path = sqlite_path(url)
    if path is not None:
        made: Any = PatientSqlite(str(path), wait)
    elif urlsplit(url).scheme in ("postgresql", "postgres"):
        made = _postgres(url.replace("postgres://", "postgresql://", 1), wait)
    else:
        raise AnvilError(
            f"database URL {url!r} is not supported; use sqlite:///path or postgresql://…"
        )
    if database.obj is not None:
        close_connection()
        getattr(database.obj, "close_idle", lambda: None)()
    _last_failure = None
    database.initialize(made)


def open_connection() -> None:
    """Give this thread or greenlet a connection, unless it has one."""
    database.connect(reuse_if_open=True)


def close_connection() -> None:
    """Give this thread's or greenlet's connection back, if it has one."""
    if database.obj is not None and not database.is_closed():
        database.close()


@contextlib.contextmanager
def connection() -> Iterator[None]:
    """A connection for the block: what a thread wraps itself in."""
    try:
        yield
    finally:
        close_connection()


@contextlib.contextmanager
def write_transaction() -> Iterator[None]:
    """All writes of the block, or none.  Nested blocks are savepoints.

    On SQLite the write lock is held from the start, so that what was read stays true until
    the commit.  Raises `DatabaseUnavailable`.
    """
    with database.atomic():
        yield


def locks_rows() -> bool:
    """Whether the database has row locks (`FOR UPDATE`); SQLite locks as a whole."""
    return bool(database.for_update)


def ping() -> bool:
    """Whether a query is answered at once."""
    try:
        with patience(0):
            database.execute_sql("SELECT 1")
    except DatabaseUnavailable:
        return False
    return True


@contextlib.contextmanager
def _migration_lock(url: str) -> Iterator[None]:
    """One migrating process at a time.

    SQLite's own lock will not do: peewee's migrator has to switch foreign keys off, which
    works outside a transaction only.
    """
    path = sqlite_path(url)
    if path is None:
        database.execute_sql("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        try:
            yield
        finally:
            database.execute_sql("SELECT pg_advisory_unlock(%s)", (MIGRATION_LOCK,))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.migrate-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def require_schema() -> None:
    """Raise `AnvilError` unless the bound database has every migration."""
    runner_module: Any = importlib.import_module("playhouse.migrations")
    known = runner_module.Runner(database.obj, str(MIGRATIONS)).status()
    missing = [migration.name for migration in known if migration.applied is None]
    if missing:
        raise AnvilError(
            f"the database has no {missing[0]} yet; run `anvil migrate` (or `anvil serve`) first"
        )


def migrate(url: str) -> list[str]:
    """Bring the schema at `url` up to date and return the migrations that were applied.

    Binds the models to `url` with a tool's patience.  Safe when several processes do it.
    """
    runner_module: Any = importlib.import_module("playhouse.migrations")
    connect(url, role="tool")
    with connection(), _migration_lock(url):
        applied: list[str] = runner_module.Runner(database.obj, str(MIGRATIONS)).up()
    return applied
