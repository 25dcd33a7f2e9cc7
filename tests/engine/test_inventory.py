"""Discovery: what is listed, what may be measured, and the reason in words where not."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sysfs_trees import Tree, add_nvme, add_scsi, add_virtual

from anvil_engine.inventory import Device, discover
from anvil_engine.scratch import sidecar_path
from anvil_engine.target import create_file_target
from anvil_engine.usage import survey


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def find(tree: Tree, name: str) -> Device:
    return next(device for device in discover(tree.root) if device.path == f"/dev/{name}")


def reason(tree: Tree, name: str) -> str | None:
    device = find(tree, name)
    assert device.is_testable is (device.exclusion_reason is None)
    return device.exclusion_reason


def test_idle_nvme_is_testable(tree: Tree) -> None:
    """A drive that nobody uses is offered, with its facts."""
    add_nvme(tree, 0, "259:0", serial="HS5U00A23800DTJL", wwid="eui.01")
    assert find(tree, "nvme0n1") == Device(
        path="/dev/nvme0n1",
        protocol="nvme",
        model="Dapu R5100 3.2TB",
        serial="HS5U00A23800DTJL",
        firmware="FF0012",
        vendor=None,
        wwid="eui.01",
        form_factor=None,
        capacity_bytes=100 * 2**30,
        sector_size_logical=512,
        sector_size_physical=4096,
        rotational=False,
        partitions=(),
        mount_points=(),
        is_testable=True,
        exclusion_reason=None,
    )


def test_only_the_mounted_one_of_two_is_excluded(tree: Tree) -> None:
    """A file system on one drive's partition excludes that drive and not its neighbour."""
    add_nvme(tree, 0, "259:0", serial="S0")
    add_nvme(tree, 1, "259:5", serial="S1")
    tree.partition("nvme1n1", "nvme1n1p1", "259:6")
    tree.mount("259:6", "/srv")
    assert reason(tree, "nvme0n1") is None
    assert reason(tree, "nvme1n1") == "mounted at /srv"
    assert find(tree, "nvme1n1").mount_points == ("/srv",)
    assert find(tree, "nvme1n1").partitions == ("/dev/nvme1n1p1",)


def test_mounts_compare_by_number_not_by_source(tree: Tree) -> None:
    """A mount whose source names another path still excludes the device of its number."""
    add_nvme(tree, 0, "259:0", serial="S0")
    add_nvme(tree, 1, "259:5", serial="S1")
    tree.mount("259:5", "/srv", source="/dev/nvme0n1")
    assert reason(tree, "nvme0n1") is None
    assert reason(tree, "nvme1n1") == "mounted at /srv"


def test_a_mount_in_a_container_excludes(tree: Tree) -> None:
    """A mount that only another mount namespace has is found, and says who sees it."""
    add_nvme(tree, 0, "259:0", serial="S0")
    tree.process(812, "mnt:[4026532777]")
    tree.mount("259:0", "/var/lib/db", process="812")
    assert reason(tree, "nvme0n1") == "mounted at /var/lib/db (as process 812 sees it)"


def test_many_mounts_are_cut_short(tree: Tree) -> None:
    """The reason stays readable when a device is mounted in many places."""
    add_nvme(tree, 0, "259:0", serial="S0")
    for place in "abcde":
        tree.mount("259:0", f"/{place}")
    assert reason(tree, "nvme0n1") == "mounted at /a, /b, /c and 2 more"
    assert len(find(tree, "nvme0n1").mount_points) == 5


def test_device_mapper_on_a_partition_excludes_the_disk(tree: Tree) -> None:
    """The disk under a mounted logical volume is held, and shows where it is mounted."""
    add_nvme(tree, 0, "259:0", serial="S0")
    tree.partition("nvme0n1", "nvme0n1p1", "259:1")
    add_virtual(tree, "dm-0", "252:0", dm__name="vg0-data", dm__uuid="LVM-x")
    tree.hold("nvme0n1p1", "dm-0")
    tree.mount("252:0", "/srv", source="/dev/mapper/vg0-data")
    assert reason(tree, "nvme0n1") == "mounted at /srv; held by dm-0 (vg0-data)"
    assert reason(tree, "dm-0") == "mounted at /srv"


def test_md_member_is_held(tree: Tree) -> None:
    """A member of an idle array is held; the array itself may be measured."""
    add_scsi(tree, "sda", "8:0", "pci0000:00/ata1/host0", vendor="ATA")
    add_virtual(tree, "md127", "9:127", md__uuid="3f1c")
    tree.hold("sda", "md127")
    assert reason(tree, "sda") == "held by md127"
    assert reason(tree, "md127") is None


