"""The only opener: what it refuses, what it asks for, and what it holds once open.

The block devices here are loop devices over files of the test.  They have no serial, so
where one is needed the test shows the opener a /sys in which they do.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from loop_devices import ENVIRONMENT, a_loop, a_mount, mounted, run
from sysfs_trees import Tree

from anvil_engine import directio, scratch, subject
from anvil_engine.errors import (
    ConsentRequired,
    DirectUnsupported,
    IdentityMismatch,
    TargetError,
    TargetInUse,
    TargetNotFound,
)
from anvil_engine.target import Consent, TargetFacts, create_file_target, open_target

SERIAL = "HS5U00A23800DTJL"
MIB = 1 << 20


@pytest.fixture
def partition(loop_device: Path) -> Iterator[Path]:
    """A partition of 8 MiB on the loop device, made without a partition table."""
    run("addpart", loop_device, "1", "2048", str(8 * MIB // 512))
    yield Path(f"{loop_device}p1")
    subprocess.run(["delpart", loop_device, "1"], env=ENVIRONMENT, check=True)


def a_sysfs(root: Path, device: Path, *, serial: str = SERIAL, wwid: str = "eui.01") -> Tree:
    """A /sys that gives the real device at `device` a serial, and knows of no use of it."""
    root.mkdir()
    tree = Tree(root)
    number = device.stat().st_rdev
    tree.disk(
        device.name,
        f"{os.major(number)}:{os.minor(number)}",
        "virtual/block",
        attributes={"serial": serial, "wwid": wwid},
    )
    return tree


@pytest.fixture
def with_serial(loop_device: Path, tmp_path: Path) -> Path:
    """Root of a host on which the loop device has the serial `SERIAL`."""
    return a_sysfs(tmp_path / "host", loop_device).root


@pytest.fixture
def plain_file(tmp_path: Path) -> Path:
    """Somebody's file of 1 MiB."""
    path = tmp_path / "mine.dat"
    path.write_bytes(os.urandom(MIB))
    return path


@pytest.fixture
def own_file(tmp_path: Path) -> tuple[Path, TargetFacts]:
    """A file target of 1 MiB that Anvil created."""
    path = tmp_path / "scratch.dat"
    return path, create_file_target(path, MIB)


def mode_of(fd: int) -> int:
    """Flags of a descriptor as the kernel shows them to everybody."""
    text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    match = re.search(r"^flags:\s*(\d+)", text, re.MULTILINE)
    assert match is not None
    return int(match.group(1), 8)


# What can be a target.


def test_missing_path_is_not_found(tmp_path: Path) -> None:
    """A path that leads nowhere is TargetNotFound, also when the link to it exists."""
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    for name in ("gone", "dangling"):
        with pytest.raises(TargetNotFound, match=name):
            open_target(tmp_path / name, write=False)


def test_directory_fifo_socket_and_other_devices_are_refused(tmp_path: Path) -> None:
    """What is no storage is refused by name of its kind, without waiting on the fifo."""
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path, kind in (
            (tmp_path, "a directory"),
            (tmp_path / "fifo", "a fifo"),
            (tmp_path / "socket", "a socket"),
            (Path("/dev/tty"), "a character device"),
            (Path("/dev/urandom"), "a character device"),
        ):
            with pytest.raises(TargetError, match=f"{path} is {kind}"):
                open_target(path, write=True, consent=Consent(yes_destroy_data=True))


def test_zero_and_null_need_no_consent_and_no_alignment() -> None:
    """/dev/zero and /dev/null open without consent, buffered whatever was asked."""
    for path, write in (("/dev/zero", False), ("/dev/zero", True), ("/dev/null", True)):
        with open_target(path, write=write, read=not write, direct=True) as target:
            assert target.facts.kind == "char"
            assert not target.direct
            assert not mode_of(target.fd) & os.O_DIRECT


def test_null_cannot_be_read() -> None:
    """What reads /dev/null, also in part, measures nothing and is refused, naming /dev/zero."""
    for write in (False, True):
        with pytest.raises(TargetError, match="nothing to read; read from /dev/zero"):
            open_target("/dev/null", write=write, read=True)


