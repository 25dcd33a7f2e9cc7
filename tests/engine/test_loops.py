"""What lies under a loop device is known by number, whatever became of its path."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from loop_devices import a_loop, a_mount, mounted, run
from sysfs_trees import Tree, add_nvme, add_virtual

from anvil_engine import loops, scratch
from anvil_engine.errors import ConsentRequired, TargetInUse
from anvil_engine.target import Consent, create_file_target, open_target
from anvil_engine.usage import survey

MIB = 1 << 20
DESTROY = Consent(yes_destroy_data=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file to put under a loop device, in a folder of its own."""
    path = tmp_path / "images/disk.img"
    path.parent.mkdir()
    path.write_bytes(bytes(16 * MIB))
    return path


def second_name(image: Path) -> Path:
    """Another name of the same file, elsewhere."""
    other = image.parent.parent / "other.img"
    os.link(image, other)
    return other


def refuses(path: Path, loop: Path) -> None:
    """Neither a read nor a confirmed write may have what lies under the loop device."""
    for write in (False, True):
        with pytest.raises(TargetInUse, match=rf"backs {loop.name}\b"):
            open_target(path, write=write, direct=False, consent=DESTROY)


# Paths that lead nowhere, or elsewhere.


@pytest.mark.root
def test_deleted_name_of_a_mounted_image(image: Path, tmp_path: Path) -> None:
    """The file is known by its other name after the one that the loop was made with is gone."""
    other = second_name(image)
    with a_loop(image) as loop, a_mount(loop, tmp_path / "mnt"):
        image.unlink()
        refuses(other, loop)


@pytest.mark.root
@pytest.mark.parametrize("name", ["disk.img ", " disk", "disk\n", "disk\t", "ä\udcff"])
def test_unusual_name(name: str, tmp_path: Path) -> None:
    """A file with blanks, line ends or stray bytes in its name is found."""
    path = tmp_path / name
    path.write_bytes(bytes(MIB))
    with a_loop(path) as loop:
        refuses(path, loop)


@pytest.mark.root
def test_folder_hidden_by_a_mount(image: Path) -> None:
    """With a file system over the folder, and another file at the path, the first is found."""
    other = second_name(image)
    with a_loop(image) as loop, mounted("-t", "tmpfs", "none", image.parent):
        image.write_bytes(bytes(MIB))
        refuses(other, loop)
        open_target(image, write=False, direct=False).close()


@pytest.mark.root
def test_loop_of_another_mount_namespace(image: Path, tmp_path: Path) -> None:
    """A path that exists only where the loop was made does not hide the file."""
    private = tmp_path / "private"
    private.mkdir()
    script = f'mount --bind "{image.parent}" "{private}" && exec "$@"'
    inside = ("unshare", "--mount", "sh", "-c", script, "sh")
    with a_loop(private / image.name, inside=inside) as loop:
        refuses(image, loop)


@pytest.mark.root
def test_own_file_renamed_with_its_sidecar(tmp_path: Path) -> None:
    """A file of Anvil's that was made a disk is in use under its new name, whatever vouches."""
    path, renamed = tmp_path / "s10", tmp_path / "s10b"
    create_file_target(path, 16 * MIB)
    with a_loop(path) as loop, a_mount(loop, tmp_path / "mnt"):
        os.link(path, renamed)
        path.unlink()
        scratch.sidecar_path(path).rename(scratch.sidecar_path(renamed))
        refuses(renamed, loop)
        with pytest.raises(TargetInUse):
            open_target(renamed, write=True, direct=False)


@pytest.mark.root
def test_device_by_a_node_that_is_gone(loop_device: Path, tmp_path: Path) -> None:
    """A device under a loop is known by its number, not by the node that was used."""
    node = tmp_path / "node"
    os.mknod(node, 0o60600, loop_device.stat().st_rdev)
    with a_loop(node) as upper:
        node.unlink()
        with pytest.raises(TargetInUse, match=rf"backs {upper.name}\b"):
            open_target(loop_device, write=False)


@pytest.mark.root
def test_detached_loop_uses_nothing(image: Path) -> None:
    """After the loop is gone its file may be had, with consent."""
    with a_loop(image):
        pass
    with pytest.raises(ConsentRequired):
        open_target(image, write=True, direct=False)
    open_target(image, write=True, direct=False, consent=DESTROY).close()


# Where there is no loop node to ask.


@pytest.fixture
def nodeless(tmp_path: Path) -> Path:
    """Root of this host as a container sees it: with its /sys, and without its loop nodes."""
    host = tmp_path / "host"
    host.mkdir()
    for name in ("sys", "proc", tmp_path.parts[1]):
        (host / name).symlink_to(f"/{name}")
    return host


@pytest.mark.root
def test_without_a_node_the_path_counts(image: Path, nodeless: Path) -> None:
    """The file that the path leads to is found."""
    with a_loop(image) as loop:
        assert f"backs {loop.name}" in survey(nodeless).file_reasons(image.stat())


