"""Runners, commands and documents: rows as channels between processes."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator

import pytest

from anvil_web import db
from anvil_web.clock import utcnow
from anvil_web.models import Command, Render, Runner
from anvil_web.store import commands, render, runners

pytestmark = pytest.mark.usefixtures("store")


def register(runner_id: str) -> None:
    runners.register(runner_id, host="lab", pid=1, version="1", simulation_mode=False)


def test_a_runner_lives_while_it_beats() -> None:
    """A runner is live for 10 s after each heartbeat, the oldest runner first."""
    register("one")
    register("two")
    assert [runner.id for runner in runners.live()] == ["one", "two"]
    assert runners.live(utcnow() + dt.timedelta(seconds=11)) == []
    Runner.update(heartbeat_at=utcnow() - dt.timedelta(seconds=60)).execute()
    assert runners.live() == []
    assert runners.heartbeat("two")
    assert [runner.id for runner in runners.live()] == ["two"]


def test_a_runner_that_leaves_is_gone_at_once() -> None:
    """An orderly stop needs no time-out, and a heartbeat afterwards says so."""
    register("one")
    runners.unregister("one")
    assert runners.live() == []
    assert not runners.heartbeat("one")


def test_old_runners_are_forgotten() -> None:
    """Rows of runners that died long ago go when a new one starts."""
    register("old")
    Runner.update(heartbeat_at=utcnow() - dt.timedelta(days=2)).execute()
    register("new")
    assert [row.id for row in Runner.select()] == ["new"]


@pytest.fixture
def executor() -> Iterator[list[str]]:
    """A thread that answers every command with its kind; yields what it has answered."""
    stop, answered = threading.Event(), []

    def work() -> None:
        with db.connection():
            while not stop.is_set():
                command = commands.claim_next("lab")
                if command is not None:
                    answered.append(command.kind)
                    commands.finish(command.id, result={"kind": command.kind, **command.args})
                stop.wait(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    yield answered
    stop.set()
    thread.join()


@pytest.mark.usefixtures("executor")
def test_a_command_comes_back_with_its_result() -> None:
    """Who submits a command and waits gets what the runner answered."""
    done = commands.wait(commands.submit("echo", {"x": 1}), timeout_s=10)
    assert (done.result, done.error) == ({"kind": "echo", "x": 1}, None)


def test_a_command_that_nobody_took_expires() -> None:
    """After the time-out no runner starts the command any more."""
    command_id = commands.submit("echo")
    with pytest.raises(commands.CommandTimeout, match="echo"):
        commands.wait(command_id, timeout_s=0.1)
    assert commands.claim_next("lab") is None
    assert Command.get_by_id(command_id).state == "expired"


def test_commands_are_taken_in_order_once_and_by_their_host() -> None:
    """A command for a host goes to that host, one for any to whoever asks first."""
    other = commands.submit("first", host="other")
    anywhere = commands.submit("second")
    claimed = commands.claim_next("lab")
    assert claimed is not None
    assert claimed.id == anywhere
    assert commands.claim_next("lab") is None
    claimed = commands.claim_next("other")
    assert claimed is not None
    assert claimed.id == other


def test_an_error_is_an_answer() -> None:
    """A command that failed is finished, with the reason."""
    command_id = commands.submit("echo")
    commands.finish(command_id, error="cannot")
    assert commands.wait(command_id, timeout_s=1).error == "cannot"


def test_a_document_is_queued_once() -> None:
    """Asking twice is one row; asking again for a drawn one queues it again."""
    first = render.request("report", "run", "html")
    assert render.request("report", "run", "html").id == first.id
    assert render.claim_next() is not None
    render.finish(first.id, content=b"x", media_type="text/html", etag="e")
    drawn = render.get("report", "run", "html")
    assert drawn is not None
    assert (drawn.state, bytes(drawn.content or b"")) == ("finished", b"x")
    assert render.request("report", "run", "html").state == "queued"
    assert Render.select().count() == 1


def test_a_dead_renderers_claim_expires() -> None:
    """A claim that is not renewed for 30 s is somebody else's to take."""
    made = render.request("report", "run")
    assert render.claim_next() is not None
    assert render.claim_next() is None
    later = utcnow() + dt.timedelta(seconds=31)
    claimed = render.claim_next(later)
    assert claimed is not None
    assert claimed.id == made.id
    assert render.renew(made.id)
    render.finish(made.id, error="no")
    assert not render.renew(made.id)
