"""Anvil's own processes, started as their users start them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from anvil_engine.target import create_file_target
from anvil_engine.workload import Phase, Profile, Workload
from anvil_web.config import Config, child_environment
from anvil_web.models import Device, Run, Runner
from anvil_web.store import commands, devices, runners, runs

ROOT = Path(__file__).parents[1]
TARGET_BYTES = 16 << 20

Result = TypeVar("Result")


def wait_for(look: Callable[[], Result], seconds: float = 20.0) -> Result:
    """The first true result of `look`."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain"
        time.sleep(0.05)
    return found


def start(config: Config, *arguments: str) -> subprocess.Popen[str]:
    """Start a verb of the service; what it writes is in `stdout`."""
    return subprocess.Popen(
        [sys.executable, "-m", "anvil_web.cli", *arguments],
        cwd=ROOT,
        env=child_environment(config),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def stop(process: subprocess.Popen[str]) -> str:
    """Stop a process in order; what it wrote."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.communicate(timeout=20)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def start_runner(config: Config) -> subprocess.Popen[str]:
    """Start a runner and wait until it is live."""
    process = start(config, "runner")
    wait_for(lambda: process.poll() is not None or any(r.pid == process.pid for r in live()))
    assert process.poll() is None, process.communicate()[0]
    return process


def live() -> list[Runner]:
    return runners.live()


def a_file_target(config: Config, name: str = "target.dat") -> Path:
    """A small file that Anvil made, in the data directory."""
    path = config.data_dir / name
    create_file_target(path, TARGET_BYTES)
    return path


def scanned(path: Path) -> Device:
    """The device at `path` after the running runner has scanned its host."""
    done = commands.wait(commands.submit("rescan"), timeout_s=10)
    assert done.error is None
    return next(d for d in devices.list_devices() if d.current_device_path == str(path))


def a_profile(seconds: float, rw: str = "randread", phases: int = 1) -> Profile:
    """Phases of one kind, each so many seconds long."""
    work = Workload(rw=rw, bs=4096, iodepth=4, runtime=seconds)
    made = tuple(Phase(f"phase{number}", work) for number in range(phases))
    return Profile("test", "Test", "A short profile for tests.", made)


def a_run(
    device: Device, seconds: float = 30.0, *, engine: str = "sync", **options: object
) -> Run:
    """A queued run of the real engine; by read and write calls, which work everywhere."""
    kind = {key: options.pop(key) for key in ("rw", "phases") if key in options}
    return runs.create_run(
        device=device,
        profile=a_profile(seconds, **kind),  # type: ignore[arg-type]
        engine=engine,
        actor="tester",
        **options,  # type: ignore[arg-type]
    )


def status(run: Run) -> str:
    return str(Run.get_by_id(run.id).status)


def ended(run: Run, seconds: float = 30.0) -> Run:
    """The run, once it is over."""
    wait_for(lambda: status(run) in runs.TERMINAL, seconds)
    return Run.get_by_id(run.id)
