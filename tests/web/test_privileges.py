"""Starting a program with fewer rights, wherever the installation lies."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from programs import ROOT, wait_for

from anvil_web import privileges
from anvil_web.privileges import Account, PrivilegeError, account, blocked

NOBODY = Account("nobody", 65534, 65534)

REPORT = """
import json, os, pathlib, sys
def attempt(action):
    try:
        action(); return True
    except OSError:
        return False
import numpy, anvil_web.app
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
data = pathlib.Path(sys.argv[1])
(data / "written").write_text("by the program")
print(json.dumps({
    "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
    "capabilities": int(status["CapEff"], 16),
    "no_new_privs": int(status["NoNewPrivs"]),
    "regained": attempt(lambda: os.setuid(0)),
    "mounted": attempt(lambda: os.chroot("/")),
    "sees": sorted(os.listdir(data.parent)),
}))
"""


def start(*options: str, program: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "anvil_web.privileges", *options, "--", *program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def as_nobody(needs: Path, *program: str) -> tuple[int, str, str]:
    process = start("--user", "nobody", "--needs", str(needs), program=list(program))
    output, errors = process.communicate()
    return process.returncode, output, errors


def report(data: Path) -> dict[str, object]:
    code, output, errors = as_nobody(data, sys.executable, "-c", REPORT, str(data))
    assert code == 0, errors
    result: dict[str, object] = json.loads(output)
    return result


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory of nobody's, below one that only root may enter, beside a secret."""
    blocked_home = tmp_path / "home"
    made = blocked_home / "deep" / "data"
    made.mkdir(parents=True)
    (made.parent / "secret").write_text("root's")
    os.chown(made, NOBODY.uid, NOBODY.gid)
    blocked_home.chmod(0o700)
    return made


def test_blocked_is_the_topmost_closed_directory(tmp_path: Path) -> None:
    """The first directory without read and search for the account stops it; open ones do not."""
    place = tmp_path / "a" / "b" / "c"
    place.mkdir(parents=True)
    mine = Account("me", place.stat().st_uid, place.stat().st_gid)
    assert blocked(place, mine) is None
    (tmp_path / "a" / "b").chmod(0o711)
    stranger = Account("stranger", 54321, 54321)
    above = blocked(tmp_path, stranger)
    expected = above if above is not None else tmp_path / "a" / "b"
    assert blocked(place, stranger) == expected
    assert blocked(place, mine) is None


@pytest.mark.parametrize(
    ("mode", "who", "enters"),
    [
        (0o700, "owner", True),
        (0o070, "owner", False),
        (0o070, "group", True),
        (0o707, "group", False),
        (0o005, "other", True),
        (0o001, "other", False),
        (0o750, "other", False),
    ],
)
def test_the_first_class_that_fits_decides(
    tmp_path: Path, mode: int, who: str, enters: bool
) -> None:
    """As in the kernel: an owner is judged by the owner's bits alone, a group by the group's."""
    place = tmp_path / "place"
    place.mkdir()
    status = place.stat()
    accounts = {
        "owner": Account("o", status.st_uid, 54321),
        "group": Account("g", 54321, status.st_gid),
        "other": Account("x", 54321, 54321),
    }
    place.chmod(mode)
    try:
        assert accounts[who].may_enter(place) == enters
    finally:
        place.chmod(0o700)


def test_needed_paths_are_what_python_reads(tmp_path: Path) -> None:
    """Interpreter, environment, both packages and what was asked for, all without links."""
    (tmp_path / "link").symlink_to(tmp_path)
    paths = privileges.needed_paths([tmp_path / "link"])
    assert {tmp_path, Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve()} <= set(paths)
    assert {ROOT / "anvil_web", ROOT / "anvil_engine"} <= set(paths)


@pytest.mark.parametrize("user", ["root", "0", "no-such-user", "3999999999"])
def test_root_and_strangers_are_refused(user: str) -> None:
    """The account must exist and must not be root; the text names the option."""
    with pytest.raises(PrivilegeError, match="--user"):
        account(user)


def test_accounts_go_by_name_or_number() -> None:
    """Both find the same account."""
    entry = next(entry for entry in pwd.getpwall() if entry.pw_uid)
    assert account(entry.pw_name) == account(str(entry.pw_uid))


