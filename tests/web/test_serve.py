"""`anvil serve`: what it starts, keeps running, drops and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import programs
import psutil
import pytest
from programs import wait_for

from anvil_engine.errors import AnvilError
from anvil_web import admin, config, db
from anvil_web import serve as service
from anvil_web.config import Config, load
from anvil_web.models import User

PARTS = ("gunicorn", "runner", "renderer")


class Service:
    """A running `anvil serve` on a free port."""

    def __init__(self, settings: Config, *arguments: str) -> None:
        self.settings = settings
        self.log = settings.data_dir.parent / "serve.log"
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [*(sys.executable, "-m", "anvil_web.cli", "serve"), *arguments],
                cwd=programs.ROOT,
                env=config.child_environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def output(self) -> str:
        return self.log.read_text()

    def url(self) -> str:
        pattern = re.compile(r"Anvil serves (http://\S+)")
        wait_for(lambda: self.process.poll() is not None or pattern.search(self.output()))
        found = pattern.search(self.output())
        assert found, self.output()
        return found[1]

    def parts(self) -> dict[str, list[psutil.Process]]:
        """The processes of each part."""
        found: dict[str, list[psutil.Process]] = {part: [] for part in PARTS}
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                words = process.cmdline()
                for part in PARTS:
                    if part in words and "anvil_web.privileges" not in words:
                        found[part].append(process)
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture
def empty(tmp_path: Path) -> Config:
    """A configuration whose data directory does not exist yet."""
    return load({}, data_dir=tmp_path / "data", bind="127.0.0.1:0")


@pytest.fixture
def start(empty: Config) -> Iterator[Callable[..., Service]]:
    """Starts services, and stops them at the end."""
    started: list[Service] = []

    def go(*arguments: str) -> Service:
        started.append(Service(empty, *arguments))
        return started[-1]

    yield go
    for one in started:
        one.stop()
    db.close_connection()


def status(one: Service) -> dict[str, object]:
    address = f"{one.url()}/api/status"
    token = (one.settings.data_dir / "bearer_token").read_text()
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        result: dict[str, object] = json.load(answer)
    return result


def running(one: Service) -> dict[str, list[psutil.Process]]:
    """The parts, once all are there and the runner is live."""
    wait_for(lambda: status(one)["runner_ok"])
    wait_for(lambda: all(one.parts().values()))
    return one.parts()


def test_a_first_start_sets_everything_up(start: Callable[..., Service]) -> None:
    """One command gives a web side that answers, a live runner, a renderer and an administrator."""
    one = start("--workers", "3")
    parts = running(one)
    assert len(parts["gunicorn"]) == 4
    assert status(one)["status"] == "ok"
    passwords = re.findall(r"Password: +(\S+)", one.output())
    assert len(passwords) == 1
    assert len(passwords[0]) == 20
    db.connect(one.settings.database_url, role="tool")
    assert [user.username for user in User.select()] == ["admin"]


def test_a_second_start_is_quick_and_says_no_password(start: Callable[..., Service]) -> None:
    """An installation that exists is up within five seconds, and runs nothing by itself."""
    first = start()
    first.url()
    first.stop()
    begun = time.monotonic()
    one = start()
    one.url()
    assert time.monotonic() - begun < 5.0
    assert "Password" not in one.output()


@pytest.mark.root
def test_only_the_runner_keeps_root(start: Callable[..., Service]) -> None:
    """Started as root, no web or render process has uid 0 anywhere, and the runner has."""
    parts = running(start("--workers", "2"))
    for part in ("gunicorn", "renderer"):
        for process in parts[part]:
            assert 0 not in (*process.uids(), *process.gids())
    assert all(process.uids().effective == 0 for process in parts["runner"])


@pytest.mark.root
def test_the_data_directory_is_the_web_sides_and_the_spool_is_not(
    start: Callable[..., Service],
) -> None:
    """Secrets and database belong to the dropped account, private; the spool stays root's."""
    one = start("--user", "nobody")
    running(one)
    data = one.settings.data_dir
    for name in ("", "anvil.db", "anvil.db-wal", "anvil.db-shm", "bearer_token", "jwt_key"):
        assert (data / name).stat().st_uid == 65534, name
    for name in ("", "bearer_token", "jwt_key"):
        assert (data / name).stat().st_mode & 0o077 == 0, name
    assert (data / "spool").stat().st_uid == 0