@pytest.mark.root
def test_zero_is_known_by_its_number(tmp_path: Path) -> None:
    """A node named "zero" that is another device is not /dev/zero."""
    os.mknod(tmp_path / "zero", 0o20600, os.makedev(1, 8))
    with pytest.raises(TargetError, match="a character device"):
        open_target(tmp_path / "zero", write=False)


def test_empty_file_is_refused(tmp_path: Path) -> None:
    """There is nothing to measure in an empty file."""
    (tmp_path / "empty").touch()
    with pytest.raises(TargetError, match="is empty"):
        open_target(tmp_path / "empty", write=False)


# Consent.


def test_plain_file_needs_consent_to_destroy(plain_file: Path) -> None:
    """Somebody's file is written only with yes_destroy_data, read without."""
    with pytest.raises(ConsentRequired, match="--yes-destroy-data"):
        open_target(plain_file, write=True)
    open_target(plain_file, write=False).close()
    open_target(plain_file, write=True, consent=Consent(yes_destroy_data=True)).close()


def test_own_file_needs_no_consent(own_file: tuple[Path, TargetFacts]) -> None:
    """A file that Anvil created may be written, and has the serial of its sidecar."""
    path, facts = own_file
    with open_target(path, write=True) as target:
        assert target.facts == facts
        assert len(facts.serial or "") == scratch.SERIAL_LENGTH


def test_confirmation_of_another_serial_is_refused_for_files(
    own_file: tuple[Path, TargetFacts], plain_file: Path
) -> None:
    """A serial that was given and is wrong means another target was meant, whatever else holds."""
    path, facts = own_file
    for target, consent in (
        (path, Consent(confirm_serial="WRONG1")),
        (plain_file, Consent(confirm_serial="WRONG1", yes_destroy_data=True)),
    ):
        with pytest.raises(ConsentRequired, match="WRONG1"):
            open_target(target, write=True, consent=consent)
    right = Consent(confirm_serial=(facts.serial or "")[-6:].lower())
    open_target(path, write=True, consent=right).close()


def write_in_place(path: Path) -> None:
    """Delete the file and make one of the same size, which often gets the same inode."""
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(bytes(size))


def replace_by_move(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"mine")


@pytest.mark.parametrize("change", [write_in_place, replace_by_move, grow])
def test_sidecar_does_not_vouch_for_another_file(
    own_file: tuple[Path, TargetFacts], change: Callable[[Path], None]
) -> None:
    """A file that took the scratch target's place, or was changed by its user, needs consent."""
    path, _ = own_file
    change(path)
    with pytest.raises(ConsentRequired):
        open_target(path, write=True)


def test_sidecar_does_not_vouch_for_a_file_with_two_names(
    own_file: tuple[Path, TargetFacts],
) -> None:
    """A file of Anvil's that got a second name may be used under it, and needs consent."""
    path, _ = own_file
    os.link(path, path.with_name("other"))
    with pytest.raises(ConsentRequired, match="--yes-destroy-data"):
        open_target(path, write=True)
    path.with_name("other").unlink()
    open_target(path, write=True).close()


def test_broken_sidecar_gives_no_consent(own_file: tuple[Path, TargetFacts]) -> None:
    """A sidecar that cannot be read, or has other fields, makes the file a stranger's."""
    path, _ = own_file
    broken = ("", "{", "[]", '{"serial": "X"}', '{"serial": 7, "inode": 1}', "[" * 4000)
    for text in broken:
        scratch.sidecar_path(path).write_text(text)
        with pytest.raises(ConsentRequired):
            open_target(path, write=True)


def test_scratch_target_survives_renumbered_disks(own_file: tuple[Path, TargetFacts]) -> None:
    """After a reboot gave the disk another number, the file system's id still identifies it."""
    path, _ = own_file
    if not os.statvfs(path).f_fsid:
        pytest.skip("this file system has no id")
    text = scratch.sidecar_path(path).read_text()
    device = path.stat().st_dev
    scratch.sidecar_path(path).write_text(text.replace(f": {device},", f": {device + 1},"))
    open_target(path, write=True).close()


@pytest.mark.root
def test_device_without_serial_is_never_written(loop_device: Path) -> None:
    """Nothing confirms a write to a device that has no serial, and the message says so."""
    for consent in (Consent(), Consent("", True), Consent("DTJL"), Consent(yes_destroy_data=True)):
        with pytest.raises(ConsentRequired, match="has no serial"):
            open_target(loop_device, write=True, consent=consent)


