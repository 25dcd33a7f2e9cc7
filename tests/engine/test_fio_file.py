"""A job file says in fio's words what a workload is, or is refused with the line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anvil_engine import fio, fio_file
from anvil_engine.errors import InvalidWorkload
from anvil_engine.fio_file import JobFile
from anvil_engine.workload import Phase, Workload

KEYWORDS = {"pagesize": 4096, "mb_memory": 2000, "ncpus": 8}
ONE = "filename=/dev/x\nruntime=10\ntime_based\n"


def load(
    text: str, variables: Mapping[str, str] = {}, **included: str
) -> JobFile:  # fmt: skip
    files = {"job.fio": text, **{name.replace("_", "."): body for name, body in included.items()}}
    return fio_file.load("job.fio", files.__getitem__, variables, KEYWORDS)


def workload(text: str, **more: str) -> Workload:
    (phase,) = load(f"[job]\n{ONE}{text}", **more).phases  # type: ignore[arg-type]
    return phase.workload


def refusal(text: str) -> str:
    with pytest.raises(InvalidWorkload) as caught:
        load(text)
    return str(caught.value)


def test_sections_inherit_the_global_options_that_stand_before_them() -> None:
    """[global] may come more than once; what a section says itself wins."""
    found = load(
        f"[global]\n{ONE}bs=8k\niodepth=4\n[a]\nbs=16k\n[global]\niodepth=9\n"
        "[b]\nstonewall\nrw=randread\n"
    )
    a, b = (phase.workload for phase in found.phases)
    assert (a.bs, a.iodepth, b.bs, b.iodepth, b.rw) == (16384, 4, 8192, 9, "randread")
    assert [phase.name for phase in found.phases] == ["a", "b"]
    assert found.filename == "/dev/x"


def test_what_is_not_said_is_fios_default() -> None:
    """A job file means what it means to fio: buffered reads of 4k, one at a time."""
    expected = Workload(rw="read", bs=4096, iodepth=1, direct=False, runtime=10)
    assert workload("") == expected


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("readwrite=randrw", "rw", "randrw"),
        ("blocksize=1m", "bs", 1 << 20),
        ("timeout=2m", "runtime", 120),
        ("buffered=0", "direct", True),
        ("rwmixwrite=30", "rwmixread", 70),
        ("continue_on_error=io", "continue_on_error", True),
        ("continue_on_error=none", "continue_on_error", False),
        ("iodepth=0x10", "iodepth", 16),
        ("RUNTIME = 5", "runtime", 5),
        ("randseed=7", "randseed", 7),
        ("rate_iops=100", "rate_iops", 100),
        ("rw=write\nrate_iops=,100", "rate_iops", 100),
        ("rw=rw\nrwmixread=75\nrate_iops=300,100", "rate_iops", 400),
        ("rate_process=poisson", "rate_process", "poisson"),
        ("cpus_allowed=0-1", "cpus_allowed", "0-1"),
        ("iodepth=8\niodepth_batch=2", "iodepth_batch_submit", 2),
    ],
)
def test_an_option_in_any_of_fios_spellings(line: str, field: str, value: object) -> None:
    """Aliases, case, blanks and bases are fio's."""
    assert getattr(workload(line), field) == value


def test_comments_and_empty_lines_are_nothing() -> None:
    """Both of fio's comment signs, at the start of a line."""
    assert workload("; bs=1k\n# bs=2k\n\n   \niodepth=2").iodepth == 2


def test_variables_and_keywords_are_replaced() -> None:
    """${NAME} is the environment's, empty where it is not set; keywords can be calculated with."""
    text = f"[j]\n{ONE}size=${{SIZE}}\nbs=2*$pagesize\niodepth=$ncpus\noffset=1024*2+$pagesize/2\n"
    (phase,) = load(text, {"SIZE": "64m"}).phases
    found = phase.workload
    assert (found.size, found.bs, found.iodepth, found.offset) == (64 << 20, 8192, 8, 4096)
    with pytest.raises(InvalidWorkload, match=r"job\.fio:5: '' is not a size"):
        load(text)


