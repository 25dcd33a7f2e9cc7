"""One run: the engine as a child process, from its start to its recorded end.

The main thread of the runner spawns and supervises, because the engine dies with the
*thread* that forked it (PR_SET_PDEATHSIG).  Two threads drain the child's pipes, so that
it never blocks on us.  The terminal event is recorded last, when the process is gone: only
then is the device free.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO

from anvil_engine import results
from anvil_web.clock import utcnow
from anvil_web.runner.recorder import Recorder
from anvil_web.store.recording import Numbered
from anvil_web.store.runs import ABORTED_BY_USER

log = logging.getLogger(__name__)

TERM_GRACE_S = 3.0
POLL_S = 0.2
MAX_LINE = 4 << 20  # a run's first event lists every phase twice; nothing sane is longer
STDERR_KEPT = 8192
STDERR_SHOWN = 2000
STOPPED = "runner stopped"

Terminal = results.RunComplete | results.RunFailed | results.RunAborted


@dataclass
class Output:
    """What the two pipe threads learned.  Each field has one writer."""

    last_number: int = 0
    open_phase: results.PhaseStarted | None = None
    terminal: Terminal | None = None
    fault: str | None = None
    stderr: bytes = b""
    done: threading.Event = field(default_factory=threading.Event)


class Engine:
    """The child process and the threads on its pipes."""

    def __init__(self, argv: Sequence[str], put: Callable[[Numbered], None]) -> None:
        self.output = Output()
        self._put = put
        self._process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._threads = [
            threading.Thread(target=self._read_events, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The process, which leads its own group."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def join(self) -> int:
        """Wait for the process and its output; the exit code, negative for a signal."""
        code = self._process.wait()
        # A grandchild would keep the pipes open.
        self.signal(signal.SIGKILL)
        for thread in self._threads:
            thread.join()
        return code

    def _read_events(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in iter(lambda: pipe.readline(MAX_LINE), b""):
                if self.output.fault is None:
                    try:
                        self._accept(line)
                    except Exception as error:
                        log.exception("the engine's output cannot be read")
                        self.output.fault = f"the engine's output cannot be read: {error}"

    def _accept(self, line: bytes) -> None:
        if len(line) >= MAX_LINE:
            raise ValueError(f"a line is longer than {MAX_LINE} bytes")
        if not line.endswith(b"\n"):
            # The process died while writing, which its exit code will explain.
            return
        number, at, event = results.decode(json.loads(line))
        if number != self.output.last_number + 1 or self.output.terminal is not None:
            raise ValueError(f"event {number} follows event {self.output.last_number}")
        if isinstance(event, results.TERMINAL):
            self.output.terminal = event
            return
        if isinstance(event, results.PhaseStarted):
            self.output.open_phase = event
        elif isinstance(event, results.PhaseComplete | results.PhaseFailed):
            self.output.open_phase = None
        self.output.last_number = number
        self._put((number, at, event))

    def _read_stderr(self, pipe: IO[bytes]) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), 4096):
                self.output.stderr = (self.output.stderr + data)[-STDERR_KEPT:]


@dataclass(frozen=True)
class Orders:
    """What others want of a run under way; asked several times a second.

    `stop` ends the run as failed, `abort_requested` as aborted.  `is_ours` turns false when
    the run was ended by others meanwhile; measuring on would be for nobody.
    """

    stop: threading.Event
    abort_requested: Callable[[], bool]
    is_ours: Callable[[], bool]


def execute(
    argv: Sequence[str],
    recorder: Recorder,
    orders: Orders,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run the engine to its end and hand its events, terminal one included, to `recorder`.

    An order to end is obeyed within `TERM_GRACE_S` and the I/O in flight.
    """
    try:
        engine = Engine(argv, recorder.put)
    except OSError as error:
        _put(recorder, 1, results.RunFailed(error=f"the engine cannot be started: {error}"))
        return
    cause = _supervise(engine, recorder, orders, clock)
    _conclude(engine.join(), engine.output, cause, recorder)


def _supervise(
    engine: Engine, recorder: Recorder, orders: Orders, clock: Callable[[], float]
) -> Terminal | None:
    """Wait for the process to end, and make it end when it has to; the cause if we did."""
    cause: Terminal | None = None
    kill_at = float("inf")
    while not engine.has_ended():
        if cause is None:
            cause = _cause(engine.output.fault or recorder.failure, orders)
            if cause is not None:
                engine.signal(signal.SIGTERM)
                kill_at = clock() + TERM_GRACE_S
        elif clock() >= kill_at:
            engine.signal(signal.SIGKILL)
        time.sleep(POLL_S)
    return cause


def _cause(fault: str | None, orders: Orders) -> Terminal | None:
    """Why the engine has to end now, as the event that will say so."""
    if orders.stop.is_set():
        return results.RunFailed(error=STOPPED)
    if fault is not None:
        return results.RunFailed(error=fault)
    if orders.abort_requested():
        return results.RunAborted(reason=ABORTED_BY_USER)
    if not orders.is_ours():
        return results.RunFailed(error="the run was ended by others")
    return None


def _conclude(code: int, output: Output, cause: Terminal | None, recorder: Recorder) -> None:
    """Record how the run ended."""
    terminal = _terminal(code, output, cause)
    number = output.last_number
    if isinstance(terminal, results.RunFailed) and output.open_phase is not None:
        number += 1
        failed = results.PhaseFailed(
            phase_order=output.open_phase.phase_order,
            phase_name=output.open_phase.phase_name,
            error=terminal.error,
        )
        _put(recorder, number, failed)
    _put(recorder, number + 1, terminal)


def _terminal(code: int, output: Output, cause: Terminal | None) -> Terminal:
    said = output.terminal
    if isinstance(said, results.RunComplete) and code == 0 and output.fault is None:
        # It was done before it could be told to stop.
        return said
    if isinstance(cause, results.RunAborted):
        partial = said.partial if isinstance(said, results.RunAborted) else None
        return results.RunAborted(reason=cause.reason, partial=partial)
    if cause is not None:
        return cause
    if output.fault is not None:
        return results.RunFailed(error=output.fault)
    if isinstance(said, results.RunFailed | results.RunAborted):
        return said
    return results.RunFailed(error=death_notice(code, output.stderr))


def death_notice(code: int, stderr: bytes) -> str:
    """How the engine died, and the last of what it wrote to stderr."""
    how = f"exited with code {code}"
    if code < 0:
        how = f"was killed by {_signal_name(-code)}"
    text = stderr.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}").strip()
    return f"the engine {how}" + (f": {text[-STDERR_SHOWN:]}" if text else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _put(recorder: Recorder, number: int, event: results.Event) -> None:
    at: dt.datetime = utcnow()
    recorder.put((number, at, event))
