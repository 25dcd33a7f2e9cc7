"""The migrations make what the models describe."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

from playhouse.migrations import Runner  # type: ignore[import-untyped]

from anvil_web import db
from anvil_web.models import TABLES, database

ROOT = Path(__file__).parents[2]


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def schema(path: Path) -> set[str]:
    """The statements that make the tables and indexes, without the migrations' own."""
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name != 'schema_migration'"
    ).fetchall()
    connection.close()
    return {row[0] for row in rows}


def test_migrated_schema_is_the_models_schema(tmp_path: Path) -> None:
    """Tables, columns, types, keys and indexes are the same either way."""
    db.migrate(url(tmp_path / "migrated.db"))
    db.connect(url(tmp_path / "models.db"), role="tool")
    with db.connection():
        database.create_tables(TABLES)
    assert schema(tmp_path / "migrated.db") == schema(tmp_path / "models.db")
    assert len(schema(tmp_path / "models.db")) > len(TABLES)


def test_a_second_migration_does_nothing(tmp_path: Path) -> None:
    """`migrate` names what it applied, and applies it once."""
    assert db.migrate(url(tmp_path / "a.db"))[0].startswith("0001_")
    assert db.migrate(url(tmp_path / "a.db")) == []


def test_down_undoes_up(tmp_path: Path) -> None:
    """Every migration can be taken back, and applied again."""
    applied = db.migrate(url(tmp_path / "a.db"))
    full = schema(tmp_path / "a.db")
    with db.connection():
        undone = Runner(database.obj, str(db.MIGRATIONS)).down(applied[0])
    assert undone == applied[::-1]
    assert schema(tmp_path / "a.db") == set()
    db.migrate(url(tmp_path / "a.db"))
    assert schema(tmp_path / "a.db") == full


def test_processes_that_migrate_at_once_apply_each_migration_once(tmp_path: Path) -> None:
    """Of four processes that migrate an empty database one does it, and none fails."""
    code = "import sys; from anvil_web import db; print(len(db.migrate(sys.argv[1])))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, url(tmp_path / "a.db")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    applied = [int(process.communicate()[0]) for process in processes]
    migrations = len(list(db.MIGRATIONS.glob("[0-9]*.py")))
    assert sorted(applied) == [0, 0, 0, migrations]
