"""The parts of the live stream, without a network: tails, queues, pings, checks."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import recorded
from flask import Flask
from recorded import whole_run
from simple_websocket import ConnectionClosed  # type: ignore[import-untyped]

from anvil_web import db
from anvil_web.api.live import POLICY_VIOLATION, Stream, WholeFrames, _still_admitted
from anvil_web.api.tails import QUEUE_FRAMES, Frame, Subscription, Tails
from anvil_web.config import Config
from anvil_web.models import User


class Socket:
    """What a stream needs of a WebSocket; keeps what was sent."""

    def __init__(self) -> None:
        self.connected = True
        self.event = threading.Event()
        self.input_buffer = ["ignored"]
        self.sent: list[dict[str, Any]] = []

    def send(self, text: str) -> None:
        if not self.connected:
            raise ConnectionClosed
        self.sent.append(json.loads(text))


class Clock:
    """A clock that a test moves; `after` waits of the stream it jumps by `step`."""

    def __init__(self, ws: Socket, step: float) -> None:
        self.now = 0.0
        ws.event.wait = self._wait  # type: ignore[method-assign]
        self.step = step

    def __call__(self) -> float:
        return self.now

    def _wait(self, timeout: float | None = None) -> bool:
        self.now += min(self.step, timeout or 0.0) or self.step
        return False


def frame(seq: int, event: str = "phase_sample") -> Frame:
    return Frame.of({"seq": seq, "event": event, "payload": {}})


def until(claim: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_slow_socket_loses_its_oldest_samples() -> None:
    """A full queue drops the oldest samples, and neither other events nor the end."""
    subscription = Subscription(threading.Event())
    subscription.offer([frame(1, "phase_started")])
    subscription.offer([frame(seq) for seq in range(2, QUEUE_FRAMES + 100)])
    subscription.offer([frame(QUEUE_FRAMES + 100, "run_complete")])
    taken = subscription.take()
    assert len(taken) == QUEUE_FRAMES
    assert taken[0].event == "phase_started"
    assert [one.seq for one in taken[1:]] == list(range(102, QUEUE_FRAMES + 101))
    assert taken[-1].is_terminal
    assert subscription.take() == []


def test_a_queue_without_samples_grows() -> None:
    """Nothing but samples is dropped, however many other events there are."""
    subscription = Subscription(threading.Event())
    subscription.offer([frame(seq, "phase_started") for seq in range(QUEUE_FRAMES + 5)])
    assert len(subscription.take()) == QUEUE_FRAMES + 5


def test_one_tail_serves_all_sockets_of_a_run(app: Flask) -> None:
    """Sockets of one run share one tail; it ends with the run, and with its last watcher."""
    run, other = recorded.a_running_run(), recorded.a_running_run()
    tails = Tails()
    wakes = [threading.Event() for _ in range(3)]
    watchers = [tails.subscribe(run.id, 1, wake) for wake in wakes]
    left = tails.subscribe(other.id, 1, threading.Event())
    assert tails.watched() == 2
    recorded.record(run.id, whole_run()[1:])
    for watcher, wake in zip(watchers, wakes, strict=True):
        got: list[Frame] = []
        while not (got and got[-1].is_terminal):
            assert wake.wait(10)
            wake.clear()
            got += watcher.take()
        assert [one.seq for one in got] == list(range(2, 13))
        assert watcher.close_code is None
    until(lambda: tails.watched() == 1)
    tails.unsubscribe(other.id, left)
    until(lambda: tails.watched() == 0)


def test_a_tail_survives_an_outage(app: Flask, settings: Config, tmp_path: Any) -> None:
    """While the database is away the sockets stay; afterwards nothing is missing."""
    run = recorded.a_running_run()
    tails = Tails()
    db.connect(f"sqlite:///{tmp_path}/missing/anvil.db", role="web", patience_s=0)
    wake = threading.Event()
    watcher = tails.subscribe(run.id, 1, wake)
    until(lambda: db.seconds_since_failure() < 60)
    db.connect(settings.database_url, role="web")
    recorded.record(run.id, whole_run()[1:])
    assert wake.wait(10)
    assert [one.seq for one in watcher.take()] == list(range(2, 13))
    until(lambda: tails.watched() == 0)


def test_a_stopping_process_closes_its_sockets(app: Flask) -> None:
    """Every socket is told to go away once the process stops."""
    run = recorded.a_running_run()
    tails = Tails()
    wake = threading.Event()
    watcher = tails.subscribe(run.id, 1, wake)
    tails.is_stopping = lambda: True
    assert wake.wait(10)
    assert watcher.close_code == 1001
    assert tails.watched() == 0


def test_an_idle_socket_is_pinged(app: Flask) -> None:
    """After 30 s without another frame there is a ping, with the number of the last frame."""
    run = recorded.a_running_run()
    ws = Socket()
    clock = Clock(ws, step=10.0)
    stream = Stream(ws, run.id, 1, lambda: False, clock=clock)
    assert stream.run(Subscription(ws.event)) == POLICY_VIOLATION
    assert ws.sent[:2] == [
        {"seq": 1, "event": "connected", "payload": {"run_id": run.id}},
        {"seq": 1, "event": "ping", "payload": {}},
    ]
    assert clock.now == 60.0
    assert ws.input_buffer == []


def test_frames_put_the_ping_off(app: Flask) -> None:
    """The 30 s run from the last frame of any kind."""
    run = recorded.a_running_run()
    ws = Socket()
    clock = Clock(ws, step=20.0)
    subscription = Subscription(ws.event)
    checks = iter([True, False])

    def still_admitted() -> bool:
        subscription.offer([frame(int(clock.now))])
        return next(checks)

    Stream(ws, run.id, 1, still_admitted, clock=clock).run(subscription)
    times = [(sent["event"], sent["seq"]) for sent in ws.sent]
    assert times == [("connected", 1), ("ping", 1), ("ping", 1), ("phase_sample", 60),
                     ("ping", 60)]  # fmt: skip


def test_an_account_that_is_disabled_loses_its_socket(app: Flask) -> None:
    """The credential is judged again each minute; a bad one closes with 1008."""
    run = recorded.a_running_run()
    ws = Socket()
    clock = Clock(ws, step=60.0)
    checks: list[float] = []

    def still_admitted() -> bool:
        checks.append(clock.now)
        return len(checks) < 3

    assert Stream(ws, run.id, 1, still_admitted, clock=clock).run(Subscription(ws.event)) == 1008
    assert checks == [60.0, 120.0, 180.0]


def test_the_check_reads_the_account_again(app: Flask, token_of: Callable[..., str]) -> None:
    """A check says no once the account is disabled, and does not judge during an outage."""
    user = recorded.an_account("viewer")
    with app.test_request_context(f"/ws/runs/x?token={token_of(user)}"):
        still_admitted = _still_admitted()
        assert still_admitted()
        db.connect("sqlite:////missing/anvil.db", role="web", patience_s=0)
        assert still_admitted()
        db.connect(app.config["ANVIL"].database_url, role="web")
        User.update(is_active=False).execute()
        assert not still_admitted()


def test_what_came_twice_is_sent_once(app: Flask) -> None:
    """Frames that replay and tail both give reach the client once, in order."""
    run = recorded.a_running_run()
    recorded.record(run.id, whole_run()[1:4])
    ws = Socket()
    subscription = Subscription(ws.event)
    subscription.offer([frame(3), frame(4), frame(5), frame(6, "run_complete")])
    assert Stream(ws, run.id, 0, lambda: True).run(subscription) == 1000
    assert [sent["seq"] for sent in ws.sent] == [0, 1, 2, 3, 4, 5, 6]


def test_a_client_that_leaves_ends_its_stream(app: Flask) -> None:
    """The stream does not outlive its client."""
    run = recorded.a_running_run()
    ws = Socket()
    stream = Stream(ws, run.id, 1, lambda: True)

    def leave() -> None:
        ws.connected = False
        ws.event.set()

    threading.Timer(0.1, leave).start()
    with pytest.raises(ConnectionClosed):
        stream.run(Subscription(ws.event))


def test_frames_are_never_cut_or_mixed() -> None:
    """Two senders on a socket that takes a few bytes at a time send whole frames in turn."""
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    whole = WholeFrames(near)
    frames = [letter * 200_000 for letter in (b"a", b"b", b"c")]
    threads = [threading.Thread(target=whole.send, args=(data,)) for data in frames]
    for thread in threads:
        thread.start()
    received = b""
    while len(received) < 600_000:
        received += far.recv(65536)
    for thread in threads:
        thread.join()
    near.close()
    far.close()
    blocks = [received[start : start + 200_000] for start in (0, 200_000, 400_000)]
    assert sorted(blocks) == frames