@pytest.mark.root
@pytest.mark.parametrize(
    "consent",
    [
        Consent(),
        Consent(yes_destroy_data=True),
        Consent(confirm_serial="DTJK"),
        Consent(confirm_serial="HS5U00"),
        Consent(confirm_serial=SERIAL),
        Consent(confirm_serial="", yes_destroy_data=True),
    ],
)
def test_device_is_not_written_without_its_serial(
    loop_device: Path, with_serial: Path, consent: Consent
) -> None:
    """Only the last six characters of the serial permit writing to a block device."""
    with pytest.raises(ConsentRequired, match="serial"):
        open_target(loop_device, write=True, consent=consent, root=with_serial)


@pytest.mark.root
def test_device_is_written_with_its_serial(loop_device: Path, with_serial: Path) -> None:
    """With consent the descriptor is read-write, direct and knows the device."""
    consent = Consent(confirm_serial=" 00dtjl ")
    with open_target(loop_device, write=True, consent=consent, root=with_serial) as target:
        assert mode_of(target.fd) & os.O_ACCMODE == os.O_RDWR
        assert mode_of(target.fd) & os.O_DIRECT
        assert target.facts == TargetFacts(
            str(loop_device), "block", 16 * MIB, 512, SERIAL, "eui.01", None, None
        )


@pytest.mark.root
def test_symbolic_link_does_not_get_around_consent(
    loop_device: Path, with_serial: Path, tmp_path: Path
) -> None:
    """A link to a device, with a sidecar beside it and consent for files, is still a device."""
    link = tmp_path / "innocent.dat"
    link.symlink_to(loop_device)
    scratch.sidecar_path(link).write_text('{"serial": "ABCDEFGHIJKL"}')
    with pytest.raises(ConsentRequired, match=f"serial {SERIAL}"):
        open_target(link, write=True, consent=Consent(yes_destroy_data=True), root=with_serial)


@pytest.mark.root
def test_partition_has_the_serial_of_its_disk(partition: Path, tmp_path: Path) -> None:
    """Writing to a partition is confirmed with the serial of the disk around it."""
    disk = partition.with_name(partition.name.removesuffix("p1"))
    tree = a_sysfs(tmp_path / "host", disk)
    number = partition.stat().st_rdev
    tree.partition(disk.name, partition.name, f"{os.major(number)}:{os.minor(number)}")
    consent = Consent(confirm_serial=SERIAL[-6:])
    with pytest.raises(ConsentRequired):
        open_target(partition, write=True, root=tree.root)
    with open_target(partition, write=True, consent=consent, root=tree.root) as target:
        assert (target.facts.serial, target.facts.size_bytes) == (SERIAL, 8 * MIB)


class Switching(Consent):
    """Consent for files that, while it is being looked at, points `link` elsewhere."""

    link: Path
    elsewhere: Path

    def __getattribute__(self, name: str) -> object:
        if name == "yes_destroy_data":
            link = Switching.link
            link.unlink()
            link.symlink_to(Switching.elsewhere)
            return True
        return super().__getattribute__(name)


def test_name_switched_during_the_check_does_not_change_the_target(
    plain_file: Path, tmp_path: Path
) -> None:
    """What was examined is what is opened, even when the link leads elsewhere by then."""
    Switching.elsewhere = tmp_path / "precious.dat"
    Switching.elsewhere.write_bytes(bytes(MIB))
    Switching.link = tmp_path / "link"
    Switching.link.symlink_to(plain_file)
    with open_target(Switching.link, write=True, consent=Switching()) as target:
        assert Switching.link.resolve() == Switching.elsewhere
        assert os.path.samestat(os.fstat(target.fd), plain_file.stat())


class Exchanging(Consent):
    """Consent for a device that, while it is being looked at, has its drive exchanged."""

    serial_file: Path

    def __getattribute__(self, name: str) -> object:
        value = super().__getattribute__(name)
        if name == "confirm_serial":
            Exchanging.serial_file.write_text("OTHER-DRIVE-000001")
        return value


