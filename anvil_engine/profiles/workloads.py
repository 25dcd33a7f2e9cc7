"""Everyday profiles: quick looks, standard sets, and imitations of real applications."""

from __future__ import annotations

from anvil_engine.profiles.build import read_phase, whole_phase
from anvil_engine.workload import Profile

QUICK = Profile(
    name="quick",
    title="Quick look",
    description="One minute: sequential bandwidth and random read IOPS. Reads only.",
    phases=(
        read_phase("seq_1m_q8t1_read", "read", "1m", 8, 1, 20, size="4g"),
        read_phase("rnd_4k_q32t1_read", "randread", "4k", 32, 1, 20, size="4g"),
    ),
)

STANDARD_READ = Profile(
    name="standard_read",
    title="Standard reads",
    description="Sequential and random reads over block sizes and queue depths. Reads only.",
    phases=(
        *(
            read_phase(f"seq_1m_q{depth}t1_read", "read", "1m", depth, 1, 20, size="16g")
            for depth in (1, 8, 32)
        ),
        read_phase("seq_128k_q32t1_read", "read", "128k", 32, 1, 20, size="16g"),
        *(
            read_phase(f"rnd_4k_q{depth}t1_read", "randread", "4k", depth, 1, 30, size="16g")
            for depth in (1, 4, 16, 32, 64, 128)
        ),
        read_phase("rnd_8k_q32t1_read", "randread", "8k", 32, 1, 30, size="16g"),
    ),
)

STANDARD = Profile(
    name="standard",
    title="Standard set",
    description="Reads, writes and mixes after a short preconditioning. Destroys all data.",
    phases=(
        whole_phase("seq_128k_q32t1_write_precond", "write", "128k", 32, 1, 30),
        whole_phase("seq_1m_q8t1_read", "read", "1m", 8, 1, 20),
        whole_phase("seq_1m_q8t1_write", "write", "1m", 8, 1, 20),
        *(
            whole_phase(f"rnd_4k_q{depth}t1_read", "randread", "4k", depth, 1, 30)
            for depth in (1, 32, 128)
        ),
        *(
            whole_phase(f"rnd_4k_q{depth}t1_write", "randwrite", "4k", depth, 1, 30)
            for depth in (1, 32, 128)
        ),
        whole_phase("rnd_4k_q32t1_mix70r30w", "randrw", "4k", 32, 1, 60, write_pct=30),
        whole_phase(
            "rnd_4k_q128t1_mix70r30w_stability", "randrw", "4k", 128, 1, 300, write_pct=30
        ),
    ),
)

MYSQL_OLTP = Profile(
    name="mysql_oltp",
    title="MySQL OLTP",
    description="Transactions of a database: 8 KiB random mix, 35 % writes. Destroys all data.",
    phases=(
        whole_phase("precondition_rnd_4k_q256", "randwrite", "4k", 256, 1, 60),
        whole_phase("oltp_rnd_8k_65r_35w", "randrw", "8k", 32, 4, 180, write_pct=35),
    ),
)

OLAP_SCAN = Profile(
    name="olap_scan",
    title="OLAP scan",
    description="Table scans of an analytics database: large parallel reads. Reads only.",
    phases=(read_phase("olap_seq_1m_q64t4_read", "read", "1m", 64, 4, 120, size="32g"),),
)

VIDEO_EDITING = Profile(
    name="video_editing",
    title="Video editing",
    description="Sequential streams, half of them written. Destroys all data.",
    phases=(whole_phase("video_seq_1m_q32t2_50r50w", "rw", "1m", 32, 2, 180, write_pct=50),),
)

DESKTOP_GENERAL = Profile(
    name="desktop_general",
    title="Desktop",
    description="Small random I/O at low depth, 40 % writes. Destroys all data.",
    phases=(whole_phase("desk_rnd_4k_q4t1_60r40w", "randrw", "4k", 4, 1, 120, write_pct=40),),
)

STABILITY = Profile(
    name="stability",
    title="Stability",
    description="Twenty minutes of deep random mix after preconditioning. Destroys all data.",
    phases=(
        whole_phase("precondition_rnd_4k_q256", "randwrite", "4k", 256, 1, 60),
        whole_phase("stability_rnd_4k_q32t8_70r30w", "randrw", "4k", 32, 8, 1200, write_pct=30),
    ),
)

ENDURANCE_SOAK = Profile(
    name="endurance_soak",
    title="Endurance soak",
    description="Two hours of random writes at high depth. Destroys all data and wears the drive.",
    phases=(
        whole_phase("endurance_precondition_seq_1m", "write", "1m", 32, 1, 60),
        whole_phase("endurance_soak_rnd_4k_q32t8", "randwrite", "4k", 32, 8, 7200),
    ),
)

PROFILES = (
    QUICK,
    STANDARD_READ,
    STANDARD,
    MYSQL_OLTP,
    OLAP_SCAN,
    VIDEO_EDITING,
    DESKTOP_GENERAL,
    STABILITY,
    ENDURANCE_SOAK,
)
