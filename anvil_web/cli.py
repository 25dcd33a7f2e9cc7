"""The service's verbs of the program `anvil`.

Everything heavy is imported inside the verbs, so that `anvil --help` stays quick.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from anvil_web.config import Config

_data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where database, secrets and file targets live (ANVIL_DATA_DIR).  [default: ./data]",
)
_bind = click.option(
    "--bind",
    metavar="ADDRESS:PORT",
    help="Where to listen (ANVIL_BIND).  [default: 127.0.0.1:8080]",
)
_workers = click.option(
    "--workers",
    "web_workers",
    type=click.IntRange(min=1),
    help="Web worker processes (ANVIL_WEB_WORKERS).  [default: 2]",
)


_engine = click.option(
    "--engine",
    type=click.Choice(["native", "sync"]),
    help="How I/O is issued: native is io_uring, sync works where that is forbidden "
    "(ANVIL_ENGINE).  [default: native]",
)


def _config(**overrides: Any) -> Config:
    from anvil_web.config import load

    return load(**overrides)


def _log_to_stderr(config: Config) -> None:
    import logging

    logging.basicConfig(
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@click.command()
@_data_dir
@_bind
@_workers
@_engine
@click.option("--user", help="As root: whose rights the web side gets.")
@click.option(
    "--first-run",
    is_flag=True,
    help="With an empty database: create a 1 GiB scratch target and measure it.",
)
@click.option("--once", is_flag=True, help="End after the first run; exit 0 if it is complete.")
def serve(user: str | None, first_run: bool, once: bool, **overrides: Any) -> int:
    """Start the service: web side, runner and renderer, until Ctrl-C.

    Sets the database up on the first start and prints the administrator's password, once.
    Processes that end are started again.  As root, which block devices need, only the
    runner keeps root's rights.

    \b
      anvil serve
      anvil serve --data-dir /var/lib/anvil --bind 0.0.0.0:8080
      sudo anvil serve --user anvil
    """  # noqa: D301 - click wants the character
    from anvil_web import serve as service

    config = _config(**overrides)
    _log_to_stderr(config)
    return service.serve(config, user=user, first_run=first_run or once, once=once)


@click.command()
@_data_dir
@_bind
@_workers
def web(**overrides: Any) -> None:
    """Start only the web side, under gunicorn.

    It needs no devices and no root, and any number may share one PostgreSQL database.
    Run `anvil migrate` first.
    """
    from anvil_web.config import child_environment
    from anvil_web.serve import web_argv

    config = _config(**overrides)
    _require_set_up(config)
    argv = web_argv(config, config.bind)
    os.execve(argv[0], argv, child_environment(config))  # noqa: S606 - gunicorn


@click.command()
@_data_dir
@_engine
def runner(**overrides: Any) -> None:
    """Start only this host's runner: the process that measures.

    Block devices need root.  One runner per host claims the runs that are queued for the
    host's devices; stopping it fails the run that is under way.
    """
    from anvil_web.runner.loop import Runner

    config = _config(**overrides)
    _log_to_stderr(config)
    Runner(config, _stop_on_signals()).run()


@click.command()
@_data_dir
def renderer(**overrides: Any) -> None:
    """Start only a renderer: it draws reports, with the lowest priority.

    It needs no root, and any number may run on any host.
    """
    from anvil_web import renderer as drawing

    config = _config(**overrides)
    _log_to_stderr(config)
    drawing.run(config, _stop_on_signals())


@click.command()
@_data_dir
def migrate(**overrides: Any) -> None:
    """Set the database up, or bring it up to date.

    Creates the secrets and the first administrator where they are missing and prints the
    password, once.  `anvil serve` does the same by itself.
    """
    from anvil_web import admin

    done = admin.bootstrap(_config(**overrides))
    for name in done.migrations:
        click.echo(f"applied {name}")
    if not done.migrations:
        click.echo("the database is up to date")
    for line in admin.greeting(done):
        click.echo(line)


def _require_set_up(config: Config) -> None:
    from anvil_web.config import InvalidConfig

    if config.bearer_token is None or config.jwt_key is None:
        raise InvalidConfig(
            f"there are no secrets in {config.data_dir} yet; run `anvil migrate` with the "
            "same --data-dir first"
        )


@click.group()
def _verbs() -> None:
    """Only the service's verbs: how `anvil serve` starts its parts."""


for _verb in (serve, web, runner, renderer, migrate):
    _verbs.add_command(_verb)

if __name__ == "__main__":
    from anvil_engine.errors import AnvilError

    try:
        sys.exit(_verbs.main(standalone_mode=False))
    except AnvilError as _error:
        click.echo(f"anvil: {_error}", err=True)
        sys.exit(1)
