"""The catalogue of profiles.  Names and numbers are the contract of API.md §15."""

from __future__ import annotations

from anvil_engine.errors import UnknownProfile
from anvil_engine.profiles import snia, sweeps, workloads
from anvil_engine.workload import Profile

CATALOGUE: dict[str, Profile] = {
    profile.name: profile for profile in (*workloads.PROFILES, *snia.PROFILES, *sweeps.PROFILES)
}


def get(name: str) -> Profile:
    """The profile called `name`.  Raises `UnknownProfile`."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise UnknownProfile(
            f"there is no profile {name!r}; there are: {', '.join(CATALOGUE)}"
        ) from None
