"""The documentation names what there is: verbs, options, scripts, settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from anvil_engine.cli import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands(group: click.Group, name: str = "anvil") -> Iterator[tuple[str, click.Command]]:
    """Every verb of the program with its full name."""
    context = click.Context(group)
    for verb in group.list_commands(context):
        command = group.get_command(context, verb)
        assert command is not None
        yield f"{name} {verb}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {verb}")


COMMANDS = dict(commands(cli))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_verb_and_option_has_help(name: str) -> None:
    """`--help` teaches: each verb says what it does, each option what it is for."""
    command = COMMANDS[name]
    assert command.help
    assert command.get_short_help_str(limit=200)
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.opts[0]}"


@pytest.mark.parametrize("name", COMMANDS)
def test_readme_names_every_verb(name: str) -> None:
    """A verb that the README does not name is a verb that nobody finds."""
    assert name in README


@pytest.mark.parametrize(
    "script", sorted(path.name for path in (ROOT / "scripts").iterdir() if path.name[0] != "_")
)
def test_readme_names_every_script(script: str) -> None:
    """Each script, or the folder it is in, is in the README."""
    assert f"scripts/{script}" in README


def test_readme_names_every_setting() -> None:
    """The table of settings is that of `config.py`, no more and no less."""
    read = set(re.findall(r"\bANVIL_[A-Z_]+", (ROOT / "anvil_web" / "config.py").read_text()))
    assert set(re.findall(r"^\| `(ANVIL_[A-Z_]+)`", README, re.MULTILINE)) == read


def test_readme_paths_exist() -> None:
    """What the README points to is there."""
    named = set(re.findall(r"`((?:anvil_engine|anvil_web|scripts|tests)/[\w./]+)`", README))
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]
