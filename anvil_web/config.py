"""The configuration, and the only reader of environment variables.

Secrets that nobody configured are made once, by `ensure_secrets`, and kept in the data
directory with mode 0600.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import platform
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anvil_engine.errors import AnvilError

MIN_TOKEN_LENGTH = 16
MIN_PASSWORD_LENGTH = 8
WELL_KNOWN_TOKENS = frozenset(
    {
        "change-me-please",
        "changeme-changeme",
        "changemechangeme",
        "anvil-bearer-token",
        "anvil-dev-token-change-me",
        "dev-token-change-me",
        "insecure-default-token",
        "please-change-this-token",
        "your-secret-token",
        "your-bearer-token",
    }
)
TOKEN_FILE = "bearer_token"  # noqa: S105 - a file name
JWT_FILE = "jwt_key"
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


class InvalidConfig(AnvilError):
    """A setting is missing or impossible; the text names it and the way out."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that can be set.

    `bearer_token` and `jwt_key` are None until `ensure_secrets` made them.  `jwt_key` is
    derived from the stored key and the token: a new token ends every session.  `host` is
    the name under which this machine's runner claims runs.  `bind` is `address:port`.
    """

    data_dir: Path
    database_url: str
    bearer_token: str | None
    jwt_key: bytes | None
    admin_password: str | None
    cors_origins: tuple[str, ...]
    log_level: str
    simulation_mode: bool
    host: str
    sysfs_root: Path
    bind: str
    web_workers: int
    engine: str
    sudo_uid: int | None


def _flag(name: str, text: str) -> bool:
    lowered = text.strip().lower()
    if lowered not in TRUE + FALSE:
        raise InvalidConfig(f"{name}={text!r} is neither true nor false; use 1 or 0")
    return lowered in TRUE


def _whole(name: str, text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise InvalidConfig(f"{name}={text!r} is not a whole number of at least {least}")
    return int(text)


def _origins(text: str) -> tuple[str, ...]:
    try:
        found = json.loads(text or "[]")
    except json.JSONDecodeError as error:
        raise InvalidConfig(f"ANVIL_CORS_ORIGINS is not a JSON list: {error}") from error
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise InvalidConfig('ANVIL_CORS_ORIGINS must be a JSON list of strings: ["https://…"]')
    return tuple(found)


def _token(text: str) -> str:
    if len(text) < MIN_TOKEN_LENGTH:
        raise InvalidConfig(
            f"ANVIL_BEARER_TOKEN has {len(text)} characters; use at least {MIN_TOKEN_LENGTH}, "
            "or unset it and one is made"
        )
    if text.lower() in WELL_KNOWN_TOKENS or len(set(text)) < 4:
        raise InvalidConfig("ANVIL_BEARER_TOKEN is a well-known default; choose your own")
    return text


def _password(text: str | None) -> str | None:
    if text is not None and len(text) < MIN_PASSWORD_LENGTH:
        raise InvalidConfig(
            f"ANVIL_ADMIN_PASSWORD needs at least {MIN_PASSWORD_LENGTH} characters"
        )
    return text


def _log_level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise InvalidConfig(f"ANVIL_LOG_LEVEL={text!r} is not one of {', '.join(LOG_LEVELS)}")
    return text.lower()


def _stored(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise InvalidConfig(
            f"{path} cannot be read ({error.strerror}); run as the owner of {path.parent}"
        ) from error


def _derived(key: str | None, token: str | None) -> bytes | None:
    if key is None or token is None:
        return None
    return hmac.digest(bytes.fromhex(key), token.encode(), hashlib.sha256)


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> Config:
    """The configuration in `environ` (this process's when None), then `overrides`.

    An override of None counts as absent, so that unset options can be passed through.
    Creates nothing.  Raises `InvalidConfig`.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in overrides.items() if value is not None}
    data_dir = Path(given.pop("data_dir", None) or environ.get("ANVIL_DATA_DIR") or "data")
    data_dir = data_dir.resolve()
    token_text = given.pop("bearer_token", None) or environ.get("ANVIL_BEARER_TOKEN")
    token = _token(token_text) if token_text else _stored(data_dir / TOKEN_FILE)
    config = Config(
        data_dir=data_dir,
        database_url=environ.get("ANVIL_DATABASE_URL") or f"sqlite:///{data_dir / 'anvil.db'}",
        bearer_token=token,
        jwt_key=_derived(_stored(data_dir / JWT_FILE), token),
        admin_password=_password(environ.get("ANVIL_ADMIN_PASSWORD") or None),
        cors_origins=_origins(environ.get("ANVIL_CORS_ORIGINS", "")),
        log_level=_log_level(environ.get("ANVIL_LOG_LEVEL") or "info"),
        simulation_mode=_flag("ANVIL_SIMULATION_MODE", environ.get("ANVIL_SIMULATION_MODE", "")),
        host=environ.get("ANVIL_HOST") or platform.node() or "localhost",
        sysfs_root=Path(environ.get("ANVIL_SYSFS_ROOT") or "/"),
        bind=environ.get("ANVIL_BIND") or "127.0.0.1:8080",
        web_workers=_whole("ANVIL_WEB_WORKERS", environ.get("ANVIL_WEB_WORKERS") or "2", 1),
        engine=environ.get("ANVIL_ENGINE") or "native",
        sudo_uid=_sudo_uid(environ),
    )
    return replace(config, **given)


def _sudo_uid(environ: Mapping[str, str]) -> int | None:
    text = environ.get("SUDO_UID", "")
    return int(text) if text.isascii() and text.isdigit() else None


def child_environment(config: Config) -> dict[str, str]:
    """The environment of this process with `config` in it, for a child that calls `load`.

    The administrator's password stays here: only the bootstrap needs it.
    """
    environ = {k: v for k, v in os.environ.items() if k != "ANVIL_ADMIN_PASSWORD"}
    return environ | {
        "ANVIL_DATA_DIR": str(config.data_dir),
        "ANVIL_DATABASE_URL": config.database_url,
        "ANVIL_CORS_ORIGINS": json.dumps(config.cors_origins),
        "ANVIL_LOG_LEVEL": config.log_level,
        "ANVIL_SIMULATION_MODE": "1" if config.simulation_mode else "0",
        "ANVIL_HOST": config.host,
        "ANVIL_SYSFS_ROOT": str(config.sysfs_root),
        "ANVIL_BIND": config.bind,
        "ANVIL_WEB_WORKERS": str(config.web_workers),
        "ANVIL_ENGINE": config.engine,
    }


def _ensure_file(path: Path, content: str) -> None:
    """Create `path` with `content`, unless it exists.  Never seen half written."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(content)
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def ensure_secrets(config: Config) -> Config:
    """`config` with its secrets, made and stored where they are missing.

    Safe when several processes do it at once: all get the same.
    """
    config.data_dir.mkdir(parents=True, exist_ok=True)
    _ensure_file(config.data_dir / JWT_FILE, secrets.token_hex(32))
    token = config.bearer_token
    if token is None:
        _ensure_file(config.data_dir / TOKEN_FILE, secrets.token_urlsafe(32))
        token = _stored(config.data_dir / TOKEN_FILE)
    return replace(
        config,
        bearer_token=token,
        jwt_key=_derived(_stored(config.data_dir / JWT_FILE), token),
    )
