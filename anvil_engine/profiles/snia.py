"""Profiles after SNIA's performance test specification."""

from __future__ import annotations

from anvil_engine.profiles.build import whole_phase
from anvil_engine.workload import Phase, Profile

ROUNDS = range(1, 6)
BLOCK_SIZES = ("4k", "64k", "1m")
WRITE_PCTS = (0, 35, 100)


def _cell(round_number: int, bs: str, write_pct: int) -> Phase:
    rw = {0: "randread", 100: "randwrite"}.get(write_pct, "randrw")
    name = f"snia_r{round_number}_bs{bs}_w{write_pct}"
    return whole_phase(name, rw, bs, 32, 2, 45, write_pct=write_pct)


QUICK_PTS = Profile(
    name="snia_quick_pts",
    title="SNIA quick",
    description=(
        "A short form of the IOPS test: five rounds over three block sizes and three mixes. "
        "Scaled, so not compliant with the specification. Destroys all data."
    ),
    phases=(
        whole_phase("snia_precondition_seq_1m", "write", "1m", 32, 1, 60),
        *(
            _cell(round_number, bs, write_pct)
            for round_number in ROUNDS
            for bs in BLOCK_SIZES
            for write_pct in WRITE_PCTS
        ),
    ),
)

PROFILES = (QUICK_PTS,)
