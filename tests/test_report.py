"""The suite's own manners: what did not run is said, and what is required must run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest

@pytest.mark.nvme
def test_needs_a_device():
    pass

@pytest.mark.postgres
def test_needs_a_database():
    pytest.skip("the server is too old")

def test_needs_nothing():
    pass

@pytest.mark.xfail(reason="known", strict=True)
def test_known():
    assert False
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite with this project's conftest: one test passes, two cannot run."""
    here = Path(__file__).parent
    shutil.copy(here / "conftest.py", tmp_path)
    shutil.copy(here.parent / "pyproject.toml", tmp_path)
    (tmp_path / "test_some.py").write_text(SUITE)
    return tmp_path


def run_suite(folder: Path, required: str, *args: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if "ANVIL" not in name}
    environ |= {"ANVIL_TEST_REQUIRE": required, "ANVIL_TEST_POSTGRES": "postgresql://nowhere"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", ".", *args],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_report_lists_what_did_not_run_and_why(suite: Path) -> None:
    """Skips are fine when nothing is required, but each is named with its reason."""
    done = run_suite(suite, "")
    assert done.returncode == 0, done.stdout
    report = done.stdout.partition("what did not run")[2]
    assert "nvme: ANVIL_TEST_NVME names no device: 1\n    test_some.py::test_needs_a" in report
    assert "the server is too old: 1\n    test_some.py::test_needs_a_database" in report
    assert "1 passed, 2 skipped, 1 xfailed" in report


@pytest.mark.parametrize(("group", "outcome"), [("nvme", "1 error"), ("postgres", "1 failed")])
def test_skip_in_a_required_group_fails(suite: Path, group: str, outcome: str) -> None:
    """It does not matter whether the marker or the test itself skipped."""
    done = run_suite(suite, group)
    assert done.returncode == 1, done.stdout
    assert "required by ANVIL_TEST_REQUIRE" in done.stdout
    assert outcome in done.stdout
    assert "1 passed, 1 skipped, 1 xfailed" in done.stdout


def test_required_group_without_a_test_is_an_error(suite: Path) -> None:
    """A requirement cannot be met by leaving the tests out."""
    done = run_suite(suite, "nvme,fio")
    assert done.returncode == 4
    assert "ANVIL_TEST_REQUIRE names fio, but no test" in done.stderr
    assert run_suite(suite, "nvme", "-k", "nothing").returncode == 4


def test_unknown_group_is_an_error(suite: Path) -> None:
    """A misspelled requirement does not pass by default."""
    done = run_suite(suite, "urinng")
    assert done.returncode == 4
    assert "ANVIL_TEST_REQUIRE names urinng; there are: uring, fio" in done.stderr


def test_file_that_skips_itself_fails_a_required_run(suite: Path) -> None:
    """A skip of a whole file hides its groups, so it is no way around a requirement."""
    (suite / "test_more.py").write_text(
        "import pytest\npytest.skip('no', allow_module_level=True)"
    )
    (suite / "test_some.py").write_text("import pytest\n@pytest.mark.root\ndef test_x(): pass\n")
    assert run_suite(suite, "").returncode == 0
    done = run_suite(suite, "root")
    assert done.returncode != 0
    assert "test_more.py" in done.stdout
