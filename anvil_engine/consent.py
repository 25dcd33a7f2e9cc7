"""The one rule of who may write where, shared by the API, the runner and the shell."""

from __future__ import annotations

CONFIRM_LENGTH = 6


def serial_matches(serial: str | None, confirm: str | None) -> bool:
    """Whether `confirm` is the last six characters of `serial`, blanks and case aside.

    A device without a serial can never be confirmed.  A serial of fewer than six
    characters has to be given whole.
    """
    expected = (serial or "").strip().casefold()[-CONFIRM_LENGTH:]
    return bool(expected) and (confirm or "").strip().casefold() == expected
