"""Settings, their limits, and the secrets."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from anvil_web.config import (
    JWT_FILE,
    TOKEN_FILE,
    InvalidConfig,
    child_environment,
    ensure_secrets,
    load,
)

TOKEN = "a-token-of-our-own-42"


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any setting: ./data, SQLite in it, this host, loopback."""
    monkeypatch.chdir(tmp_path)
    config = load({})
    assert config.data_dir == tmp_path / "data"
    assert config.database_url == f"sqlite:///{tmp_path}/data/anvil.db"
    assert config.bind == "127.0.0.1:8080"
    assert config.sysfs_root == Path("/")
    assert not config.simulation_mode
    assert config.cors_origins == ()


def test_loading_creates_nothing(tmp_path: Path) -> None:
    """`load` leaves the disk alone and has no secrets where none were made."""
    config = load({}, data_dir=tmp_path / "data")
    assert config.bearer_token is None
    assert config.jwt_key is None
    assert not (tmp_path / "data").exists()


def test_overrides_win_and_none_is_absent(tmp_path: Path) -> None:
    """An option beats the environment; one that was not given does not."""
    environ = {"ANVIL_DATA_DIR": str(tmp_path / "a"), "ANVIL_BIND": "127.0.0.1:1"}
    config = load(environ, data_dir=tmp_path / "b", bind=None)
    assert config.data_dir == tmp_path / "b"
    assert config.database_url == f"sqlite:///{tmp_path}/b/anvil.db"
    assert config.bind == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANVIL_BEARER_TOKEN", "short"),
        ("ANVIL_BEARER_TOKEN", "fifteen-chars-x"),
        ("ANVIL_BEARER_TOKEN", "change-me-please"),
        ("ANVIL_BEARER_TOKEN", "Change-Me-Please"),
        ("ANVIL_BEARER_TOKEN", "a" * 40),
        ("ANVIL_CORS_ORIGINS", "https://a"),
        ("ANVIL_CORS_ORIGINS", '{"a": 1}'),
        ("ANVIL_LOG_LEVEL", "loud"),
        ("ANVIL_SIMULATION_MODE", "maybe"),
        ("ANVIL_WEB_WORKERS", "0"),
        ("ANVIL_WEB_WORKERS", "two"),
        ("ANVIL_ADMIN_PASSWORD", "seven77"),
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, value: str, tmp_path: Path) -> None:
    """A bad value is refused, and the text names the variable."""
    with pytest.raises(InvalidConfig, match=name):
        load({name: value}, data_dir=tmp_path)


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    """The first call makes both secrets with mode 0600, later ones find them."""
    first = ensure_secrets(load({}, data_dir=tmp_path / "data"))
    assert first.bearer_token is not None
    assert len(first.bearer_token) >= 32
    for name in (TOKEN_FILE, JWT_FILE):
        assert stat.S_IMODE((tmp_path / "data" / name).stat().st_mode) == 0o600
    second = ensure_secrets(load({}, data_dir=tmp_path / "data"))
    assert (second.bearer_token, second.jwt_key) == (first.bearer_token, first.jwt_key)
    assert load({}, data_dir=tmp_path / "data").jwt_key == first.jwt_key


def test_a_configured_token_is_not_stored(tmp_path: Path) -> None:
    """The token of the environment stays there."""
    config = ensure_secrets(load({"ANVIL_BEARER_TOKEN": TOKEN}, data_dir=tmp_path))
    assert config.bearer_token == TOKEN
    assert not (tmp_path / TOKEN_FILE).exists()


def test_a_new_token_ends_the_sessions(tmp_path: Path) -> None:
    """The key of sessions is not the token, depends on it, and differs per installation."""
    one = ensure_secrets(load({"ANVIL_BEARER_TOKEN": TOKEN}, data_dir=tmp_path / "a"))
    two = ensure_secrets(load({"ANVIL_BEARER_TOKEN": TOKEN + "x"}, data_dir=tmp_path / "a"))
    elsewhere = ensure_secrets(load({"ANVIL_BEARER_TOKEN": TOKEN}, data_dir=tmp_path / "b"))
    assert len({one.jwt_key, two.jwt_key, elsewhere.jwt_key, TOKEN.encode()}) == 4


def test_processes_that_make_secrets_at_once_agree(tmp_path: Path) -> None:
    """Of several first starts at once all get the same secrets."""
    code = (
        "import sys; from anvil_web.config import *; "
        "c = ensure_secrets(load({}, data_dir=sys.argv[1])); print(c.bearer_token, c.jwt_key)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "data")],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [TOKEN_FILE, JWT_FILE]


def test_a_child_loads_the_same_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a parent was told by options reaches its children by the environment."""
    monkeypatch.setenv("ANVIL_ADMIN_PASSWORD", "a secret of the bootstrap")
    config = load(
        {"ANVIL_CORS_ORIGINS": '["https://a"]', "ANVIL_SIMULATION_MODE": "yes"},
        data_dir=tmp_path,
        bind="127.0.0.1:9",
        web_workers=3,
    )
    environ = child_environment(config)
    assert load(environ) == config
    assert "ANVIL_ADMIN_PASSWORD" not in environ