@pytest.mark.root
def test_without_root_everything_runs_as_that_user(start: Callable[..., Service]) -> None:
    """An unprivileged user's service works, all of it under that user's id."""
    one = start()
    running(one)
    one.stop()
    data = one.settings.data_dir
    for path in data.rglob("*"):
        os.chown(path, 65534, 65534)
    launcher = [sys.executable, "-m", "anvil_web.privileges", "--user", "nobody"]
    launcher += ["--needs", str(data), "--", sys.executable, "-m", "anvil_web.cli", "serve"]
    log = data.parent / "other.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            launcher,
            cwd=programs.ROOT,
            env=config.child_environment(one.settings),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: "Anvil serves" in log.read_text())
        db.connect(one.settings.database_url, role="tool")
        wait_for(programs.live)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 4
        assert {uid for child in family for uid in child.uids()} == {65534}
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_killed_comes_back(start: Callable[..., Service], part: str) -> None:
    """`kill -9` of web master, runner or renderer: the part is started again, the others stay."""
    one = start()
    before = running(one)
    pids = {process.pid for process in before[part]}
    before[part][0].kill()
    wait_for(lambda: {process.pid for process in one.parts()[part]} - pids)
    after = running(one)
    for other in PARTS:
        if other != part:
            assert after[other][0].pid == before[other][0].pid
    assert status(one)["status"] == "ok"


def test_a_killed_web_worker_comes_back(start: Callable[..., Service]) -> None:
    """`kill -9` of a web worker: the service goes on answering."""
    one = start("--workers", "2")
    before = running(one)["gunicorn"]
    before[-1].kill()
    wait_for(lambda: len(one.parts()["gunicorn"]) == 3)
    assert status(one)["status"] == "ok"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_ends_everything(start: Callable[..., Service], number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end every process in order, with exit code 0."""
    one = start()
    running(one)
    family = psutil.Process(one.process.pid).children(recursive=True)
    assert one.stop(number) == 0
    assert [process for process in family if process.is_running()] == []


def test_the_parts_end_with_a_killed_supervisor(start: Callable[..., Service]) -> None:
    """`kill -9` of the supervisor itself leaves no process behind."""
    one = start()
    running(one)
    family = psutil.Process(one.process.pid).children(recursive=True)
    one.process.kill()
    one.process.wait()
    wait_for(lambda: all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in family))


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The address is refused before anything is set up, and the option named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = load({}, data_dir=tmp_path / "data", bind=bind)
        process = programs.start(settings, "serve")
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert bind in output
    assert "--bind" in output
    assert not settings.data_dir.exists()


@pytest.mark.parametrize("bind", ["8080", "localhost", "127.0.0.1:port", "127.0.0.1:70000"])
def test_an_impossible_address_is_refused(bind: str) -> None:
    """What is not address:port is said so."""
    with pytest.raises(AnvilError, match="address:port"):
        service.listen(bind)


def test_addresses_become_urls() -> None:
    """A wildcard address is shown as one that a browser can open."""
    with service.listen("0.0.0.0:0") as listener:
        port = listener.getsockname()[1]
        assert service.url_of(listener) == f"http://127.0.0.1:{port}"


def test_backing_off_doubles_and_recovers() -> None:
    """A part that dies at once is started later and later; one that lived starts over."""
    child = service.Child("x", [sys.executable, "-c", "pass"])
    waits, now = [], 1000.0
    for lived in (1, 1, 1, 100):
        child.tend(dict(os.environ), now)
        assert child.process is not None
        child.process.wait()
        now += lived
        child.tend({}, now)
        waits.append(child.start_at - now)
        now = child.start_at
    assert waits == [0.5, 1.0, 2.0, 0.5]


def test_bootstrapping_processes_make_one_administrator(tmp_path: Path) -> None:
    """Of three first starts at once exactly one has a password to tell, and it is the right one."""
    settings = load({}, data_dir=tmp_path / "data")
    processes = [programs.start(settings, "migrate") for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum("Password:" in output for output in outputs) == 1
    db.connect(settings.database_url, role="tool")
    assert User.select().count() == 1
    db.close_connection()


def test_a_configured_password_is_not_printed(tmp_path: Path) -> None:
    """The password of the environment is used and never shown."""
    settings = load({"ANVIL_ADMIN_PASSWORD": "swordfish-1"}, data_dir=tmp_path / "data")
    done = admin.bootstrap(settings)
    db.close_connection()
    assert done.admin_created
    assert "swordfish-1" not in "".join(admin.greeting(done))


def test_the_web_side_alone_needs_a_set_up(tmp_path: Path) -> None:
    """`anvil web` sets nothing up: it names the command that does."""
    settings = load({}, data_dir=tmp_path / "data")
    process = programs.start(settings, "web")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "anvil migrate" in output
    assert not settings.data_dir.exists()


@pytest.mark.slow
def test_the_first_run_is_measured(start: Callable[..., Service]) -> None:
    """`--once` on an empty database measures the scratch target, prints the table and exits 0."""
    one = start("--once")
    assert one.process.wait(timeout=110) == 0, one.output()
    assert "rnd_4k_q32t1_read" in one.output()
    assert "/docs" in one.output()
    again = start("--once")
    assert again.process.wait(timeout=30) == 0
    assert "rnd_4k_q32t1_read" not in again.output()