@pytest.mark.root
def test_drive_exchanged_during_the_check_is_not_written(
    loop_device: Path, tmp_path: Path
) -> None:
    """Consent holds for the drive that is open, not for the one that had its number before."""
    tree = a_sysfs(tmp_path / "host", loop_device)
    Exchanging.serial_file = tree.places[loop_device.name] / "serial"
    consent = Exchanging(confirm_serial=SERIAL[-6:])
    with pytest.raises(ConsentRequired, match="OTHER-DRIVE-000001"):
        open_target(loop_device, write=True, consent=consent, root=tree.root)


# In use.


@pytest.mark.root
def test_mounted_device_is_refused(loop_device: Path, tmp_path: Path) -> None:
    """A mounted device is refused with its mount point, for reading too."""
    place = tmp_path / "mnt"
    with (
        a_mount(loop_device, place),
        pytest.raises(TargetInUse, match=f"mounted at {re.escape(str(place))}"),
    ):
        open_target(loop_device, write=False)


@pytest.mark.root
@pytest.mark.parametrize("write", [False, True])
def test_kernel_refuses_a_mounted_device_that_discovery_calls_idle(
    loop_device: Path, with_serial: Path, tmp_path: Path, write: bool
) -> None:
    """O_EXCL is the lock: with a /sys and /proc that know of no mount, it is still refused."""
    consent = Consent(confirm_serial=SERIAL[-6:])
    with a_mount(loop_device, tmp_path / "mnt"), pytest.raises(TargetInUse) as caught:
        open_target(loop_device, write=write, consent=consent, root=with_serial)
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno == errno.EBUSY


@pytest.mark.root
def test_disk_with_a_mounted_partition_is_refused(partition: Path, tmp_path: Path) -> None:
    """The whole disk is in use when one of its partitions is, by survey and by the kernel."""
    disk = partition.with_name(partition.name.removesuffix("p1"))
    with a_mount(partition, tmp_path / "mnt"):
        with pytest.raises(TargetInUse, match="mounted at"):
            open_target(disk, write=False)
        with pytest.raises(TargetInUse):
            open_target(disk, write=False, root=tmp_path / "nothing")


@pytest.mark.root
def test_device_under_a_loop_device_is_refused(loop_device: Path) -> None:
    """A loop device claims nothing of the device below it, but is found in /sys."""
    with (
        a_loop(loop_device) as upper,
        pytest.raises(TargetInUse, match=f"backs {upper.name}"),
    ):
        open_target(loop_device, write=False)


@pytest.mark.root
def test_file_under_a_loop_device_is_refused(loop_device: Path, tmp_path: Path) -> None:
    """The file behind a loop device is that device's data."""
    with pytest.raises(TargetInUse, match=f"backs {loop_device.name}"):
        open_target(tmp_path / "loop.img", write=False)


@pytest.mark.root
def test_swap_file_is_refused(plain_file: Path) -> None:
    """A file that is swap is in use, for reading too, and under another name."""
    plain_file.chmod(0o600)
    run("mkswap", plain_file)
    other = plain_file.with_name("other")
    os.link(plain_file, other)
    run("swapon", plain_file)
    try:
        for path, write in ((plain_file, False), (other, True)):
            with pytest.raises(TargetInUse, match="in use as swap"):
                open_target(path, write=write, consent=Consent(yes_destroy_data=True))
    finally:
        subprocess.run(["swapoff", plain_file], env=ENVIRONMENT, check=True)


@pytest.mark.root
def test_device_of_another_run_is_refused(loop_device: Path) -> None:
    """A second run cannot open the device of the first, and can when that is closed."""
    with open_target(loop_device, write=False), pytest.raises(TargetInUse):
        open_target(loop_device, write=False)
    open_target(loop_device, write=False).close()


def test_file_of_another_run_is_refused(plain_file: Path) -> None:
    """Two runs on one file would measure each other; the second is refused."""
    with open_target(plain_file, write=False), pytest.raises(TargetInUse, match="another run"):
        open_target(plain_file, write=False)
    open_target(plain_file, write=False).close()


@pytest.mark.root
def test_write_protected_device_is_refused(plain_file: Path, tmp_path: Path) -> None:
    """A device that is read-only is refused at once, not at the first write."""
    with a_loop(plain_file, "--read-only") as device:
        root = a_sysfs(tmp_path / "host", device).root
        consent = Consent(confirm_serial=SERIAL[-6:])
        with pytest.raises(TargetError, match=f"{device} is read-only"):
            open_target(device, write=True, consent=consent, root=root)
        open_target(device, write=False, root=root).close()


