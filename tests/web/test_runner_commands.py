"""What a runner does with commands."""

from __future__ import annotations

from typing import Any

import programs
import pytest

from anvil_web.config import Config
from anvil_web.runner.commands import serve_next
from anvil_web.store import commands, devices


def answer(config: Config, command_id: str, **handlers: Any) -> Any:
    served = serve_next(config, handlers) if handlers else serve_next(config)
    assert served
    return commands.wait(command_id, timeout_s=1)


def test_rescan_stores_what_is_there(store: Config) -> None:
    """A rescan enters this host's devices and says how many it found."""
    target = programs.a_file_target(store)
    done = answer(store, commands.submit("rescan"))
    assert done.error is None
    listed = devices.list_devices()
    assert done.result == {"host": store.host, "found": len(listed)}
    assert str(target) in {device.current_device_path for device in listed}


def test_an_unknown_command_is_answered(store: Config) -> None:
    """A runner that is older than the web side says that it does not know the command."""
    assert "no command 'dance'" in answer(store, commands.submit("dance")).error


@pytest.mark.parametrize(
    ("error", "says"), [(ValueError("out of range"), "out of range"), (KeyError(), "KeyError")]
)
def test_a_failing_handler_is_answered(store: Config, error: Exception, says: str) -> None:
    """What a handler raises is the command's error; the runner goes on."""

    def broken(_config: Config, _args: dict[str, Any]) -> dict[str, Any]:
        raise error

    assert answer(store, commands.submit("dance"), dance=broken).error == says


def test_nothing_to_do(store: Config) -> None:
    """Without a command nothing is served."""
    assert not serve_next(store)
    commands.submit("rescan", host="elsewhere")
    assert not serve_next(store)
