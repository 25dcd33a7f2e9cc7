"""When a measurement has to end early: its parent is gone, or a signal asks for it.

`python -m anvil_engine.lifeline PID PROGRAM …` becomes PROGRAM, which ends with its parent:
a subprocess needs no code between fork and exec for that, which threads make unsafe.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from anvil_engine.errors import EngineError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process as soon as `parent_pid` is gone.

    To the kernel the parent is the thread that started this process: it has to live as
    long as the measurement.  Raises `EngineError` when the parent is gone already or the
    kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise EngineError(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    # A parent that ended before the call sends no signal.
    if os.getppid() != parent_pid:
        raise EngineError(f"the parent process {parent_pid} is gone")


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Inside, SIGINT and SIGTERM set the event; the second one acts as it always does."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        restore()
        stop.set()

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  (becoming a program is the purpose)
