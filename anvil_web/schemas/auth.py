"""Signing in, and who one is."""

from __future__ import annotations

from pydantic import BaseModel, Field

from anvil_web.schemas.base import Wire


class LoginBody(BaseModel):
    """Name and password of an account."""

    username: str = Field(min_length=1, max_length=128)
    password: str = Field(min_length=1, max_length=256, json_schema_extra={"format": "password"})


class Account(Wire):
    """The account that signed in."""

    id: str = Field(description="Opaque id.")
    username: str = Field(description="Name to sign in with.")
    role: str = Field(description="`viewer`, `operator` or `admin`.")
    display_name: str | None = Field(description="Name for people, if there is one.")


class Session(Wire):
    """A fresh credential."""

    token: str = Field(description="JWT for `Authorization: Bearer …`, valid for 12 hours.")
    user: Account = Field(description="Who signed in.")


class Me(Wire):
    """Whom the credential of this request stands for."""

    user_id: str | None = Field(description="Id of the account; null for the static token.")
    username: str = Field(description="Name of the account; `operator-token` for the token.")
    role: str = Field(description="`viewer`, `operator` or `admin`.")
    is_token: bool = Field(description="Whether this is the static token.")
