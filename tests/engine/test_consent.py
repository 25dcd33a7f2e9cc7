"""What confirms a serial."""

import pytest

from anvil_engine.consent import serial_matches


@pytest.mark.parametrize(
    ("serial", "confirm", "matches"),
    [
        ("S7KXNE0W500123", "500123", True),
        ("S7KXNE0W5o0123 ", " 5O0123", True),
        ("S7KXNE0W500123", "S7KXNE0W500123", False),
        ("S7KXNE0W500123", "00123", False),
        ("S7KXNE0W500123", "", False),
        ("S7KXNE0W500123", None, False),
        ("AB1", "ab1", True),
        ("", "", False),
        ("   ", "   ", False),
        (None, None, False),
        (None, "None", False),
    ],
)
def test_only_the_last_six_confirm(serial, confirm, matches):
    """Exactly the last six, blanks and case aside; no serial can never be confirmed."""
    assert serial_matches(serial, confirm) is matches
