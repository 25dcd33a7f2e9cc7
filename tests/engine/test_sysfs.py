"""sysfs and procfs on captured-style trees: what is there, what is missing, what is broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sysfs_trees import OWN_NAMESPACE, Tree, add_nvme, add_scsi, add_virtual

from anvil_engine import procfs, sysfs

PCI = "pci0000:00/0000:00:1f.2"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_disks_are_in_natural_order_without_partitions(tree: Tree) -> None:
    """nvme2n1 comes before nvme10n1, and partitions are not disks."""
    for index in (1, 10, 2):
        add_nvme(tree, index, f"259:{index}", serial=f"S{index}")
    tree.partition("nvme2n1", "nvme2n1p1", "259:20")
    assert sysfs.disks(tree.root) == ["nvme1n1", "nvme2n1", "nvme10n1"]


def test_hidden_multipath_legs_are_no_disks(tree: Tree) -> None:
    """The kernel's hidden path devices (nvme3c3n1) have no node and are not listed."""
    add_virtual(tree, "nvme3c3n1", "0:0", hidden="1")
    assert sysfs.disks(tree.root) == []


def test_identity_of_an_nvme_namespace_is_stripped(tree: Tree) -> None:
    """Model, serial and firmware of the controller come without their padding."""
    add_nvme(tree, 0, "259:0", serial="HS5U00A23800DTJL", wwid="eui.0123")
    assert sysfs.identity(tree.root, "nvme0n1") == sysfs.Identity(
        "Dapu R5100 3.2TB", "HS5U00A23800DTJL", "FF0012", None, "eui.0123"
    )


def test_identity_of_a_scsi_disk(tree: Tree) -> None:
    """The serial of a SCSI disk is its unit serial number page, the vendor its own field."""
    add_scsi(tree, "sda", "8:0", f"{PCI}/host0/port-0:0/end_device-0:0")
    assert sysfs.identity(tree.root, "sda") == sysfs.Identity(
        "ST1200MM0099", "ZAD0123456", "ST31", "SEAGATE", "naa.5000c500a1b2c3d4"
    )


def test_nul_padded_serial_is_stripped(tree: Tree) -> None:
    """virtio serials may be padded with NULs; the vendor link is a PCI number, not a name."""
    tree.disk(
        "vda",
        "254:0",
        "pci0000:00/0000:00:02.0/virtio1/block",
        device="../../../virtio1",
        attributes={"serial": "overlayblk\0\0", "device/vendor": "0x1af4\n"},
    )
    identity = sysfs.identity(tree.root, "vda")
    assert (identity.serial, identity.vendor, identity.model) == ("overlayblk", None, None)


def test_partition_answers_with_its_disk(tree: Tree) -> None:
    """Identity and block sizes of a partition are the disk's, its size is its own."""
    add_nvme(tree, 0, "259:0", serial="SERIAL0")
    tree.partition("nvme0n1", "nvme0n1p1", "259:1", gib=10)
    geometry = sysfs.geometry(tree.root, "nvme0n1p1")
    assert sysfs.identity(tree.root, "nvme0n1p1").serial == "SERIAL0"
    assert sysfs.parent(tree.root, "nvme0n1p1") == "nvme0n1"
    assert geometry is not None
    assert (geometry.size_bytes, geometry.logical_block_size) == (10 * 2**30, 512)


def test_device_mapper_has_its_uuid_for_a_serial(tree: Tree) -> None:
    """A dm device can be told by its UUID and is called by its mapped name."""
    add_virtual(tree, "dm-0", "252:0", dm__name="vg0-data", dm__uuid="LVM-abcdef")
    assert sysfs.identity(tree.root, "dm-0").serial == "LVM-abcdef"
    assert sysfs.mapped_name(tree.root, "dm-0") == "vg0-data"


@pytest.mark.parametrize(
    ("place", "vendor", "protocol"),
    [
        (f"{PCI}/ata1/host0", "ATA", "sata"),
        ("pci0000:00/0000:03:00.0/host0/port-0:0/end_device-0:0", "SEAGATE", "sas"),
        ("pci0000:00/0000:03:00.0/host0/port-0:0/end_device-0:0", "ATA", "sata"),
        ("pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host0", "SanDisk", "usb"),
        ("platform/host0/session1", "LIO-ORG", "iscsi"),
        ("pci0000:00/0000:00:05.0/virtio2/host0", "QEMU", "virtio"),
        ("pci0000:00/0000:04:00.0/host0", "DELL", "unknown"),
    ],
)
def test_protocol_of_a_scsi_disk(tree: Tree, place: str, vendor: str, protocol: str) -> None:
    """The transport decides, except that a SATA drive stays one behind a SAS controller."""
    add_scsi(tree, "sda", "8:0", place, vendor=vendor)
    assert sysfs.protocol(tree.root, "sda") == protocol


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("loop3", "loop"),
        ("md127", "md"),
        ("md_d0", "md"),
        ("dm-1", "dm"),
        ("zram0", "zram"),
        ("nullb0", "unknown"),
    ],
)
def test_protocol_of_a_virtual_device(tree: Tree, name: str, protocol: str) -> None:
    """Devices without hardware are known by their name."""
    add_virtual(tree, name, "250:0")
    assert sysfs.protocol(tree.root, name) == protocol