# Identity.


@pytest.mark.root
@pytest.mark.parametrize(
    ("serial", "wwid"),
    [("OTHER", None), (None, "eui.02"), (SERIAL, "eui.02"), ("", None), (None, "")],
)
def test_unexpected_device_is_refused(
    loop_device: Path, with_serial: Path, serial: str | None, wwid: str | None
) -> None:
    """A device with another serial or WWID than expected is refused and released again."""
    with pytest.raises(IdentityMismatch, match="expected"):
        open_target(
            loop_device, write=False, expect_serial=serial, expect_wwid=wwid, root=with_serial
        )
    open_target(loop_device, write=False).close()


@pytest.mark.root
def test_expected_device_is_opened(loop_device: Path, with_serial: Path) -> None:
    """The expected identity opens; "" expects a device that has none."""
    open_target(
        loop_device, write=False, expect_serial=SERIAL, expect_wwid="eui.01", root=with_serial
    ).close()
    open_target(loop_device, write=False, expect_serial="", expect_wwid="").close()


def test_expected_serial_of_a_file(own_file: tuple[Path, TargetFacts]) -> None:
    """The scratch target is identified by its sidecar's serial."""
    path, facts = own_file
    open_target(path, write=False, expect_serial=facts.serial).close()
    with pytest.raises(IdentityMismatch):
        open_target(path, write=False, expect_serial="ABCDEFGHIJKL")


def test_device_number_changed_between_looks_is_refused(plain_file: Path, tmp_path: Path) -> None:
    """Two descriptors of different objects are never taken for one."""
    from anvil_engine import target

    other = tmp_path / "other"
    other.write_bytes(b"x")
    subjects = []
    for path in (plain_file, other):
        fd = os.open(path, os.O_RDONLY)
        subjects.append(subject.examine(path, fd, Path("/")))
        os.close(fd)
    target._require_same(subjects[0], subjects[0])
    with pytest.raises(TargetError, match="changed while"):
        target._require_same(*subjects)


# The descriptor.


def test_read_only_run_has_a_read_only_descriptor(plain_file: Path) -> None:
    """Without `write` the kernel itself would refuse a write."""
    with open_target(plain_file, write=False, direct=False) as target:
        assert mode_of(target.fd) & os.O_ACCMODE == os.O_RDONLY
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(target.fd, b"x", 0)


@pytest.mark.root
def test_read_only_device_descriptor(loop_device: Path) -> None:
    """A block device of a read-only run is open O_RDONLY, direct, and closed on exec."""
    with open_target(loop_device, write=False) as target:
        assert mode_of(target.fd) & os.O_ACCMODE == os.O_RDONLY
        assert mode_of(target.fd) & os.O_DIRECT
        assert not os.get_inheritable(target.fd)
        assert target.facts.size_bytes == 16 * MIB


def test_buffered_file(plain_file: Path) -> None:
    """direct=False leaves the page cache in, and any multiple of 512 will do."""
    with open_target(plain_file, write=False, direct=False) as target:
        assert not mode_of(target.fd) & os.O_DIRECT
        assert target.facts.lba_size == 512


def test_direct_file_tells_its_alignment(plain_file: Path) -> None:
    """A direct read of `lba_size` bytes works on the file."""
    with open_target(plain_file, write=False) as target:
        assert target.direct
        assert mode_of(target.fd) & os.O_DIRECT
        assert target.facts.lba_size in (512, 1024, 2048, 4096)


def test_refused_direct_io_names_the_file_system() -> None:
    """Where O_DIRECT is refused, the error names the file system and the ways out."""
    with pytest.raises(DirectUnsupported, match="proc at /proc refuses it") as caught:
        open_target("/proc/version", write=False)
    assert "--data-dir" in str(caught.value)


@pytest.mark.root
def test_direct_io_refused_only_by_the_read() -> None:
    """A file system may take O_DIRECT and refuse the read; the first read finds out."""
    fd = os.open("/proc/self/clear_refs", os.O_RDONLY)  # reads of it are EINVAL
    try:
        with pytest.raises(DirectUnsupported, match="clear_refs"):
            directio.require(fd, Path("/proc/self/clear_refs"), Path("/"))
    finally:
        os.close(fd)


