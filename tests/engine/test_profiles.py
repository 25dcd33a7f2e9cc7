"""The catalogue is the contract's."""

import pytest

from anvil_engine import profiles
from anvil_engine.errors import UnknownProfile

CONTRACT = {  # API.md §15: destructive, estimated seconds, number of phases
    "quick": (False, 54, 2),
    "standard_read": (False, 322, 11),
    "standard": (True, 653, 11),
    "mysql_oltp": (True, 256, 2),
    "olap_scan": (False, 132, 1),
    "video_editing": (True, 193, 1),
    "desktop_general": (True, 133, 1),
    "stability": (True, 1276, 2),
    "snia_quick_pts": (True, 2233, 46),
    "endurance_soak": (True, 7276, 2),
    "sweep_quick": (False, 298, 9),
    "sweep_full": (False, 2602, 81),
}


def test_the_catalogue_has_the_contracts_profiles():
    """Names, destructiveness, estimates and phase counts are those of the contract."""
    assert {
        name: (profile.destructive, profile.estimated_duration_seconds, len(profile.phases))
        for name, profile in profiles.CATALOGUE.items()
    } == CONTRACT


@pytest.mark.parametrize("profile", profiles.CATALOGUE.values(), ids=lambda profile: profile.name)
def test_a_profile_reads_only_or_uses_the_whole_device(profile):
    """Read-only phases have a limit; destructive profiles use all of the target."""
    assert len(profile.description) >= 20
    for phase in profile:
        assert (phase.workload.size is None) == profile.destructive
        assert phase.workload.ramp_time == (3 if profile.destructive else 2)


def test_an_unknown_profile_names_the_known_ones():
    """The error lists what there is."""
    with pytest.raises(UnknownProfile, match=r"quick.*sweep_full"):
        profiles.get("nope")