def test_protocol_of_an_nvme_namespace(tree: Tree) -> None:
    """An NVMe namespace is nvme."""
    add_nvme(tree, 0, "259:0", serial="S")
    assert sysfs.protocol(tree.root, "nvme0n1") == "nvme"


def test_missing_attributes_are_none(tree: Tree) -> None:
    """A device that says nothing about itself has no identity and no block sizes."""
    tree.disk("pmem0", "259:9", "virtual/block")
    for attribute in ("logical_block_size", "physical_block_size", "rotational"):
        (tree.places["pmem0"] / "queue" / attribute).unlink()
    geometry = sysfs.geometry(tree.root, "pmem0")
    assert sysfs.identity(tree.root, "pmem0") == sysfs.Identity(None, None, None, None, None)
    assert geometry == sysfs.Geometry(100 * 2**30, None, None, None, read_only=False)


def test_vanished_device_has_no_geometry(tree: Tree) -> None:
    """A device that went away between listing and reading is None, not an error."""
    assert sysfs.geometry(tree.root, "nvme7n1") is None


def test_partition_of_a_read_only_disk_is_read_only(tree: Tree) -> None:
    """Write protection of the disk covers its partitions."""
    add_nvme(tree, 0, "259:0", serial="S")
    tree.partition("nvme0n1", "nvme0n1p1", "259:1")
    (tree.places["nvme0n1"] / "ro").write_text("1\n")
    geometry = sysfs.geometry(tree.root, "nvme0n1p1")
    assert geometry is not None
    assert geometry.read_only


def test_malformed_number_is_news(tree: Tree) -> None:
    """A size that is no number raises, and the message has device, attribute and value."""
    add_nvme(tree, 0, "259:0", serial="S")
    (tree.places["nvme0n1"] / "size").write_text("many\n")
    with pytest.raises(ValueError, match="size of nvme0n1 is 'many'"):
        sysfs.geometry(tree.root, "nvme0n1")


def test_malformed_serial_page_is_news(tree: Tree) -> None:
    """A vital product page cut short raises instead of giving half a serial."""
    add_scsi(tree, "sda", "8:0", f"{PCI}/ata1/host0")
    (tree.places["sda"] / "device/vpd_pg80").write_bytes(b"\x00\x80\x00\x14SHORT")
    with pytest.raises(ValueError, match="vpd_pg80 of sda"):
        sysfs.identity(tree.root, "sda")


def test_name_by_number_and_by_path(tree: Tree) -> None:
    """A device is found by its number, by its node, and through a symbolic link to it."""
    add_virtual(tree, "dm-0", "252:0")
    tree.disk("cciss!c0d0", "104:0", "pci0000:00/cciss0/block")
    (tree.root / "dev/mapper").mkdir()
    (tree.root / "dev/mapper/vg0-data").symlink_to("../dm-0")
    assert sysfs.name_of(tree.root, os.makedev(252, 0)) == "dm-0"
    assert sysfs.name_of(tree.root, os.makedev(252, 1)) is None
    assert sysfs.name_at(tree.root, "/dev/mapper/vg0-data") == "dm-0"
    assert sysfs.name_at(tree.root, "/dev/cciss/c0d0") == "cciss!c0d0"
    assert sysfs.name_at(tree.root, "/swapfile") is None
    assert sysfs.node_path("cciss!c0d0") == "/dev/cciss/c0d0"


def test_loop_backings_are_literal(tree: Tree) -> None:
    """Only the line end is taken off a backing path; a loop that is not set up has none."""
    paths = {"loop0": "/a ", "loop1": " b\n", "loop2": "/c (deleted)"}
    for index, (name, path) in enumerate(paths.items()):
        add_virtual(tree, name, f"7:{index}", loop__backing_file=path)
    add_virtual(tree, "loop3", "7:3")
    (tree.places["loop2"] / "loop/backing_file").write_bytes(b"/\xff\n")
    assert sysfs.loop_backings(tree.root) == {**paths, "loop2": "/\udcff"}


def test_mounts_of_another_namespace_are_seen_once(tree: Tree) -> None:
    """Mounts of a container count, with a process that sees them; a shared view counts once."""
    tree.mount("8:1", "/", process="self")
    tree.process(10)
    tree.mount("8:1", "/", process="10")
    for pid in (20, 21):
        tree.process(pid, "mnt:[4026532999]")
        tree.mount("8:17", "/data", process=str(pid))
    seen = [(m.number, m.mount_point, m.pid) for m in procfs.mounts(tree.root)]
    assert seen == [("0:21", "/proc", None), ("8:1", "/", None), ("8:17", "/data", 20)]


def test_a_chroot_does_not_hide_the_mounts_outside(tree: Tree) -> None:
    """Within one namespace, a process with another root shows other mounts; both count."""
    tree.process(5, OWN_NAMESPACE, root="/jail")
    tree.mount("8:33", "/inside", process="5")
    assert "8:33" in {mount.number for mount in procfs.mounts(tree.root)}


