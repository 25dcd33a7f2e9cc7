"""The program itself: verbs, help, errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from anvil_engine import session
from anvil_engine.cli import cli, main
from anvil_engine.cli_options import ENGINES


def run_program(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "anvil_engine.cli", *args],
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """`anvil --help` lists the engine's verbs and those that other packages registered."""
    registered = {found.name for found in entry_points(group="anvil.commands")}
    assert registered >= {"serve", "web", "runner", "renderer", "migrate"}
    assert main(["--help"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert listed >= registered | {"bench", "run", "profiles", "devices"}


def test_no_arguments_print_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`anvil` alone teaches instead of failing."""
    assert main([]) == 0
    assert "Usage: anvil" in capsys.readouterr().out


def test_shell_start_up_is_quick() -> None:
    """`anvil --help` takes less than 0.3 s: nothing heavy is imported for it."""
    durations = []
    for _ in range(5):
        started = time.monotonic()
        assert run_program("--help").returncode == 0
        durations.append(time.monotonic() - started)
    assert min(durations) < 0.3


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["nosuch"], 2, "No such command 'nosuch'"),
        (["bench"], 2, "Missing argument 'TARGET'"),
        (["bench", "/nonexistent"], 2, "/nonexistent does not exist"),
        (["bench", "x", "--bs", "4ki", "--engine", "null"], 2, "write 4k for powers of 1024"),
        (["bench", "x", "--rw", "wash", "--engine", "null"], 2, "rw=wash is not known"),
        (["bench", "x", "--runtime", "soon", "--engine", "null"], 2, "'soon' is not a time"),
        (["run", "nosuch", "x"], 2, "there is no profile 'nosuch'; there are: quick"),
        (["run", "nosuch.json", "x"], 2, "nosuch.json is not a profile"),
        (["run", "quick", "/"], 2, "/ is a directory"),
        (["run", "quick", "x", "--die-with-parent", "1"], 1, "the parent process 1 is gone"),
        (["bench", "/dev/zero", "--runtime", "1", "--output", "/nowhere/x"], 1, "/nowhere/x"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(args: list[str], code: int, message: str) -> None:
    """An error is one line on stderr that begins with the program's name: 2 refused, 1 failed."""
    done = run_program(*args)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("anvil: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_profile_file_that_is_no_profile_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A JSON file without phases is refused with its name, not with a traceback."""
    path = tmp_path / "empty.json"
    path.write_text("{}")
    assert main(["run", str(path), "x", "--engine", "null"]) == 2
    assert "anvil: this is not a profile" in capsys.readouterr().err


def test_engines_are_those_of_the_session() -> None:
    """The list that the options repeat, to stay light, is the real one."""
    assert ENGINES == session.ENGINES


def test_underscores_and_hyphens_are_alike() -> None:
    """An option is found in fio's spelling and in the shell's."""
    bench = cli.get_command(None, "bench")  # type: ignore[arg-type]  # the context is not used
    assert bench is not None
    with cli.make_context("anvil", ["bench", "x"]) as parent:
        for spelled in ("--ramp_time=2m", "--ramp-time=2m"):
            context = bench.make_context("bench", ["x", spelled], parent=parent)
            assert context.params["ramp_time"] == 120.0
