"""The first start's measurement: a scratch target, the profile `quick`, a table.

A client of the API like any other, with the service's own token.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from anvil_engine import cli_progress
from anvil_engine.errors import AnvilError
from anvil_engine.results import DirectionSample, Event, PhaseSample, PhaseStarted
from anvil_engine.target import create_file_target
from anvil_engine.units import format_binary, format_count, format_ns
from anvil_web.config import Config

SCRATCH_NAME = "scratch.dat"
SCRATCH_BYTES = 1 << 30
PROFILE = "quick"
START_S = 60.0
RECEIVE_S = 0.5
RECONNECT_S = 1.0
TERMINAL = {"run_complete", "run_failed", "run_aborted"}


class Unanswered(AnvilError):
    """The runner did not answer in time."""


class Api:
    """The service at `url`, as its own administrator."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON.  Raises `AnvilError` with the service's own words."""
        request = urllib.request.Request(  # noqa: S310 - always http
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            kind = Unanswered if error.code == HTTPStatus.SERVICE_UNAVAILABLE else AnvilError
            raise kind(f"{method} {path}: {error.code} {error.read().decode()}") from error
        except OSError as error:
            raise AnvilError(f"{method} {path}: {error}") from error

    def frames(self, run_id: str, stop: threading.Event) -> Iterator[dict[str, Any]]:
        """The run's frames, from its start to the terminal one or until `stop`.

        A connection that ends early, with its web worker, is opened again where it ended.
        """
        from simple_websocket import (  # type: ignore[import-untyped]
            ConnectionClosed,
            ConnectionError,
        )

        last = 0
        while not stop.is_set():
            try:
                with self._socket(run_id, last) as socket:
                    while not stop.is_set():
                        text = socket.receive(timeout=RECEIVE_S)
                        if text is None:
                            continue
                        frame = json.loads(text)
                        yield frame
                        last = frame["seq"]
                        if frame["event"] in TERMINAL:
                            return
            except (ConnectionClosed, ConnectionError, OSError):
                stop.wait(RECONNECT_S)

    @contextmanager
    def _socket(self, run_id: str, since: int) -> Iterator[Any]:
        from simple_websocket import Client, ConnectionClosed

        query = urlencode({"token": self._token, "since": since})
        client = Client(f"{self._url.replace('http', 'ws', 1)}/ws/runs/{run_id}?{query}")
        try:
            yield client
        finally:
            with suppress(ConnectionClosed):
                client.close()


def wait_until_up(url: str, stop: threading.Event) -> bool:
    """Wait until the service answers; False when `stop` came first.

    Raises `AnvilError` when it does not come up.
    """
    deadline = time.monotonic() + START_S
    while not stop.is_set():
        if time.monotonic() > deadline:
            raise AnvilError(f"the web side did not come up within {START_S:g} s; see above")
        try:
            with urllib.request.urlopen(f"{url}/api/health", timeout=2):  # noqa: S310
                return True
        except OSError:
            stop.wait(0.1)
    return False


def run(config: Config, url: str, stop: threading.Event) -> bool:
    """Measure the scratch target if nothing was ever measured; whether the first run is complete.

    Raises `AnvilError`.
    """
    assert config.bearer_token is not None
    api = Api(url, config.bearer_token)
    known = api.call("GET", "/api/runs?limit=1")
    if known["total"]:
        oldest = api.call("GET", f"/api/runs?limit=1&offset={known['total'] - 1}")["items"][0]
        return bool(oldest["status"] == "complete")
    path = config.data_dir / SCRATCH_NAME
    _ensure_scratch(path)
    device = _device(api, path, stop)
    queued = api.call("POST", "/api/runs", {"device_id": device["id"], "profile_name": PROFILE})
    _follow(api, queued["id"], stop)
    if stop.is_set():
        return False
    detail = api.call("GET", f"/api/runs/{queued['id']}")
    _print_result(detail, device)
    return bool(detail["status"] == "complete")


def _ensure_scratch(path: Path) -> None:
    if path.exists():
        return
    with cli_progress.shown_bytes(f"writing {path}", SCRATCH_BYTES) as progress:
        try:
            create_file_target(path, SCRATCH_BYTES, progress)
        except AnvilError as error:
            raise AnvilError(f"{error}; choose another place with --data-dir") from error


def _device(api: Api, path: Path, stop: threading.Event) -> dict[str, Any]:
    """The scratch target's row, after a scan; waits for the runner to come up."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            devices = api.call("POST", "/api/devices/rescan")
            break
        except Unanswered:
            if time.monotonic() > deadline or stop.wait(0.5):
                raise
    for device in devices:
        if device["current_device_path"] == str(path):
            found: dict[str, Any] = device
            return found
    raise AnvilError(f"the runner does not offer {path}; remove it and start again")


def _follow(api: Api, run_id: str, stop: threading.Event) -> None:
    """Show the run's progress until it is over, or until `stop`."""
    with cli_progress.shown() as show:
        order: dict[str, int] = {}
        for frame in api.frames(run_id, stop):
            event = _event(frame, order)
            if event is not None:
                show(event)


def _event(frame: dict[str, Any], order: dict[str, int]) -> Event | None:
    """The engine event behind a frame, as far as a display needs it."""
    payload = frame["payload"]
    name = payload.get("phase_name", "")
    match frame["event"]:
        case "phase_started":
            order[name] = len(order)
            return PhaseStarted(
                phase_order=order[name],
                phase_name=name,
                jobfile=payload["jobfile"],
                expected_runtime_s=payload["expected_runtime_s"],
            )
        case "phase_sample":
            return PhaseSample(
                phase_order=order[name],
                phase_name=name,
                interval=0,
                elapsed_s=payload["elapsed_s"],
                eta_s=payload["eta_s"],
                read=_direction(payload, "read"),
                write=_direction(payload, "write"),
            )
        case _:
            return None


def _direction(payload: dict[str, Any], direction: str) -> DirectionSample | None:
    if payload[f"{direction}_iops"] is None:
        return None
    p99 = payload[f"{direction}_clat_p99_ns"]
    return DirectionSample(
        ios=0,
        iops=payload[f"{direction}_iops"],
        bw_bytes=payload[f"{direction}_bw_bytes"],
        lat_mean_ns=payload[f"{direction}_clat_mean_ns"],
        lat_p50_ns=0,
        lat_p99_ns=p99,
        lat_p999_ns=p99,
        lat_p9999_ns=p99,
        lat_max_ns=p99,
        histogram=b"",
    )


def _print_result(detail: dict[str, Any], device: dict[str, Any]) -> None:
    """The run as a table on standard output."""
    from anvil_engine import cli_tables

    console = cli_tables.console()
    capacity = format_binary(device["capacity_bytes"])
    table = cli_tables.new_table(
        f"{detail['profile_name']} on {device['model']} ({capacity}): {detail['status']}"
    )
    for heading in ("phase", ""):
        table.add_column(heading)
    for heading in ("IOPS", "bandwidth", "mean", "p50", "p99", "p99.99"):
        table.add_column(heading, justify="right", no_wrap=True)
    for phase in detail["phases"]:
        for direction in ("read", "write"):
            if phase[f"{direction}_iops"] is not None:
                table.add_row(phase["phase_name"], direction, *_cells(phase, direction))
    console.print(table)
    notes = [f"warning: {warning}" for warning in detail.get("warnings") or []]
    if detail["error_message"]:
        notes.append(f"{detail['status']}: {detail['error_message']}")
    for note in notes:
        console.print(note, markup=False, highlight=False)


def _cells(phase: dict[str, Any], direction: str) -> list[str]:
    latencies = ("mean", "p50", "p99", "p9999")
    return [
        format_count(phase[f"{direction}_iops"]),
        f"{format_binary(phase[f'{direction}_bw_bytes'])}/s",
        *(format_ns(phase[f"{direction}_clat_{name}_ns"]) for name in latencies),
    ]
