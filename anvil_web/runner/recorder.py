"""Engine events into the database, and onto disk while it is away.

The recorder has a thread of its own: the thread that reads the engine's pipe only hands
events over and never waits for a database, so a measurement never stops for one.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from anvil_web import db
from anvil_web.runner.spool import Spool, SpoolFolder
from anvil_web.store import recording
from anvil_web.store.recording import Numbered
from anvil_web.store.runs import RunNotFound

log = logging.getLogger(__name__)

Record = Callable[[str, list[Numbered]], object]
RETRY_S = 0.5


class Recorder(threading.Thread):
    """Stores one run's events in order.

    `failure` says in words what made recording impossible for good; the events are then
    kept in a file beside the spool.
    """

    def __init__(
        self, run_id: str, folder: SpoolFolder, record: Record = recording.record
    ) -> None:
        super().__init__(name=f"recorder-{run_id}", daemon=True)
        self.run_id = run_id
        self.failure: str | None = None
        self._spool = Spool(folder, run_id)
        self._record = record
        self._incoming: queue.SimpleQueue[Numbered] = queue.SimpleQueue()
        self._pending: list[Numbered] = []
        self._closing = threading.Event()
        self._giving_up = threading.Event()
        self._next_try = 0.0

    def put(self, event: Numbered) -> None:
        """Hand over one event.  Never blocks."""
        self._incoming.put(event)

    def close(self, stop: threading.Event) -> bool:
        """Wait until all is in the database; False when `stop` came first.

        What is then not in the database is in the spool, for the next runner.
        """
        self._closing.set()
        while self.is_alive():
            if stop.is_set():
                self._giving_up.set()
            self.join(0.1)
        return self._spool.is_empty and not self._pending and self.failure is None

    def run(self) -> None:
        """Store until closed and done."""
        with db.connection():
            while not self._is_done():
                self._take(timeout=0.1)
                try:
                    self._store()
                except Exception as error:
                    log.exception("run %s cannot be recorded", self.run_id)
                    self.failure = f"recording failed: {error}"
        if self.failure is not None and not self._spool.is_empty:
            log.error("run %s: its events are kept in %s", self.run_id, self._spool.set_aside())

    def _is_done(self) -> bool:
        if not self._closing.is_set() or not self._incoming.empty():
            return False
        if self._giving_up.is_set():
            return True
        return not self._pending and (self._spool.is_empty or self.failure is not None)

    def _take(self, timeout: float) -> None:
        """Move what has come in to the pending events; wait up to `timeout` for a first."""
        try:
            self._pending.append(self._incoming.get(timeout=timeout))
            while True:
                self._pending.append(self._incoming.get_nowait())
        except queue.Empty:
            return

    def _store(self) -> None:
        if self.failure is not None:
            self._to_spool()
        elif not self._spool.is_empty:
            self._to_spool()
            self._replay()
        elif self._pending:
            self._to_database()

    def _to_database(self) -> None:
        try:
            self._record(self.run_id, self._pending)
            self._pending = []
        except db.DatabaseUnavailable as error:
            log.warning("run %s: %s; spooling to disk", self.run_id, error)
            self._to_spool()

    def _to_spool(self) -> None:
        if not self._pending:
            return
        try:
            self._spool.append(self._pending)
            self._pending = []
        except OSError as error:
            # They stay in memory and are tried again: the disk may be full for a while only.
            log.warning("run %s: the spool cannot be written: %s", self.run_id, error)
            time.sleep(RETRY_S)

    def _replay(self) -> None:
        if time.monotonic() < self._next_try:
            return
        if replay(self.run_id, self._spool, self._record):
            log.info("run %s: the database is back and has what was spooled", self.run_id)
        else:
            self._next_try = time.monotonic() + RETRY_S


def replay(run_id: str, spool: Spool, record: Record = recording.record) -> bool:
    """Record what is spooled and remove it; False when the database is away."""
    try:
        for chunk in spool.chunks():
            record(run_id, chunk)
    except db.DatabaseUnavailable:
        return False
    spool.clear()
    return True


def replay_all(folder: SpoolFolder) -> bool:
    """Replay what earlier runners left; False when the database is away.

    A spool that cannot be recorded is set aside, so that it does not stop the others.
    """
    for run_id in folder.run_ids():
        spool = Spool(folder, run_id)
        try:
            if not replay(run_id, spool):
                return False
            log.info("run %s: replayed what an earlier runner had spooled", run_id)
        except RunNotFound:
            log.warning("run %s was deleted; its spool goes too", run_id)
            spool.clear()
        except Exception:
            log.exception("run %s: kept as %s", run_id, spool.set_aside())
    return True
