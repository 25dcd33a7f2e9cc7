"""The live stream over a real gunicorn with gevent workers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import recorded
import websocket
from recorded import complete, sample, started, whole_run

from anvil_web import db
from anvil_web.store import claims, runs

TERMINAL = {"run_complete", "run_failed", "run_aborted"}


Connect = Callable[..., Any]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens a stream; all are closed in the end."""
    opened: list[Any] = []

    def open_stream(service: Any, run_id: str, token: str, query: str = "") -> Any:
        address = service.url(f"/ws/runs/{run_id}?token={token}{query}", "ws")
        opened.append(websocket.WebSocket())
        opened[-1].settimeout(20)
        opened[-1].connect(address)
        return opened[-1]

    yield open_stream
    for ws in opened:
        ws.shutdown()


def read_to_close(ws: Any) -> tuple[list[dict[str, Any]], int]:
    """All frames, and the code of the close frame."""
    frames: list[dict[str, Any]] = []
    while True:
        opcode, data = ws.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return frames, int.from_bytes(data[:2], "big")
        frames.append(json.loads(data))


def refusal(attempt: Connect, *where: Any) -> tuple[int, Any]:
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        attempt(*where)
    return caught.value.status_code, json.loads(caught.value.resp_body or b"")["detail"]


def names(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["event"] for frame in frames]


@pytest.mark.parametrize(
    "workers", [1, 3, pytest.param(3, marks=pytest.mark.postgres, id="3-postgres")]
)
def test_late_joiners_get_everything_once_from_any_worker(
    serve: Callable[..., Any], token_of: Callable[..., str], connect: Connect, workers: int
) -> None:
    """Who joins with since=0 gets the run from its start, in order, nothing twice, one end."""
    run = recorded.a_running_run()
    recorded.record(run.id, whole_run()[1:4])
    service = serve(workers)
    sockets = [connect(service, run.id, token_of("static"), "&since=0") for _ in range(6)]
    for event in whole_run()[4:]:
        recorded.record(run.id, [event])
        time.sleep(0.05)
    expected = [
        "connected", "run_started",
        "phase_started", *["phase_sample"] * 3, "phase_complete",
        "phase_started", *["phase_sample"] * 3, "phase_complete",
        "run_complete",
    ]  # fmt: skip
    for ws in sockets:
        frames, code = read_to_close(ws)
        assert names(frames) == expected
        assert [frame["seq"] for frame in frames] == list(range(len(expected)))
        assert code == 1000
    assert service.stop().count("ERROR") == 0


def test_a_stream_without_since_starts_now(
    serve: Callable[..., Any], token_of: Callable[..., str], connect: Connect
) -> None:
    """Without since there is no replay; a sample has the metrics of its active directions."""
    run = recorded.a_running_run()
    recorded.record(run.id, whole_run()[1:4])
    service = serve()
    ws = connect(service, run.id, token_of("viewer"))
    first = json.loads(ws.recv())
    recorded.record(run.id, [sample(0, 2), complete(0)])
    recorded.record(run.id, whole_run()[6:])
    frames, code = read_to_close(ws)
    assert first == {"seq": 4, "event": "connected", "payload": {"run_id": run.id}}
    assert [frame["seq"] for frame in frames] == list(range(5, 13))
    assert code == 1000
    active = {"read_iops": 102.0, "read_bw_bytes": 417792.0, "read_clat_mean_ns": 26000.0}
    idle = {"write_iops": None, "write_bw_bytes": None, "write_clat_mean_ns": None}
    where = {"phase_name": "seq", "elapsed_s": 3.0, "eta_s": 0.0}
    assert frames[0]["event"] == "phase_sample"
    assert frames[0]["payload"].items() >= (where | active | idle).items()


def test_a_finished_run_gives_its_end_at_once(
    serve: Callable[..., Any], token_of: Callable[..., str], connect: Connect
) -> None:
    """connected, the terminal frame, close 1000; with since, what follows it before the end."""
    run = recorded.a_complete_run()
    service = serve()
    token = token_of("static")
    frames, code = read_to_close(connect(service, run.id, token))
    assert names(frames) == ["connected", "run_complete"]
    assert code == 1000
    frames, code = read_to_close(connect(service, run.id, token, "&since=9"))
    assert [frame["seq"] for frame in frames] == [9, 10, 11, 12]
    assert code == 1000
    frames, code = read_to_close(connect(service, run.id, token, "&since=12"))
    assert names(frames) == ["connected", "run_complete"]
    assert code == 1000


