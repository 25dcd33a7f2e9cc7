"""Logging without secrets."""

from __future__ import annotations

import logging
import re

# A browser cannot set a header for a WebSocket or a download, so addresses carry tokens.
_TOKEN = re.compile(r"(\btoken=)[^&\s'\"]+")


class HideTokens(logging.Filter):
    """Takes the value of `token=` out of every message, whoever wrote it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; it is always kept."""
        message = record.getMessage()
        if "token=" in message:
            record.msg, record.args = _TOKEN.sub(r"\1[hidden]", message), ()
        return True
