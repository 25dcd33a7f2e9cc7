"""The renderer: every document is finished, drawn or with a reason."""

from __future__ import annotations

import os
import subprocess

import programs
import psutil
import pytest
from programs import wait_for

from anvil_web.config import Config
from anvil_web.models import Render
from anvil_web.renderer import Document, draw_next
from anvil_web.store import render


def test_a_document_is_drawn(store: Config) -> None:
    """The kind's function gets subject and variant, and its document is stored."""
    render.request("report", "run-1", "html")

    def draw(subject_id: str, variant: str) -> Document:
        return Document(f"{subject_id} as {variant}".encode(), "text/html", "tag")

    assert draw_next({"report": draw})
    made = render.get("report", "run-1", "html")
    assert made is not None
    assert (made.state, made.error) == ("finished", None)
    assert bytes(made.content or b"") == b"run-1 as html"
    assert (made.media_type, made.etag) == ("text/html", "tag")
    assert not draw_next({"report": draw})


def test_what_cannot_be_drawn_has_a_reason(store: Config) -> None:
    """A drawing that raises is finished with the error, and not tried again."""
    render.request("report", "run-1")

    def draw(_subject_id: str, _variant: str) -> Document:
        raise ValueError("no samples")

    assert draw_next({"report": draw})
    made = render.get("report", "run-1")
    assert made is not None
    assert (made.state, made.error) == ("finished", "no samples")
    assert not draw_next({"report": draw})


@pytest.fixture
def renderer(store: Config) -> subprocess.Popen[str]:
    return programs.start(store, "renderer")


def test_the_process_serves_the_queue_with_the_lowest_priority(
    renderer: subprocess.Popen[str], store: Config
) -> None:
    """A kind that nobody draws is answered so; the process is nice and ends in order."""
    made = render.request("poster", "run-1")
    wait_for(lambda: Render.get_by_id(made.id).state == "finished")
    assert Render.get_by_id(made.id).error == "no renderer for kind poster"
    assert psutil.Process(renderer.pid).nice() == 19
    assert os.getpriority(os.PRIO_PROCESS, 0) < 19
    programs.stop(renderer)
    assert renderer.returncode == 0
