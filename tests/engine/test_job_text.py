"""The fio job that a phase is equivalent to."""

import pytest

from anvil_engine import fio
from anvil_engine.workload import Phase, Workload


def options(**fields):
    """The options of the job, as fio would parse them."""
    lines = fio.job_text(Phase("p", Workload(**{"bs": 4096} | fields)), "/dev/x").splitlines()
    assert lines[0] == "[p]"
    return dict(line.split("=", 1) for line in lines[1:])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"rw": "randread"}, {"norandommap": "1"}),
        ({"rw": "randread", "norandommap": False}, {"norandommap": None}),
        ({"rw": "read"}, {"norandommap": None, "bs": "4k", "bssplit": None, "bsrange": None}),
        (
            {"rw": "randread", "norandommap": False, "bssplit": "4k/60:8k/40"},
            {"norandommap": "1", "bs": None, "bssplit": "4k/60:8k/40"},
        ),
        ({"rw": "read", "runtime": 5}, {"runtime": "5", "time_based": "1", "loops": None}),
        (
            {"rw": "read", "runtime": 0, "time_based": False, "io_size": 8192, "loops": 3},
            {"runtime": None, "time_based": None, "io_size": "8192", "loops": "3"},
        ),
        ({"rw": "read", "offset_increment": 8192}, {"offset_increment": "8192"}),
        ({"rw": "read"}, {"offset_increment": None}),
        ({"rw": "write", "bsrange": "4k-64k"}, {"bs": None, "bsrange": "4k-64k"}),
        (
            {"rw": "randrw", "random_distribution": "zipf:1.2"},
            {"random_distribution": "zipf:1.2"},
        ),
        ({"rw": "randrw"}, {"random_distribution": None}),
        ({"rw": "write", "random_distribution": "zipf:1.2"}, {"random_distribution": None}),
    ],
)
def test_fio_is_asked_for_the_same_offsets(fields, expected):
    """What chooses offsets is in the job, and what is fio's default is left out."""
    found = options(**fields)
    assert {name: found.get(name) for name in expected} == expected
