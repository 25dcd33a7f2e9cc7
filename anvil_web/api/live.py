"""`/ws/runs/{id}`: a run's events as they are recorded (API.md §14).

What can be refused is refused before the handshake, by the guard and by `_prepare`: inside
the socket there is no status any more.  A socket first reads from the store what it asked
to have replayed, then takes what the run's tail hands out.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Blueprint, Flask, abort, current_app, g, request
from flask_sock import Sock  # type: ignore[import-untyped]
from pydantic import ValidationError
from simple_websocket import ConnectionClosed  # type: ignore[import-untyped]
from werkzeug.exceptions import HTTPException

from anvil_web import db, errors
from anvil_web.api.runs import existing_run
from anvil_web.api.tails import INTERNAL_ERROR, OUTAGE_POLL_S, PAGE, Frame, Subscription, Tails
from anvil_web.auth import admit, credential, requires
from anvil_web.schemas.runs import StreamQuery
from anvil_web.store import events, runs

PING_S = 30.0
CREDENTIAL_CHECK_S = 60.0
# How long the peer may take to answer a close.
CLOSE_WAIT_S = 2.0
# A peer that acknowledges nothing for so long is gone; the kernel then ends the connection.
DEAD_PEER_MS = 120_000
MAX_CLIENT_FRAME_BYTES = 64 * 1024
NORMAL, POLICY_VIOLATION = 1000, 1008
# Where WSGI servers leave the connection.
SOCKET_KEYS = ("gunicorn.socket", "werkzeug.socket")

Result = TypeVar("Result")

bp = Blueprint("live", __name__)
sock = Sock()

DOCUMENTED_PATH = "/ws/runs/{run_id}"
OPERATION: dict[str, Any] = {
    "tags": ["Runs"],
    "summary": "The events of a run, live, over a WebSocket.",
    "description": 'Text frames `{"event", "payload", "seq"}`. `connected` comes first; a '
    "`ping` when nothing else came for 30 s; exactly one of `run_complete`, `run_failed` and "
    "`run_aborted` comes last, then close 1000. A browser passes its token as `?token=`.",
    "operationId": "live_get",
    "security": [{"bearer": []}],
    "parameters": [
        {"name": "run_id", "in": "path", "required": True, "schema": {"type": "string"}},
        {
            "name": "since",
            "in": "query",
            "required": False,
            "description": StreamQuery.model_fields["since"].description,
            "schema": {"type": "integer", "minimum": 0},
        },
    ],
    "responses": {
        status: {"description": text}
        for status, text in {
            "101": "The stream begins.",
            "401": "No credential, or an invalid one.",
            "403": "The credential is not sufficient.",
            "404": "Run not found.",
            "422": "`since` is not a whole number.",
            "426": "The request is not a WebSocket handshake.",
        }.items()
    },
}


class WholeFrames:
    """A socket whose `send` sends everything, one frame at a time.

    simple-websocket calls `send` from two threads and takes it for `sendall`; on a full
    buffer that would cut a frame in half.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._turn = threading.Lock()
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)

    def send(self, data: bytes) -> int:
        """Send all of `data`."""
        with self._turn:
            self._connection.sendall(data)
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@bp.before_request
def _prepare() -> None:
    """Refuse what must not become a socket, and find out where the stream begins."""
    if request.headers.get("Sec-WebSocket-Version") != "13":
        abort(400, "Sec-WebSocket-Version must be 13")
    if not request.headers.get("Sec-WebSocket-Key"):
        abort(400, "Sec-WebSocket-Key is missing")
    try:
        g.since = StreamQuery.model_validate(request.args.to_dict()).since
    except ValidationError as error:
        raise errors.invalid(error) from None
    assert request.view_args is not None
    runs.fail_stale()
    g.run_id = existing_run(request.view_args["run_id"]).id
    g.last_seq = events.last_seq(g.run_id)
    # Compression would cost a quarter of a megabyte a socket, for frames of 300 bytes.
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
    for key in SOCKET_KEYS:
        if key in request.environ:
            request.environ[key] = WholeFrames(request.environ[key])


