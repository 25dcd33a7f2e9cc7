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
        {"loops": 0},
        {"io_size": 4095},
        {"ramp_time": -1},
        {"rwmixread": 101},
        {"offset": -1},
        {"offset_increment": -1},
        {"size": 4095},
        {"randseed": 1 << 64},
        {"iodepth_batch_complete_min": 2},
        {"iodepth_batch_submit": 0},
        {"runtime": float("inf")},
        {"runtime": float("nan")},
        {"ramp_time": 1e12},
        {"iodepth": 1.5},
        {"bs": 4096.0},
        {"bs": True},
        {"randseed": "1"},
        {"direct": 1},
        {"bssplit": "4k/50:8k/40"},
        {"bssplit": "4k/50:8k/60"},
        {"bssplit": "4k/50:4k/50"},
        {"bssplit": "4k/-10:8k/110"},
        {"bssplit": "0/50:8k/50"},
        {"bssplit": "4k/50:8q/50"},
        {"bssplit": "4k/100,8k/100"},
        {"bsrange": "64k-4k"},
        {"bsrange": "4k"},
        {"bsrange": "0-4k"},
        {"bsrange": "4k-8q"},
        {"random_distribution": "bell"},
        {"random_distribution": "random:1"},
        {"random_distribution": "zipf"},
        {"random_distribution": "zipf:0"},
        {"random_distribution": "zipf:nan"},
        {"random_distribution": "zipf:1.2:1.5"},
        {"random_distribution": "pareto:1"},
        {"random_distribution": "normal:101"},
        {"random_distribution": "zoned:60/10"},
        {"random_distribution": "zoned:60/10:40/80"},
        {"random_distribution": "zoned:60/10:40"},
        {"random_distribution": "zoned:100/0:0/100"},
        {"random_distribution": "zoned:50/50:50/50,100/100"},
        {"rate_iops": 0},
        {"rate_process": "sometimes"},
        {"fsync": 1},
        {"thinktime": -1},
        {"thinktime_blocks": 0},
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


def test_one_way_to_say_sizes():
    """A split and a range together are refused."""
    with pytest.raises(InvalidWorkload, match="exclude each other"):
        Workload(rw="read", bs=1, bssplit="4k/100", bsrange="4k-8k")


def test_uniform_is_fios_random():
    """Both names are one distribution, kept under fio's name."""
    assert Workload(rw="randread", bs=512, random_distribution="uniform") == Workload(
        rw="randread", bs=512
    )


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
        ("trim", False, True, 0),
        ("randtrim", False, True, 0),
    ],
)
def test_direction_follows_from_rw(rw, reads, writes, read_pct):
    """rwmixread counts for mixes only, and readwrite is fio's other name of rw."""
    workload = Workload(rw=rw, bs=4096, rwmixread=70)
    assert (workload.reads, workload.writes, workload.read_pct) == (reads, writes, read_pct)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"hipri": True, "direct": False}, "hipri=True .* needs direct=1"),
        ({"hipri": True, "fsync": 1, "rw": "write"}, "fsync=1 cannot be polled for"),
        ({"thinktime": 1, "rate_iops": 9}, "thinktime=1 and rate_iops=9 both decide"),
        ({"hipri": True, "rw": "trim"}, "rw=trim cannot be polled for"),
        ({"sqthread_poll": True, "slat_percentiles": True}, "slat_percentiles=True has no mean"),
    ],
)
def test_what_excludes_each_other_is_refused(fields, sentence):
    """Two options that cannot both be had are an error that names them."""
    with pytest.raises(InvalidWorkload, match=sentence):
        Workload(**{"rw": "read", "bs": 4096, **fields})


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
        {
            "name": "p",
            "phases": [
                {"name": "x", "rw": "read", "bs": 4096, "direct": True},
                {"name": "y", "rw": "read", "bs": 4096, "direct": False},
            ],
        },
        {"name": "p", "phases": [{"name": "x", "rw": "read", "bs": 4096}] * 2},
    ],
)
def test_what_is_no_profile_is_refused(data):
    """A snapshot that is broken is an error, never half a profile."""
    with pytest.raises(InvalidWorkload):
        Profile.from_dict(data)
