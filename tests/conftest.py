"""What tests need, what was left out and why, and `ANVIL_TEST_REQUIRE`.

A test says what it needs with a marker (`@pytest.mark.fio`).  Where that is missing the test is
skipped, and the report's last section names it with the reason.  `ANVIL_TEST_REQUIRE=uring,fio`
turns a skip in those groups into a failure, and so does a group that has no test at all.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path

import pytest

SYS_IO_URING_SETUP = 425
IO_URING_PARAMS_BYTES = 120
SBIN = "/usr/sbin:/sbin"


def no_uring() -> str | None:
    libc = ctypes.CDLL(None, use_errno=True)
    ring = libc.syscall(SYS_IO_URING_SETUP, 1, ctypes.create_string_buffer(IO_URING_PARAMS_BYTES))
    if ring < 0:
        return f"io_uring is not allowed here ({errno.errorcode[ctypes.get_errno()]})"
    os.close(ring)
    return None


def no_program(*names: str) -> str | None:
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    missing = [name for name in names if shutil.which(name, path=path) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def no_root() -> str | None:
    return None if os.geteuid() == 0 else "needs root"


def no_postgres() -> str | None:
    return None if os.environ.get("ANVIL_TEST_POSTGRES") else "ANVIL_TEST_POSTGRES names no URL"


def no_nvme() -> str | None:
    return None if os.environ.get("ANVIL_TEST_NVME") else "ANVIL_TEST_NVME names no device"


OBSTACLES: dict[str, Callable[[], str | None]] = {
    "uring": cache(no_uring),
    "fio": lambda: no_program("fio"),
    "root": no_root,
    "browser": lambda: no_program("chromium", "chromedriver"),
    "postgres": no_postgres,
    "nvme": no_nvme,
}
"""Why a group's tests cannot run here, None where they can."""

REQUIRED = frozenset(filter(None, os.environ.get("ANVIL_TEST_REQUIRE", "").split(",")))


def groups(item: pytest.Item) -> list[str]:
    return [name for name in OBSTACLES if item.get_closest_marker(name)]


def pytest_configure(config: pytest.Config) -> None:
    unknown = REQUIRED - OBSTACLES.keys()
    if unknown:
        raise pytest.UsageError(
            f"ANVIL_TEST_REQUIRE names {', '.join(sorted(unknown))}; "
            f"there are: {', '.join(OBSTACLES)}"
        )


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    present = {name for item in session.items for name in groups(item)}
    if REQUIRED - present:
        raise pytest.UsageError(
            f"ANVIL_TEST_REQUIRE names {', '.join(sorted(REQUIRED - present))}, "
            "but no test of that group was selected"
        )


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file that skips itself whole hides which groups are in it."""
    report = yield
    if report.skipped and REQUIRED:
        report.outcome = "failed"
        report.longrepr = f"{_reason(report)} (a whole file, with ANVIL_TEST_REQUIRE set)"
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in groups(item):
        if reason := OBSTACLES[name]():
            pytest.skip(f"{name}: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    required = REQUIRED.intersection(groups(item))
    if report.skipped and required and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{_reason(report)} (required by ANVIL_TEST_REQUIRE)"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what did not run, grouped by the reason."""
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    for report in terminalreporter.stats.get("skipped", []):
        left_out[_reason(report)][report.nodeid.partition("[")[0]] += 1
    terminalreporter.section("what did not run")
    for reason, tests in sorted(left_out.items()):
        terminalreporter.line(f"{reason}: {tests.total()}")
        for test, count in tests.items():
            terminalreporter.line(f"    {test}" + (f" ({count} variants)" if count > 1 else ""))
    deselected = len(terminalreporter.stats.get("deselected", []))
    if deselected:
        terminalreporter.line(f"deselected by the command line: {deselected}")
    if not left_out and not deselected:
        terminalreporter.line("nothing: every test ran")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[Path]:
    """A loop block device over a 16 MiB file of this test; the test needs the marker `root`."""
    backing = tmp_path / "loop.img"
    backing.write_bytes(os.urandom(1 << 24))
    environ = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SBIN}"}
    losetup = ["losetup", "--find", "--show", str(backing)]
    made = subprocess.run(losetup, capture_output=True, text=True, env=environ, check=False)
    if made.returncode:
        pytest.skip(f"root: no loop device here: {made.stderr.strip()}")
    device = made.stdout.strip()
    yield Path(device)
    subprocess.run(["losetup", "--detach", device], env=environ, check=True)
