"""The spool: what is in it comes back in order, whatever happened to its writer."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import recorded

from anvil_web.runner import spool
from anvil_web.runner.spool import Spool, SpoolError, SpoolFolder
from anvil_web.store.recording import Numbered


def events(count: int) -> list[Numbered]:
    some = recorded.whole_run()
    return [(n, recorded.START, some[n % len(some)]) for n in range(1, count + 1)]


def read(one: Spool) -> list[Numbered]:
    return [event for chunk in one.chunks() for event in chunk]


def test_events_come_back_as_they_went_in(tmp_path: Path) -> None:
    """Batches come back in order and equal, to another process's eyes too."""
    with SpoolFolder(tmp_path) as folder:
        one = Spool(folder, "run")
        one.append(events(5)[:2])
        one.append(events(5)[2:])
        assert read(one) == events(5)
    with SpoolFolder(tmp_path) as folder:
        assert folder.run_ids() == ["run"]
        assert not Spool(folder, "run").is_empty
        assert read(Spool(folder, "run")) == events(5)


def test_a_long_spool_comes_in_chunks(tmp_path: Path) -> None:
    """No chunk is larger than the limit, and none is missing."""
    with SpoolFolder(tmp_path) as folder:
        one = Spool(folder, "run")
        one.append(events(1100))
        sizes = [len(chunk) for chunk in one.chunks()]
        assert sizes == [500, 500, 100]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """What was being written when the runner was killed is dropped, all before it is kept."""
    with SpoolFolder(tmp_path) as folder:
        one = Spool(folder, "run")
        one.append(events(3))
        path = folder.path / "run.jsonl"
        path.write_bytes(path.read_bytes()[:-10])
        assert read(one) == events(2)


def test_a_full_disk_leaves_no_half_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that cannot be written whole is not in the spool at all."""
    with SpoolFolder(tmp_path) as folder:
        one = Spool(folder, "run")
        one.append(events(2))
        real = os.write
        left = [100]

        def write(descriptor: int, data: bytes) -> int:
            if not left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = real(descriptor, data[: left[0]])
            left[0] -= written
            return written

        monkeypatch.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space"):
            one.append(events(3)[2:])
        monkeypatch.undo()
        assert read(one) == events(2)
        one.append(events(3)[2:])
        assert read(one) == events(3)


def test_a_cleared_spool_is_gone(tmp_path: Path) -> None:
    """Nothing is left of a spool that is in the database."""
    with SpoolFolder(tmp_path) as folder:
        one = Spool(folder, "run")
        one.append(events(1))
        one.clear()
        assert one.is_empty
        assert folder.run_ids() == []
        one.clear()


def test_a_rejected_spool_is_kept_out_of_the_way(tmp_path: Path) -> None:
    """A spool that was set aside is not replayed and not deleted."""
    with SpoolFolder(tmp_path) as folder:
        one = Spool(folder, "run")
        one.append(events(1))
        name = one.set_aside()
        assert folder.run_ids() == []
        assert (folder.path / name).exists()


def test_one_runner_per_data_directory(tmp_path: Path) -> None:
    """The second runner on a data directory is refused until the first is gone."""
    with SpoolFolder(tmp_path) as first, SpoolFolder(tmp_path) as second:
        first.lock()
        with pytest.raises(SpoolError, match="another runner"):
            second.lock()
    with SpoolFolder(tmp_path) as third:
        third.lock()


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither the folder nor a file in it may be a link: the directory above is not the runner's."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / spool.FOLDER).symlink_to(elsewhere)
    with pytest.raises(SpoolError):
        SpoolFolder(tmp_path / "a")
    with SpoolFolder(tmp_path / "b") as folder:
        victim = tmp_path / "victim"
        victim.write_text("precious")
        (folder.path / "run.jsonl").symlink_to(victim)
        with pytest.raises(OSError, match=r"symbolic links|loop"):
            Spool(folder, "run").append(events(1))
        assert victim.read_text() == "precious"


@pytest.mark.root
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """A spool folder that belongs to somebody else could be changed under the runner."""
    (tmp_path / spool.FOLDER).mkdir()
    os.chown(tmp_path / spool.FOLDER, 65534, 65534)
    with pytest.raises(SpoolError, match="65534"):
        SpoolFolder(tmp_path)


def test_the_spool_is_private(tmp_path: Path) -> None:
    """Only the runner's user can read what is spooled."""
    with SpoolFolder(tmp_path) as folder:
        Spool(folder, "run").append(events(1))
        assert folder.path.stat().st_mode & 0o077 == 0
        assert (folder.path / "run.jsonl").stat().st_mode & 0o077 == 0