def test_root_on_a_volume_excludes_everything_below(tree: Tree) -> None:
    """Root on dm on MD on two partitions: each layer and both disks back the root."""
    add_virtual(tree, "dm-0", "252:0", dm__name="vg0-root")
    add_virtual(tree, "md0", "9:0")
    for index in (0, 1):
        add_nvme(tree, index, f"259:{index * 5}", serial=f"S{index}")
        tree.partition(f"nvme{index}n1", f"nvme{index}n1p2", f"259:{index * 5 + 2}")
        tree.hold(f"nvme{index}n1p2", "md0")
    tree.hold("md0", "dm-0")
    tree.mount("252:0", "/")
    for name in ("nvme0n1", "nvme1n1", "md0", "dm-0"):
        assert (reason(tree, name) or "").startswith("backs the root file system; mounted at /")


def test_virtio_root(tree: Tree) -> None:
    """A virtual machine's root disk is listed with its serial and excluded."""
    place = "pci0000:00/0000:00:02.0/virtio1/block"
    tree.disk("vda", "254:0", place, attributes={"serial": "overlayblk"})
    tree.mount("254:0", "/")
    device = find(tree, "vda")
    assert (device.protocol, device.model, device.serial) == (
        "virtio",
        "Virtio disk",
        "overlayblk",
    )
    assert device.exclusion_reason == "backs the root file system; mounted at /"


def test_swap_partition_excludes_the_disk(tree: Tree) -> None:
    """A partition in use as swap excludes the whole disk."""
    add_scsi(tree, "sda", "8:0", "pci0000:00/ata1/host0")
    tree.partition("sda", "sda2", "8:2")
    tree.swap("/dev/sda2")
    assert reason(tree, "sda") == "in use as swap"


def test_every_member_of_a_btrfs_is_mounted(tree: Tree) -> None:
    """btrfs mounts carry no device number and one source, yet exclude all their devices."""
    for name, number in (("sda", "8:0"), ("sdb", "8:16"), ("sdc", "8:32")):
        add_scsi(tree, name, number, f"pci0000:00/ata{number[2]}/host0")
    tree.btrfs("d1f5", "sda", "sdb")
    tree.mount("0:44", "/pool", fs_type="btrfs", source="/dev/sdb")
    assert reason(tree, "sda") == reason(tree, "sdb") == "mounted at /pool"
    assert reason(tree, "sdc") is None


def test_loop_on_a_disk_excludes_the_disk(tree: Tree) -> None:
    """A loop device over a whole disk claims nothing in the kernel; it is found anyway."""
    add_scsi(tree, "sda", "8:0", "pci0000:00/ata1/host0")
    add_virtual(tree, "loop0", "7:0", loop__backing_file="/dev/sda")
    assert reason(tree, "sda") == "backs loop0"
    assert reason(tree, "loop0") is None


def test_mounted_loop_on_a_disk_shows_through(tree: Tree) -> None:
    """What is mounted from a loop device is mounted from the disk below it, the root too."""
    add_scsi(tree, "sda", "8:0", "pci0000:00/ata1/host0")
    add_virtual(tree, "loop0", "7:0", loop__backing_file="/dev/sda")
    tree.mount("7:0", "/")
    assert reason(tree, "sda") == "backs the root file system; mounted at /; backs loop0"


def test_partition_is_in_use_when_its_disk_is(tree: Tree) -> None:
    """A partition of a disk that is used as a whole is in use; of one used in part it is not."""
    add_scsi(tree, "sda", "8:0", "pci0000:00/ata1/host0")
    for index in (1, 2):
        tree.partition("sda", f"sda{index}", f"8:{index}")
    tree.mount("8:2", "/srv")
    assert survey(tree.root).reasons("sda1") == []
    add_virtual(tree, "md0", "9:0")
    tree.hold("sda", "md0")
    tree.mount("8:0", "/whole")
    assert survey(tree.root).reasons("sda1") == ["mounted at /whole", "held by md0"]


def test_empty_nodes_are_left_out(tree: Tree) -> None:
    """Loop, zram and RAM nodes with nothing behind them, and CD drives, are no devices."""
    for index, name in enumerate(("loop1", "zram0", "ram0", "nbd0", "sr0")):
        tree.disk(name, f"7:{index}", "virtual/block", gib=0)
    assert discover(tree.root) == []


def test_zram_in_use_is_a_device(tree: Tree) -> None:
    """A zram device that has a size may be measured."""
    add_virtual(tree, "zram0", "253:0")
    assert (find(tree, "zram0").protocol, reason(tree, "zram0")) == ("zram", None)