def test_an_aborted_queued_run_ends_its_stream(
    serve: Callable[..., Any], token_of: Callable[..., str], connect: Connect
) -> None:
    """A watcher of a run that never began learns why it ended."""
    run = recorded.a_queued_run()
    service = serve()
    ws = connect(service, run.id, token_of("static"))
    assert json.loads(ws.recv())["event"] == "connected"
    runs.request_abort(run.id, actor="someone")
    frames, code = read_to_close(ws)
    assert names(frames) == ["run_aborted"]
    assert frames[0]["payload"] == {"run_id": run.id, "reason": "aborted by user"}
    assert code == 1000


def test_refusals_come_before_the_handshake(
    serve: Callable[..., Any], token_of: Callable[..., str], connect: Connect
) -> None:
    """A bad credential, an unknown run and a bad since are HTTP answers, not sockets."""
    run = recorded.a_queued_run()
    service = serve()
    token = token_of("static")
    nobody = token_of(recorded.an_account("gone", is_active=False))
    assert refusal(connect, service, run.id, "") == (401, "Missing bearer token")
    assert refusal(connect, service, run.id, "garbage") == (401, "Invalid credential")
    assert refusal(connect, service, run.id, nobody) == (403, "User inactive or unknown")
    assert refusal(connect, service, "unknown", token) == (404, "Run not found")
    status, detail = refusal(connect, service, run.id, token, "&since=x")
    assert status == 422
    assert detail[0]["loc"] == ["query", "since"]
    lines = service.stop()
    assert token not in lines
    assert "garbage" not in lines
    assert "ERROR" not in lines


def test_what_a_client_sends_is_ignored(
    serve: Callable[..., Any], token_of: Callable[..., str], connect: Connect
) -> None:
    """Frames of the client change nothing, and a client that vanishes leaves no error."""
    run = recorded.a_running_run()
    service = serve()
    chatty = connect(service, run.id, token_of("static"))
    for _ in range(20):
        chatty.send("hello")
    gone = connect(service, run.id, token_of("static"))
    gone.sock.close()
    recorded.record(run.id, whole_run()[1:])
    frames, code = read_to_close(chatty)
    assert names(frames)[-1] == "run_complete"
    assert code == 1000
    assert "ERROR" not in service.stop()


def test_clients_that_vanish_leave_nothing(
    serve: Callable[..., Any], token_of: Callable[..., str], connect: Connect
) -> None:
    """A worker gives up the descriptors of clients that went without a word."""
    run = recorded.a_running_run()
    service = serve()
    (worker,) = psutil.Process(service.process.pid).children()
    sockets = [connect(service, run.id, token_of("static")) for _ in range(20)]
    for ws in sockets:
        ws.recv()
    during = worker.num_fds()
    for ws in sockets:
        ws.shutdown()
    deadline = time.monotonic() + 10
    while worker.num_fds() > during - 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert worker.num_fds() <= during - 20
    assert "ERROR" not in service.stop()


def test_a_stopping_worker_sends_its_sockets_away(
    serve: Callable[..., Any], token_of: Callable[..., str], connect: Connect
) -> None:
    """A worker that stops closes with 1001 within seconds, so that clients resume elsewhere."""
    run = recorded.a_running_run()
    service = serve()
    ws = connect(service, run.id, token_of("static"))
    ws.recv()
    begun = time.monotonic()
    stopper = threading.Thread(target=service.stop)
    stopper.start()
    frames, code = read_to_close(ws)
    stopper.join()
    assert (frames, code) == ([], 1001)
    assert time.monotonic() - begun < 8
    assert "graceful timeout" not in service.lines


def test_a_large_backlog_arrives_whole(
    serve: Callable[..., Any], token_of: Callable[..., str], connect: Connect
) -> None:
    """Thousands of frames to a client that reads slowly are neither cut nor mixed up."""
    run = recorded.a_queued_run()
    claims.claim_next(run.host, "a-runner")
    backlog = [started(), *whole_run()[1:2], *(sample(0, n) for n in range(3000))]
    recorded.record(run.id, [*backlog, *whole_run()[-1:]])
    db.close_connection()
    service = serve()
    ws = connect(service, run.id, token_of("static"), "&since=0")
    time.sleep(1)
    frames, code = read_to_close(ws)
    assert [frame["seq"] for frame in frames] == list(range(3004))
    assert code == 1000
