"""`anvil serve`: the web side, one runner and one renderer, kept running.

The supervisor opens the port itself and hands it down: it stays open while the web side is
restarted.  As root only the runner keeps its rights.  Every child leads a session of its
own, so Ctrl-C reaches the supervisor alone, and ends with it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from anvil_engine.errors import AnvilError
from anvil_web import admin, db
from anvil_web.config import JWT_FILE, TOKEN_FILE, Config, child_environment

log = logging.getLogger(__name__)

POLL_S = 0.1
BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.5, 30.0
HEALTHY_S = 30.0  # a child that lived this long starts over with the shortest back-off
STOP_S = 10.0  # the runner needs up to 3 s for an engine that ignores SIGTERM
BACKLOG = 2048
PACKAGE = Path(__file__).parent


@dataclass
class Child:
    """One kept process."""

    name: str
    argv: list[str]
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    backoff_s: float = BACKOFF_FIRST_S

    def tend(self, environ: dict[str, str], now: float) -> None:
        """Start the process when it is due; notice when it has ended."""
        if self.process is None:
            if now >= self.start_at:
                self._start(environ, now)
            return
        code = self.process.poll()
        if code is None:
            return
        lived = now - self.started_at
        self.backoff_s = BACKOFF_FIRST_S if lived >= HEALTHY_S else self.backoff_s
        log.warning("%s ended with %s; starts again in %.1f s", self.name, code, self.backoff_s)
        self.process = None
        self.start_at = now + self.backoff_s
        self.backoff_s = min(self.backoff_s * 2, BACKOFF_LAST_S)

    def _start(self, environ: dict[str, str], now: float) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own programs, no shell
            self.argv,
            env=environ,
            stdin=subprocess.DEVNULL,
            pass_fds=self.pass_fds,
            start_new_session=True,
        )
        self.started_at = now

    def signal(self, number: signal.Signals) -> None:
        """Signal the process, and with SIGKILL all that it started."""
        if self.process is None or self.process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)


@dataclass
class Supervisor:
    """Keeps its children running until `stop`."""

    children: list[Child]
    environ: dict[str, str]
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Tend the children until `stop` is set, then end them all."""
        try:
            while not self.stop.is_set():
                for child in self.children:
                    child.tend(self.environ, time.monotonic())
                self.stop.wait(POLL_S)
        finally:
            self.end()

    def end(self) -> None:
        """SIGTERM to all; SIGKILL to those that are still there after `STOP_S`."""
        for child in self.children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for child in self.children:
            if child.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(max(0.0, deadline - time.monotonic()))
        for child in self.children:
            child.signal(signal.SIGKILL)
            if child.process is not None:
                child.process.wait()


def listen(bind: str) -> socket.socket:
    """A listening socket at `address:port`; port 0 takes a free one.  Raises `AnvilError`."""
    host, separator, port = bind.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise AnvilError(f"--bind {bind!r} is not address:port; write 127.0.0.1:8080")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except OSError as error:
        raise AnvilError(
            f"cannot listen on {bind}: {error.strerror}; choose another address with --bind"
        ) from error
    return made


