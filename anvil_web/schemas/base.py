"""What the models of all nouns share."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from anvil_engine.results import format_time

Utc = Annotated[
    dt.datetime,
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A time as RFC 3339 in UTC with microseconds and `Z`."""


class Wire(BaseModel):
    """A response.  Reads rows of the store by attribute."""

    model_config = ConfigDict(from_attributes=True)


class ErrorBody(BaseModel):
    """Every error but a 422."""

    detail: str = Field(description="What went wrong, for people.")


class Issue(BaseModel):
    """One thing that is wrong with a request."""

    type: str = Field(description="Kind of error, for programs: `missing`, `int_parsing`, …")
    loc: list[str | int] = Field(
        description="Where it is: `body`, `query` or `path`, then the way down to the field."
    )
    msg: str = Field(description="What is wrong, for people.")
    input: Any = Field(description="What was sent there; never a password.")


class IssuesBody(BaseModel):
    """A 422."""

    detail: list[Issue] = Field(description="Everything that is wrong with the request.")
