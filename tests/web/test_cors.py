"""Pages of other origins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from anvil_web.app import create_app
from anvil_web.config import Config

ORIGIN = {"Origin": "https://lab.example"}
PREFLIGHT = ORIGIN | {"Access-Control-Request-Method": "POST"}


def client_for(settings: Config, *origins: str) -> Any:
    return create_app(replace(settings, cors_origins=origins)).test_client()


def cors_headers(response: object) -> dict[str, str]:
    headers = dict(response.headers)  # type: ignore[attr-defined]
    return {name: value for name, value in headers.items() if name.startswith("Access-Control")}


def test_nothing_is_allowed_unless_configured(settings: Config) -> None:
    """Without origins there are no CORS headers and no preflight."""
    client = client_for(settings)
    assert cors_headers(client.get("/api/health", headers=ORIGIN)) == {}
    assert client.options("/api/runs", headers=PREFLIGHT).status_code == 405


def test_a_configured_origin(settings: Config) -> None:
    """It may call with credentials; errors carry the headers too; others get none."""
    client = client_for(settings, "https://lab.example")
    response = client.get("/api/runs", headers=ORIGIN)
    assert response.status_code == 401
    assert cors_headers(response) == {
        "Access-Control-Allow-Origin": "https://lab.example",
        "Access-Control-Allow-Credentials": "true",
    }
    other = client.get("/api/health", headers={"Origin": "https://evil.example"})
    assert cors_headers(other) == {}
    assert other.headers["Vary"] == "Origin"


def test_any_origin(settings: Config) -> None:
    """A `*` lets every page call, without credentials."""
    client = client_for(settings, "https://lab.example", "*")
    assert cors_headers(client.get("/api/health", headers=ORIGIN)) == {
        "Access-Control-Allow-Origin": "*"
    }


@pytest.mark.parametrize("path", ["/api/runs", "/api/auth/login"])
def test_a_preflight_needs_no_credential(settings: Config, path: str) -> None:
    """It is answered before anyone signs in, with the contract's methods and headers."""
    response = client_for(settings, "https://lab.example").options(path, headers=PREFLIGHT)
    assert response.status_code == 204
    allowed = cors_headers(response)
    methods = allowed["Access-Control-Allow-Methods"].split(", ")
    assert set(methods) == {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    assert set(allowed["Access-Control-Allow-Headers"].split(", ")) == {
        "Authorization",
        "Content-Type",
    }
