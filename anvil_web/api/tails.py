"""One reader per watched run and worker, whatever the number of sockets.

A tail asks the database for what a run has new and hands it to its subscribers.  It has no
state worth keeping: any worker can start one anywhere in a run.  Written with threads; under
gevent these are greenlets.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anvil_web import db
from anvil_web.store import events, runs

POLL_S = 0.2
OUTAGE_POLL_S = 1.0
# A run that has nothing new for so long may have lost its runner.
QUIET_S = 5.0
PAGE = 500
# A socket this far behind is not watched live any more; about two minutes of samples.
QUEUE_FRAMES = 128
SAMPLES = frozenset({"phase_sample", "smart_sample"})
GOING_AWAY, INTERNAL_ERROR = 1001, 1011

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """One event on its way to sockets, encoded once for all of them."""

    seq: int
    event: str
    text: str

    @classmethod
    def of(cls, row: dict[str, Any]) -> Frame:
        """The frame of a row of `store.events`."""
        return cls(row["seq"], row["event"], json.dumps(row, separators=(",", ":")))

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows."""
        return self.event in events.TERMINAL


class Subscription:
    """Frames that wait for one socket.  A full queue loses its oldest samples, nothing else.

    `wake` is set whenever there is something to take.  `close_code` is set when the tail
    ends before the run does.
    """

    def __init__(self, wake: Any) -> None:
        self.close_code: int | None = None
        self._wake = wake
        self._lock = threading.Lock()
        self._frames: deque[Frame] = deque()

    def offer(self, frames: list[Frame]) -> None:
        """Queue `frames`."""
        with self._lock:
            for frame in frames:
                if len(self._frames) >= QUEUE_FRAMES:
                    self._drop_oldest_sample()
                self._frames.append(frame)
        if frames:
            self._wake.set()

    def _drop_oldest_sample(self) -> None:
        for index, frame in enumerate(self._frames):
            if frame.event in SAMPLES:
                del self._frames[index]
                return

    def take(self) -> list[Frame]:
        """All that waits, in order."""
        with self._lock:
            taken = list(self._frames)
            self._frames.clear()
        return taken

    def close(self, code: int) -> None:
        """Have the socket closed with `code`."""
        self.close_code = code
        self._wake.set()


class Tails:
    """The tails of this process.  `is_stopping` says whether its sockets have to go."""

    def __init__(self) -> None:
        self.is_stopping: Callable[[], bool] = lambda: False
        self._lock = threading.Lock()
        self._tails: dict[str, _Tail] = {}

    def subscribe(self, run_id: str, after_seq: int, wake: Any) -> Subscription:
        """Deliver what is new from now on.

        `after_seq` is where a new tail begins.  One that runs already may be further: the
        subscriber reads the frames between from the store, after it has subscribed, and
        skips what it then gets twice.
        """
        subscription = Subscription(wake)
        with self._lock:
            tail = self._tails.get(run_id)
            if tail is None:
                tail = self._tails[run_id] = _Tail(self, run_id, after_seq)
                threading.Thread(target=tail.follow, name=f"tail-{run_id}", daemon=True).start()
            tail.subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, run_id: str, subscription: Subscription) -> None:
        """Deliver nothing more; the tail of a run that nobody watches ends."""
        with self._lock:
            tail = self._tails.get(run_id)
            if tail is not None and subscription in tail.subscriptions:
                tail.subscriptions.remove(subscription)

    def watched(self) -> int:
        """How many runs have a tail."""
        with self._lock:
            return len(self._tails)

    def deliver(self, tail: _Tail, frames: list[Frame]) -> bool:
        """Hand `frames` out; False when the tail is over and was removed."""
        with self._lock:
            for subscription in tail.subscriptions:
                subscription.offer(frames)
            over = any(frame.is_terminal for frame in frames)
            if not over and tail.subscriptions and not self.is_stopping():
                return True
            self._end(tail, None if over else GOING_AWAY)
            return False

    def abandon(self, tail: _Tail) -> None:
        """Remove a tail that broke."""
        with self._lock:
            self._end(tail, INTERNAL_ERROR)

    def _end(self, tail: _Tail, close_code: int | None) -> None:
        self._tails.pop(tail.run_id, None)
        for subscription in tail.subscriptions:
            if close_code is not None:
                subscription.close(close_code)


class _Tail:
    """Follows one run from `cursor` on."""

    def __init__(self, tails: Tails, run_id: str, cursor: int) -> None:
        self.run_id = run_id
        self.cursor = cursor
        self.subscriptions: list[Subscription] = []
        self._tails = tails
        self._look_at = time.monotonic() + QUIET_S

    def follow(self) -> None:
        """Poll until the run is over or nobody watches it any more."""
        ended = False
        try:
            while not ended:
                frames = self._poll()
                ended = not self._tails.deliver(self, frames or [])
                if not ended and not frames:
                    time.sleep(OUTAGE_POLL_S if frames is None else POLL_S)
        finally:
            if not ended:
                log.error("the tail of run %s broke", self.run_id)
                self._tails.abandon(self)

    def _poll(self) -> list[Frame] | None:
        """What is new; None while the database is away.  Keeps no connection."""
        try:
            with db.connection():
                rows = events.tail(self.run_id, self.cursor, PAGE)
                if not rows and time.monotonic() >= self._look_at:
                    runs.fail_stale()
        except db.DatabaseUnavailable:
            return None
        if rows:
            self.cursor = rows[-1]["seq"]
        if rows or time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + QUIET_S
        return [Frame.of(row) for row in rows]
