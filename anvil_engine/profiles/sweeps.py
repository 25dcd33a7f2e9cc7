"""Sweeps: one workload over block sizes and queue depths."""

from __future__ import annotations

from anvil_engine.profiles.build import read_phase
from anvil_engine.workload import Phase, Profile

BLOCK_SIZES = ("4k", "8k", "16k", "32k", "64k", "128k", "256k", "512k", "1m")
IODEPTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _cell(bs: str, iodepth: int) -> Phase:
    return read_phase(f"sweep_bs{bs}_q{iodepth}", "randread", bs, iodepth, 1, 30, size="16g")


PROFILES = (
    Profile(
        name="sweep_quick",
        title="Block size sweep",
        description="Random reads at queue depth 32 over nine block sizes. Reads only.",
        phases=tuple(_cell(bs, 32) for bs in BLOCK_SIZES),
    ),
    Profile(
        name="sweep_full",
        title="Full sweep",
        description="Random reads over nine block sizes and nine queue depths. Reads only.",
        phases=tuple(_cell(bs, iodepth) for bs in BLOCK_SIZES for iodepth in IODEPTHS),
    ),
)