@pytest.mark.root
def test_the_program_has_the_accounts_rights_only(data: Path) -> None:
    """All three user and group ids, no further group, no capability, and no way back."""
    found = report(data)
    assert found["ids"] == [NOBODY.uid] * 3 + [NOBODY.gid] * 3
    assert found["capabilities"] == 0
    assert found["no_new_privs"] == 1
    assert found["regained"] is False
    assert found["mounted"] is False


@pytest.mark.root
def test_the_program_reaches_what_it_needs_and_nothing_beside_it(data: Path) -> None:
    """Below a closed directory the needed one is there and writable, its neighbours are not."""
    found = report(data)
    assert found["sees"] == ["data"]
    assert (data / "written").read_text() == "by the program"
    assert (data / "written").stat().st_uid == NOBODY.uid


@pytest.mark.root
def test_the_machine_is_left_as_it_was(data: Path) -> None:
    """Modes, content and mounts outside of the program are untouched."""
    before = Path("/proc/self/mountinfo").read_text()
    home = data.parents[1]
    report(data)
    assert Path("/proc/self/mountinfo").read_text() == before
    assert home.stat().st_mode & 0o777 == 0o700
    assert (data.parent / "secret").read_text() == "root's"


@pytest.mark.root
def test_closed_directories_inside_closed_ones(tmp_path: Path) -> None:
    """Several closed directories on one way, the needed one itself closed too, all open up."""
    place = tmp_path / "one" / "two" / "three"
    place.mkdir(parents=True)
    (place / "file").write_text("content")
    (place / "folder").mkdir()
    (place / "folder" / "inner").write_text("inner content")
    (place / "link").symlink_to("file")
    for directory in (place, *place.parents[:2]):
        directory.chmod(0o700)
    code = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); print(*sorted(os.listdir(p)))"
    code = (
        "import os, pathlib, sys; p = pathlib.Path(sys.argv[1]); "
        "print(*sorted(os.listdir(p)), (p / 'link').read_text(), "
        "(p / 'folder' / 'inner').read_text())"
    )
    status, output, errors = as_nobody(place, sys.executable, "-c", code, str(place))
    assert status == 0, errors
    assert output == "file folder link content inner content\n"


@pytest.mark.root
def test_what_the_account_may_not_read_is_named(tmp_path: Path) -> None:
    """Files that are closed themselves cannot be opened up; the text says what to do."""
    place = tmp_path / "data"
    place.mkdir()
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    status, _, errors = as_nobody(place, str(program))
    assert status == 1
    assert "nobody may not execute" in errors
    assert "--user" in errors


@pytest.mark.root
def test_the_program_replaces_the_launcher(data: Path) -> None:
    """The process that was started is the program: its supervisor signals the right one."""
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    process = start("--user", "nobody", "--needs", str(data), program=[sys.executable, "-c", code])
    assert process.stdout is not None
    assert int(process.stdout.readline()) == process.pid
    assert psutil.Process(process.pid).uids() == (NOBODY.uid,) * 3
    process.kill()
    process.communicate()


PARENT = """
import os, subprocess, sys, time
argv = [sys.executable, "-m", "anvil_web.privileges", "--die-with-parent", str(os.getpid())]
argv += [*sys.argv[1:], "--", sys.executable, "-c", "import time; time.sleep(60)"]
print(subprocess.Popen(argv, cwd=os.getcwd()).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    "options", [[], pytest.param(["--user", "nobody"], marks=pytest.mark.root)]
)
def test_the_program_ends_with_its_parent(options: list[str]) -> None:
    """SIGKILL to the parent ends the program, also after a change of user."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    # In the middle of an exec there is no command line.
    wait_for(
        lambda: (
            child.cmdline()[-1:] == ["import time; time.sleep(60)"] and "-m" not in child.cmdline()
        )
    )
    time.sleep(0.2)
    assert child.is_running()
    parent.kill()
    parent.communicate()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5.0)


def test_a_program_whose_parent_is_gone_does_not_start() -> None:
    """A parent that ended before the program asked is noticed."""
    process = start("--die-with-parent", "1", program=[sys.executable, "-c", "print('ran')"])
    output, errors = process.communicate()
    assert process.returncode == 1
    assert output == ""
    assert "parent process 1 is gone" in errors