def test_empty_card_slot_is_listed(tree: Tree) -> None:
    """A drive of size 0 is shown with the reason."""
    place = "pci0000:00/usb1/1-1/host0/target0:0:0/0:0:0:0/block"
    tree.disk("sdb", "8:16", place, gib=0)
    assert reason(tree, "sdb") == "has no medium (size 0)"


def test_read_only_device_is_listed(tree: Tree) -> None:
    """A write-protected drive is shown and not offered."""
    add_nvme(tree, 0, "259:0", serial="S0")
    (tree.places["nvme0n1"] / "ro").write_text("1\n")
    assert reason(tree, "nvme0n1") == "read-only"


def test_device_without_a_node_is_listed(tree: Tree) -> None:
    """In a container that was given no node, the drive is shown and not offered."""
    add_nvme(tree, 0, "259:0", serial="S0")
    (tree.root / "dev/nvme0n1").unlink()
    assert reason(tree, "nvme0n1") == "has no device node /dev/nvme0n1 here"


@pytest.fixture
def open_tree() -> Iterator[Tree]:
    """A tree that any user may look into; pytest's own folders are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Tree(Path(folder))


@pytest.mark.root
def test_unprivileged_user_is_told_that_root_is_needed(open_tree: Tree) -> None:
    """Access to the node decides: another user sees the drive, and that root is needed."""
    add_nvme(open_tree, 0, "259:0", serial="S0")
    (open_tree.root / "dev/nvme0n1").chmod(0o600)
    os.seteuid(65534)
    try:
        found = reason(open_tree, "nvme0n1")
    finally:
        os.seteuid(0)
    assert found == "needs root: run Anvil's runner as root to open block devices"
    (open_tree.root / "dev/nvme0n1").chmod(0o666)
    os.seteuid(65534)
    try:
        assert reason(open_tree, "nvme0n1") is None
    finally:
        os.seteuid(0)


def test_scratch_target_is_a_device(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file that Anvil created is listed as protocol "file" with its serial."""
    path = tmp_path_factory.mktemp("data") / "scratch.dat"
    facts = create_file_target(path, 1 << 20)
    (device,) = discover(tree.root, files=[path])
    assert (device.path, device.protocol, device.model) == (
        str(path),
        "file",
        "Anvil scratch target",
    )
    assert (device.serial, device.capacity_bytes) == (facts.serial, 1 << 20)
    assert device.is_testable


def test_replaced_scratch_target_is_not_testable(
    tree: Tree, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Another file under the scratch target's name is not offered, and the way out is named."""
    path = tmp_path_factory.mktemp("data") / "scratch.dat"
    create_file_target(path, 1 << 20)
    path.rename(path.with_name("old"))
    path.write_bytes(bytes(1 << 20))
    (device,) = discover(tree.root, files=[path])
    assert not device.is_testable
    assert sidecar_path(path).name in (device.exclusion_reason or "")


def test_scratch_target_in_use_is_not_testable(
    tree: Tree, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A second name, a loop device and swap each exclude a file of Anvil's, in words."""
    path = tmp_path_factory.mktemp("data") / "scratch.dat"
    create_file_target(path, 1 << 20)
    os.link(path, tree.root / "second")
    add_virtual(tree, "loop0", "7:0", loop__backing_file="/second")
    tree.swap("/second")
    file = discover(tree.root, files=[path])[-1]
    assert not file.is_testable
    assert file.exclusion_reason == (
        "in use as swap; backs loop0; has a second name (a hard link), under which it may be "
        "in use"
    )
    (tree.root / "second").unlink()
    file = discover(tree.root, files=[path])[-1]
    assert file.exclusion_reason == "backing of loop0 cannot be determined"


def test_files_that_are_not_anvils_are_left_out(tree: Tree) -> None:
    """A missing file, and one without a sidecar, are not devices."""
    (tree.root / "plain").write_bytes(b"mine")
    files = [tree.root / "plain", tree.root / "missing"]
    assert discover(tree.root, files=files) == []


def test_device_goes_over_the_wire(tree: Tree) -> None:
    """to_dict is JSON with every field."""
    add_nvme(tree, 0, "259:0", serial="S0")
    facts = json.loads(json.dumps(find(tree, "nvme0n1").to_dict()))
    assert facts["path"] == "/dev/nvme0n1"
    assert facts.keys() == Device.__dataclass_fields__.keys()


def test_the_root_disk_of_this_machine_is_never_testable() -> None:
    """On the real host, nothing that backs / is offered."""
    for device in discover():
        if "/" in device.mount_points:
            assert not device.is_testable
