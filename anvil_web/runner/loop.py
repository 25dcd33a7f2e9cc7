"""The runner: claims queued runs of its host and executes them, one at a time.

Three threads live as long as the runner: this one claims, spawns and supervises; one shows
signs of life; one serves commands.  None of them ends because the database is away.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from ulid import ULID

from anvil_engine import procfs
from anvil_engine.errors import AnvilError
from anvil_engine.results import RunFailed
from anvil_engine.workload import Profile
from anvil_web import db
from anvil_web.clock import utcnow
from anvil_web.config import Config
from anvil_web.runner import commands, guard
from anvil_web.runner.execute import Orders, execute
from anvil_web.runner.recorder import Recorder, replay_all
from anvil_web.runner.spool import SpoolFolder
from anvil_web.store import claims, runners, runs
from anvil_web.store.claims import Claim
from anvil_web.version import anvil_version

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
POLL_S = 0.25
STALE_CHECK_S = 5.0
RESTARTED = "runner restarted"
SIMULATION = "simulation"
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "glusterfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "smb3", "smbfs", "virtiofs"}
)


class Runner:
    """One runner process.  `stop` makes `run` return."""

    def __init__(self, config: Config, stop: threading.Event) -> None:
        self.config = config
        self.stop = stop
        self.id = str(ULID())
        self._current: str | None = None
        self._lost: set[str] = set()

    def run(self) -> None:
        """Serve until `stop` is set.  Raises `AnvilError` when it cannot start."""
        refuse_network_file_system(self.config.database_url)
        db.connect(self.config.database_url, role="runner")
        with SpoolFolder(self.config.data_dir) as folder, db.connection():
            folder.lock()
            if not self._clean_up(folder):
                return
            threads = [
                threading.Thread(target=self._show_life, name="heartbeat", daemon=True),
                threading.Thread(
                    target=commands.serve,
                    args=(self.config, self.stop),
                    name="commands",
                    daemon=True,
                ),
            ]
            for thread in threads:
                thread.start()
            log.info("runner %s serves host %s", self.id, self.config.host)
            self._serve(folder)
            for thread in threads:
                thread.join(timeout=HEARTBEAT_S)
            self._leave()

    def _clean_up(self, folder: SpoolFolder) -> bool:
        """Settle what an earlier runner left, once the database is there; False on `stop`."""
        while not self.stop.is_set():
            try:
                db.require_schema()
                if replay_all(folder):
                    for run_id in claims.fail_left_over(self.config.host, RESTARTED):
                        log.warning("run %s failed: %s", run_id, RESTARTED)
                    self._register()
                    return True
            except db.DatabaseUnavailable as error:
                log.warning("waiting for the database: %s", error)
            self.stop.wait(POLL_S)
        return False

    def _register(self) -> None:
        runners.register(
            self.id,
            host=self.config.host,
            pid=os.getpid(),
            version=anvil_version(),
            simulation_mode=self.config.simulation_mode,
        )

    def _leave(self) -> None:
        try:
            with db.patience(1.0):
                runners.unregister(self.id)
        except db.DatabaseUnavailable as error:
            log.warning("left without saying so: %s", error)

    def _show_life(self) -> None:
        with db.connection():
            while not self.stop.wait(HEARTBEAT_S):
                try:
                    self._beat()
                except db.DatabaseUnavailable as error:
                    log.warning("no heartbeat: %s", error)
                except Exception:
                    log.exception("no heartbeat")

    def _beat(self) -> None:
        if not runners.heartbeat(self.id):
            self._register()
        run_id = self._current
        if run_id is not None and not claims.heartbeat(run_id, self.id):
            self._lost.add(run_id)

    def _serve(self, folder: SpoolFolder) -> None:
        next_check = time.monotonic()
        while not self.stop.is_set():
            try:
                claim = claims.claim_next(self.config.host, self.id)
                if claim is not None:
                    self._execute(claim, folder)
                    continue
                if time.monotonic() >= next_check:
                    runs.fail_stale()
                    next_check = time.monotonic() + STALE_CHECK_S
            except db.DatabaseUnavailable as error:
                log.warning("no run is claimed: %s", error)
            except Exception:
                log.exception("no run is claimed")
            self.stop.wait(POLL_S)

    def _execute(self, claim: Claim, folder: SpoolFolder) -> None:
        log.info("run %s: claimed", claim.run_id)
        recorder = Recorder(claim.run_id, folder)
        recorder.start()
        self._current = claim.run_id
        try:
            with tempfile.TemporaryDirectory(prefix="anvil-run-") as scratch:
                self._measure(claim, Path(scratch), recorder)
            recorder.close(self.stop)
            if recorder.failure is not None:
                runs.finish(claim.run_id, "failed", recorder.failure)
            log.info("run %s: over", claim.run_id)
        finally:
            self._current = None
            self._lost.discard(claim.run_id)

    def _measure(self, claim: Claim, scratch: Path, recorder: Recorder) -> None:
        """Execute the claim; a run that cannot start ends as failed, by way of the recorder."""
        try:
            argv = self._prepare(claim, scratch)
        except Exception as error:
            if not isinstance(error, AnvilError):
                log.exception("run %s cannot be prepared", claim.run_id)
            log.warning("run %s refused: %s", claim.run_id, error)
            recorder.put((1, utcnow(), RunFailed(error=str(error))))
            return
        orders = Orders(
            stop=self.stop,
            abort_requested=lambda: self._abort_requested(claim.run_id),
            is_ours=lambda: claim.run_id not in self._lost,
        )
        execute(argv, recorder, orders)

    def _prepare(self, claim: Claim, scratch: Path) -> list[str]:
        """The engine's command line, after the last check.  Raises `AnvilError`."""
        profile = Profile.from_dict(claim.profile_snapshot)
        snapshot = scratch / "profile.json"
        snapshot.write_text(json.dumps(profile.to_dict()))
        engine = self.config.engine if claim.engine == "native" else claim.engine
        target, expected = SIMULATION, []
        if claim.simulation or self.config.simulation_mode:
            engine = "null"
        else:
            found = guard.scan(self.config.sysfs_root, self.config.data_dir)
            device = guard.check(claim, profile, found)
            target = device.path
            expected = _options(
                {
                    "--expect-serial": device.serial,
                    "--expect-wwid": device.wwid,
                    "--confirm-serial": claim.confirm_serial_last6,
                }
            )
        return [
            *(sys.executable, "-m", "anvil_engine.cli", "run", str(snapshot), target),
            *("--events", "jsonl", "--engine", engine, *expected),
            *("--die-with-parent", str(os.getpid())),
        ]

    def _abort_requested(self, run_id: str) -> bool:
        try:
            with db.patience(0):
                return claims.abort_requested(run_id)
        except db.DatabaseUnavailable:
            return False


def _options(values: dict[str, str | None]) -> list[str]:
    # With "=": a serial may begin with a hyphen.
    return [f"{name}={value}" for name, value in values.items() if value]


def refuse_network_file_system(database_url: str) -> None:
    """Raise `AnvilError` when SQLite's file would lie on a network file system.

    SQLite's locks and shared memory are not kept there, and two hosts would destroy the
    file in silence.
    """
    path = db.sqlite_path(database_url)
    if path is None:
        return
    mount = procfs.mount_of(Path("/"), path)
    if mount is None:
        return
    if mount.fs_type in NETWORK_FILE_SYSTEMS or mount.fs_type.startswith("fuse"):
        raise AnvilError(
            f"{path} lies on {mount.mount_point}, a {mount.fs_type} file system, where "
            "SQLite's locks cannot be relied on; use a local disk (--data-dir) or PostgreSQL "
            "(ANVIL_DATABASE_URL=postgresql://…)"
        )
