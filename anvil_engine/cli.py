"""The program `anvil`: finds verbs, and turns errors into one line and an exit code.

A verb is imported when it is used, so that `anvil --help` and the start of a run stay quick.
Verbs of other packages come by the entry points `anvil.commands`; the engine knows none of them.

Exit codes: 0 done, 1 failed, 2 refused or misused, 130 stopped by the user.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

import click

from anvil_engine.errors import AnvilError, EngineError

FAILED = 1
REFUSED = 2
STOPPED = 130

_VERBS = {
    "bench": "anvil_engine.cli_bench:bench",
    "run": "anvil_engine.cli_run:run",
    "crosscheck": "anvil_engine.cli_crosscheck:crosscheck",
    "import": "anvil_engine.cli_import:import_result",
    "profiles": "anvil_engine.cli_lists:profiles",
    "devices": "anvil_engine.cli_lists:devices",
}


def _other_verbs() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group="anvil.commands")}


class _Verbs(click.Group):
    """A group that imports a verb when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*_VERBS, *sorted(_other_verbs())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name in _VERBS:
            module, _, attribute = _VERBS[cmd_name].partition(":")
            verb = getattr(import_module(module), attribute)
        elif cmd_name in (others := _other_verbs()):
            verb = others[cmd_name].load()
        else:
            return None
        assert isinstance(verb, click.Command)
        return verb


@click.group(
    cls=_Verbs,
    invoke_without_command=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        # fio writes ramp_time, people write ramp-time; both are the same option.
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)
@click.version_option(package_name="anvil", message="anvil %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Benchmark NVMe drives and keep what was measured.

    Measure a target with one workload, or with a whole profile:

    \b
      anvil bench --rw randread --bs 4k --iodepth 32 --runtime 10 /dev/nvme0n1
      anvil run quick /dev/nvme0n1

    A TARGET is a block device, a file, /dev/zero or /dev/null.  Reading never changes it.
    WRITING DESTROYS THE DATA ON IT and therefore has to be confirmed: --confirm-serial with
    the last six characters of the device's serial, --yes-destroy-data for a file.

    `anvil COMMAND --help` explains a command.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    try:
        code = cli.main(args, prog_name="anvil", standalone_mode=False)
    except click.Abort:
        return STOPPED
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "anvil"
        return _say(f"{error.format_message()} ({where} --help explains)", REFUSED)
    except click.ClickException as error:
        return _say(error.format_message(), error.exit_code)
    except AnvilError as error:
        return _say(str(error), FAILED if isinstance(error, EngineError) else REFUSED)
    except BrokenPipeError:
        # The reader left; a flush at exit would only complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{where}{error.strerror or error}", FAILED)
    return code if isinstance(code, int) else 0


def _say(message: str, code: int) -> int:
    click.echo(f"anvil: {' '.join(message.split())}", err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