@pytest.mark.root
def test_without_a_node_a_deleted_backing_could_be_any_file(image: Path, nodeless: Path) -> None:
    """Nobody can tell which file it is, so no file may be had, not even a file of Anvil's."""
    other, own = second_name(image), image.with_name("scratch.dat")
    create_file_target(own, MIB)
    with a_loop(image) as loop:
        image.unlink()
        for path in (other, own):
            unknown = rf"backing of .*\b{loop.name}\b.* cannot be determined"
            with pytest.raises(TargetInUse, match=unknown):
                open_target(path, write=False, direct=False, root=nodeless)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize("path", ["/gone", "/folder/gone", "/here (deleted)", "/folder", ""])
def test_undetermined_backing_could_be_anything(tree: Tree, path: str) -> None:
    """A path that leads to no file makes every file and disk suspect, and not the loop itself."""
    add_nvme(tree, 0, "259:0", serial="S0")
    add_virtual(tree, "loop0", "7:0", loop__backing_file=path)
    (tree.root / "folder").mkdir()
    tree.write("here (deleted)", "a file whose name only looks like that")
    tree.write("file", "data")
    suspicion = ["backing of loop0 cannot be determined"]
    assert survey(tree.root).file_reasons((tree.root / "file").stat()) == suspicion
    assert survey(tree.root).reasons("nvme0n1") == suspicion
    assert survey(tree.root).reasons("loop0") == []


def test_path_that_the_kernel_does_not_tell(tree: Tree) -> None:
    """A loop device with an unreadable backing path (too long) is set up all the same."""
    add_virtual(tree, "loop0", "7:0", loop__backing_file="/x")
    attribute = tree.places["loop0"] / "loop/backing_file"
    attribute.unlink()
    attribute.mkdir()
    assert loops.backings(tree.root) == {"loop0": loops.Backing()}


@pytest.mark.parametrize("name", ["file ", "\tfile", "file"])
def test_path_is_taken_literally(tree: Tree, name: str) -> None:
    """Blanks of the path belong to the file's name, and it lies below the given root."""
    add_virtual(tree, "loop0", "7:0", loop__backing_file=f"/{name}")
    tree.write(name, "data")
    status = (tree.root / name).stat()
    assert loops.backings(tree.root)["loop0"].file == (status.st_dev, status.st_ino)
    assert survey(tree.root).file_reasons(status) == ["backs loop0"]


@pytest.mark.root
def test_node_of_another_device_is_not_asked(loop_device: Path, tree: Tree, image: Path) -> None:
    """A node whose number is not the loop device's is no witness."""
    add_virtual(tree, "loop0", "7:1048575", loop__backing_file="/images/disk.img")
    (tree.root / "dev/loop0").unlink()
    os.mknod(tree.root / "dev/loop0", 0o60600, loop_device.stat().st_rdev)
    status = image.stat()
    assert loops.backings(tree.root)["loop0"].file == (status.st_dev, status.st_ino)


@pytest.mark.root
def test_loop_detached_during_the_survey_is_no_suspect(tree: Tree, image: Path) -> None:
    """A loop that /sys still listed and the driver says is free lies on nothing."""
    with a_loop(image) as loop:
        number = loop.stat().st_rdev
    add_virtual(tree, "loop0", f"7:{os.minor(number)}", loop__backing_file="/gone (deleted)")
    (tree.root / "dev/loop0").unlink()
    os.mknod(tree.root / "dev/loop0", 0o60600, number)
    assert survey(tree.root).file_reasons(image.stat()) == []


@pytest.mark.root
def test_asking_needs_no_exclusive_access(image: Path, tmp_path: Path) -> None:
    """A loop device that is mounted, or open exclusively, is asked all the same."""
    status = image.stat()
    with a_loop(image) as loop:
        fd = os.open(loop, os.O_RDWR | os.O_EXCL)
        try:
            backing = loops.backings(Path("/"))[loop.name]
        finally:
            os.close(fd)
    assert backing == loops.Backing(None, (status.st_dev, status.st_ino))


def test_the_real_host_can_be_read() -> None:
    """Every loop device that is found has a name of the kernel's."""
    for name in loops.backings(Path("/")):
        assert re.fullmatch(r"loop\d+", name)


@pytest.mark.root
def test_chain_of_loops(image: Path) -> None:
    """A loop on a loop on a file: each layer knows the one below it."""
    with a_loop(image) as lower, a_loop(lower) as upper:
        found = loops.backings(Path("/"))
        assert found[upper.name].device == lower.name
        assert run("losetup", "--noheadings", "-O", "BACK-INO", lower) == str(image.stat().st_ino)
        assert found[lower.name].file == (image.stat().st_dev, image.stat().st_ino)
