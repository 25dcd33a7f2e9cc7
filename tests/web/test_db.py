"""The database layer: what a connection is, what waits, what gives up."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import peewee
import pytest
from outages import locked

from anvil_engine.errors import AnvilError
from anvil_web import db
from anvil_web.config import Config
from anvil_web.models import Setting, database


@pytest.fixture
def path(store: Config) -> Path:
    return store.data_dir / "anvil.db"


def put(key: str) -> None:
    with db.write_transaction():
        Setting.create(key=key, value=1)


def keys() -> set[str]:
    return {row.key for row in Setting.select()}


def test_connections_are_wal_with_foreign_keys(store: Config) -> None:
    """Every SQLite connection is in WAL mode, synchronous NORMAL, with foreign keys on."""
    assert database.pragma("journal_mode") == "wal"
    assert database.pragma("foreign_keys") == 1
    assert database.pragma("synchronous") == 1


@pytest.mark.parametrize("role", ["web", "runner", "tool"])
def test_sqlites_own_wait_is_short_in_every_role(store: Config, role: db.Role) -> None:
    """SQLite itself waits 20 ms at most, because that wait freezes a gevent worker."""
    db.connect(store.database_url, role=role)
    assert database.pragma("busy_timeout") == 20


def test_write_transaction_holds_the_lock_from_its_start(path: Path) -> None:
    """Inside a write transaction nobody else can begin to write, even before the first write."""
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    with db.write_transaction(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()


def test_a_writer_waits_for_the_lock(path: Path) -> None:
    """A write that meets a lock goes through once the lock is released."""
    with locked(path) as other:
        threading.Timer(0.3, lambda: other.execute("ROLLBACK")).start()
        put("waited")
    assert keys() == {"waited"}


def test_a_writer_gives_up_after_its_patience(path: Path) -> None:
    """A lock that outlasts the patience raises DatabaseUnavailable, and is remembered."""
    assert db.seconds_since_failure() == float("inf")
    with locked(path), db.patience(0.2):
        begun = time.monotonic()
        with pytest.raises(db.DatabaseUnavailable):
            put("never")
        assert time.monotonic() - begun >= 0.2
    assert db.seconds_since_failure() < 60
    put("afterwards")
    assert keys() == {"afterwards"}


def test_a_reader_does_not_wait_for_a_writer(path: Path) -> None:
    """Reading goes on while somebody else holds the write lock."""
    put("before")
    with locked(path), db.patience(0):
        assert keys() == {"before"}
        assert db.ping()


def test_a_database_that_nobody_may_read_is_unavailable(path: Path) -> None:
    """An exclusive lock makes reads unavailable too, and `ping` says so without raising."""
    put("closes the connection's first read")
    db.close_connection()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    other.execute("DELETE FROM setting")
    with db.patience(0), pytest.raises(db.DatabaseUnavailable):
        keys()
    assert not db.ping()
    other.close()
    assert db.ping()


def test_a_mistake_is_not_an_outage(store: Config) -> None:
    """A statement that can never work raises at once, and not as DatabaseUnavailable."""
    with pytest.raises(peewee.OperationalError, match="no such table"):
        database.execute_sql("SELECT * FROM absent")
    assert db.seconds_since_failure() == float("inf")


def test_an_outer_failure_takes_the_inner_write_with_it(store: Config) -> None:
    """A nested transaction is part of the outer one."""

    def write_and_fail() -> None:
        with db.write_transaction():
            put("inner")
            raise LookupError

    with pytest.raises(LookupError):
        write_and_fail()
    assert keys() == set()


def test_an_inner_failure_that_is_caught_leaves_the_outer_write(store: Config) -> None:
    """A nested transaction can fail alone."""
    with db.write_transaction():
        put("outer")
        with pytest.raises(peewee.IntegrityError):
            put("outer")
    assert keys() == {"outer"}


def test_threads_have_their_own_connections(store: Config) -> None:
    """A thread's connection is its own, and `connection` closes it."""
    seen = []

    def work() -> None:
        with db.connection():
            seen.append(database.connection())
        seen.append(database.is_closed())

    mine = database.connection()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen[0] is not mine
    assert seen[1] is True


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/anvil.db", Path("/var/lib/anvil.db")),
        ("sqlite:///data/anvil.db", Path("data/anvil.db")),
        ("sqlite:////with%20blank/a.db", Path("/with blank/a.db")),
        ("postgresql://localhost/anvil", None),
    ],
)
def test_sqlite_path(url: str, path: Path | None) -> None:
    """Three slashes are relative, four absolute; another database has no path."""
    assert db.sqlite_path(url) == path


@pytest.mark.parametrize("url", ["mysql://localhost/anvil", "sqlite:///", "anvil.db"])
def test_an_impossible_url_is_named(url: str) -> None:
    """A URL that names no supported database is refused in words that contain it."""
    with pytest.raises(AnvilError, match=url):
        db.connect(url, role="tool")


GEVENT = """
import gevent.monkey; gevent.monkey.patch_all()
import sqlite3, sys, time, gevent
from anvil_web import db
from anvil_web.models import Setting
db.connect(sys.argv[1], role="web")
lock = sqlite3.connect(db.sqlite_path(sys.argv[1]), isolation_level=None)
lock.execute("BEGIN IMMEDIATE")
gaps = []
def tick():
    last = time.monotonic()
    while True:
        time.sleep(0.005)
        now = time.monotonic(); gaps.append(now - last); last = now
def write(key):
    with db.connection(), db.write_transaction():
        Setting.create(key=key, value=0)
ticker = gevent.spawn(tick)
writers = [gevent.spawn(write, str(n)) for n in range(3)]
gevent.sleep(0.6)
lock.execute("ROLLBACK")
gevent.joinall(writers, raise_error=True)
ticker.kill(block=True)
assert Setting.select().count() == 3
print(sorted(gaps)[len(gaps) // 2])
"""


def test_waiting_yields_to_other_greenlets(store: Config) -> None:
    """While greenlets wait for a locked database, another one goes on ticking."""
    done = subprocess.run(
        [sys.executable, "-c", GEVENT, store.database_url],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Three waiting greenlets may each hold the thread for SQLite's own 20 ms in a row.
    assert float(done.stdout) < 0.1
