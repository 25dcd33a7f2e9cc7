"""What the web side may ask of this host, one function per kind of command."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from anvil_web import db
from anvil_web.config import Config
from anvil_web.runner.guard import scan
from anvil_web.store import commands, devices

log = logging.getLogger(__name__)

POLL_S = 0.25
Handler = Callable[[Config, dict[str, Any]], dict[str, Any]]


def rescan(config: Config, _args: dict[str, Any]) -> dict[str, Any]:
    """Scan this host and store what is there."""
    found = scan(config.sysfs_root, config.data_dir)
    devices.record_scan(config.host, [device.to_dict() for device in found])
    return {"host": config.host, "found": len(found)}


HANDLERS: Mapping[str, Handler] = {"rescan": rescan}


def serve_next(config: Config, handlers: Mapping[str, Handler] = HANDLERS) -> bool:
    """Execute one command, if one waits; whether one did.

    What a handler raises becomes the command's error.
    """
    command = commands.claim_next(config.host)
    if command is None:
        return False
    handler = handlers.get(command.kind)
    if handler is None:
        commands.finish(command.id, error=f"this runner knows no command {command.kind!r}")
        return True
    try:
        result = handler(config, command.args)
    except db.DatabaseUnavailable:
        raise
    except Exception as error:
        log.exception("command %s failed", command.kind)
        commands.finish(command.id, error=str(error) or type(error).__name__)
    else:
        commands.finish(command.id, result=result)
    return True


def serve(config: Config, stop: threading.Event) -> None:
    """Execute commands until `stop`: the body of a thread."""
    with db.connection():
        while not stop.is_set():
            try:
                if serve_next(config):
                    continue
            except db.DatabaseUnavailable as error:
                log.warning("commands wait: %s", error)
            except Exception:
                log.exception("a command could not be served")
            stop.wait(POLL_S)
