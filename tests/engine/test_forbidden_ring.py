"""Where io_uring is really forbidden, Anvil says by what, and measures without it."""

import subprocess
import sys

import pytest

from anvil_engine.target import create_file_target

# Makes io_uring_setup (425) fail with the errno in argv[1] for this process, as container
# runtimes do, then is `anvil`.
UNDER_SECCOMP = """
import ctypes, struct, sys
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO = 0x7FFF0000, 0x00050000
program = b"".join(struct.pack("HBBI", *line) for line in (
    (0x20, 0, 0, 0),                                      # load the system call's number
    (0x15, 0, 1, 425),                                    # io_uring_setup?
    (0x06, 0, 0, SECCOMP_RET_ERRNO | int(sys.argv[1])),
    (0x06, 0, 0, SECCOMP_RET_ALLOW),
))
lines = ctypes.create_string_buffer(program, len(program))
fprog = struct.pack("HxxxxxxP", 4, ctypes.addressof(lines))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0                    # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.create_string_buffer(fprog, len(fprog)), 0, 0) == 0
from anvil_engine.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def bench(tmp_path):
    path = tmp_path / "target"
    create_file_target(path, 1 << 20)

    def run(errno, *options):
        options = ("bench", path, "--rw", "randread", "--bs", "4k", "--runtime", "0.2", *options)
        return subprocess.run(
            [sys.executable, "-c", UNDER_SECCOMP, str(errno), *map(str, options)],
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.uring
@pytest.mark.parametrize(
    ("errno", "cause"), [(1, "a seccomp filter or security module"), (38, "has no io_uring")]
)
def test_the_cause_and_the_way_out_are_named(bench, errno, cause):
    """EPERM and ENOSYS give one line with the cause and --engine sync, and exit code 1."""
    done = bench(errno)
    assert done.returncode == 1
    assert cause in done.stderr
    assert "--engine sync" in done.stderr


@pytest.mark.uring
def test_the_sync_engine_measures_without_a_ring(bench):
    """What the message offers works."""
    done = bench(1, "--engine", "sync")
    assert done.returncode == 0, done.stderr
    assert "read: IOPS=" in done.stdout
