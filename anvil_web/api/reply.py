"""What the views of all nouns share: how they are declared, and how a model is sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel

from anvil_web.schemas.base import ErrorBody, IssuesBody

CHUNK_CHARS = 64 * 1024

BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
GUARDED: dict[str | int | Any, Any] = {
    401: ErrorBody,
    403: ErrorBody,
    422: IssuesBody,
    503: ErrorBody,
}
"""The errors of every route that needs a credential."""


def noun(
    name: str, url_prefix: str | None = None, *, tag: str, guarded: bool = False
) -> APIBlueprint:
    """A blueprint for the routes of one noun; `guarded` documents that all need a credential."""
    return APIBlueprint(
        name,
        __name__,
        url_prefix=url_prefix,
        abp_tags=[Tag(name=tag)],
        abp_security=BEARER if guarded else None,
        abp_responses=GUARDED if guarded else None,
        operation_id_callback=_operation_id,
    )


def _operation_id(*, name: str, path: str, method: str) -> str:  # noqa: ARG001 - the caller's names
    """The view's name; views are named apart over all nouns."""
    return name


def reply(model: BaseModel, status: int = 200) -> Response:
    """The model as a JSON response."""
    return Response(model.model_dump_json(by_alias=False), status, mimetype="application/json")


def stream_array(items: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The items as one JSON array, in pieces, so that a long list is never whole in memory."""
    piece, size, opening = [], 0, "["
    for item in items:
        text = opening + json.dumps(item, separators=(",", ":"))
        piece.append(text)
        size += len(text)
        opening = ","
        if size >= CHUNK_CHARS:
            yield "".join(piece)
            piece, size = [], 0
            # A socket that takes everything never yields to the other requests of a worker.
            time.sleep(0)
    yield "".join(piece) + ("[]" if opening == "[" else "]")
