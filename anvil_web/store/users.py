"""Accounts."""

from __future__ import annotations

import secrets

from ulid import ULID
from werkzeug.security import generate_password_hash

from anvil_web import db
from anvil_web.clock import utcnow
from anvil_web.models import User

ADMIN = "admin"
PASSWORD_LENGTH = 20
# Without the look-alikes: somebody types it from a terminal.
ALPHABET = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def get_user(user_id: str) -> User | None:
    """The account, None when there is none."""
    return User.get_or_none(User.id == user_id)


def by_username(username: str) -> User | None:
    """The account of exactly this name, None when there is none."""
    return User.get_or_none(User.username == username)


def touch_login(user: User) -> None:
    """Note that the account was used to sign in just now."""
    now = utcnow()
    with db.write_transaction():
        User.update(last_login_at=now).where(User.id == user.id).execute()
    user.last_login_at = now


def active_admin_exists() -> bool:
    """Whether somebody can administer this installation."""
    return bool(User.select().where(User.role == "admin", User.is_active).exists())


def random_password() -> str:
    """Twenty random characters, over 116 bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(PASSWORD_LENGTH))


def ensure_admin(password: str | None) -> str | None:
    """Make sure of an active admin; the password that was set, None when none was.

    Creates `admin`, or promotes and activates it.  `password` None stands for a random
    one.  The password of an account that is active already is never touched.
    """
    if active_admin_exists():
        return None
    password = password or random_password()
    hashed = generate_password_hash(password)
    with db.write_transaction():
        if active_admin_exists():
            return None
        known = by_username(ADMIN)
        if known is None:
            User.create(
                id=str(ULID()),
                username=ADMIN,
                display_name="Administrator",
                password_hash=hashed,
                role="admin",
                created_at=utcnow(),
            )
            return password
        if known.is_active:
            User.update(role="admin").where(User.id == known.id).execute()
            return None
        User.update(
            role="admin",
            is_active=True,
            password_hash=hashed,
            password_version=User.password_version + 1,
        ).where(User.id == known.id).execute()
    return password