def url_of(listener: socket.socket) -> str:
    """How a browser on this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def unprivileged_user(config: Config, user: str | None) -> str | None:
    """Whose rights the web side gets; None when there are none to drop.

    The one asked for, else the owner of the data directory, else who called sudo, else
    `nobody`.
    """
    if os.geteuid() != 0:
        if user is not None:
            raise AnvilError("--user needs root; started by anybody else, all is that user's")
        return None
    if user is not None:
        return user
    for uid in (config.data_dir.stat().st_uid, config.sudo_uid):
        if uid:
            with contextlib.suppress(KeyError):
                return pwd.getpwuid(uid).pw_name
    return "nobody"


def hand_over(config: Config, user: str) -> None:
    """Give the web side's account the data directory, the secrets and SQLite's files.

    Not the spool and not the targets: those are the runner's.
    """
    from anvil_web import privileges

    who = privileges.account(user)
    os.chown(config.data_dir, who.uid, who.gid)
    database = db.sqlite_path(config.database_url)
    paths = [config.data_dir / name for name in (TOKEN_FILE, JWT_FILE)]
    if database is not None:
        suffixes = ("", "-wal", "-shm", ".migrate-lock")
        paths += [database.with_name(f"{database.name}{suffix}") for suffix in suffixes]
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.chown(path, who.uid, who.gid, follow_symlinks=False)


def web_argv(config: Config, bind: str) -> list[str]:
    """The command line of gunicorn."""
    return [
        *(sys.executable, "-m", "gunicorn", "--config", str(PACKAGE / "gunicorn.conf.py")),
        *("--workers", str(config.web_workers), "--bind", bind, "anvil_web.wsgi:app"),
    ]


def _children(config: Config, listener: socket.socket, user: str | None) -> list[Child]:
    launcher = [sys.executable, "-m", "anvil_web.privileges", "--die-with-parent"]
    launcher.append(str(os.getpid()))
    dropped = [*launcher]
    if user is not None:
        database = db.sqlite_path(config.database_url)
        needs = [config.data_dir, *([database.parent] if database is not None else [])]
        dropped += ["--user", user, *(f"--needs={path}" for path in needs)]
    itself = [sys.executable, "-m", "anvil_web.cli"]
    descriptor = listener.fileno()
    return [
        Child(
            "web",
            [*dropped, "--", *web_argv(config, f"fd://{descriptor}")],
            pass_fds=(descriptor,),
        ),
        Child("runner", [*launcher, "--", *itself, "runner"]),
        Child("renderer", [*dropped, "--", *itself, "renderer"]),
    ]


def serve(
    config: Config, *, user: str | None = None, first_run: bool = False, once: bool = False
) -> int:
    """Run the service until SIGTERM, SIGINT or, with `once`, the end of the first run.

    Returns the exit code.  Raises `AnvilError` when it cannot start.
    """
    with listen(config.bind) as listener:
        done = admin.bootstrap(config)
        config = replace(done.config, bind=config.bind)
        user = unprivileged_user(config, user)
        if user is not None:
            hand_over(config, user)
        supervisor = Supervisor(
            children=_children(config, listener, user), environ=child_environment(config)
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop.set())
        announcer = Announcer(config, url_of(listener), admin.greeting(done), supervisor.stop)
        teller = threading.Thread(
            target=announcer.run, args=(first_run, once), name="first run", daemon=True
        )
        teller.start()
        supervisor.run()
        teller.join(timeout=5.0)
    return announcer.exit_code


@dataclass
class Announcer:
    """Tells the person at the terminal what happens, beside the supervision."""

    config: Config
    url: str
    greeting: list[str]
    stop: threading.Event
    say: Callable[[str], None] = field(default=functools.partial(print, flush=True))
    exit_code: int = 0

    def run(self, first_run: bool, once: bool) -> None:
        """Say where the service is once it answers; then do the first run, if asked to."""
        from anvil_web import first_run as measurement

        try:
            if not measurement.wait_until_up(self.url, self.stop):
                return
            for line in [f"Anvil serves {self.url}", *self.greeting]:
                self.say(line)
            complete = True
            if first_run:
                complete = measurement.run(self.config, self.url, self.stop)
            token_file = self.config.data_dir / TOKEN_FILE
            self.say(f'API documentation: "{self.url}/docs?token=$(cat {token_file})"')
            if once:
                self.exit_code = 0 if complete else 1
        except AnvilError as error:
            self.say(f"anvil: {error}")
            self.exit_code = 1 if once else 0
        except Exception:
            log.exception("the first run failed")
            self.exit_code = 1 if once else 0
        finally:
            if once:
                self.stop.set()