def test_an_included_file_is_part_of_its_section() -> None:
    """As in fio, include pulls options in, and only options."""
    found = load(f"[j]\n{ONE}include more.fio\n", more_fio="iodepth=7\n")
    assert found.phases[0].workload.iodepth == 7
    with pytest.raises(InvalidWorkload, match=re.escape("more.fio:1: an included file has")):
        load(f"[j]\n{ONE}include more.fio\n", more_fio="[k]\n")
    with pytest.raises(InvalidWorkload, match="nested too deep"):
        load("include job.fio")


@pytest.mark.parametrize(
    ("ioengine", "engine"), [("io_uring", "native"), ("psync", "sync"), (None, None)]
)
def test_the_ioengine_chooses_the_engine(ioengine: str | None, engine: str | None) -> None:
    """io_uring is native, one call per I/O is sync, and none is the command line's choice."""
    line = f"ioengine={ioengine}" if ioengine else ""
    assert load(f"[j]\n{ONE}{line}").engine == engine


def test_a_colon_in_the_name_is_escaped() -> None:
    """As fio demands, since it separates files by colons."""
    assert load(f"[j]\n{ONE}filename=/dev/by-path/pci-0\\:1").filename == "/dev/by-path/pci-0:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"[j]\n{ONE}verify=crc32c", "job.fio:5: Anvil does not know the option 'verify'; take"),
        (f"[j]\n{ONE}bs=4k,8k", "job.fio:5: one block size for all directions"),
        (f"[j]\n{ONE}size=50%", "job.fio:5: a part in percent is not known; give bytes"),
        (f"[j]\n{ONE}iodepth=many", "job.fio:5: 'many' is not a whole number"),
        (f"[j]\n{ONE}direct=2", "job.fio:5: '2' is not 0 or 1"),
        (f"[j]\n{ONE}rw=randread:8", "job.fio:5: Anvil has no sequence of offsets in rw"),
        (f"[j]\n{ONE}bs=3x", "job.fio:5: '3x' is not a size"),
        (f"[j]\n{ONE}ioengine=libaio", "job.fio:5: Anvil has no ioengine 'libaio'; write io_uring"),
        (f"[j]\n{ONE}filename=/a:/b", "job.fio:5: one target in a run"),
        (f"[j]\n{ONE}unlink=1", "job.fio:5: unlink=1: the target is kept; take the line out"),
        (f"[j]\n{ONE}time_based=0", "job.fio:5: time_based=0: a job lasts its runtime"),
        (f"[j]\n{ONE}iodepth=0", "job.fio:1: iodepth=0 is not in 1.."),
        (f"[j]\n{ONE}iodepth=8\niodepth_batch_complete_max=4", "job.fio:6: all that has completed"),
        (f"[j]\n{ONE}bs=$pagesize/0", "job.fio:5: '4096/0' divides by 0"),
        (f"[j]\n{ONE}bs=$pagesize*x", "job.fio:5: '4096*x' is not a sum or product"),
        ("[j]\nruntime=1\ntime_based\n", "job.fio:1: [j] names no target; add filename="),
        ("[j]\nfilename=x\nsize=1m\n", "job.fio:1: [j] would end with its size"),
        (f"[j]\n{ONE}[k]\n{ONE}", "job.fio:5: [k] would run at the same time as [j]"),
        (f"[j]\n{ONE}[j]\n{ONE}stonewall", "job.fio:5: [j] is at job.fio:1 already"),
        (f"[j]\n{ONE}[k]\n{ONE}stonewall\nfilename=/y", "job.fio:10: [k] has another filename"),
        ("bs=4k", "job.fio:1: 'bs=4k' stands before any [section]"),
        (f"[j]\n{ONE}rate_iops=fast", "job.fio:5: 'fast' is not a rate"),
        (f"[j]\n{ONE}rw=randrw\nrate_iops=10", "job.fio:6: the rates of reads and writes are not"),
        ("[j\n", "job.fio:1: '[j' is not a section; write [name]"),
        ("[global]\nbs=4k\n", "job.fio has no job; write one as [name]"),
        ("", "job.fio has no job"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_names_the_line_and_the_way_out(text: str, message: str) -> None:
    """Nothing is skipped silently."""
    assert message in refusal(text)


def test_a_missing_norandommap_is_said() -> None:
    """Offsets repeat here in any case; a file that did not ask for it is told."""
    assert load(f"[j]\n{ONE}rw=randread").warnings == (
        "[j] has no norandommap, but offsets may repeat here",
    )
    assert not load(f"[j]\n{ONE}rw=randread\nnorandommap").warnings


depths = st.integers(1, 64)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    depth = draw(depths)
    bs = draw(st.sampled_from([512, 4096, 5000, 1 << 20]))
    batch = st.integers(1, depth)
    rate = draw(st.none() | st.integers(1, 10**6))
    return Workload(
        rw=draw(st.sampled_from(["read", "write", "randread", "randwrite", "rw", "randrw"])),
        bs=bs,
        iodepth=depth,
        numjobs=draw(depths),
        runtime=draw(st.sampled_from([0.25, 1.0, 90.5])),
        ramp_time=draw(st.sampled_from([0.0, 0.5, 3.0])),
        rwmixread=draw(st.integers(0, 100)),
        offset=draw(st.integers(0, 1 << 50)),
        size=draw(st.none() | st.integers(bs, 1 << 50)),
        randseed=draw(st.none() | st.integers(0, fio.MAX_RANDSEED)),
        direct=draw(st.booleans()),
        continue_on_error=draw(st.booleans()),
        iodepth_batch_submit=draw(batch),
        iodepth_batch_complete_min=draw(batch) if rate is None else 1,
        rate_iops=rate,
        rate_process=draw(st.sampled_from(["linear", "poisson"])) if rate else "linear",
        cpus_allowed=draw(st.sampled_from([None, "0", "0-1"])),
    )


@given(workloads(), st.text("abc:\\/. -", min_size=1).map(lambda name: f"/{name.strip()}x"))
def test_a_job_file_that_anvil_writes_is_read_as_the_same(given: Workload, filename: str) -> None:
    """`jobfile` in a result is enough to repeat the phase."""
    if not (given.reads and given.writes):
        given = replace(given, rwmixread=50)
    found = load(fio.job_text(Phase("p", given), filename))
    assert found.phases == (Phase("p", given),)
    assert (found.filename, found.engine, found.warnings) == (filename, "native", ())


lines = st.one_of(
    st.sampled_from(
        ["[global]", "[a]", "[b]", "stonewall", "time_based", "runtime=1", "filename=/x", "include x",
         "bs=4k", "size=1g", "rw=randrw", "iodepth=$ncpus", "${A}", "numjobs=2*$ncpus-1", "[", "]"]
    ),
    st.text(max_size=30),
    st.builds("{}={}".format, st.sampled_from(sorted(fio_file._KNOWN)), st.text(max_size=12)),
)  # fmt: skip


@given(st.lists(lines, max_size=12).map("\n".join))
def test_any_text_is_a_job_file_or_a_sentence(text: str) -> None:
    """Whatever is in the file, it ends in a workload or in a refusal, never in a traceback."""

    def read(name: str) -> str:
        return text if name == "job.fio" else "bs=8k"

    try:
        found = fio_file.load("job.fio", read, {"A": "bs=4k"}, KEYWORDS)
    except InvalidWorkload as error:
        sentence = str(error)
    else:
        assert found.phases
        return
    assert re.match(r"(job\.fio|x)[: ]", sentence)
