"""No verb writes without consent.  The verbs come from the program itself, so none is forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from anvil_engine.cli import cli, main
from anvil_engine.workload import Phase, Profile, Workload

WORKLOAD = Workload(rw="randwrite", bs=4096, runtime=0.2, direct=False)


def bench_args(target: Path, folder: Path) -> list[str]:
    options = ["--rw=randwrite", "--runtime=200ms", "--direct=0", "--engine=sync"]
    return ["bench", str(target), *options]


def run_args(target: Path, folder: Path) -> list[str]:
    profile = folder / "writes.json"
    destructive = Profile("writes", "Writes", "for a test", (Phase("writes", WORKLOAD),))
    profile.write_text(json.dumps(destructive.to_dict()))
    return ["run", str(profile), str(target), "--engine=sync"]


def crosscheck_args(target: Path, folder: Path) -> list[str]:
    options = ["--rw=randwrite", "--runtime=200ms", "--direct=0", "--pairs=1", "--no-paced"]
    return ["crosscheck", str(target), *options]


def job_file_args(target: Path, folder: Path) -> list[str]:
    job = folder / "writes.fio"
    options = ["rw=randwrite", "runtime=200ms", "time_based", "ioengine=psync"]
    job.write_text("\n".join(["[writes]", f"filename={target}", *options]))
    return ["bench", str(job)]


WRITERS: dict[str, Callable[[Path, Path], list[str]]] = {
    "bench": bench_args,
    "bench with a job file": job_file_args,
    "crosscheck": crosscheck_args,
    "run": run_args,
}
"""A verb that is pointed at a target, and how to make it write there."""

NEEDS = {"crosscheck": (pytest.mark.fio, pytest.mark.uring)}
"""What a verb needs in order to write at all; a refusal needs nothing."""

TARGETLESS = {"import", "profiles", "devices", "serve", "web", "runner", "renderer", "migrate"}
"""Verbs that take no target: they only list, or they are services behind the API's own check."""


def verbs(group: click.Group, context: click.Context, prefix: str = "") -> Iterator[str]:
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        assert verb is not None
        if isinstance(verb, click.Group):
            yield from verbs(verb, context, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


def all_verbs() -> set[str]:
    return set(verbs(cli, click.Context(cli)))


@pytest.fixture
def foreign_file(tmp_path: Path) -> Path:
    """A file with somebody's data, which Anvil did not create."""
    path = tmp_path / "precious"
    path.write_bytes(b"somebody's data " * 65536)
    return path


def test_every_verb_is_classified() -> None:
    """A new verb fails this test until somebody has decided whether it can write."""
    writers = {name.partition(" with ")[0] for name in WRITERS}
    assert all_verbs() == writers | TARGETLESS


def test_targetless_verbs_take_no_target() -> None:
    """A verb in the harmless list has no argument that could name a device."""
    context = click.Context(cli)
    for name in TARGETLESS:
        verb = cli.get_command(context, name)
        assert verb is not None
        arguments = {param.name for param in verb.params if isinstance(param, click.Argument)}
        assert not arguments & {"target", "device", "path", "filename"}, name


@pytest.mark.parametrize("verb", WRITERS)
def test_file_is_not_written_without_consent(
    verb: str, foreign_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that Anvil did not create is refused and stays as it was."""
    before = foreign_file.read_bytes()
    assert main(WRITERS[verb](foreign_file, tmp_path)) == 2
    assert "confirm with --yes-destroy-data" in capsys.readouterr().err
    assert foreign_file.read_bytes() == before


@pytest.mark.parametrize("verb", WRITERS)
def test_file_is_not_confirmed_by_a_serial(verb: str, foreign_file: Path, tmp_path: Path) -> None:
    """A file has no serial, so no serial confirms it."""
    before = foreign_file.read_bytes()
    assert main([*WRITERS[verb](foreign_file, tmp_path), "--confirm-serial="]) == 2
    assert main([*WRITERS[verb](foreign_file, tmp_path), "--confirm-serial=000000"]) == 2
    assert foreign_file.read_bytes() == before


@pytest.mark.parametrize(
    "verb", [pytest.param(verb, marks=NEEDS.get(verb, ())) for verb in WRITERS]
)
def test_file_is_written_with_consent(verb: str, foreign_file: Path, tmp_path: Path) -> None:
    """The same command with consent does write: the refusal above is the consent's doing."""
    before = foreign_file.read_bytes()
    # 3: one pair is no evidence for a crosscheck, but it was written.
    assert main([*WRITERS[verb](foreign_file, tmp_path), "--yes-destroy-data"]) in (0, 3)
    assert foreign_file.read_bytes() != before


@pytest.mark.root
@pytest.mark.parametrize("verb", WRITERS)
@pytest.mark.parametrize("consent", [[], ["--yes-destroy-data"], ["--confirm-serial=000000"]])
def test_block_device_is_not_written_without_its_serial(
    verb: str,
    consent: list[str],
    loop_device: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a block device only its serial counts; the consent for files does not."""
    before = loop_device.read_bytes()
    assert main([*WRITERS[verb](loop_device, tmp_path), *consent]) == 2
    assert str(loop_device) in capsys.readouterr().err
    assert loop_device.read_bytes() == before


@pytest.mark.root
@pytest.mark.parametrize("verb", WRITERS)
def test_block_device_is_read_without_consent(
    verb: str, loop_device: Path, tmp_path: Path
) -> None:
    """Reading a block device needs no consent, so the refusals above are about writing."""
    options = ["--rw=randread", "--runtime=200ms", "--engine=sync"]
    before = loop_device.read_bytes()
    assert main(["bench", str(loop_device), *options]) == 0
    assert loop_device.read_bytes() == before
