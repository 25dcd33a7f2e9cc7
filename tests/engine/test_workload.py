"""A workload, phase or profile that exists is valid."""

import pytest

from anvil_engine.errors import InvalidWorkload
from anvil_engine.workload import Phase, Profile, Workload

READING = Workload(rw="randread", bs=4096)
WRITING = Workload(rw="randrw", bs=4096, rwmixread=70)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rw": "sideways"},
        {"bs": 0},
        {"bs": (1 << 30) + 1},
        {"iodepth": 0},
        {"iodepth": 32769},
        {"numjobs": 0},
        {"runtime": 0},
        {"ramp_time": -1},
        {"rwmixread": 101},
        {"offset": -1},
        {"size": 4095},
        {"randseed": 1 << 64},
        {"iodepth_batch_complete_min": 2},
        {"iodepth_batch_submit": 0},
        {"rate_iops": 0},
        {"rate_process": "sometimes"},
        {"cpus_allowed": ""},
        {"cpus_allowed": "0-"},
        {"cpus_allowed": "3-1"},
    ],
)
def test_the_impossible_is_refused_by_name(wrong):
    """A wrong value is an error that names the field and the value."""
    (field,) = wrong
    with pytest.raises(InvalidWorkload, match=f"{field}="):
        Workload(**{"rw": "randread", "bs": 4096, **wrong})


@pytest.mark.parametrize(
    ("rw", "reads", "writes", "read_pct"),
    [
        ("read", True, False, 100),
        ("randread", True, False, 100),
        ("write", False, True, 0),
        ("randwrite", False, True, 0),
        ("rw", True, True, 70),
        ("readwrite", True, True, 70),
        ("randrw", True, True, 70),
    ],
)
def test_direction_follows_from_rw(rw, reads, writes, read_pct):
    """rwmixread counts for mixes only, and readwrite is fio's other name of rw."""
    workload = Workload(rw=rw, bs=4096, rwmixread=70)
    assert (workload.reads, workload.writes, workload.read_pct) == (reads, writes, read_pct)


def test_cpus_are_listed_as_fio_lists_them():
    """Ranges and single CPUs, separated by commas."""
    assert Workload(rw="read", bs=512, cpus_allowed="0-2,7, 9").cpus == {0, 1, 2, 7, 9}
    assert READING.cpus is None


def test_a_mix_that_never_writes_still_counts_as_writing():
    """What can write needs consent, whatever its mix."""
    assert Workload(rw="randrw", bs=4096, rwmixread=100).writes


def test_destructive_is_derived():
    """A profile is destructive when one phase writes; it cannot say otherwise."""
    reading, writing = Phase("r", READING), Phase("w", WRITING)
    assert not Profile("p", "P", "reads", (reading,)).destructive
    assert Profile("p", "P", "writes", (reading, writing)).destructive
    claimed = Profile.from_dict(
        {**Profile("p", "P", "d", (writing,)).to_dict(), "destructive": False}
    )
    assert claimed.destructive


def test_a_profile_survives_json():
    """from_dict(to_dict(p)) is p."""
    profile = Profile("p", "P", "both", (Phase("r", READING), Phase("w", WRITING)))
    assert Profile.from_dict(profile.to_dict()) == profile


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"name": "p", "phases": []},
        {"name": "p", "phases": [{}]},
        {"name": "p", "phases": [{"name": "x", "rw": "read", "bs": 4096, "colour": 1}]},
        {"name": "p", "phases": [{"name": "x", "rw": "read", "bs": "4k"}]},
        {"name": "p", "phases": 3},
        {"name": "p", "phases": [{"name": "x", "rw": "read", "bs": 4096}] * 2},
    ],
)
def test_what_is_no_profile_is_refused(data):
    """A snapshot that is broken is an error, never half a profile."""
    with pytest.raises(InvalidWorkload):
        Profile.from_dict(data)