def test_alignment_that_statx_does_not_tell(tmp_path: Path) -> None:
    """It is then the block size of the disk under the file system, or 4096 for caution."""
    tree = Tree(tmp_path)
    with open("/proc/version", "rb") as file:  # of a file system that does not tell
        assert directio.require(file.fileno(), Path("/proc/version"), tree.root) == 4096
        number = os.fstat(file.fileno()).st_dev
        tree.disk(
            "sda",
            f"{os.major(number)}:{os.minor(number)}",
            "virtual/block",
            attributes={"queue/logical_block_size": "2048"},
        )
        assert directio.require(file.fileno(), Path("/proc/version"), tree.root) == 2048


def test_failed_opens_leave_nothing_open(plain_file: Path) -> None:
    """No refusal leaks a descriptor, which would keep a device claimed."""
    before = len(os.listdir("/proc/self/fd"))
    with open_target(plain_file, write=False), pytest.raises(TargetInUse):
        open_target(plain_file, write=False)
    with pytest.raises(ConsentRequired):
        open_target(plain_file, write=True)
    with pytest.raises(IdentityMismatch):
        open_target(plain_file, write=False, expect_serial="NOPE")
    with pytest.raises(DirectUnsupported):
        open_target("/proc/version", write=False)
    assert len(os.listdir("/proc/self/fd")) == before


def test_closing_twice_is_harmless(plain_file: Path) -> None:
    """The second close does not close a descriptor that was given to somebody else."""
    target = open_target(plain_file, write=False)
    number = target.fd
    target.close()
    fd = os.open("/dev/null", os.O_RDONLY)
    os.dup2(fd, number)
    target.close()
    os.fstat(number)
    os.close(number)
    os.close(fd)


# Files of Anvil's own.


def test_created_file_is_incompressible(tmp_path: Path) -> None:
    """No two blocks of 4 KiB are alike and no byte value is more frequent than chance."""
    path = tmp_path / "scratch.dat"
    create_file_target(path, 12 * MIB)
    content = np.fromfile(path, dtype=np.uint8)
    blocks = {bytes(block) for block in content.reshape(-1, 4096)}
    assert content.size == 12 * MIB
    assert len(blocks) == content.size // 4096
    assert np.bincount(content, minlength=256).max() < content.size / 256 * 1.1


def test_progress_rises_to_the_size(tmp_path: Path) -> None:
    """Progress is in bytes, rises, and ends at the size."""
    seen: list[int] = []
    create_file_target(tmp_path / "scratch.dat", 20 * MIB, seen.append)
    assert seen == sorted(set(seen))
    assert seen[-1] == 20 * MIB


def test_existing_file_is_not_replaced(plain_file: Path) -> None:
    """Creating refuses a name that is taken, also by a dangling link, and changes nothing."""
    content = plain_file.read_bytes()
    link = plain_file.with_name("link")
    link.symlink_to("nowhere")
    for path in (plain_file, link):
        with pytest.raises(TargetError, match="exists"):
            create_file_target(path, MIB)
    assert plain_file.read_bytes() == content


def test_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """A file that takes the name while ours is being written keeps it, and its content."""
    path = tmp_path / "scratch.dat"

    def intrude(done: int) -> None:
        path.write_text("mine")

    with pytest.raises(TargetError, match="File exists"):
        create_file_target(path, MIB, intrude)
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["scratch.dat"]


def test_odd_size_is_refused(tmp_path: Path) -> None:
    """A size that direct I/O could not write whole is refused."""
    for size in (0, -4096, 4097):
        with pytest.raises(TargetError, match="4096"):
            create_file_target(tmp_path / "scratch.dat", size)


