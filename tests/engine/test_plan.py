"""A profile fitted to a target."""

import pytest

from anvil_engine.errors import InvalidWorkload
from anvil_engine.plan import expand
from anvil_engine.profiles import get
from anvil_engine.workload import Phase, Profile, Workload


def a_profile(**workload):
    return Profile(
        "p", "P", "d", (Phase("only", Workload(**{"rw": "read", "bs": 4096} | workload)),)
    )


def size_of(profile, target_size, lba_size=512):
    (phase,) = expand(profile, target_size=target_size, lba_size=lba_size).phases
    return phase.workload.size


def test_a_range_within_the_target_is_kept():
    """A limit that fits stays, and nothing is warned about."""
    plan = expand(a_profile(size=1 << 20), target_size=1 << 30, lba_size=512)
    assert plan.phases[0].workload.size == 1 << 20
    assert plan.warnings == ()


def test_a_range_past_the_target_is_cut_and_said():
    """quick's 4 GiB on a target of 1 GiB is 1 GiB, and every cut phase is named."""
    plan = expand(get("quick"), target_size=1 << 30, lba_size=4096)
    assert {phase.workload.size for phase in plan.phases} == {1 << 30}
    assert len(plan.warnings) == 2
    assert "seq_1m_q8t1_read" in plan.warnings[0]
    assert "from 4g to 1g" in plan.warnings[0]


def test_no_limit_means_the_whole_target():
    """Without a size it is all after the offset, in whole blocks, and no warning."""
    assert size_of(a_profile(), 10 * 4096 + 17) == 10 * 4096
    assert size_of(a_profile(offset=8192), 10 * 4096) == 8 * 4096


@pytest.mark.parametrize("target_size", [0, 4095])
def test_a_target_smaller_than_a_block_is_refused(target_size):
    """Nothing can be measured there, and the error says what would fit."""
    with pytest.raises(InvalidWorkload, match="does not fit"):
        size_of(a_profile(), target_size)


def test_an_offset_past_the_end_is_refused():
    """An offset beyond the target is an error, not an empty range."""
    with pytest.raises(InvalidWorkload, match="offset 8192"):
        size_of(a_profile(offset=8192), 8192)


@pytest.mark.parametrize("wrong", [{"bs": 512}, {"offset": 512}])
def test_direct_io_must_be_aligned(wrong):
    """512-byte I/O on 4096-byte blocks is refused with the way out; buffered I/O is not."""
    with pytest.raises(InvalidWorkload, match="multiple of 4k"):
        size_of(a_profile(**wrong), 1 << 20, lba_size=4096)
    assert size_of(a_profile(direct=False, **wrong), 1 << 20, lba_size=4096)


def test_the_last_job_has_to_fit_too():
    """With offset_increment every job's span is what the last one can have."""
    jobs = {"numjobs": 4, "offset_increment": 1 << 20}
    assert size_of(a_profile(**jobs), 4 << 20) == 1 << 20
    assert size_of(a_profile(**jobs, offset=8192), 4 << 20) == (1 << 20) - 8192
    plan = expand(a_profile(**jobs, size=2 << 20), target_size=4 << 20, lba_size=512)
    assert plan.phases[0].workload.size == 1 << 20
    assert "from 2m to 1m" in plan.warnings[0]
    with pytest.raises(InvalidWorkload, match=r"at offset 3145728\s+does not fit"):
        size_of(a_profile(**jobs), 3 << 20)
    with pytest.raises(InvalidWorkload, match="offset_increment=100 is not a multiple"):
        size_of(a_profile(numjobs=2, offset_increment=100), 4 << 20)
