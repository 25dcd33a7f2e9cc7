"""`anvil profiles` and `anvil devices`: what there is to run, and to run it on."""

from __future__ import annotations

import json
from typing import Any

import click

from anvil_engine.workload import Profile

json_option = click.option(
    "--json", "as_json", is_flag=True, help="For programs: JSON on standard output."
)


@click.command(short_help="List the profiles, or the phases of one.")
@click.argument("name", required=False)
@json_option
def profiles(name: str | None, as_json: bool) -> None:
    """List the profiles that `anvil run` knows, or the phases of the profile NAME.

    \b
      anvil profiles
      anvil profiles quick
      anvil profiles quick --json > mine.json    a profile to change and to run
    """
    from anvil_engine.profiles import CATALOGUE, get

    if as_json:
        listed = get(name).to_dict() if name else [_summary(one) for one in CATALOGUE.values()]
        click.echo(json.dumps(listed, indent=2))
        return
    from anvil_engine.cli_tables import console, phase_table, profile_table

    console().print(phase_table(get(name)) if name else profile_table(CATALOGUE.values()))


@click.command(short_help="List this host's block devices.")
@json_option
def devices(as_json: bool) -> None:
    """List the block devices of this host, with why one cannot be tested.

    Anything mounted, swap, held by another device or backing the root file system is listed
    and not testable.
    """
    from anvil_engine.inventory import discover

    found = discover()
    if as_json:
        click.echo(json.dumps([device.to_dict() for device in found], indent=2))
        return
    from anvil_engine.cli_tables import console, device_table

    console().print(device_table(found))


def _summary(profile: Profile) -> dict[str, Any]:
    return {
        **profile.to_dict(),
        "destructive": profile.destructive,
        "estimated_duration_seconds": profile.estimated_duration_seconds,
    }