def test_interrupted_creation_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a creation takes the unfinished file away."""

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_file_target(tmp_path / "scratch.dat", 16 * MIB, interrupt)
    assert os.listdir(tmp_path) == []


def test_killed_creation_does_not_block_the_next(tmp_path: Path) -> None:
    """What a killed creation leaves has neither the name nor the say; the next succeeds."""
    path = tmp_path / "scratch.dat"
    program = (
        "import sys, time; from pathlib import Path; from anvil_engine import target\n"
        "def hang(done): print(done, flush=True); time.sleep(60)\n"
        f"target.create_file_target(Path(sys.argv[1]), {16 * MIB}, hang)"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        child.kill()
    assert os.listdir(tmp_path) == [".scratch.dat.anvil-partial"]
    create_file_target(path, MIB)
    assert sorted(os.listdir(tmp_path)) == ["scratch.dat", "scratch.dat.anvil.json"]


def test_creation_by_two_at_once_is_refused(tmp_path: Path) -> None:
    """While one creates the file, a second does not write into it."""
    path = tmp_path / "scratch.dat"

    def second(done: int) -> None:
        with pytest.raises(TargetError, match="being created"):
            create_file_target(path, MIB)

    assert create_file_target(path, MIB, second).size_bytes == MIB


PREDICTABLE_NAMES = (".scratch.dat.anvil-partial", ".scratch.dat.anvil.json.partial")


@pytest.mark.parametrize("name", PREDICTABLE_NAMES)
@pytest.mark.parametrize("plant", [os.link, os.symlink])
def test_planted_links_lead_to_no_damage(
    plain_file: Path, tmp_path: Path, name: str, plant: Callable[[Path, Path], None]
) -> None:
    """What a predictable name of a creation leads to keeps content, mode and time."""
    folder = tmp_path / "data"
    folder.mkdir()
    before, content = plain_file.stat(), plain_file.read_bytes()
    plant(plain_file, folder / name)
    path = folder / "scratch.dat"
    create_file_target(path, MIB)
    after = plain_file.stat()
    assert plain_file.read_bytes() == content
    assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)
    assert sorted(os.listdir(folder)) == ["scratch.dat", "scratch.dat.anvil.json"]
    assert path.stat().st_nlink == 1
    assert not path.samefile(plain_file)


@pytest.mark.parametrize("name", PREDICTABLE_NAMES)
def test_planted_fifo_does_not_stop_a_creation(tmp_path: Path, name: str) -> None:
    """A fifo at a predictable name is neither waited for nor taken for the file."""
    os.mkfifo(tmp_path / name)
    create_file_target(tmp_path / "scratch.dat", MIB)
    assert sorted(os.listdir(tmp_path)) == ["scratch.dat", "scratch.dat.anvil.json"]


def test_creation_that_lost_its_name_to_another_is_refused(tmp_path: Path) -> None:
    """The lock counts only on the file that still has the name."""
    partial = tmp_path / "partial"
    fd = scratch.open_partial(tmp_path / "scratch.dat", partial)
    partial.unlink()
    partial.touch()
    try:
        with pytest.raises(TargetError, match="being created"):
            scratch._lock_partial(tmp_path / "scratch.dat", partial, fd)
    finally:
        os.close(fd)
    assert partial.exists()


def test_no_room_is_told_before_writing(tmp_path: Path) -> None:
    """A file that cannot fit is refused at once, with the sizes and the way out."""
    with pytest.raises(TargetError, match="--data-dir"):
        create_file_target(tmp_path / "scratch.dat", 1 << 60)
    assert os.listdir(tmp_path) == []


@pytest.mark.root
def test_file_system_without_direct_io_is_told_before_writing(tmp_path: Path) -> None:
    """On ramfs, which has no O_DIRECT, creation fails before a byte is written."""
    place = tmp_path / "ram"
    place.mkdir()
    written: list[int] = []
    with mounted("-t", "ramfs", "none", place):
        with pytest.raises(DirectUnsupported, match="ramfs"):
            create_file_target(place / "scratch.dat", MIB, written.append)
        assert (os.listdir(place), written) == ([], [])


@pytest.mark.root
def test_direct_io_that_is_not_direct_is_refused(loop_device: Path, tmp_path: Path) -> None:
    """ext4 with journalled data takes O_DIRECT and uses the page cache; that is refused."""
    place = tmp_path / "mnt"
    with (
        a_mount(loop_device, place, "-o", "data=journal"),
        pytest.raises(DirectUnsupported, match="ext4"),
    ):
        create_file_target(place / "scratch.dat", MIB)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    """A folder that does not exist is an error of the target with the path."""
    with pytest.raises(TargetError, match=r"cannot create .*nowhere/scratch\.dat"):
        create_file_target(tmp_path / "nowhere/scratch.dat", MIB)


def test_target_lock_is_released_with_its_descriptor(plain_file: Path) -> None:
    """The lock goes with the descriptor, so a killed engine leaves the file free."""
    target = open_target(plain_file, write=False)
    os.close(target.fd)
    fd = os.open(plain_file, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
