"""The first start: schema, secrets, the first administrator.

Only `anvil serve` and `anvil migrate` come here, so that any number of web workers can
start on an empty installation without each inventing a password.
"""

from __future__ import annotations

from dataclasses import dataclass

from anvil_web import db
from anvil_web.config import Config, ensure_secrets
from anvil_web.store import users


@dataclass(frozen=True)
class Bootstrap:
    """What the first start led to.

    `admin_password` is the random password that nobody has seen yet, None when there was
    an administrator or the password was configured.
    """

    config: Config
    migrations: list[str]
    admin_created: bool
    admin_password: str | None


def bootstrap(config: Config) -> Bootstrap:
    """Bring schema, secrets and administrator into being where they are missing.

    Safe when several processes do it at once.  Leaves the models bound, role `tool`.
    """
    config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = ensure_secrets(config)
    migrations = db.migrate(config.database_url)
    with db.connection():
        password = users.ensure_admin(config.admin_password)
    return Bootstrap(
        config=config,
        migrations=migrations,
        admin_created=password is not None,
        admin_password=None if config.admin_password else password,
    )


def greeting(done: Bootstrap) -> list[str]:
    """What a person has to be told once."""
    if done.admin_password is not None:
        return [
            f"Administrator: {users.ADMIN}",
            f"Password:      {done.admin_password}  (shown once; it is stored hashed)",
        ]
    if done.admin_created:
        return [f"Administrator: {users.ADMIN}, with the password of ANVIL_ADMIN_PASSWORD"]
    return []