@sock.route("/ws/runs/<run_id>", bp=bp)  # type: ignore[untyped-decorator]
@requires("viewer")
def stream(ws: Any, run_id: str) -> None:  # noqa: ARG001 - `_prepare` looked it up
    """Send the run's events until it is over or the client has gone."""
    db.close_connection()
    tails: Tails = current_app.extensions["tails"]
    subscription = tails.subscribe(g.run_id, g.last_seq, ws.event)
    position = g.last_seq if g.since is None else g.since
    try:
        code = Stream(ws, g.run_id, position, _still_admitted()).run(subscription)
        ws.close(code)
        # A connection that is dropped before the peer has answered may lose what was sent.
        ws.thread.join(CLOSE_WAIT_S)
    except (ConnectionClosed, OSError):
        return
    finally:
        tails.unsubscribe(g.run_id, subscription)
        if ws.connected:
            with contextlib.suppress(OSError):
                ws.close(INTERNAL_ERROR)


def _still_admitted() -> Callable[[], bool]:
    """A check whether this request's credential is still good."""
    config, presented = current_app.config["ANVIL"], credential()

    def check() -> bool:
        try:
            with db.connection():
                admit(config, presented, "viewer")
        except HTTPException:
            return False
        except db.DatabaseUnavailable:
            return True  # nobody can know; the next check will
        return True

    return check


class Stream:
    """One socket's way through a run, from the frame after `position`."""

    def __init__(
        self,
        ws: Any,
        run_id: str,
        position: int,
        still_admitted: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ws = ws
        self._run_id = run_id
        self._position = position
        self._still_admitted = still_admitted
        self._clock = clock
        self._ping_at = self._check_at = clock()

    def run(self, subscription: Subscription) -> int:
        """Send what there is and what comes; the code to close with.

        Raises `ConnectionClosed` or `OSError` when the client goes first.
        """
        self._check_at = self._clock() + CREDENTIAL_CHECK_S
        self._send_own("connected", {"run_id": self._run_id})
        terminal = self._read(lambda: events.terminal(self._run_id))
        is_behind = terminal is None or self._position < terminal["seq"]
        if is_behind and self._replay():
            return NORMAL
        if terminal is not None:
            self._send(Frame.of(terminal))
            return NORMAL
        return self._follow(subscription)

    def _replay(self) -> bool:
        """Send what is stored after `position`; whether the run's end was among it."""
        while True:
            rows = self._read(lambda: events.tail(self._run_id, self._position, PAGE))
            if self._send_all([Frame.of(row) for row in rows]):
                return True
            if len(rows) < PAGE:
                return False
            # A client that takes everything would keep a worker's other requests waiting.
            time.sleep(0)

    def _follow(self, subscription: Subscription) -> int:
        while self._ws.connected:
            # Client frames mean nothing, and must not pile up.
            self._ws.input_buffer.clear()
            if self._send_all(subscription.take()):
                return NORMAL
            if subscription.close_code is not None:
                return subscription.close_code
            if self._clock() >= self._check_at:
                if not self._still_admitted():
                    return POLICY_VIOLATION
                self._check_at = self._clock() + CREDENTIAL_CHECK_S
            if self._clock() >= self._ping_at:
                self._send_own("ping", {})
            self._ws.event.wait(max(0.0, min(self._check_at, self._ping_at) - self._clock()))
            self._ws.event.clear()
        raise ConnectionClosed

    def _send_all(self, frames: list[Frame]) -> bool:
        """Send the frames that the client does not have yet; whether the run's end was one."""
        for frame in frames:
            if frame.seq > self._position:
                self._send(frame)
                if frame.is_terminal:
                    return True
        return False

    def _send(self, frame: Frame) -> None:
        self._ws.send(frame.text)
        self._position = max(self._position, frame.seq)
        self._ping_at = self._clock() + PING_S

    def _send_own(self, event: str, payload: dict[str, Any]) -> None:
        """A frame of the socket's own; it carries the number of the last one."""
        row = {"seq": self._position, "event": event, "payload": payload}
        self._ws.send(json.dumps(row, separators=(",", ":")))
        self._ping_at = self._clock() + PING_S

    def _read(self, query: Callable[[], Result]) -> Result:
        """The query's result, however long the database is away; keeps no connection."""
        while True:
            try:
                with db.connection():
                    return query()
            except db.DatabaseUnavailable:
                if not self._ws.connected:
                    raise ConnectionClosed from None
                time.sleep(OUTAGE_POLL_S)


def init_app(app: Flask) -> None:
    """Serve the sockets from `app`.  `app.extensions["tails"]` feeds them."""
    app.config["SOCK_SERVER_OPTIONS"] = {"max_message_size": MAX_CLIENT_FRAME_BYTES}
    app.extensions["tails"] = Tails()
    app.register_blueprint(bp)