def test_view_without_a_name_counts_once(tree: Tree) -> None:
    """Another user's namespace cannot be named; it is told apart by the mounts it shows."""
    for pid in (30, 31):
        tree.process(pid)
        (tree.root / f"proc/{pid}/ns/mnt").unlink()
        tree.mount("8:65", "/theirs", process=str(pid))
    assert [m.pid for m in procfs.mounts(tree.root) if m.mount_point == "/theirs"] == [30]


def test_process_that_ended_is_skipped(tree: Tree) -> None:
    """A process whose mountinfo is gone when we read it does not stop the survey."""
    tree.process(7, "mnt:[4026532000]")
    (tree.root / "proc/7/mountinfo").unlink()
    tree.process(8, "mnt:[4026532000]")
    tree.mount("8:49", "/late", process="8")
    assert "/late" in {mount.mount_point for mount in procfs.mounts(tree.root)}


def test_mount_point_with_a_blank(tree: Tree) -> None:
    """The kernel's octal escapes are undone."""
    tree.mount("8:1", "/srv/my disk")
    assert procfs.mounts(tree.root)[-1].mount_point == "/srv/my disk"


def test_malformed_mountinfo_is_news(tree: Tree) -> None:
    """A line without the separator raises instead of hiding a mount."""
    (tree.root / "proc/self/mountinfo").write_text("30 27 8:1 / /srv rw shared:1 ext4 x rw\n")
    with pytest.raises(ValueError, match="mountinfo"):
        procfs.mounts(tree.root)


def test_mount_of_a_path_is_the_innermost_and_latest(tree: Tree) -> None:
    """A path lies on the deepest mount above it, and on the last of two at one place."""
    for number, place, fs_type in (
        ("8:1", "/", "ext4"),
        ("8:2", "/srv", "xfs"),
        ("8:3", "/srv", "btrfs"),
        ("8:4", "/srv2", "vfat"),
    ):
        tree.mount(number, place, fs_type=fs_type)
    found = procfs.mount_of(tree.root, Path("/srv/data/file"))
    assert found is not None
    assert found.fs_type == "btrfs"


def test_swap_paths(tree: Tree) -> None:
    """Swap devices and files are listed by path, escapes undone."""
    tree.swap("/dev/sda2")
    tree.swap("/my\\040swap")
    assert procfs.swaps(tree.root) == ["/dev/sda2", "/my swap"]


def test_host_facts(tree: Tree) -> None:
    """CPU, memory, clock source and distribution are read from the tree."""
    tree.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: Xeon Gold 6338\n")
    tree.write("proc/meminfo", "MemTotal:       24684092 kB\nMemFree: 1 kB\n")
    tree.write("etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    tree.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n")
    facts = procfs.host_facts(tree.root)
    assert facts["cpu_model"] == "Xeon Gold 6338"
    assert facts["memory_bytes"] == 24684092 * 1024
    assert facts["platform"] == "Debian GNU/Linux 12"
    assert facts["clocksource"] == "tsc"
    assert facts["kernel"] == os.uname().release


def test_host_facts_that_are_missing_are_none(tree: Tree) -> None:
    """An unusual host has a record with gaps, not an error."""
    facts = procfs.host_facts(tree.root)
    assert (facts["cpu_model"], facts["memory_bytes"], facts["clocksource"]) == (None,) * 3


def test_io_uring_sysctl(tree: Tree) -> None:
    """The sysctl is a number, or None on a kernel that has none."""
    assert procfs.io_uring_disabled(tree.root) is None
    tree.write("proc/sys/kernel/io_uring_disabled", "2\n")
    assert procfs.io_uring_disabled(tree.root) == 2


def test_the_real_host_can_be_read() -> None:
    """The reader copes with this machine: every disk has a geometry and a protocol."""
    root = Path("/")
    for name in sysfs.disks(root):
        assert sysfs.geometry(root, name) is not None
        assert sysfs.protocol(root, name)
        sysfs.identity(root, name)
    assert any(mount.mount_point == "/" for mount in procfs.mounts(root))


def test_ring_workers_are_told_from_other_threads(tmp_path):
    """By name, also where a name has brackets and blanks; ticks become seconds."""
    per_second = os.sysconf("SC_CLK_TCK")
    fields = f"S 1 1 1 0 -1 4194368 0 0 0 0 {3 * per_second} {per_second} 0 0 20 0"
    for thread, name in ((7, "iou-wrk-5"), (8, "python"), (9, "iou-sqp-5"), (10, "a) (iou-wrk-")):
        (tmp_path / f"proc/self/task/{thread}").mkdir(parents=True)
        (tmp_path / f"proc/self/task/{thread}/stat").write_text(f"{thread} ({name}) {fields}\n")
    (tmp_path / "proc/self/task/11").mkdir()  # ended in between
    assert procfs.ring_workers(tmp_path) == {7: 4.0}
    assert procfs.ring_workers(tmp_path / "missing") == {}
