"""Requests of the web side to a runner, as rows: submit, wait; claim, finish."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from ulid import ULID

from anvil_web import db
from anvil_web.clock import utcnow
from anvil_web.models import Command

POLL_S = 0.05
FORGET_AFTER = dt.timedelta(days=1)


class CommandTimeout(Exception):
    """No runner finished the command in time; it will not be started any more."""


def submit(kind: str, args: dict[str, Any] | None = None, host: str | None = None) -> str:
    """Queue a command for the runner of `host`, or for any; its id."""
    command_id = str(ULID())
    with db.write_transaction():
        Command.delete().where(Command.created_at < utcnow() - FORGET_AFTER).execute()
        Command.create(
            id=command_id,
            host=host,
            kind=kind,
            args=args or {},
            state="queued",
            created_at=utcnow(),
        )
    return command_id


def get(command_id: str) -> Command | None:
    """The command, None when it is unknown."""
    return Command.get_or_none(Command.id == command_id)


def wait(command_id: str, timeout_s: float) -> Command:
    """The finished command: `error` is None, or what the runner could not do.

    Raises `CommandTimeout`, after which no runner starts it.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        command = Command.get_by_id(command_id)
        if command.state == "finished":
            return command
        if time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    with db.write_transaction():
        Command.update(state="expired", finished_at=utcnow()).where(
            Command.id == command_id, Command.state == "queued"
        ).execute()
    raise CommandTimeout(f"no runner finished {command.kind} within {timeout_s:g} s")


def claim_next(host: str) -> Command | None:
    """Take the oldest queued command that `host` may execute; None when there is none."""
    if not _queued(host).exists():
        return None
    with db.write_transaction():
        query = _queued(host).order_by(Command.created_at, Command.id).limit(1)
        if db.locks_rows():
            query = query.for_update("FOR UPDATE SKIP LOCKED")
        found = query.first()
        if found is None:
            return None
        won = (
            Command.update(state="claimed", claimed_at=utcnow())
            .where(Command.id == found.id, Command.state == "queued")
            .execute()
        )
        return Command.get_by_id(found.id) if won == 1 else None


def _queued(host: str) -> Any:
    mine = Command.host.is_null() | (Command.host == host)
    return Command.select(Command.id).where(Command.state == "queued", mine)


def finish(
    command_id: str, *, result: dict[str, Any] | None = None, error: str | None = None
) -> None:
    """Store the answer: a result, or an error in words."""
    with db.write_transaction():
        Command.update(state="finished", finished_at=utcnow(), result=result, error=error).where(
            Command.id == command_id
        ).execute()
